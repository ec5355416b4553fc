// What both services share: a runtime, as an app of routes.
import { createApp, createRuntime } from "daguerre";

export async function pictures() {
  const runtime = await createRuntime();
  const app = createApp({
    run: ({ image, ...input }, { signal }) =>
      image === undefined
        ? runtime.textToImage(input, { signal })
        : runtime.imageToImage({ ...input, image }, { signal }),
    health: () => ({ model: runtime.model.name }),
    onError: console.error,
  });
  return { app, close: () => runtime.close() };
}

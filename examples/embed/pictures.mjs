// What both services share: a runtime, as an app of routes.
import { createApp, createRuntime } from "daguerre";

export async function pictures() {
  const runtime = await createRuntime();
  const app = createApp({
    run: ({ image, ...input }, context) =>
      image === undefined ? runtime.textToImage(input, context) : runtime.imageToImage({ ...input, image }, context),
    health: () => ({ model: runtime.model.name }),
    onError: console.error,
  });
  return { app, close: () => runtime.close() };
}

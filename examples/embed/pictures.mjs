// Both services share this: a runtime, as an app of routes.
import { appOfRuntime, createRuntime } from "daguerre";

export async function pictures() {
  const runtime = await createRuntime();
  const app = appOfRuntime(runtime, { onError: console.error });
  return { app, close: () => runtime.close() };
}

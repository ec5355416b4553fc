/** The id of the app that the path of a request names, for whoever chooses the model that answers it. */
import type { Context } from "hono";

const names = new WeakMap<Request, string>();

export function nameApp(c: Context, app: string): void {
  names.set(c.req.raw, app);
}

/** undefined if its path names no app. */
export function appNamed(c: Context): string | undefined {
  return names.get(c.req.raw);
}

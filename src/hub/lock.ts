/**
 * One process at a time downloads a model. The lock is a file that its process touches every few seconds, so that one
 * left behind by a process that was killed, here or on another machine with the same disk, does not bar the way for long.
 */
import { mkdir, open, rm, stat, utimes } from "node:fs/promises";
import { dirname } from "node:path";
import { HubError } from "./errors.ts";

const TOUCH_MS = 5_000;
/** Milliseconds after which a lock that nobody touched is nobody's. */
const STALE_MS = 20_000;

/**
 * Takes a lock.
 * @returns gives it back
 * @throws HubError "busy" if another process has it
 */
export async function takeLock(path: string, what: string): Promise<() => Promise<void>> {
  await mkdir(dirname(path), { recursive: true });
  for (let tried = 0; ; tried++) {
    try {
      const handle = await open(path, "wx");
      await handle.writeFile(`${process.pid}\n`);
      await handle.close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      const touched = await stat(path).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      );
      if (tried > 0 || Date.now() - touched < STALE_MS) {
        throw new HubError("busy", `${what} is being downloaded by another process: wait for it to end`);
      }
      await rm(path, { force: true });
    }
  }
  const timer = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, TOUCH_MS);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await rm(path, { force: true });
  };
}

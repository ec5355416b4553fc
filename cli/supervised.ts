/** The child's side of `supervisor.ts`: its own words go to the real stderr, and it does not outlive its parent. */
import { fstatSync, writeSync } from "node:fs";
import process from "node:process";
import { Writable } from "node:stream";
import tty from "node:tty";

/** Set in the child's environment. */
export const SUPERVISED = "DAGUERRE_SUPERVISED";
/** The descriptor of the parent's stderr in the child. */
export const STDERR_FD = 3;

/** Milliseconds until a full pipe is tried again. */
const RETRY_MS = 5;

export function isSupervised(): boolean {
  return process.env[SUPERVISED] !== undefined && process.send !== undefined;
}

/** False under a debugger, whose port is this process's; and on Windows, where Dawn is silent and signals cannot be handed on. */
export function mayBeSupervised(): boolean {
  const options = [...process.execArgv, ...(process.env.NODE_OPTIONS ?? "").split(/\s+/)];
  return process.platform !== "win32" && !options.some((option) => option.startsWith("--inspect"));
}

/** Lets `process.stderr` write to the parent's stderr, and ends this process when the parent has ended. */
export function takeStderr(): void {
  const stream = Object.assign(stderrOf(STDERR_FD), { fd: STDERR_FD });
  Object.defineProperty(process, "stderr", { value: stream, configurable: true, enumerable: true });
  process.on("disconnect", () => process.exit(1));
  process.channel?.unref();
}

function stderrOf(fd: number): Writable {
  if (!tty.isatty(fd)) return new Descriptor(fd);
  const screen = new tty.WriteStream(fd);
  process.on("SIGWINCH", () => {
    [screen.columns, screen.rows] = screen.getWindowSize();
    screen.emit("resize");
  });
  return screen;
}

/** A file or pipe that is written at once, so that `process.exit` loses nothing. */
class Descriptor extends Writable {
  readonly #fd: number;

  constructor(fd: number) {
    super({ decodeStrings: true });
    this.#fd = fd;
    fstatSync(fd);
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    let at = 0;
    while (at < chunk.length) {
      try {
        at += writeSync(this.#fd, chunk, at);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") {
          // Nobody reads it any more, and there is no other place to say so.
          break;
        }
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      }
    }
    done();
  }
}

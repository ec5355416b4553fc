/** A real `daguerre serve` in a process of its own, seen from outside and through `watch.mjs`. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** MiB. The suite's promises are for a heap of so much. */
const HEAP_MIB = 1024;
const START_MS = 120_000;
/** A loop that does not answer for so long stands still. */
const WATCH_MS = 60_000;

/** The figures of `watch.mjs`. Milliseconds of CPU, bytes. */
export interface Watched {
  /** The process that serves: the command's. */
  readonly pid: number;
  readonly longestTurnMs: number;
  readonly longTurns: number;
  readonly turns: number;
  readonly peakHeapBytes: number;
  readonly peakExternalBytes: number;
  readonly heapBytes: number;
  readonly externalBytes: number;
}

export interface ServerSettings {
  /** The settings file, as `docs/configuration.md` describes it. Default: no settings. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** The key of an honest client, where one is needed. */
  readonly key?: string;
}

export class Server {
  readonly #settings: ServerSettings;
  readonly #folder: string;
  #child: ChildProcess | undefined;
  #port = 0;
  #servingPid = 0;
  /** Lines of the log at the level of errors, which nothing that a client sends should cause. */
  errors: string[] = [];
  /** How the process ended, once it has. */
  ended: string | undefined;

  private constructor(settings: ServerSettings, folder: string) {
    this.#settings = settings;
    this.#folder = folder;
  }

  /** Starts a server on a free port. @throws Error when it does not come up */
  static async start(settings: ServerSettings = {}): Promise<Server> {
    const server = new Server(settings, await mkdtemp(join(tmpdir(), "daguerre-attacked-")));
    await server.revive();
    return server;
  }

  /** Header lines of an honest client. */
  get credential(): readonly string[] {
    return this.#settings.key === undefined ? [] : [`Authorization: Bearer ${this.#settings.key}`];
  }

  get port(): number {
    return this.#port;
  }

  get alive(): boolean {
    return this.#child !== undefined && this.ended === undefined;
  }

  /** Starts it again, on its old port, where it has ended. */
  async revive(): Promise<void> {
    if (this.alive) return;
    this.ended = undefined;
    const config = join(this.#folder, "daguerre.config.json");
    writeFileSync(config, JSON.stringify({ port: this.#port, ...this.#settings.config }));
    await rm(this.#socket, { force: true });
    const child = spawn(
      process.execPath,
      [
        `--max-old-space-size=${HEAP_MIB}`,
        "--import",
        fileURLToPath(new URL("./watch.mjs", import.meta.url)),
        join(ROOT, "dist/cli.js"),
        "serve",
        "--config",
        config,
      ],
      { env: { ...process.env, DAGUERRE_WATCH_SOCKET: this.#socket }, stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#child = child;
    let said = "";
    child.once("exit", (code, signal) => {
      if (this.#child === child) this.ended = signal ?? `exit code ${code}`;
    });
    const up = new Promise<number>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`the server did not come up:\n${said}`)), START_MS);
      const look = (line: string) => {
        said = `${said}${line}\n`.slice(-4_000);
        const port = /^ +serving +http:\/\/[^:]+:(\d+)/.exec(line)?.[1];
        if (port !== undefined) resolve(Number(port));
        if (/"level":[56]0\b/.test(line)) this.errors.push(line);
      };
      createInterface({ input: child.stdout! }).on("line", look);
      createInterface({ input: child.stderr! }).on("line", look);
      child.once("exit", () => reject(new Error(`the server did not come up:\n${said}`)));
      child.once("exit", () => clearTimeout(late));
      // A timer that still runs would keep the tests.
      late.unref();
    });
    this.#port = await up;
    this.#servingPid = (await this.watch("read")).pid;
  }

  get #socket(): string {
    return join(this.#folder, "watch");
  }

  /** Asks `watch.mjs`. @throws Error when the process has ended, or its loop stands still for a minute */
  watch(asked: "read" | "reset" | "collect"): Promise<Watched> {
    return new Promise((resolve, reject) => {
      const client = net.connect(this.#socket, () => client.write(`"${asked}"\n`));
      client.setTimeout(WATCH_MS, () => client.destroy(new Error("the server's loop stands still")));
      client.setEncoding("utf8");
      let text = "";
      client.on("data", (part) => {
        text += part;
        if (!text.endsWith("\n")) return;
        resolve(JSON.parse(text) as Watched);
        client.destroy();
      });
      client.once("error", reject);
      client.once("close", () => reject(new Error("the server has ended")));
    });
  }

  /** Bytes of memory that the process holds, and the most that it held since `forgetPeak`; by the kernel's count. */
  memory(): { rss: number; peak: number } {
    try {
      const status = readFileSync(`/proc/${this.#servingPid}/status`, "latin1");
      const bytes = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) * 1024;
      return { rss: bytes("VmRSS"), peak: bytes("VmHWM") };
    } catch {
      return { rss: 0, peak: 0 };
    }
  }

  forgetPeak(): void {
    try {
      // "5" sets the high-water mark back (man 5 proc).
      writeFileSync(`/proc/${this.#servingPid}/clear_refs`, "5");
    } catch {
      // Where it cannot be set back, the peak is that of the whole run, which is stricter.
    }
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      // Twice is at once.
      child.kill("SIGINT");
      const late = setTimeout(() => child.kill("SIGKILL"), 5_000);
      await gone;
      clearTimeout(late);
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}

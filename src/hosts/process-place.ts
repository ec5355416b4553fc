/**
 * A child process that serves runs. It can be ended at any moment, whatever it does, and a driver that crashes takes
 * nothing but it along. Messages are frames on a socket; beats on a second one tell a process that computes from one that
 * is stopped.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { hostFault } from "./errors.ts";
import { FrameError, FrameReader } from "./frames.ts";
import { PROCESS_MAIN } from "./mains.ts";
import type { PlaceMessage, PlaceReply } from "./messages.ts";
import { Place, type PlaceOptions } from "./place.ts";
import { BEAT_MS, BEATS_FD, FRAMES_FD, writeFrame } from "./process-link.ts";

export interface ProcessOptions {
  /** Milliseconds without a sign of life after which the child is taken for dead, and killed. */
  readonly heartbeatMs?: number;
  /** More flags for Node, such as loaders that the module needs; those of this process are passed on. */
  readonly execArgv?: readonly string[];
  /** More variables of the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Takes what native code of the child writes to its stderr; left out: it goes to the stderr of this process. */
  readonly onStderr?: (stderr: Readable) => void;
}

/** A loaded machine may leave a process without a turn for a second, not for three. */
const HEARTBEAT_MS = 3_000;
/** Milliseconds that the last frames of a child may take to be read after its end. */
const LAST_FRAMES_MS = 50;

/** Flags that concern this process alone: its debugger's port, its program. */
const OWN_FLAGS = /^--(inspect|debug|input-type|watch|test|print|eval)/;

/** The flags of Node that a child needs as well, such as loaders. */
function inheritedFlags(): string[] {
  // The text of a program comes after its flag (`-e`, `-p`, `-pe`).
  const { _eval: program } = process as { _eval?: string };
  const at = program === undefined ? -1 : process.execArgv.indexOf(program);
  return process.execArgv.filter(
    (flag, index) => (at < 0 || (index !== at && index !== at - 1)) && !OWN_FLAGS.test(flag),
  );
}

export class ProcessPlace extends Place {
  readonly #child: ChildProcess;
  readonly #frames: Socket;
  readonly #beats: Socket;
  /** Checks since the last beat. They are counted, not timed: a pause of this process is none of the child. */
  #silent = 0;
  /** The child has begun to beat, or should have. */
  #isBeating = false;
  readonly #watch: NodeJS.Timeout;

  constructor(
    options: PlaceOptions,
    { heartbeatMs = HEARTBEAT_MS, execArgv = [], env = {}, onStderr }: ProcessOptions = {},
  ) {
    super(options);
    const args = [...inheritedFlags(), ...execArgv, fileURLToPath(PROCESS_MAIN)];
    this.#child = spawn(process.execPath, args, {
      stdio: ["ignore", "inherit", onStderr === undefined ? "inherit" : "pipe", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    if (this.#child.stderr !== null) {
      onStderr?.(this.#child.stderr);
      (this.#child.stderr as Socket).unref();
    }
    this.#frames = this.#child.stdio[FRAMES_FD] as Socket;
    this.#beats = this.#child.stdio[BEATS_FD] as unknown as Socket;
    this.#listen();
    const most = Math.ceil(heartbeatMs / BEAT_MS);
    this.#watch = setInterval(() => {
      if (this.#isBeating && ++this.#silent > most) this.#hung(heartbeatMs);
    }, BEAT_MS).unref();
    this.unref();
    this.open();
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  protected readonly isEndable = true;

  protected write(message: PlaceMessage): void {
    void writeFrame(this.#frames, message);
  }

  protected kill(): void {
    this.#child.kill("SIGKILL");
  }

  protected ref(): void {
    this.#child.ref();
    this.#frames.ref();
  }

  protected unref(): void {
    this.#child.unref();
    this.#frames.unref();
  }

  protected override ended(error: Error): void {
    clearInterval(this.#watch);
    super.ended(error);
  }

  #listen(): void {
    const reader = new FrameReader();
    this.#frames.on("data", (chunk) => {
      try {
        for (const message of reader.push(chunk)) {
          // It may stop before its first beat.
          if ((message as PlaceReply).type === "ready") this.#isBeating = true;
          this.heard(message as PlaceReply);
        }
      } catch (error) {
        if (!(error instanceof FrameError)) throw error;
        this.giveUp(error);
      }
    });
    for (const socket of [this.#frames, this.#beats]) socket.on("error", () => {}); // the child's end follows
    this.#beats.on("data", () => {
      this.#silent = 0;
      this.#isBeating = true;
    });
    this.#beats.unref();
    this.#child.once("error", (error) => this.ended(error));
    this.#child.once("exit", (code, signal) => {
      const how = signal ?? code ?? 0;
      // Frames that it wrote before may still be in the socket.
      const late = setTimeout(() => this.lost("process", how), LAST_FRAMES_MS);
      this.#frames.once("close", () => {
        clearTimeout(late);
        this.lost("process", how);
      });
      if (this.#frames.destroyed) this.lost("process", how);
    });
  }

  #hung(heartbeatMs: number): void {
    const message = `The process that computed this has given no sign of life for ${heartbeatMs / 1000} s`;
    this.giveUp(hostFault("host-hung", message));
  }
}

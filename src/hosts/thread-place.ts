/**
 * A worker thread that serves runs.
 *
 * A thread that has loaded native code is never terminated: it may wait for a promise of the GPU, and Node aborts the
 * whole process if the thread ends meanwhile. Such a thread is *abandoned*: nobody waits for it any more, and it serves
 * again if it comes back. A thread without native code is terminated.
 */
import { Worker } from "node:worker_threads";
import { THREAD_MAIN } from "./mains.ts";
import type { PlaceMessage, PlaceReply } from "./messages.ts";
import { Place, type PlaceOptions } from "./place.ts";

/** Milliseconds for which the end of the process waits for a thread that has loaded native code. */
const LEAVE_MS = 5_000;

export class ThreadPlace extends Place {
  readonly #worker: Worker;
  readonly #isNative = new Int32Array(new SharedArrayBuffer(4));

  constructor(options: PlaceOptions) {
    super(options);
    this.#worker = new Worker(THREAD_MAIN, { workerData: { isNative: this.#isNative.buffer } });
    this.#worker.on("message", (message: PlaceReply) => this.heard(message));
    this.#worker.on("error", (error) => this.ended(error));
    this.#worker.on("exit", (code) => {
      process.off("beforeExit", this.#leaveInPeace);
      this.lost("thread", code);
    });
    process.once("beforeExit", this.#leaveInPeace);
    // An idle thread does not keep the process alive. (After its listeners: one for messages would keep it alive again.)
    this.#worker.unref();
    this.open();
  }

  /** The end of the process would cut it off. */
  readonly #leaveInPeace = (): void => {
    if (this.isEndable) return;
    this.leave();
    this.#worker.ref();
    const patience = setTimeout(() => this.#worker.unref(), LEAVE_MS);
    this.#worker.once("exit", () => clearTimeout(patience));
  };

  protected get isEndable(): boolean {
    return Atomics.load(this.#isNative, 0) === 0;
  }

  protected write(message: PlaceMessage): void {
    this.#worker.postMessage(message);
  }

  protected kill(): void {
    void this.#worker.terminate();
  }

  protected ref(): void {
    this.#worker.ref();
  }

  protected unref(): void {
    this.#worker.unref();
  }
}

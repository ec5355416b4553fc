/**
 * Threads that serve runs of one module, one run at a time each.
 *
 * A thread that has loaded native code is never terminated: it may wait for a promise of the GPU, and Node aborts the
 * whole process if the thread ends meanwhile. Such a thread is asked to leave; if it does not come to its next event in
 * time it is *abandoned*: nobody waits for it any more, and it serves again if it comes back. So that threads that hang
 * do not pile up, only a few may be abandoned at once; beyond that, runs that find no idle thread are refused. A thread
 * without native code is terminated.
 */
import { Worker } from "node:worker_threads";
import { FaultError } from "../faults/fault.ts";
import type { RunMessage, RunReply, UpdatesRequest } from "./messages.ts";

/** Seconds after which an abandoned thread has often come back. */
const RETRY_SECONDS = 5;

export interface ThreadPoolOptions {
  /** A module's URL. */
  readonly module: string;
  /** The export that is the run. */
  readonly name: string;
  /** Threads kept for later runs. */
  readonly maxIdle: number;
  /** Threads that may be abandoned at once. */
  readonly maxAbandoned: number;
}

export class ThreadPool {
  readonly #options: ThreadPoolOptions;
  readonly #idle: Thread[] = [];
  readonly #abandoned = new Set<Thread>();

  constructor(options: ThreadPoolOptions) {
    this.#options = options;
  }

  /**
   * A thread for one run.
   * @throws FaultError `host-hung` when none is idle and too many are abandoned
   */
  take(): Thread {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (this.#abandoned.size >= this.#options.maxAbandoned) {
      const message = "Runs that were cancelled have not come to their end; try again later";
      throw new FaultError({ code: "host-hung", status: 503, message, retryAfter: RETRY_SECONDS });
    }
    const thread: Thread = new Thread(this.#options, () => this.#ended(thread));
    return thread;
  }

  /** Takes back a thread whose run is over. */
  giveBack(thread: Thread): void {
    if (thread.hasEnded) return;
    if (this.#idle.length < this.#options.maxIdle) this.#idle.push(thread);
    else thread.post({ type: "leave" });
  }

  /** Waits no longer for a thread. Its open questions reject. */
  giveUp(thread: Thread): void {
    if (thread.hasEnded) return;
    if (!thread.isNative) {
      thread.terminate();
      return;
    }
    this.#abandoned.add(thread);
    void thread.abandon().then((isBack) => {
      this.#abandoned.delete(thread);
      if (isBack) this.giveBack(thread);
    });
  }

  #ended(thread: Thread): void {
    this.#abandoned.delete(thread);
    const at = this.#idle.indexOf(thread);
    if (at >= 0) this.#idle.splice(at, 1);
  }
}

interface Answer {
  readonly resolve: (reply: RunReply) => void;
  readonly reject: (error: Error) => void;
}

export class Thread {
  readonly #worker: Worker;
  readonly #isNative = new Int32Array(new SharedArrayBuffer(4));
  #answer: Answer | undefined;
  #death: Error | undefined;
  /** Nobody waits for it any more, and it has not come back. */
  isAbandoned = false;
  /** Hears the run's messages about its updates. */
  onUpdates: ((request: UpdatesRequest) => void) | undefined;

  constructor({ module, name }: { readonly module: string; readonly name: string }, onEnded: () => void) {
    const workerData = { module, name, isNative: this.#isNative.buffer };
    this.#worker = new Worker(new URL("./thread-main.js", import.meta.url), { workerData });
    this.#worker.on("message", (message: RunReply | UpdatesRequest) => this.#heard(message));
    const died = (error: Error) => {
      this.#death ??= error;
      this.#answer?.reject(this.#death);
      onEnded();
    };
    this.#worker.on("error", died);
    this.#worker.on("exit", (code) => died(new Error(`the worker thread ended with code ${code}`)));
    // An idle thread does not keep the process alive. (After its listeners: one for messages would keep it alive again.)
    this.#worker.unref();
  }

  get hasEnded(): boolean {
    return this.#death !== undefined;
  }

  /** It has loaded native code. */
  get isNative(): boolean {
    return Atomics.load(this.#isNative, 0) === 1;
  }

  post(message: RunMessage): void {
    this.#worker.postMessage(message);
  }

  /**
   * One at a time. The process lives until the answer is there, unless the thread is abandoned.
   * @throws an error when the thread ends or is given up
   */
  ask(message: RunMessage): Promise<RunReply> {
    return new Promise((resolve, reject) => {
      if (this.#death !== undefined) return reject(this.#death);
      this.#answer = { resolve, reject };
      if (!this.isAbandoned) this.#worker.ref();
      this.post(message);
    });
  }

  terminate(): void {
    void this.#worker.terminate();
  }

  /** Rejects what is asked, and settles when the thread has ended its run after all: true, or false if it died. */
  async abandon(): Promise<boolean> {
    this.isAbandoned = true;
    this.#worker.unref();
    this.#answer?.reject(new Error("the worker thread does not answer"));
    try {
      const reply = await new Promise<RunReply>((resolve, reject) => {
        this.#answer = { resolve, reject };
      });
      if (reply.type === "event") await this.ask({ type: "stop" });
      this.isAbandoned = false;
      return true;
    } catch {
      return false;
    }
  }

  #heard(message: RunReply | UpdatesRequest): void {
    switch (message.type) {
      case "event":
      case "done":
      case "error":
        this.#worker.unref();
        this.#answer?.resolve(message);
        return;
      default:
        this.onUpdates?.(message);
    }
  }
}

/**
 * A place where runs live, seen from here: a thread or a child process that serves one module. Several runs may be under
 * way in it; each hears its own messages. A place that has ended never comes back; its host opens another.
 */
import { errorOf, hostFault } from "./errors.ts";
import type { Opening, PlaceMessage, PlaceReply, RunReply, RunRequest, RunStart } from "./messages.ts";

/** A run that hears its messages. */
export interface PlaceListener {
  /** The answer to one credit, or the run's last word. */
  onReply(reply: RunReply): void;
  onRequest(request: RunRequest): void;
  /** Nothing more will come: the place has ended, or nobody waits for it any more. */
  onLost(error: Error): void;
}

export interface PlaceOptions extends Opening {
  /** Hears what the place says of itself. */
  readonly onReport?: (report: unknown) => void;
  /** Called once, when it has ended; `wasReady` says if its module had been loaded. */
  readonly onEnded?: (error: Error, wasReady: boolean) => void;
  /** Called when it has been abandoned and all of its runs have come to their ends after all. */
  readonly onBack?: () => void;
}

export abstract class Place {
  readonly #options: PlaceOptions;
  readonly #runs = new Map<number, PlaceListener>();
  /** Runs that nobody here waits for, which have not come to their ends. */
  readonly #abandoned = new Set<number>();
  #nextJob = 0;
  #death: Error | undefined;
  #isReady = false;
  /** How many wait for an answer of it; while there are any, it keeps this process alive. */
  #waiting = 0;
  readonly #readiness: Promise<void>;
  #settleReadiness!: { readonly resolve: () => void; readonly reject: (error: Error) => void };

  constructor(options: PlaceOptions) {
    this.#options = options;
    this.#readiness = new Promise((resolve, reject) => {
      this.#settleReadiness = { resolve, reject };
    });
    this.#readiness.catch(() => {});
  }

  /** The error with which it has ended. */
  get death(): Error | undefined {
    return this.#death;
  }

  /** It was given up, and goes on in native code that no one may cut off. */
  get isAbandoned(): boolean {
    return this.#abandoned.size > 0;
  }

  /** Runs that it serves for somebody. */
  get active(): number {
    return this.#runs.size;
  }

  /** Resolves once its module is loaded. @throws the error of the module, or a fault if the place ends first */
  async ready(): Promise<void> {
    this.beginWait();
    try {
      await this.#readiness;
    } finally {
      this.endWait();
    }
  }

  /** Begins a run, and gives its number. */
  begin(start: RunStart, listener: PlaceListener): number {
    if (this.#death !== undefined) throw this.#death;
    const job = this.#nextJob++;
    this.post({ type: "run", job, ...start });
    this.#runs.set(job, listener);
    return job;
  }

  post(message: PlaceMessage): void {
    if (this.#death === undefined) this.write(message);
  }

  beginWait(): void {
    if (this.#waiting++ === 0 && !this.isAbandoned) this.ref();
  }

  endWait(): void {
    if (--this.#waiting === 0) this.unref();
  }

  /** Ends it at once if it may be ended, and otherwise waits for it no longer. Its runs fail with `reason`. */
  giveUp(reason: Error): void {
    if (this.#death !== undefined) return;
    if (this.isEndable) {
      this.kill();
      this.ended(reason);
      return;
    }
    const runs = [...this.#runs];
    this.#runs.clear();
    for (const [job, listener] of runs) {
      this.#abandoned.add(job);
      this.post({ type: "abort", job });
      this.post({ type: "stop", job });
      listener.onLost(reason);
    }
    this.unref();
  }

  /** Asks it to end by itself when it has nothing more to do. */
  leave(): void {
    this.post({ type: "leave" });
  }

  /** It may be cut off in the middle of a computation. */
  protected abstract readonly isEndable: boolean;
  protected abstract write(message: PlaceMessage): void;
  protected abstract kill(): void;
  protected abstract ref(): void;
  protected abstract unref(): void;

  /** Hands the place its module; a subclass calls it when messages can be written. */
  protected open(): void {
    const { module, name, setup, group } = this.#options;
    this.write({ type: "open", module, name, setup, group });
  }

  protected heard(message: PlaceReply): void {
    switch (message.type) {
      case "ready":
        this.#isReady = true;
        this.#settleReadiness.resolve();
        return;
      case "report":
        this.#options.onReport?.(message.report);
        return;
      case "unready":
        this.#settleReadiness.reject(errorOf(message.error));
        return;
      case "event":
        this.#runs.get(message.job)?.onReply(message);
        return;
      case "done":
      case "error": {
        const listener = this.#runs.get(message.job);
        this.#runs.delete(message.job);
        listener?.onReply(message);
        if (this.#abandoned.delete(message.job) && !this.isAbandoned) this.#options.onBack?.();
        return;
      }
      default:
        this.#runs.get(message.job)?.onRequest(message);
    }
  }

  protected ended(error: Error): void {
    if (this.#death !== undefined) return;
    this.#death = error;
    this.#abandoned.clear();
    this.#settleReadiness.reject(error);
    const listeners = [...this.#runs.values()];
    this.#runs.clear();
    this.#options.onEnded?.(error, this.#isReady);
    for (const listener of listeners) listener.onLost(error);
  }

  /** It ended by itself: with an exit code, or by a signal. */
  protected lost(kind: string, how: string | number): void {
    const by = typeof how === "number" ? `with code ${how}` : `by ${how}`;
    this.ended(hostFault("host-lost", `The ${kind} that computed this ended ${by}`));
  }
}

/**
 * The requests of each caller that are under way, for `progress`, `interrupt` and `skip`.
 *
 * The web UI has one user, and these mean whatever runs. Here they mean the caller's own: the requests of its credential, or
 * of its address where there are no credentials.
 */
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import type { Job } from "../../src/jobs/jobs.ts";

export type PictureJob = Job<GenerationRequest, RunEvent>;

/** Milliseconds after a look at a preview in which the next one is expected, so that previews are made. */
const WATCHED_MS = 10_000;

/** One request: pictures in iterations, each a job. */
export class Task {
  readonly startedAt = Date.now();
  /** Pictures in all. */
  readonly total: number;
  /** Pictures that are done or given up. */
  done = 0;
  /** The jobs of the iteration under way. */
  jobs: readonly PictureJob[] = [];
  isInterrupted = false;
  #lookedAt = Number.NEGATIVE_INFINITY;
  readonly #skipped = new Set<PictureJob>();

  constructor(total: number) {
    this.total = total;
  }

  /** True if somebody looks at its previews. */
  get isWatched(): boolean {
    return Date.now() - this.#lookedAt < WATCHED_MS;
  }

  /** True if a job was stopped on purpose, and its picture is not missed. */
  isGivenUp(job: PictureJob): boolean {
    return this.isInterrupted || this.#skipped.has(job);
  }

  interrupt(): void {
    this.isInterrupted = true;
    for (const job of this.jobs) job.cancel();
  }

  /** Gives up the pictures that are being made; the next iterations are still to come. */
  skip(): void {
    for (const job of this.jobs) {
      this.#skipped.add(job);
      job.cancel();
    }
  }

  /** The newest preview, of the first picture that has one; undefined until there is one. From now on they are made. */
  preview() {
    this.#lookedAt = Date.now();
    for (const job of this.jobs) {
      const event = newest(job, "preview");
      if (event?.type === "preview") return event.picture;
    }
    return undefined;
  }

  /** Steps of the picture that is the furthest. */
  steps(): { readonly step: number; readonly steps: number } {
    const all = this.jobs.flatMap((job) => newest(job, "progress") ?? []);
    const furthest = all.toSorted((a, b) => b.progress - a.progress)[0];
    return { step: furthest?.step ?? 0, steps: furthest?.steps ?? this.jobs[0]?.input.num_inference_steps ?? 0 };
  }

  /** 0 to 1 */
  get progress(): number {
    const running = this.jobs.map((job) => (job.endedAt === undefined ? (newest(job, "progress")?.progress ?? 0) : 0));
    return Math.min(1, (this.done + running.reduce((sum, part) => sum + part, 0)) / this.total);
  }
}

function newest<Type extends "progress" | "preview">(job: PictureJob, type: Type) {
  const entry = job.log.entries.findLast((held) => "event" in held && held.event.type === type);
  return entry !== undefined && "event" in entry ? (entry.event as Extract<RunEvent, { type: Type }>) : undefined;
}

/** Bounded by the requests that are under way. */
export class Tasks {
  readonly #byCaller = new Map<string, Set<Task>>();

  /** Holds a task while `work` goes on. */
  async during<T>(caller: string, task: Task, work: () => Promise<T>): Promise<T> {
    const own = this.#byCaller.get(caller) ?? new Set();
    this.#byCaller.set(caller, own.add(task));
    try {
      return await work();
    } finally {
      own.delete(task);
      if (own.size === 0) this.#byCaller.delete(caller);
    }
  }

  /** A caller's tasks, the first to come first. */
  of(caller: string): readonly Task[] {
    return [...(this.#byCaller.get(caller) ?? [])];
  }
}

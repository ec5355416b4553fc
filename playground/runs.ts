/**
 * The runs of the page: which are under way, which one is shown, and which pictures are still needed.
 *
 * Whichever way a request starts, it becomes a `Run`. Several may be under way at once (one being computed while newer
 * ones wait), and the rule for the plate is one: a run is shown from its first picture on, unless a newer one has been
 * shown already. The figures of a run by hand are shown at once; the plate keeps the picture before it until there is a
 * new one, so a run that fails or is cancelled before that takes nothing away. Nothing here knows the document; a
 * `RunView` shows the outcome.
 */
import type { Connection, Failure, Input, PreparingEvent, RunEvent, RunOptions, Shown } from "./connection.ts";

type ResultEvent = Extract<RunEvent, { type: "result" }>;

/** Pixels. */
interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Run {
  /** Newer runs have larger ones. */
  readonly order: number;
  readonly prompt: string;
  /** The request's seed; empty if the server chooses one, until the result names it. */
  seed: string;
  /** The size of the finished picture. */
  readonly size: Size;
  /** Asked for by hand, not by a key or a stroke in passing: it gets the whole show. */
  readonly deliberate: boolean;
  /** The clock, in ms, at the request and at the first picture. */
  readonly sentAt: number;
  firstAt?: number;
  /** Steps of the whole run, once the server has named them. */
  steps?: number;
  /** Every picture so far, in order. */
  readonly images: Shown[];
  /** The server has begun with it, or says that it prepares to. */
  hasBegun: boolean;
  /** It has ended in one way or another; with a picture if `finished`. */
  over: boolean;
  finished: boolean;
  cancel: () => void;
}

/** The part of the page that shows runs. */
export interface RunView {
  /** From here on the figures are this run's; the plate is from its first picture on. */
  begin(run: Run): void;
  /** @param position how many are ahead of the shown run @param seconds until its turn, if that is known */
  queued(position: number, seconds: number | undefined): void;
  /** The newest run waits for the server to get ready for it. */
  preparing(event: PreparingEvent): void;
  /** @param fraction of the run that is done, 0 to 1 */
  progress(step: number, steps: number, fraction: number): void;
  preview(run: Run, image: Shown, step: number): void;
  /** @param elapsedMs since the request; @param more whether newer runs are under way */
  result(run: Run, event: ResultEvent, elapsedMs: number, more: boolean): void;
  /** @param news whether nothing newer is shown, so that the failure is worth words */
  failed(run: Run, failure: Failure, news: boolean): void;
  cancelled(): void;
  busy(running: boolean): void;
}

export interface StartOptions extends RunOptions {
  readonly deliberate: boolean;
  readonly size: Size;
}

export class Runs {
  private orders = 0;
  private readonly underWay = new Set<Run>();
  private current: Run | undefined;
  /** The run of the picture on the plate. */
  private pictured: Run | undefined;

  /**
   * @param release gives back the memory of a picture
   * @param now the clock, in ms
   */
  constructor(
    private readonly view: RunView,
    private readonly release: (image: Shown) => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The picture on the plate; it outlives its run, to be saved or painted on. */
  get picture(): Shown | undefined {
    return this.pictured?.images.at(-1);
  }

  get running(): boolean {
    return this.underWay.size > 0;
  }

  /** Nothing has been heard yet of any run that is under way. */
  get silent(): boolean {
    return this.running && [...this.underWay].every(({ hasBegun: begun }) => !begun);
  }

  start(connection: Connection, input: Input, { deliberate, replace, size }: StartOptions): void {
    const run: Run = {
      order: ++this.orders,
      prompt: input.prompt,
      seed: input.seed ?? "",
      size,
      deliberate,
      sentAt: this.now(),
      images: [],
      hasBegun: false,
      over: false,
      finished: false,
      cancel: () => {},
    };
    this.underWay.add(run);
    if (deliberate) this.begin(run);
    run.cancel = connection.run(
      input,
      {
        event: (event) => this.hear(run, event),
        failed: (failure) => this.fail(run, failure),
        superseded: () => this.end(run),
      },
      { replace },
    );
    // A request by hand or by typing leaves no use for older ones.
    if (replace === "interrupt") for (const other of this.underWay) if (other !== run) this.end(other);
    this.view.busy(this.running);
  }

  /** Calls off everything that is under way. */
  cancel(): void {
    if (!this.running) return;
    for (const run of this.underWay) {
      run.cancel();
      run.over = true;
    }
    this.underWay.clear();
    this.view.busy(false);
    this.view.cancelled();
  }

  private begin(run: Run): void {
    if (this.current === run) return;
    this.current = run;
    this.view.begin(run);
  }

  private hear(run: Run, event: RunEvent): void {
    if (run.over) return;
    if (event.type === "queued") {
      if (this.current === run) this.view.queued(event.position, event.seconds);
      return;
    }
    run.hasBegun = true;
    if (this.current !== undefined && this.current.order > run.order) {
      // A result that was encoded while the next run had begun: no news, but an end.
      if (event.type === "preview" || event.type === "result") this.release(event.image);
      if (event.type === "result") this.end(run);
      return;
    }
    if (event.type === "preparing") {
      this.view.preparing(event);
      return;
    }
    this.begin(run);
    switch (event.type) {
      case "progress":
        run.steps = event.steps;
        this.view.progress(event.step, event.steps, event.progress);
        return;
      case "preview":
        run.steps = event.steps;
        this.add(run, event.image);
        this.view.preview(run, event.image, event.step);
        return;
      case "result":
        this.finish(run, event);
        return;
      default:
        event satisfies never;
    }
  }

  /** Adds a picture of the shown run; with its first, those of the run before are needed no more. */
  private add(run: Run, image: Shown): void {
    run.firstAt ??= this.now();
    if (this.pictured !== run) for (const old of this.pictured?.images ?? []) this.release(old);
    this.pictured = run;
    run.images.push(image);
  }

  private finish(run: Run, event: ResultEvent): void {
    const now = this.now();
    run.finished = true;
    run.seed = event.seed;
    this.add(run, event.image);
    this.end(run);
    this.view.result(run, event, now - run.sentAt, this.running);
  }

  private fail(run: Run, failure: Failure): void {
    if (run.over) return;
    this.end(run);
    this.view.failed(run, failure, this.current === undefined || this.current.order <= run.order);
  }

  private end(run: Run): void {
    run.over = true;
    this.underWay.delete(run);
    this.view.busy(this.running);
  }
}

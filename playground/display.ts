/** Runs on the page: the plate, the strip of states below it, the figures, and what can be done with a finished picture. */
import type { Failure, Shown } from "./connection.ts";
import { type Filmstrip, openFilmstrip } from "./filmstrip.ts";
import type { Run, RunView } from "./runs.ts";
import { openStage, type Stage } from "./stage.ts";

const at = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;

export class Display implements RunView {
  readonly stage: Stage = openStage();
  readonly strip: Filmstrip;
  readonly seed = at<HTMLButtonElement>("figure-seed");
  readonly adopt = at<HTMLButtonElement>("adopt");
  readonly cancel = at<HTMLButtonElement>("cancel");
  private readonly save = at<HTMLAnchorElement>("save");
  private readonly step = at("figure-step");
  private readonly first = at("figure-first");
  private readonly total = at("figure-total");
  private readonly notes = at("notes");
  private readonly invitation = at("invitation");
  private shown: Run | undefined;

  /** @param complain says why a run came to nothing */
  constructor(private readonly complain: (run: Run, failure: Failure) => void) {
    this.strip = openFilmstrip(at("strip"), (frame) => {
      this.stage.compare(frame, this.shown?.finished ? "final" : "now");
    });
  }

  begin(run: Run): void {
    this.shown = run;
    this.strip.clear();
    this.stage.compare(undefined);
    this.stage.dim(run.deliberate);
    this.stage.progress(0);
    this.step.textContent = this.first.textContent = this.total.textContent = "–";
    this.notes.textContent = "";
    this.invitation.textContent = "Developing";
    requestAnimationFrame(() => this.tick(run));
    if (run.deliberate) say("Generating");
  }

  queued(position: number): void {
    this.step.textContent = position === 0 ? "next" : `${position} ahead`;
  }

  progress(step: number, steps: number, fraction: number): void {
    this.stage.progress(fraction);
    this.step.textContent = `${step} of ${steps}`;
  }

  preview(run: Run, image: Shown, step: number): void {
    if (run.images.length === 1) {
      this.showFirst(run);
      if (run.deliberate) say("First preview");
    }
    this.expose(run, image, `Step ${step}`);
  }

  result(run: Run, event: Parameters<RunView["result"]>[1], elapsedMs: number, more: boolean): void {
    const { image, seed, warnings } = event;
    this.expose(run, image, "Final");
    this.showFirst(run);
    this.total.textContent = seconds(elapsedMs);
    if (run.steps !== undefined) this.step.textContent = `${run.steps} of ${run.steps}`;
    this.seed.textContent = seed;
    this.seed.disabled = seed === "";
    this.save.hidden = false;
    this.save.href = image.url;
    this.save.download = `daguerre-${seed}.${image.type.split("/")[1] ?? "jpg"}`;
    this.adopt.disabled = false;
    this.notes.textContent = warnings.join(" ");
    this.stage.progress(more ? 0 : undefined);
    if (run.deliberate) say(`Finished in ${seconds(elapsedMs)}`);
  }

  failed(run: Run, failure: Failure, news: boolean): void {
    this.stage.dim(false);
    this.invitation.textContent = "";
    this.total.textContent = "–";
    if (!news) return;
    this.stage.progress(undefined);
    this.complain(run, failure);
  }

  cancelled(): void {
    this.stage.dim(false);
    this.stage.progress(undefined);
    this.step.textContent = "cancelled";
    say("Cancelled");
  }

  busy(running: boolean): void {
    // A disabled button loses the focus to nowhere.
    if (!running && document.activeElement === this.cancel) at("generate").focus();
    this.cancel.disabled = !running;
    document.body.classList.toggle("busy", running);
  }

  private expose(run: Run, image: Shown, name: string): void {
    this.stage.dim(false);
    this.stage.show(image, `${run.prompt || "A picture from your painting"}, ${name.toLowerCase()}`);
    this.strip.add({ image, name });
  }

  private showFirst(run: Run): void {
    if (run.firstAt !== undefined) this.first.textContent = seconds(run.firstAt - run.sentAt);
  }

  /** The running total, so that the figures are not still until the end. */
  private tick(run: Run): void {
    if (this.shown !== run || run.over) return;
    this.total.textContent = seconds(performance.now() - run.sentAt);
    requestAnimationFrame(() => this.tick(run));
  }
}

/** Says something to a screen reader. */
export function say(text: string): void {
  at("said").textContent = text;
}

/**
 * Runs on the page: the plate, the strip of states below it, the figures, and the actions on a picture.
 *
 * Step and times are those of the newest run. Caption, seed, strip, "Save" and "Use picture" belong to the picture on
 * the plate, whichever run it is of: while a new run has no picture yet, and if it never gets one, that is an older one.
 */
import type { Failure, PreparingEvent, Shown } from "./connection.ts";
import { type Filmstrip, openFilmstrip } from "./filmstrip.ts";
import type { Run, RunView } from "./runs.ts";
import { openStage, type Stage } from "./stage.ts";
import { preparingWords, Waiting } from "./waiting.ts";

const at = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;

export class Display implements RunView {
  readonly stage: Stage = openStage();
  readonly strip: Filmstrip;
  readonly seed = at<HTMLButtonElement>("figure-seed");
  readonly adopt = at<HTMLButtonElement>("adopt");
  readonly cancel = at<HTMLButtonElement>("cancel");
  readonly waiting = new Waiting(at("waiting"), say);
  private readonly save = at<HTMLAnchorElement>("save");
  private readonly caption = at("caption");
  private readonly step = at("figure-step");
  private readonly first = at("figure-first");
  private readonly total = at("figure-total");
  private readonly notes = at("notes");
  private readonly invitation = at("invitation");
  /** The text of an empty plate that waits for a request. */
  private invite = "";
  /** The run that the figures are of. */
  private timed: Run | undefined;
  /** The run that the picture on the plate is of, and the steps after which it was taken. */
  private pictured: Run | undefined;
  private picturedStep = 0;

  /** @param complain says why a run came to nothing */
  constructor(private readonly complain: (run: Run, failure: Failure) => void) {
    this.strip = openFilmstrip(at("strip"), (frame) => {
      this.stage.compare(frame, this.pictured?.finished ? "final" : "now");
    });
  }

  /** Writes `text` on the empty plate, as soon as nothing develops on it. */
  inviteWith(text: string): void {
    this.invite = text;
    if (this.timed === undefined || this.timed.over) this.invitation.textContent = text;
  }

  begin(run: Run): void {
    this.timed = run;
    this.waiting.over();
    this.stage.dim(run.deliberate);
    this.stage.progress(0);
    this.step.textContent = this.first.textContent = this.total.textContent = "–";
    this.invitation.textContent = "Developing";
    requestAnimationFrame(() => this.tick(run));
    if (run.deliberate) say("Generating");
  }

  queued(position: number, seconds: number | undefined): void {
    const place = position === 0 ? "next" : `${position} ahead`;
    this.step.textContent = seconds === undefined ? place : `${place}, ${seconds} s`;
  }

  preparing(event: PreparingEvent): void {
    const words = preparingWords(event);
    this.waiting.forRun(words);
    this.stage.preparing(event.total > 0 ? event.done / event.total : 0, words);
  }

  progress(step: number, steps: number, fraction: number): void {
    this.waiting.over();
    this.stage.progress(fraction);
    this.step.textContent = `${step} of ${steps}`;
  }

  preview(run: Run, image: Shown, step: number): void {
    if (run.images.length === 1) {
      this.showFirst(run);
      if (run.deliberate) say("First preview");
    }
    this.expose(run, image, step);
  }

  result(run: Run, event: Parameters<RunView["result"]>[1], elapsedMs: number, more: boolean): void {
    this.expose(run, event.image, undefined);
    this.showFirst(run);
    this.total.textContent = seconds(elapsedMs);
    if (run.steps !== undefined) this.step.textContent = `${run.steps} of ${run.steps}`;
    this.notes.textContent = event.warnings.join(" ");
    this.stage.progress(more ? 0 : undefined);
    if (run.deliberate) say(`Finished in ${seconds(elapsedMs)}`);
  }

  failed(run: Run, failure: Failure, news: boolean): void {
    if (!news) return;
    this.stop(run, "failed");
    this.complain(run, failure);
  }

  cancelled(): void {
    if (this.timed !== undefined) this.stop(this.timed, "cancelled");
    say("Cancelled");
  }

  busy(running: boolean): void {
    // A disabled button loses the focus to nowhere.
    if (!running && document.activeElement === this.cancel) at("generate").focus();
    this.cancel.disabled = !running;
    document.body.classList.toggle("busy", running);
    if (running) return;
    this.waiting.over();
    this.stage.progress(undefined);
  }

  /** The plate goes back to the picture that it has; the figures say how the run ended. */
  private stop(run: Run, how: string): void {
    this.stage.dim(false);
    this.stage.progress(undefined);
    this.invitation.textContent = this.invite;
    if (this.timed !== run || run.finished) return;
    this.step.textContent = how;
    this.total.textContent = "–";
    if (this.pictured === run) this.label(run);
  }

  /** @param step the steps after which the picture was taken; undefined: it is the finished one */
  private expose(run: Run, image: Shown, step: number | undefined): void {
    this.waiting.over();
    this.stage.dim(false);
    if (this.pictured !== run) {
      this.strip.clear();
      this.stage.compare(undefined);
      this.notes.textContent = "";
    }
    this.pictured = run;
    this.picturedStep = step ?? 0;
    const name = step === undefined ? "Final" : `Step ${step}`;
    const { width, height } = run.size;
    this.stage.show(image, `${titleOf(run)}, ${name.toLowerCase()}`, Math.max(width, height));
    this.strip.add({ image, name });
    this.save.hidden = false;
    this.save.href = image.url;
    this.save.download = [
      "daguerre",
      ...(run.seed === "" ? [] : [run.seed]),
      ...(step === undefined ? [] : [`step-${step}`]),
    ].join("-");
    this.save.download += `.${image.type.split("/")[1] ?? "jpg"}`;
    this.seed.textContent = run.seed || "–";
    this.seed.disabled = run.seed === "";
    this.adopt.disabled = false;
    this.label(run);
  }

  /** The caption: the words of the picture on the plate, and how far it came if it is not finished. */
  private label(run: Run): void {
    const steps = run.steps === undefined ? "" : ` of ${run.steps}`;
    const state = run.finished ? "" : `${run.over ? "stopped after" : "after"} step ${this.picturedStep}${steps}`;
    const part = (className: string, text: string) => {
      const span = document.createElement("span");
      span.className = className;
      span.textContent = text;
      return span;
    };
    this.caption.title = titleOf(run);
    this.caption.replaceChildren(part("words", titleOf(run)), ...(state === "" ? [] : [part("state", state)]));
  }

  private showFirst(run: Run): void {
    if (run.firstAt !== undefined) this.first.textContent = seconds(run.firstAt - run.sentAt);
  }

  /** The running total, so that the figures are not still until the end. */
  private tick(run: Run): void {
    if (this.timed !== run || run.over) return;
    this.total.textContent = seconds(performance.now() - run.sentAt);
    requestAnimationFrame(() => this.tick(run));
  }
}

function titleOf({ prompt }: Run): string {
  return prompt || "A picture from your painting";
}

/** Says something to a screen reader. */
export function say(text: string): void {
  at("said").textContent = text;
}

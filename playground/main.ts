/**
 * The page: what is asked, by hand, by typing or by painting, and what comes of it.
 *
 * Whichever way a request starts, it becomes a `Run`. Several may be under way at once (one being computed while newer
 * ones wait), and the rule for what is seen is one: a run is shown from its first picture on, unless a newer one has
 * been shown already.
 */
import { wireAppearance } from "./appearance.ts";
import type { Connection, Failure, RunEvent, Shown } from "./connection.ts";
import { openFilmstrip } from "./filmstrip.ts";
import { requestForm, type ServerFacts } from "./form.ts";
import { ideasFor } from "./ideas.ts";
import { wireKey } from "./key.ts";
import { openEasel } from "./paint.ts";
import { type Complaint, complaints } from "./plain-words.ts";
import { realtimeConnection } from "./realtime-connection.ts";
import { openStage } from "./stage.ts";
import { streamConnection } from "./stream-connection.ts";
import { release } from "./wire-events.ts";

/** Milliseconds without a key after which what was typed is asked for. */
const TYPING_MS = 250;
/** Milliseconds between two states of a painting that are sent. */
const STROKES_MS = 120;
/** Prompt ideas offered at a time. */
const IDEAS = 6;
/** Pixels up to which a picture is asked for as PNG: enlarged so far, the traces of JPEG's blocks would be seen. */
const SMALL = 256 * 256;

const at = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const form = at<HTMLFormElement>("request");
const prompt = at<HTMLTextAreaElement>("prompt");
const alertBox = at("alert");
const figures = { step: at("figure-step"), first: at("figure-first"), total: at("figure-total") };
const seedButton = at<HTMLButtonElement>("figure-seed");
const save = at<HTMLAnchorElement>("save");
const adopt = at<HTMLButtonElement>("adopt");
const cancelButton = at<HTMLButtonElement>("cancel");

/** Where the server is: beside the page, wherever that is mounted. */
const beside = (path: string) => new URL(path, document.baseURI);

interface Run {
  /** Newer runs have larger ones. */
  readonly order: number;
  readonly prompt: string;
  /** Asked for by hand, not by a key or a stroke in passing: it gets the whole show. */
  readonly deliberate: boolean;
  readonly sentAt: number;
  readonly images: Shown[];
  firstAt?: number;
  steps?: number;
  cancel: () => void;
}

const stage = openStage();
const request = requestForm(form);
const strip = openFilmstrip(at("strip"), (frame) => {
  stage.compare(frame, current?.finished ? "final" : "now");
});
const easel = openEasel(
  {
    canvas: at<HTMLCanvasElement>("canvas"),
    swatches: at("swatches"),
    brush: at("brush"),
    undo: at("undo"),
    fill: at("fill"),
    clear: at("clear"),
  },
  () => strokes.soon(),
);

const key = wireKey(at<HTMLInputElement>("key"), beside("auth/token"));
const streams = {
  stream: beside("stream"),
  resume: (job: string) => beside(`stream/${job}`),
  cancel: (job: string) => beside(`jobs/${job}`),
};
let connection: Connection = streamConnection(streams, key);
const underWay = new Set<Run>();
let orders = 0;
/** What the plate shows. */
let current: { run: Run; finished: boolean } | undefined;
/** The last finished picture; it outlives its run, to be saved or painted on. */
let finished: Shown | undefined;
/** Pictures of runs before the shown one, whose memory goes when something newer is finished. */
let spent: Shown[] = [];
/** The seed of pictures while typing or painting: a new one each time would be another picture at every key. */
let sessionSeed = rolledSeed();

const painting = () => chosen("start") === "canvas";
const realtime = () => chosen("transport") === "realtime";

function chosen(name: string): string {
  return (form.elements.namedItem(name) as RadioNodeList).value;
}

function rolledSeed(): string {
  return String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

const typing = later(TYPING_MS, "quiet", () => {
  if (prompt.value.trim() !== "") void generate("typing");
});
const strokes = later(STROKES_MS, "steady", () => void generate("strokes"));

/** Something to be done soon: after a while of quiet, or at a steady pace however often it is asked for. */
function later(ms: number, when: "quiet" | "steady", work: () => void) {
  let timer: number | undefined;
  return {
    soon() {
      if (timer !== undefined && when === "steady") return;
      clearTimeout(timer);
      timer = setTimeout(() => {
        timer = undefined;
        work();
      }, ms);
    },
    never() {
      clearTimeout(timer);
      timer = undefined;
    },
  };
}

type Reason = "hand" | "typing" | "strokes";

async function generate(reason: Reason): Promise<void> {
  typing.never();
  if (reason === "hand") strokes.never();
  const { input, complaints: found } = request.read();
  if (reason === "hand" && input.prompt === "" && !painting()) {
    found.unshift({ field: "prompt", text: "Write what the picture should show, or take one of the ideas." });
  }
  if (reason !== "typing" || found.length === 0) complain(found, reason === "hand");
  if (found.length > 0) return;
  if (reason !== "hand" || painting()) {
    input.seed ??= sessionSeed;
    request.hurry(input);
  }
  if (painting()) {
    input.image = await easel.picture();
    input.strength = Number(at<HTMLInputElement>("strength").value);
    Object.assign(input, request.size());
  }

  const { width, height } = request.size();
  if (width * height <= SMALL) input.output_format = "png";

  const run: Run = {
    order: ++orders,
    prompt: input.prompt,
    deliberate: reason === "hand",
    sentAt: performance.now(),
    images: [],
    cancel: () => {},
  };
  underWay.add(run);
  if (run.deliberate) {
    begin(run);
    say("Generating");
  }
  run.cancel = connection.run(
    input,
    {
      event: (event) => heard(run, event),
      failed: (failure) => failed(run, failure),
      superseded: () => over(run),
    },
    { replace: reason === "strokes" ? "wait" : "interrupt" },
  );
  // Whoever asks by hand or by typing has no more use for what was asked before.
  if (reason !== "strokes") for (const other of underWay) if (other !== run) over(other);
  busy();
}

/** From here on the plate and the figures are this run's. */
function begin(run: Run): void {
  if (current?.run === run) return;
  if (current !== undefined) spent.push(...current.run.images);
  current = { run, finished: false };
  strip.clear();
  stage.compare(undefined);
  stage.dim(run.deliberate);
  stage.progress(0);
  figures.step.textContent = figures.first.textContent = figures.total.textContent = "–";
  at("notes").textContent = "";
  at("invitation").textContent = "Developing";
  requestAnimationFrame(tick);
}

function heard(run: Run, event: RunEvent): void {
  if (!underWay.has(run)) return;
  if (event.type === "queued") {
    if (current?.run === run) figures.step.textContent = event.position === 0 ? "next" : `${event.position} ahead`;
    return;
  }
  if (current !== undefined && current.run.order > run.order) {
    // A result that was encoded while the next run had begun: no news, but an end.
    if (event.type === "preview" || event.type === "result") release(event.image);
    if (event.type === "result") over(run);
    return;
  }
  begin(run);
  const now = performance.now();
  switch (event.type) {
    case "progress":
      run.steps = event.steps;
      stage.progress(event.progress);
      figures.step.textContent = `${event.step} of ${event.steps}`;
      return;
    case "preview":
      if (run.firstAt === undefined) {
        run.firstAt = now;
        figures.first.textContent = seconds(now - run.sentAt);
        if (run.deliberate) say("First preview");
      }
      expose(run, event.image, `Step ${event.step}`);
      return;
    case "result": {
      run.firstAt ??= now;
      over(run);
      current = { run, finished: true };
      expose(run, event.image, "Final");
      finished = event.image;
      for (const image of spent) release(image);
      spent = [];
      const total = seconds(now - run.sentAt);
      figures.first.textContent = seconds(run.firstAt - run.sentAt);
      figures.total.textContent = total;
      if (run.steps !== undefined) figures.step.textContent = `${run.steps} of ${run.steps}`;
      seedButton.textContent = event.seed;
      seedButton.disabled = event.seed === "";
      save.hidden = false;
      save.href = event.image.url;
      save.download = `daguerre-${event.seed}.${event.image.type.split("/")[1] ?? "jpg"}`;
      adopt.disabled = false;
      at("notes").textContent = event.warnings.join(" ");
      stage.progress(underWay.size > 0 ? 0 : undefined);
      if (run.deliberate) say(`Finished in ${total}`);
      return;
    }
    default:
      event satisfies never;
  }
}

function expose(run: Run, image: Shown, name: string): void {
  run.images.push(image);
  stage.dim(false);
  stage.show(image, `${run.prompt || "A picture from your painting"}, ${name.toLowerCase()}`);
  strip.add({ image, name });
}

function failed(run: Run, failure: Failure): void {
  if (!underWay.has(run)) return;
  over(run);
  stage.dim(false);
  at("invitation").textContent = "";
  figures.total.textContent = "–";
  if (current === undefined || current.run.order <= run.order) {
    stage.progress(undefined);
    if (failure.status === 401 || failure.status === 403) key.ask();
    complain(complaints(failure, request.fields), run.deliberate);
  }
}

function over(run: Run): void {
  underWay.delete(run);
  busy();
}

function cancel(): void {
  typing.never();
  strokes.never();
  if (underWay.size === 0) return;
  for (const run of underWay) {
    run.cancel();
    underWay.delete(run);
  }
  busy();
  stage.dim(false);
  stage.progress(undefined);
  figures.step.textContent = "cancelled";
  say("Cancelled");
}

function busy(): void {
  const running = underWay.size > 0;
  // A disabled button loses the focus to nowhere.
  if (!running && document.activeElement === cancelButton) at("generate").focus();
  cancelButton.disabled = !running;
  document.body.classList.toggle("busy", running);
}

/** The running total, so that the figures are not still until the end. */
function tick(): void {
  if (current === undefined || current.finished || !underWay.has(current.run)) return;
  figures.total.textContent = seconds(performance.now() - current.run.sentAt);
  requestAnimationFrame(tick);
}

function complain(list: readonly Complaint[], takeFocus: boolean): void {
  const focused = document.activeElement as HTMLElement | null;
  request.show(list);
  // While somebody types or paints, their cursor stays where it is.
  if (!takeFocus) focused?.focus();
  alertBox.textContent = list
    .filter(({ field }) => field === undefined)
    .map(({ text }) => text)
    .join(" ");
}

function say(text: string): void {
  at("said").textContent = text;
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;

// What is asked for.
form.addEventListener("submit", (event) => {
  event.preventDefault();
  void generate("hand");
});
prompt.addEventListener("keydown", (event) => {
  // Enter that ends the choosing of a character (in Japanese, say) is not for us.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  void generate("hand");
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target !== prompt) void generate("hand");
  if (event.key !== "Escape") return;
  if (underWay.size > 0) cancel();
  else strip.unchoose();
});
cancelButton.addEventListener("click", cancel);
prompt.addEventListener("input", () => {
  if (painting()) strokes.soon();
  else if (realtime()) typing.soon();
});
form.addEventListener("input", (event) => {
  if (event.target === prompt || (event.target as HTMLElement).matches("[type=radio]")) return;
  if (painting()) strokes.soon();
  else if (realtime()) typing.soon();
});
at("dice").addEventListener("click", () => {
  const seed = form.elements.namedItem("seed") as HTMLInputElement;
  seed.value = sessionSeed = rolledSeed();
  seed.dispatchEvent(new Event("input", { bubbles: true }));
});
seedButton.addEventListener("click", () => {
  (form.elements.namedItem("seed") as HTMLInputElement).value = seedButton.textContent ?? "";
  say("Seed kept");
});
adopt.addEventListener("click", () => {
  if (finished !== undefined) void easel.adopt(finished.url);
});

// How it is asked for.
function showStart(): void {
  document.body.classList.toggle("painting", painting());
  reshape();
  if (!painting()) strokes.never();
}
function reshape(): void {
  const { width, height } = request.size();
  stage.shape(width, height);
  easel.shape(width, height);
}
function connect(): void {
  cancel();
  document.body.classList.toggle("realtime", realtime());
  connection.close();
  connection = realtime() ? realtimeConnection(beside("realtime"), key) : streamConnection(streams, key);
}
for (const radio of form.querySelectorAll<HTMLInputElement>("[name=start]"))
  radio.addEventListener("change", showStart);
for (const radio of form.querySelectorAll<HTMLInputElement>("[name=transport]"))
  radio.addEventListener("change", connect);
for (const side of ["width", "height"]) at(side).addEventListener("change", reshape);

function offer(model: string): void {
  const ideas = at("ideas");
  const shuffled = [...ideasFor(model)].sort(() => Math.random() - 0.5).slice(0, IDEAS);
  ideas.replaceChildren(
    ...shuffled.map(({ name, prompt: text }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.title = text;
      button.addEventListener("click", () => {
        prompt.value = text;
        prompt.dispatchEvent(new Event("input"));
        void generate("hand");
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

async function meetServer(): Promise<void> {
  const response = await fetch(beside("health"));
  if (!response.ok) throw new Error(`the server says ${response.status}`);
  // biome-ignore lint/suspicious/noExplicitAny: each field is looked at before it is used
  const health = (await response.json()) as any;
  const facts: ServerFacts = {
    model: typeof health.model === "string" ? health.model : "",
    adapter: typeof health.adapter?.name === "string" ? health.adapter.name : "",
    defaults: health.defaults ?? {},
    fewStep: typeof health.few_step === "object" && health.few_step !== null,
  };
  const machine = at("machine");
  machine.replaceChildren();
  for (const [kind, text] of [
    ["model", facts.model],
    ["adapter", facts.adapter],
  ] as const) {
    if (text === "") continue;
    const part = document.createElement("span");
    part.className = kind;
    part.textContent = text;
    machine.append(part);
  }
  request.showDefaults(facts);
  offer(facts.model);
  reshape();
}

wireAppearance(at<HTMLButtonElement>("theme"));
showStart();
meetServer().catch(() => {
  complain(complaints({ status: 0, detail: "" }, request.fields), false);
});

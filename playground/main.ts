/**
 * The page: requests by hand, by typing or by painting, and the pictures that come of them. This file joins the parts;
 * `runs.ts` decides what is shown, `display.ts` shows it.
 */
import { wireAppearance } from "./appearance.ts";
import type { Connection, Input } from "./connection.ts";
import { Display, say } from "./display.ts";
import { settingsIn, wireDrop } from "./dropped.ts";
import { RequestForm } from "./form.ts";
import { ideasFor } from "./ideas.ts";
import { wireKey } from "./key.ts";
import { Later } from "./later.ts";
import { Easel } from "./paint.ts";
import { type Complaint, complaints } from "./plain-words.ts";
import { Readiness } from "./readiness.ts";
import { RealtimeConnection } from "./realtime-connection.ts";
import { Runs } from "./runs.ts";
import { readFacts, showMachine } from "./server.ts";
import { streamConnection } from "./stream-connection.ts";
import { release } from "./wire-events.ts";

/** Milliseconds without a key after which what was typed is asked for. */
const TYPING_MS = 250;
/** Milliseconds between two states of a painting that are sent. */
const STROKES_MS = 120;
/** Milliseconds without a word of the server after which it is asked whether it is ready. */
const SILENCE_MS = 700;
/** Pixels up to which a picture is asked for as PNG: enlarged so far, the traces of JPEG's blocks would be seen. */
const SMALL = 256 * 256;

const at = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const form = at<HTMLFormElement>("request");
const prompt = at<HTMLTextAreaElement>("prompt");
const seed = form.elements.namedItem("seed") as HTMLInputElement;

/** The server's address is beside the page, wherever that is mounted. */
const beside = (path: string) => new URL(path, document.baseURI);

const request = new RequestForm(form);
const key = wireKey(at<HTMLInputElement>("key"), beside("auth/token"));
const display = new Display((run, failure) => {
  if (failure.status === 401 || failure.status === 403) key.ask();
  complain(complaints(failure, request.fields), run.deliberate);
});
const runs = new Runs(display, release);
const readiness = new Readiness(beside("ready"), (text) => display.waiting.forServer(text));
const silence = new Later(SILENCE_MS, "quiet", () => {
  if (runs.silent) void readiness.watch();
});
const typing = new Later(TYPING_MS, "quiet", () => {
  if (prompt.value.trim() !== "") void generate("typing");
});
const strokes = new Later(STROKES_MS, "steady", () => void generate("strokes"));
const easel = new Easel(
  {
    canvas: at<HTMLCanvasElement>("canvas"),
    swatches: at("swatches"),
    brush: at<HTMLInputElement>("brush"),
    undo: at<HTMLButtonElement>("undo"),
    fill: at<HTMLButtonElement>("fill"),
    clear: at<HTMLButtonElement>("clear"),
  },
  () => strokes.soon(),
);

const streams = {
  stream: beside("stream"),
  resume: (job: string) => beside(`stream/${job}`),
  cancel: (job: string) => beside(`jobs/${job}`),
};
let connection: Connection = streamConnection(streams, key);
/** The seed of pictures while typing or painting: a new one each time would be another picture at every key. */
let sessionSeed = randomSeed();

const painting = () => choice("start") === "canvas";
const realtime = () => choice("transport") === "realtime";

function choice(name: string): string {
  return (form.elements.namedItem(name) as RadioNodeList).value;
}

function randomSeed(): string {
  return String(crypto.getRandomValues(new Uint32Array(1))[0]);
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
  await complete(input, reason);
  runs.start(connection, input, {
    deliberate: reason === "hand",
    replace: reason === "strokes" ? "wait" : "interrupt",
    size: request.size(),
  });
  silence.soon();
}

/** Adds the fields that are not written in the form: a steady seed, the painting, the format. */
async function complete(input: Input, reason: Reason): Promise<void> {
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
  // Dropped on the page again, the picture gives its settings back.
  input.embed_metadata = true;
}

function cancel(): void {
  typing.never();
  strokes.never();
  runs.cancel();
}

function complain(list: readonly Complaint[], takeFocus: boolean): void {
  const focused = document.activeElement as HTMLElement | null;
  request.show(list);
  // While somebody types or paints, their cursor stays where it is.
  if (!takeFocus) focused?.focus();
  at("alert").textContent = list
    .filter(({ field }) => field === undefined)
    .map(({ text }) => text)
    .join(" ");
}

/** A change of the request: while painting or typing it asks for a new picture. */
function changed(): void {
  if (painting()) strokes.soon();
  else if (realtime()) typing.soon();
}

function wireRequest(): void {
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
    if (runs.running) cancel();
    else display.strip.unchoose();
  });
  display.cancel.addEventListener("click", cancel);
  prompt.addEventListener("input", changed);
  form.addEventListener("input", (event) => {
    if (event.target === prompt || (event.target as HTMLElement).matches("[type=radio]")) return;
    changed();
  });
  at("dice").addEventListener("click", () => {
    seed.value = sessionSeed = randomSeed();
    seed.dispatchEvent(new Event("input", { bubbles: true }));
  });
  display.seed.addEventListener("click", () => {
    seed.value = display.seed.textContent ?? "";
    say("Seed kept");
  });
  display.adopt.addEventListener("click", () => {
    if (runs.picture !== undefined) void easel.adopt(runs.picture.url);
  });
}

function wireSettings(): void {
  wireDrop(document.body, (file) => void restore(file));
  at("carried-out").addEventListener("click", () => {
    request.leaveCarried();
    changed();
  });
}

async function restore(file: File): Promise<void> {
  const settings = await settingsIn(file);
  if (settings === undefined) {
    complain([{ field: undefined, text: "No settings stand in this file." }], false);
    return;
  }
  request.restore(settings);
  reshape();
  at("alert").textContent = "";
  say("Settings of the picture");
  changed();
}

function wireWays(): void {
  for (const radio of form.querySelectorAll<HTMLInputElement>("[name=start]")) {
    radio.addEventListener("change", showStart);
  }
  for (const radio of form.querySelectorAll<HTMLInputElement>("[name=transport]")) {
    radio.addEventListener("change", connect);
  }
  for (const side of ["width", "height"]) at(side).addEventListener("change", reshape);
}

function showStart(): void {
  document.body.classList.toggle("painting", painting());
  reshape();
  showMode();
  if (!painting()) strokes.never();
}

function showMode(): void {
  request.showMode(painting() ? "painting" : realtime() ? "typing" : "button");
  display.inviteWith(
    painting() ? "Paint, and the picture follows." : "The plate is ready. Describe\u00a0a\u00a0scene.",
  );
}

function reshape(): void {
  const { width, height } = request.size();
  display.stage.shape(width, height);
  easel.shape(width, height);
}

function connect(): void {
  cancel();
  document.body.classList.toggle("realtime", realtime());
  showMode();
  connection.close();
  connection = realtime() ? new RealtimeConnection(beside("realtime"), key) : streamConnection(streams, key);
}

function offerIdeas(model: string): void {
  at("ideas").replaceChildren(
    ...ideasFor(model).map(({ name, prompt: text }) => {
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
  const facts = await readFacts(beside("health"));
  showMachine(at("machine"), facts);
  request.showDefaults(facts);
  offerIdeas(facts.model);
  reshape();
}

wireRequest();
wireWays();
wireSettings();
wireAppearance(at<HTMLButtonElement>("theme"));
showStart();
void readiness.watch();
meetServer().catch(() => {
  complain(complaints({ status: 0, detail: "" }, request.fields), false);
});

/**
 * The form as a request. A slider that nobody has moved and a field that nobody has filled are left out of it, so that
 * the model's own values hold; until then they show what the model would take.
 */
import type { SettingsInPicture } from "../src/image/infotext.ts";
import type { Input } from "./connection.ts";
import type { Complaint } from "./plain-words.ts";

/** The two settings by which a model's few-step variant differs. */
interface Sampling {
  readonly num_inference_steps?: number;
  readonly guidance_scale?: number;
}

/** The server's own facts; `defaults` are empty if it is not ours. */
export interface ServerFacts {
  readonly model: string;
  readonly adapter: string;
  readonly defaults: Sampling & { readonly width?: number; readonly height?: number };
  /** The variant that needs few steps, if the model has one. */
  readonly fewStep?: Sampling;
}

/** The occasion of a picture: the button alone, or each key or stroke besides. */
export type Mode = "button" | "typing" | "painting";

/** The side of a picture, in pixels, until the server has named the model's own. */
const SUPPOSED_SIDE = 512;
/** The sides that the server accepts, so that the plate does not follow a number that it will refuse. */
const MIN_SIDE = 64;
const MAX_SIDE = 2048;
/** Steps that a preview is made of on the way, at most: more are not seen in so short a time. */
const PREVIEWS = 12;

/** The sliders that hold a model's own value until somebody moves them; `strength` is the page's own. */
const SLIDERS = ["num_inference_steps", "guidance_scale", "strength"] as const;

/** The most that a slider is moved to. */
const MOST = { num_inference_steps: 200, guidance_scale: 100, strength: 1 } as const;

interface Slider {
  readonly name: (typeof SLIDERS)[number];
  readonly input: HTMLInputElement;
  readonly output: HTMLOutputElement;
}

export class RequestForm {
  /** The places for complaints, by the field that they are about. */
  private readonly faults: ReadonlyMap<string, HTMLElement>;
  private readonly sliders: readonly Slider[];
  private readonly touched = new Set<string>(["strength"]);
  private defaults: ServerFacts["defaults"] = {};
  private fewStep: Sampling | undefined;
  private mode: Mode = "button";
  /** Settings of a picture that have no field here. */
  private carried: Partial<Input> = {};

  constructor(private readonly form: HTMLFormElement) {
    this.faults = new Map(
      Array.from(form.querySelectorAll<HTMLElement>("[data-fault]"), (place) => [place.dataset.fault ?? "", place]),
    );
    this.sliders = SLIDERS.map((name) => this.wireSlider(name));
    for (const [name, place] of this.faults) this.describe(name, place);
    this.showSliders();
  }

  /** The names that have a place for a complaint. */
  get fields(): ReadonlySet<string> {
    return new Set(this.faults.keys());
  }

  /** The request's fields but for the picture; a complaint for each field that cannot be read. */
  read(): { input: Input; complaints: Complaint[] } {
    const complaints: Complaint[] = [];
    const input: Input = { ...this.carried, prompt: this.text("prompt") };
    const negative = this.text("negative_prompt");
    if (negative !== "") input.negative_prompt = negative;
    for (const { name, input: slider } of this.sliders) {
      if (name !== "strength" && this.touched.has(name)) input[name] = Number(slider.value);
    }
    for (const name of ["width", "height"] as const) {
      const text = this.text(name);
      if (/^\d+$/.test(text)) input[name] = Number(text);
      else if (text !== "") {
        const usual = this.defaults[name] ?? SUPPOSED_SIDE;
        complaints.push({ field: name, text: `The ${name} must be a whole number of pixels, such as ${usual}.` });
      }
    }
    const seed = this.text("seed");
    if (/^\d{1,20}$/.test(seed)) input.seed = seed;
    else if (seed !== "") {
      complaints.push({
        field: "seed",
        text: "The seed must be a whole number. Leave it empty for a new one each time.",
      });
    }
    const steps = input.num_inference_steps ?? this.defaults.num_inference_steps ?? PREVIEWS;
    input.preview_every = Math.max(1, Math.ceil(steps / PREVIEWS));
    return { input, complaints };
  }

  /** Takes over the settings of a picture: those that it does not tell are the model's own again. */
  restore(settings: SettingsInPicture): void {
    const { prompt, negative_prompt = "", seed = "", width = "", height = "", strength, ...rest } = settings;
    const { num_inference_steps, guidance_scale, ...carried } = rest;
    for (const [name, value] of Object.entries({ prompt, negative_prompt, seed, width, height })) {
      this.control(name).value = String(value);
    }
    if (negative_prompt !== "") this.control("negative_prompt").closest("details")?.setAttribute("open", "");
    const values = { num_inference_steps, guidance_scale, strength };
    for (const { name, input } of this.sliders) {
      const value = values[name];
      if (value === undefined || value < 0 || value > MOST[name] || (input.step === "1" && !Number.isInteger(value))) {
        if (name !== "strength") this.touched.delete(name);
        continue;
      }
      input.min = String(Math.min(value, Number(input.min)));
      input.max = String(Math.max(value, Number(input.max)));
      // Between two marks of a slider there are values, too.
      if (!Number.isInteger(value / Number(input.step))) input.step = "0.01";
      input.value = String(value);
      this.touched.add(name);
    }
    // The server refuses what it does not know.
    this.carry(carried as Partial<Input>);
    this.show([]);
    this.showSliders();
  }

  /** Leaves out the settings of a picture that have no field here. */
  leaveCarried(): void {
    this.carry({});
  }

  private carry(carried: Partial<Input>): void {
    this.carried = carried;
    const words = carriedWords(carried);
    document.getElementById("carried")!.hidden = words === "";
    document.getElementById("carried-words")!.textContent = `From the picture: ${words}`;
  }

  /** Lets the few-step variant answer, if there is one and nobody has chosen steps or guidance. */
  hurry(input: Input): void {
    if (!this.canHurry()) return;
    input.few_step = true;
    input.preview_every = 1;
  }

  /** Shows the model's own values in the fields that nobody has touched. */
  showDefaults({ defaults, fewStep }: ServerFacts): void {
    this.defaults = defaults;
    this.fewStep = fewStep;
    for (const name of ["width", "height"] as const) {
      if (defaults[name] !== undefined) this.control(name).placeholder = String(defaults[name]);
    }
    this.showSliders();
  }

  /** Shows the values that pictures on these occasions are made with. */
  showMode(mode: Mode): void {
    this.mode = mode;
    this.showSliders();
  }

  /** The size of the picture that a request would get, in pixels. */
  size(): { width: number; height: number } {
    return { width: this.side("width"), height: this.side("height") };
  }

  /** Shows these complaints and no others, and moves the focus to the first. */
  show(complaints: readonly Complaint[]): void {
    for (const name of this.faults.keys()) this.clear(name);
    let first: HTMLElement | undefined;
    for (const { field, text } of complaints) {
      const place = field === undefined ? undefined : this.faults.get(field);
      if (field === undefined || place === undefined) continue;
      place.textContent = text;
      this.control(field).setAttribute("aria-invalid", "true");
      // A folded part must open to show its fault.
      place.closest("details")?.setAttribute("open", "");
      first ??= this.control(field);
    }
    first?.focus();
  }

  private control(name: string): HTMLInputElement {
    return this.form.elements.namedItem(name) as HTMLInputElement;
  }

  private text(name: string): string {
    return this.control(name).value.trim();
  }

  private side(name: "width" | "height"): number {
    const side = Number(this.control(name).value);
    return side >= MIN_SIDE && side <= MAX_SIDE ? Math.round(side) : (this.defaults[name] ?? SUPPOSED_SIDE);
  }

  private wireSlider(name: Slider["name"]): Slider {
    const input = this.control(name);
    const output = this.form.querySelector<HTMLOutputElement>(`output[for="${input.id}"]`)!;
    input.addEventListener("input", () => {
      this.touched.add(name);
      // The choice of one may be a choice against the few-step variant, and so change the other.
      this.showSliders();
    });
    return { name, input, output };
  }

  private canHurry(): boolean {
    const chosen = this.touched.has("num_inference_steps") || this.touched.has("guidance_scale");
    return this.fewStep !== undefined && !chosen;
  }

  private hurries(): boolean {
    return this.mode !== "button" && this.canHurry();
  }

  /** The value that a picture would be made with; undefined if only the server knows it. */
  private value({ name, input }: Pick<Slider, "name" | "input">): number | undefined {
    if (name === "strength" || this.touched.has(name)) return Number(input.value);
    return (this.hurries() ? this.fewStep : this.defaults)?.[name];
  }

  private showSliders(): void {
    for (const slider of this.sliders) {
      const { name, input, output } = slider;
      const value = this.value(slider);
      if (value !== undefined && !this.touched.has(name)) {
        input.min = String(Math.min(value, Number(input.min)));
        input.max = String(Math.max(value, Number(input.max)));
        input.value = String(value);
      }
      const text = name === "strength" ? `${Math.round(Number(value) * 100)} %` : String(value);
      output.textContent = value === undefined ? "model’s own" : text;
      const { min, max } = input;
      input.style.setProperty(
        "--filled",
        `${((Number(input.value) - Number(min)) / (Number(max) - Number(min))) * 100}%`,
      );
    }
    this.showHints();
  }

  /** Says in words what the sliders cannot: which variant draws, and how many of the steps a redrawing takes. */
  private showHints(): void {
    const hint = document.getElementById("quick-hint")!;
    const { num_inference_steps: steps, guidance_scale: guidance } = this.defaults;
    const byHand = steps === undefined ? "" : ` Generate takes ${steps} steps at guidance ${guidance}.`;
    hint.hidden = !this.hurries();
    hint.textContent =
      this.mode === "painting"
        ? "While you paint, the few-step variant draws."
        : `While you type, the few-step variant draws.${byHand}`;

    const [all, , strength] = this.sliders.map((slider) => this.value(slider));
    const part =
      all === undefined ? "" : `: ${redrawn(all, Number(strength), this.touched.has("num_inference_steps"))}`;
    document.getElementById("strength-hint")!.textContent = `The part of your painting that is drawn anew${part}`;
  }

  /** Joins a field to the place of its complaint, which goes as soon as the field is changed. */
  private describe(name: string, place: HTMLElement): void {
    place.id = `fault-${name}`;
    const input = this.control(name);
    const described = input.getAttribute("aria-describedby");
    input.setAttribute("aria-describedby", described === null ? place.id : `${described} ${place.id}`);
    input.addEventListener("input", () => this.clear(name));
  }

  private clear(name: string): void {
    this.faults.get(name)!.textContent = "";
    this.control(name).removeAttribute("aria-invalid");
  }
}

/** The part of the steps that redraws a painting. If nobody has chosen the steps, the server takes enough for one. */
function redrawn(steps: number, strength: number, chosen: boolean): string {
  const count = Math.trunc(steps * strength);
  return count === 0 && !chosen ? "1 step" : `${count} of ${steps} steps`;
}

/** Settings that the page has no fields for, in words. */
function carriedWords(carried: Partial<Input>): string {
  return Object.entries(carried)
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
}

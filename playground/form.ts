/**
 * The form as a request. A slider that nobody has moved and a field that nobody has filled are left out of it, so that
 * the model's own values hold; until then they show what the model would take.
 */
import type { Input } from "./connection.ts";
import type { Complaint } from "./plain-words.ts";

/** What the server says of itself; `defaults` are missing where it is not ours. */
export interface ServerFacts {
  readonly model: string;
  readonly adapter: string;
  readonly defaults: {
    readonly width?: number;
    readonly height?: number;
    readonly num_inference_steps?: number;
    readonly guidance_scale?: number;
  };
  /** The model has a variant that needs few steps. */
  readonly fewStep: boolean;
}

export interface RequestForm {
  /** The request's fields but for the picture; a complaint per field that cannot be read. */
  read(): { input: Input; complaints: Complaint[] };
  /** Lets the request be answered by the few-step variant, if there is one and nobody has chosen steps or guidance. */
  hurry(input: Input): void;
  /** Shows the model's own values in what is untouched. */
  showDefaults(facts: ServerFacts): void;
  /** The size a request would get. */
  size(): { width: number; height: number };
  show(complaints: readonly Complaint[]): void;
  readonly fields: ReadonlySet<string>;
}

/** What is taken for the model's size until the server has told. */
const SUPPOSED_SIDE = 512;
/** What the server takes, so that the plate does not follow a number that it will refuse. */
const MIN_SIDE = 64;
const MAX_SIDE = 2048;
/** Steps that a preview is made of on the way, at most: more are not seen in so short a time. */
const PREVIEWS = 12;

export function requestForm(form: HTMLFormElement): RequestForm {
  const named = (name: string) => form.elements.namedItem(name) as HTMLInputElement;
  const faults = new Map(
    Array.from(
      form.querySelectorAll<HTMLElement>("[data-fault]"),
      (place) => [place.dataset.fault ?? "", place] as const,
    ),
  );
  let defaults: ServerFacts["defaults"] = {};
  let fewStep = false;

  const touched = new Set<string>(["strength"]);
  const sliders = (["num_inference_steps", "guidance_scale", "strength"] as const).map((name) => {
    const input = named(name);
    const output = form.querySelector<HTMLOutputElement>(`output[for="${input.id}"]`)!;
    const say = () => {
      const { min, max, value } = input;
      const known = touched.has(name) || (name !== "strength" && defaults[name] !== undefined);
      output.textContent = known
        ? name === "strength"
          ? `${Math.round(Number(value) * 100)} %`
          : value
        : "model’s own";
      input.style.setProperty("--filled", `${((Number(value) - Number(min)) / (Number(max) - Number(min))) * 100}%`);
    };
    input.addEventListener("input", () => {
      touched.add(name);
      say();
    });
    return { name, input, say };
  });
  for (const slider of sliders) slider.say();

  for (const [name, place] of faults) {
    place.id = `fault-${name}`;
    const input = named(name);
    const described = input.getAttribute("aria-describedby");
    input.setAttribute("aria-describedby", described === null ? place.id : `${described} ${place.id}`);
    input.addEventListener("input", () => clear(name));
  }

  function clear(name: string): void {
    faults.get(name)!.textContent = "";
    named(name).removeAttribute("aria-invalid");
  }

  const pixels = (name: "width" | "height") => {
    const side = Number(named(name).value);
    return side >= MIN_SIDE && side <= MAX_SIDE ? Math.round(side) : (defaults[name] ?? SUPPOSED_SIDE);
  };

  return {
    fields: new Set(faults.keys()),
    read() {
      const complaints: Complaint[] = [];
      const input: Input = { prompt: named("prompt").value.trim() };
      const negative = named("negative_prompt").value.trim();
      if (negative !== "") input.negative_prompt = negative;
      for (const { name, input: slider } of sliders) {
        if (name !== "strength" && touched.has(name)) input[name] = Number(slider.value);
      }
      for (const name of ["width", "height"] as const) {
        const text = named(name).value.trim();
        if (/^\d+$/.test(text)) input[name] = Number(text);
        else if (text !== "") {
          complaints.push({
            field: name,
            text: `The ${name} must be a whole number of pixels, such as ${defaults[name] ?? SUPPOSED_SIDE}.`,
          });
        }
      }
      const seed = named("seed").value.trim();
      if (/^\d{1,20}$/.test(seed)) input.seed = seed;
      else if (seed !== "")
        complaints.push({
          field: "seed",
          text: "The seed must be a whole number. Leave it empty for a new one each time.",
        });
      const steps = input.num_inference_steps ?? defaults.num_inference_steps ?? PREVIEWS;
      input.preview_every = Math.max(1, Math.ceil(steps / PREVIEWS));
      return { input, complaints };
    },
    hurry(input) {
      if (!fewStep || touched.has("num_inference_steps") || touched.has("guidance_scale")) return;
      input.few_step = true;
      input.preview_every = 1;
    },
    showDefaults(facts) {
      ({ defaults, fewStep } = facts);
      for (const slider of sliders) {
        const value = slider.name === "strength" ? undefined : defaults[slider.name];
        if (value !== undefined && !touched.has(slider.name)) slider.input.value = String(value);
        slider.say();
      }
      if (defaults.width !== undefined) named("width").placeholder = String(defaults.width);
      if (defaults.height !== undefined) named("height").placeholder = String(defaults.height);
    },
    size: () => ({ width: pixels("width"), height: pixels("height") }),
    show(list) {
      for (const name of faults.keys()) clear(name);
      let first: HTMLElement | undefined;
      for (const { field, text } of list) {
        const place = field === undefined ? undefined : faults.get(field);
        if (field === undefined || place === undefined) continue;
        place.textContent = text;
        named(field).setAttribute("aria-invalid", "true");
        // What is folded away must open to show its fault.
        place.closest("details")?.setAttribute("open", "");
        first ??= named(field);
      }
      first?.focus();
    },
  };
}

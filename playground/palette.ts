/** The colours to paint with: a row of swatches, and one that the painter mixes. */

const COLOURS: readonly (readonly [name: string, colour: string])[] = [
  ["Night", "#141c33"],
  ["Sky", "#6f9fd8"],
  ["Sea", "#1f6f8b"],
  ["Snow", "#f4f6f8"],
  ["Sunset", "#ee7b3b"],
  ["Rose", "#d9628c"],
  ["Sun", "#f7d154"],
  ["Grass", "#5d8f3c"],
  ["Pine", "#24452f"],
  ["Sand", "#d9b27a"],
  ["Rock", "#6d6a70"],
  ["Brick", "#a5342c"],
];

/** The swatch that is chosen at first. */
const FIRST = 4;

export class Palette {
  private current = COLOURS[FIRST]![1];
  private readonly mixed = document.createElement("label");

  /** @param swatches the element that the swatches go into */
  constructor(private readonly swatches: HTMLElement) {
    swatches.append(...COLOURS.map(([name, colour], index) => this.swatch(name, colour, index === FIRST)), this.mixed);
    this.wireMixed();
  }

  /** A CSS colour. */
  get colour(): string {
    return this.current;
  }

  private swatch(name: string, colour: string, checked: boolean): HTMLElement {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    radio.type = "radio";
    radio.name = "colour";
    radio.value = colour;
    radio.checked = checked;
    radio.setAttribute("aria-label", name);
    label.title = name;
    label.style.setProperty("--colour", colour);
    radio.addEventListener("change", () => {
      this.current = colour;
      this.mixed.classList.remove("chosen");
    });
    label.append(radio);
    return label;
  }

  private wireMixed(): void {
    const input = document.createElement("input");
    this.mixed.className = "custom";
    this.mixed.title = "Another colour";
    input.type = "color";
    input.value = "#8a5cc4";
    input.setAttribute("aria-label", "Another colour");
    input.addEventListener("input", () => {
      this.current = input.value;
      this.mixed.style.setProperty("--colour", input.value);
      this.mixed.classList.add("chosen");
      for (const radio of this.swatches.querySelectorAll<HTMLInputElement>("input[type=radio]")) radio.checked = false;
    });
    this.mixed.append(input);
  }
}

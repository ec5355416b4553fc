/**
 * A canvas to paint on. It is finer than the request's size and is brought down to it on the way to the server, so that
 * a stroke looks like one even if the model's pictures are small.
 *
 * Without a pointer, arrow keys move the brush, space paints where it stands, and painting goes on while space is held.
 */

import { Palette } from "./palette.ts";

/** Canvas pixels of the longer side. */
const FINE = 768;
/** Strokes that can be taken back. At 768 × 768 each costs 2.4 MB. */
const UNDO = 20;
/** Canvas pixels that an arrow key moves the brush. */
const KEY_STEP = 16;
/** Sky to horizon to ground: something a landscape model can begin with. */
const WASH: readonly (readonly [stop: number, colour: string])[] = [
  [0, "#6f93c7"],
  [0.48, "#d9dfe6"],
  [0.56, "#e9d9bd"],
  [0.62, "#8b9a68"],
  [1, "#5f7350"],
];

/** Canvas pixels that each arrow key moves the brush. */
const MOVES: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-KEY_STEP, 0],
  ArrowRight: [KEY_STEP, 0],
  ArrowUp: [0, -KEY_STEP],
  ArrowDown: [0, KEY_STEP],
};

interface Elements {
  readonly canvas: HTMLCanvasElement;
  readonly swatches: HTMLElement;
  readonly brush: HTMLInputElement;
  readonly undo: HTMLButtonElement;
  readonly fill: HTMLButtonElement;
  readonly clear: HTMLButtonElement;
}

/** A place on the canvas, in canvas pixels. */
interface Point {
  x: number;
  y: number;
}

export class Easel {
  private readonly canvas: HTMLCanvasElement;
  private readonly context: CanvasRenderingContext2D;
  private readonly palette: Palette;
  /** Copies of the canvas before each stroke, the newest last. */
  private readonly history: HTMLCanvasElement[] = [];
  /** The request's size. */
  private readonly target = { width: 0, height: 0 };
  /** The painting as it was before the canvas last changed its proportions; undefined once it is painted on. */
  private original: HTMLCanvasElement | undefined;
  /** The last place of the pointer's stroke. */
  private last: Point | undefined;
  /** The keyboard's brush. */
  private readonly cursor = { x: 0, y: 0, painting: false, isVisible: false };
  private readonly ring = document.createElement("span");

  /** @param changed called after each part of a stroke that can be seen */
  constructor(
    private readonly elements: Elements,
    private readonly changed: () => void,
  ) {
    this.canvas = elements.canvas;
    this.context = elements.canvas.getContext("2d")!;
    this.palette = new Palette(elements.swatches);
    this.describe();
    this.wirePointer();
    this.wireKeyboard();
    this.wireControls();
  }

  /** Sets the proportions of the canvas to those of a request, in pixels; the painting keeps its own. */
  shape(width: number, height: number): void {
    const { canvas, target } = this;
    if (target.width === width && target.height === height) return;
    const first = target.width === 0;
    // From size to size the same painting is laid anew, so that it does not shrink each time.
    if (!first) this.original ??= this.copy();
    Object.assign(target, { width, height });
    const scale = FINE / Math.max(width, height);
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const easel = canvas.closest<HTMLElement>(".easel")!;
    easel.style.setProperty("--ratio", String(width / height));
    easel.style.setProperty("--pixels", String(Math.max(width, height)));
    if (this.original === undefined) this.wash();
    else this.lay(this.original);
    Object.assign(this.cursor, { x: canvas.width / 2, y: canvas.height / 2 });
  }

  /** The painting as PNG, in the request's size. */
  async picture(): Promise<Uint8Array> {
    const small = document.createElement("canvas");
    small.width = this.target.width;
    small.height = this.target.height;
    const shrink = small.getContext("2d")!;
    shrink.imageSmoothingQuality = "high";
    shrink.drawImage(this.canvas, 0, 0, small.width, small.height);
    const blob = await new Promise<Blob | null>((resolve) => small.toBlob(resolve, "image/png"));
    if (blob === null) throw new Error("the canvas could not be read");
    return new Uint8Array(await blob.arrayBuffer());
  }

  /** Puts a picture onto the canvas, as one stroke that can be taken back. */
  async adopt(url: string): Promise<void> {
    const image = new Image();
    image.src = url;
    await image.decode();
    this.remember();
    this.context.imageSmoothingQuality = "high";
    this.lay(image);
    this.changed();
  }

  private describe(): void {
    // Screen readers hand the arrow keys to an application instead of reading with them.
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute(
      "aria-label",
      "Canvas. Arrow keys move the brush, space paints, Control and Z take a stroke back.",
    );
    this.ring.className = "brush-ring";
    this.ring.setAttribute("aria-hidden", "true");
    this.canvas.parentElement!.append(this.ring);
  }

  private wirePointer(): void {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.remember();
      this.last = this.place(event);
      this.line(this.last, this.last, pressureOf(event));
      this.changed();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.last === undefined) return;
      // One event a frame holds every place the pointer was at since the last.
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length > 0 ? events : [event]) {
        const next = this.place(one);
        this.line(this.last, next, pressureOf(one));
        this.last = next;
      }
      this.changed();
    });
    const lift = () => {
      if (this.last === undefined) return;
      this.last = undefined;
      this.changed();
    };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
  }

  private wireKeyboard(): void {
    const { canvas, cursor } = this;
    canvas.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
        this.takeBack();
        event.preventDefault();
        return;
      }
      const move = MOVES[event.key];
      if (event.key === " ") {
        if (!event.repeat) this.press();
      } else if (move !== undefined) this.move(move);
      else return;
      cursor.isVisible = true;
      this.showBrush();
      event.preventDefault();
    });
    canvas.addEventListener("keyup", (event) => {
      if (event.key === " ") cursor.painting = false;
    });
    canvas.addEventListener("blur", () => {
      cursor.painting = cursor.isVisible = false;
      this.showBrush();
    });
  }

  private wireControls(): void {
    const { brush, undo, fill, clear } = this.elements;
    const thickness = () => {
      const { min, max, value } = brush;
      brush.style.setProperty("--filled", `${((Number(value) - Number(min)) / (Number(max) - Number(min))) * 100}%`);
      this.showBrush();
    };
    brush.addEventListener("input", thickness);
    thickness();
    undo.disabled = true;
    undo.addEventListener("click", () => this.takeBack());
    fill.addEventListener("click", () => {
      this.remember();
      this.context.fillStyle = this.palette.colour;
      this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
      this.changed();
    });
    clear.addEventListener("click", () => {
      this.remember();
      this.wash();
      this.changed();
    });
  }

  /** Begins a stroke of the keyboard's brush. */
  private press(): void {
    this.remember();
    this.cursor.painting = true;
    this.line(this.cursor, this.cursor, 1);
    this.changed();
  }

  private move([x, y]: readonly [number, number]): void {
    const { canvas, cursor } = this;
    const from = { ...cursor };
    cursor.x = Math.max(0, Math.min(canvas.width, cursor.x + x));
    cursor.y = Math.max(0, Math.min(canvas.height, cursor.y + y));
    if (!cursor.painting) return;
    this.line(from, cursor, 1);
    this.changed();
  }

  private showBrush(): void {
    const { canvas, cursor, ring } = this;
    ring.style.setProperty("--x", `${(cursor.x / canvas.width) * 100}%`);
    ring.style.setProperty("--y", `${(cursor.y / canvas.height) * 100}%`);
    ring.style.setProperty("--size", `${(Number(this.elements.brush.value) / 512) * 100}%`);
    ring.classList.toggle("seen", cursor.isVisible);
  }

  private place(event: PointerEvent): Point {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * this.canvas.width,
      y: ((event.clientY - box.top) / box.height) * this.canvas.height,
    };
  }

  private line(from: Point, to: Point, pressure: number): void {
    const { context } = this;
    context.strokeStyle = this.palette.colour;
    context.lineWidth = Number(this.elements.brush.value) * (this.canvas.width / 512) * pressure;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  }

  private copy(): HTMLCanvasElement {
    const copy = document.createElement("canvas");
    copy.width = this.canvas.width;
    copy.height = this.canvas.height;
    copy.getContext("2d")!.drawImage(this.canvas, 0, 0);
    return copy;
  }

  private remember(): void {
    this.original = undefined;
    this.history.push(this.copy());
    if (this.history.length > UNDO) this.history.shift();
    this.elements.undo.disabled = false;
  }

  private takeBack(): void {
    const before = this.history.pop();
    this.elements.undo.disabled = this.history.length === 0;
    if (before === undefined) return;
    this.original = undefined;
    this.lay(before);
    this.changed();
  }

  /** Lays a picture onto the canvas, as large as it fits with its own proportions; the wash is around it. */
  private lay(picture: HTMLCanvasElement | HTMLImageElement): void {
    const { width, height } = this.canvas;
    const scale = Math.min(width / picture.width, height / picture.height);
    const [across, down] = [Math.round(picture.width * scale), Math.round(picture.height * scale)];
    if (across < width || down < height) this.wash();
    this.context.drawImage(picture, Math.round((width - across) / 2), Math.round((height - down) / 2), across, down);
  }

  private wash(): void {
    const gradient = this.context.createLinearGradient(0, 0, 0, this.canvas.height);
    for (const [stop, shade] of WASH) gradient.addColorStop(stop, shade);
    this.context.fillStyle = gradient;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }
}

/** A mouse says 0.5, a finger 0 or 1; only a pen's pressure means something. */
function pressureOf(event: PointerEvent): number {
  return event.pointerType === "pen" ? 0.3 + event.pressure : 1;
}

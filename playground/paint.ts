/**
 * A canvas to paint on. It is drawn finer than the request's size and brought down to it when it is sent, so that a
 * stroke looks like one even where the model's pictures are small.
 *
 * Without a pointer, arrow keys move the brush, space paints where it stands, and painting goes on while space is held.
 */

export interface Easel {
  /** Sets the form of the canvas; what is painted is kept, stretched. */
  shape(width: number, height: number): void;
  /** The painting as PNG of the request's size. */
  picture(): Promise<Uint8Array>;
  /** Puts a picture onto it, as one stroke that can be taken back. */
  adopt(url: string): Promise<void>;
}

/** Canvas pixels of the longer side. */
const FINE = 768;
/** Strokes that can be taken back. At 768 × 768 each costs 2.4 MB. */
const UNDO = 20;
/** Canvas pixels that an arrow key moves the brush. */
const KEY_STEP = 16;
/** Sky to horizon to ground: something a landscape model can begin with. */
const WASH = ["#6f93c7", "#d9dfe6", "#e9d9bd", "#8b9a68", "#5f7350"] as const;

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

interface Elements {
  readonly canvas: HTMLCanvasElement;
  readonly swatches: HTMLElement;
  readonly brush: HTMLInputElement;
  readonly undo: HTMLButtonElement;
  readonly fill: HTMLButtonElement;
  readonly clear: HTMLButtonElement;
}

/** @param changed called after each part of a stroke that can be seen */
export function openEasel({ canvas, swatches, brush, undo, fill, clear }: Elements, changed: () => void): Easel {
  const context = canvas.getContext("2d")!;
  // Screen readers hand the arrow keys to an application instead of reading with them.
  canvas.setAttribute("role", "application");
  canvas.setAttribute(
    "aria-label",
    "Canvas. Arrow keys move the brush, space paints, Control and Z take a stroke back.",
  );
  const history: HTMLCanvasElement[] = [];
  const target = { width: 0, height: 0 };
  let colour: string = COLOURS[4]![1];
  let last: { x: number; y: number } | undefined;
  const cursor = { x: 0, y: 0, painting: false, seen: false };

  // Colours.
  const custom = document.createElement("input");
  COLOURS.forEach(([name, value], index) => {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    radio.type = "radio";
    radio.name = "colour";
    radio.value = value;
    radio.checked = index === 4;
    radio.setAttribute("aria-label", name);
    label.title = name;
    label.style.setProperty("--colour", value);
    radio.addEventListener("change", () => {
      colour = value;
      custom.parentElement?.classList.remove("chosen");
    });
    label.append(radio);
    swatches.append(label);
  });
  const any = document.createElement("label");
  any.className = "custom";
  any.title = "Another colour";
  custom.type = "color";
  custom.value = "#8a5cc4";
  custom.setAttribute("aria-label", "Another colour");
  custom.addEventListener("input", () => {
    colour = custom.value;
    any.style.setProperty("--colour", colour);
    any.classList.add("chosen");
    for (const radio of swatches.querySelectorAll<HTMLInputElement>("input[type=radio]")) radio.checked = false;
  });
  any.append(custom);
  swatches.append(any);

  // Painting.
  function remember(): void {
    const copy = document.createElement("canvas");
    copy.width = canvas.width;
    copy.height = canvas.height;
    copy.getContext("2d")!.drawImage(canvas, 0, 0);
    history.push(copy);
    if (history.length > UNDO) history.shift();
    undo.disabled = false;
  }

  function line(from: { x: number; y: number }, to: { x: number; y: number }, pressure: number): void {
    context.strokeStyle = colour;
    context.lineWidth = Number(brush.value) * (canvas.width / 512) * pressure;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  }

  const place = (event: PointerEvent) => {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * canvas.width,
      y: ((event.clientY - box.top) / box.height) * canvas.height,
    };
  };
  // A mouse says 0.5, a finger 0 or 1; only a pen's pressure means something.
  const pressureOf = (event: PointerEvent) => (event.pointerType === "pen" ? 0.3 + event.pressure : 1);

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    remember();
    last = place(event);
    line(last, last, pressureOf(event));
    changed();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last === undefined) return;
    // One event a frame holds every place the pointer was at since the last.
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length > 0 ? events : [event]) {
      const next = place(one);
      line(last, next, pressureOf(one));
      last = next;
    }
    changed();
  });
  const lift = () => {
    if (last === undefined) return;
    last = undefined;
    changed();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);

  // The keyboard's brush.
  const moves: Readonly<Record<string, readonly [number, number]>> = {
    ArrowLeft: [-KEY_STEP, 0],
    ArrowRight: [KEY_STEP, 0],
    ArrowUp: [0, -KEY_STEP],
    ArrowDown: [0, KEY_STEP],
  };
  const ring = document.createElement("span");
  ring.className = "brush-ring";
  ring.setAttribute("aria-hidden", "true");
  canvas.parentElement!.append(ring);
  function point(): void {
    ring.style.setProperty("--x", `${(cursor.x / canvas.width) * 100}%`);
    ring.style.setProperty("--y", `${(cursor.y / canvas.height) * 100}%`);
    ring.style.setProperty("--size", `${(Number(brush.value) / 512) * 100}%`);
    ring.classList.toggle("seen", cursor.seen);
  }
  canvas.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      takeBack();
      event.preventDefault();
      return;
    }
    const move = moves[event.key];
    if (event.key === " ") {
      if (!event.repeat) {
        remember();
        cursor.painting = true;
        line(cursor, cursor, 1);
        changed();
      }
    } else if (move !== undefined) {
      const from = { ...cursor };
      cursor.x = Math.max(0, Math.min(canvas.width, cursor.x + move[0]));
      cursor.y = Math.max(0, Math.min(canvas.height, cursor.y + move[1]));
      if (cursor.painting) {
        line(from, cursor, 1);
        changed();
      }
    } else return;
    cursor.seen = true;
    point();
    event.preventDefault();
  });
  canvas.addEventListener("keyup", (event) => {
    if (event.key === " ") cursor.painting = false;
  });
  canvas.addEventListener("blur", () => {
    cursor.painting = cursor.seen = false;
    point();
  });

  const thickness = () => {
    const { min, max, value } = brush;
    brush.style.setProperty("--filled", `${((Number(value) - Number(min)) / (Number(max) - Number(min))) * 100}%`);
    point();
  };
  brush.addEventListener("input", thickness);
  thickness();

  // What is done to the whole.
  function takeBack(): void {
    const before = history.pop();
    undo.disabled = history.length === 0;
    if (before === undefined) return;
    context.drawImage(before, 0, 0, canvas.width, canvas.height);
    changed();
  }
  function wash(): void {
    const gradient = context.createLinearGradient(0, 0, 0, canvas.height);
    WASH.forEach((shade, index) => {
      gradient.addColorStop([0, 0.48, 0.56, 0.62, 1][index]!, shade);
    });
    context.fillStyle = gradient;
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  undo.disabled = true;
  undo.addEventListener("click", takeBack);
  fill.addEventListener("click", () => {
    remember();
    context.fillStyle = colour;
    context.fillRect(0, 0, canvas.width, canvas.height);
    changed();
  });
  clear.addEventListener("click", () => {
    remember();
    wash();
    changed();
  });

  return {
    shape(width, height) {
      if (target.width === width && target.height === height) return;
      const first = target.width === 0;
      const painted = document.createElement("canvas");
      painted.width = canvas.width;
      painted.height = canvas.height;
      if (!first) painted.getContext("2d")!.drawImage(canvas, 0, 0);
      Object.assign(target, { width, height });
      const scale = FINE / Math.max(width, height);
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      if (first) wash();
      else context.drawImage(painted, 0, 0, canvas.width, canvas.height);
      Object.assign(cursor, { x: canvas.width / 2, y: canvas.height / 2 });
    },
    async picture() {
      const small = document.createElement("canvas");
      small.width = target.width;
      small.height = target.height;
      const shrink = small.getContext("2d")!;
      shrink.imageSmoothingQuality = "high";
      shrink.drawImage(canvas, 0, 0, small.width, small.height);
      const blob = await new Promise<Blob | null>((resolve) => small.toBlob(resolve, "image/png"));
      if (blob === null) throw new Error("the canvas could not be read");
      return new Uint8Array(await blob.arrayBuffer());
    },
    async adopt(url) {
      const image = new Image();
      image.src = url;
      await image.decode();
      remember();
      context.imageSmoothingQuality = "high";
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      changed();
    },
  };
}

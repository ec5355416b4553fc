/**
 * Bicubic resizing as Pillow does it: antialiased, across and then down, each pass rounded to bytes. Encoders of pictures
 * were taught with it (a = −0.5; Pillow's `Resample.c`, whose weights have 22 bits behind the point).
 */

interface Size {
  readonly width: number;
  readonly height: number;
}

const BITS = 22;

/** RGB bytes, `[height, width, 3]`, brought to another size. */
export function bicubic(bytes: Uint8Array, from: Size, to: Size): Uint8Array {
  const across = from.width === to.width ? bytes : resized(bytes, from, { axis: "width", length: to.width });
  const half = { width: to.width, height: from.height };
  return from.height === to.height ? across : resized(across, half, { axis: "height", length: to.height });
}

function resized(
  bytes: Uint8Array,
  from: Size,
  { axis, length }: { readonly axis: keyof Size; readonly length: number },
): Uint8Array {
  const to = { ...from, [axis]: length };
  const [step, other] = axis === "width" ? [3, from.width * 3] : [from.width * 3, 3];
  const out = new Uint8Array(to.width * to.height * 3);
  const [outStep, outOther] = axis === "width" ? [3, to.width * 3] : [to.width * 3, 3];
  const lines = axis === "width" ? from.height : from.width;
  for (const [at, { first, weights }] of windows(from[axis], length).entries()) {
    for (let line = 0; line < lines; line++) {
      for (let colour = 0; colour < 3; colour++) {
        let sum = 2 ** (BITS - 1);
        for (let k = 0; k < weights.length; k++) {
          sum += bytes[line * other + (first + k) * step + colour]! * weights[k]!;
        }
        out[line * outOther + at * outStep + colour] = Math.min(Math.max(Math.floor(sum / 2 ** BITS), 0), 255);
      }
    }
  }
  return out;
}

/** The pixels that make each output pixel, and their weights in units of 2⁻²². */
function windows(from: number, to: number): { readonly first: number; readonly weights: readonly number[] }[] {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  return Array.from({ length: to }, (_, at) => {
    const center = (at + 0.5) * scale;
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const end = Math.min(Math.trunc(center + support + 0.5), from);
    const weights = Array.from({ length: end - first }, (_, k) => cubic((k + first - center + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => fixed(weight / sum)) };
  });
}

function fixed(weight: number): number {
  return Math.trunc(weight * 2 ** BITS + (weight < 0 ? -0.5 : 0.5));
}

function cubic(distance: number): number {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// A service around a generator of one's own: the Mandelbrot set, in passes of half the pixel size each.
import { serve } from "@hono/node-server";
import { json, sse } from "daguerre/transports";
import { Hono } from "hono";
import { z } from "zod";

const input = z.object({
  x: z.number().min(-2).max(2).default(-0.6),
  y: z.number().min(-2).max(2).default(0),
  zoom: z.number().min(0.5).max(1e12).default(1),
  size: z.int().min(16).max(1024).default(256),
});

/** Passes: squares of 16 pixels, 8, 4, 2, and 1. Each is yielded as a preview, the last as the result. */
const BLOCKS = [16, 8, 4, 2, 1];

async function* mandelbrot({ x, y, zoom, size }, { signal }) {
  const started = performance.now();
  for (const [pass, block] of BLOCKS.entries()) {
    signal.throwIfAborted();
    const picture = draw(x, y, 3 / zoom, size, block);
    const step = pass + 1;
    const steps = BLOCKS.length;
    yield { type: "progress", step, steps, progress: step / steps, elapsed_ms: performance.now() - started };
    if (block > 1) yield { type: "preview", picture, step, steps, progress: step / steps };
    else yield { type: "result", pictures: [picture], timings: { total: performance.now() - started } };
  }
}

function draw(x, y, span, size, block) {
  const rgba = new Uint8Array(size * size * 4).fill(255);
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const left = column - (column % block);
      const top = row - (row % block);
      const from = (row * size + column) * 4;
      // Only the corner of a block is computed; the rest is copied from it.
      if (left !== column || top !== row) {
        rgba.copyWithin(from, (top * size + left) * 4, (top * size + left) * 4 + 3);
        continue;
      }
      const shade = departure(x + (column / size - 0.5) * span, y + (row / size - 0.5) * span);
      rgba[from] = 255 * Math.min(1, shade * 1.6);
      rgba[from + 1] = 255 * shade ** 2;
      rgba[from + 2] = 255 * Math.sqrt(shade) * (1 - shade * 0.5);
    }
  }
  return { width: size, height: size, rgba };
}

/** 0..1: how soon `z² + c` leaves; 0 where it stays. */
function departure(cx, cy, limit = 200) {
  let zx = 0;
  let zy = 0;
  for (let i = 0; i < limit; i++) {
    const next = zx * zx - zy * zy + cx;
    zy = 2 * zx * zy + cy;
    zx = next;
    if (zx * zx + zy * zy > 16) return 1 - i / limit;
  }
  return 0;
}

const options = { parse: (raw) => input.parse(raw, { reportInput: true }) };
const app = new Hono().post("/", json(mandelbrot, options)).post("/stream", sse(mandelbrot, options));

serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8090), hostname: "127.0.0.1" }, ({ port }) => {
  console.log(`http://127.0.0.1:${port}`);
});

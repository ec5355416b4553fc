/** Pictures between channels first (PyTorch, ONNX) and channels last (Daguerre, tfjs). */

/** `[n, c, pixels]` → `[n, pixels, c]` */
export function channelsLast(values: Float32Array, images: number, channels: number, pixels: number): Float32Array {
  return transposed(values, images, channels, pixels);
}

/** `[n, pixels, c]` → `[n, c, pixels]` */
export function channelsFirst(values: Float32Array, images: number, channels: number, pixels: number): Float32Array {
  return transposed(values, images, pixels, channels);
}

/** `[n, rows, columns]` → `[n, columns, rows]` */
export function transposed(values: Float32Array, images: number, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let image = 0; image < images; image++) {
    const base = image * rows * columns;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        out[base + column * rows + row] = values[base + row * columns + column]!;
      }
    }
  }
  return out;
}

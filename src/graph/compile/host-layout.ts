/** Tensors between the host's layout, `[…, channels]` without padding, and the device's, in quads and the plan's storage. */

import { float32ToFloat16Bits, halvesToFloat32 } from "../../platform/float16.ts";
import { GraphError } from "../errors.ts";
import { channelsOf, quads, rowsOf, type Storage, type Tensor } from "../tensor.ts";

/** Numbers of a tensor that are brought to the device at a time; they take a millisecond or less. */
const PIECE_VALUES = 2 ** 17;

/** Host values to the device's layout, piece by piece: padded to quads, narrowed where the plan stores f16. */
export function* toDevice(
  tensor: Tensor,
  values: Float32Array | Uint32Array,
  storage: Storage,
  first?: number,
): Generator<{ readonly offset: number; readonly bytes: Uint8Array }, void, void> {
  const begin = checkValues(tensor, values, first);
  if (values instanceof Uint32Array) {
    yield { offset: begin * 4, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
    return;
  }
  const channels = channelsOf(tensor);
  const stride = quads(channels) * 4;
  const rows = values.length / channels;
  const firstRow = begin / channels;
  const rowsAtOnce = Math.max(1, Math.floor(PIECE_VALUES / stride));
  const elementBytes = tensor.element === "f32" || storage === "f32" ? 4 : 2;
  for (let first = 0; first < rows; first += rowsAtOnce) {
    const end = Math.min(first + rowsAtOnce, rows);
    let padded = values.subarray(first * channels, end * channels);
    if (stride !== channels) {
      padded = new Float32Array((end - first) * stride);
      // A loop: a `subarray` and a `set` for each row take several times as long where rows are short.
      for (let row = first; row < end; row++)
        for (let c = 0; c < channels; c++) padded[(row - first) * stride + c] = values[row * channels + c]!;
    }
    const offset = (firstRow + first) * stride * elementBytes;
    if (elementBytes === 4) {
      yield { offset, bytes: new Uint8Array(padded.buffer, padded.byteOffset, padded.byteLength) };
      continue;
    }
    // A loop: with `from` it takes forty times as long.
    const halves = new Uint16Array(padded.length);
    for (let i = 0; i < halves.length; i++) halves[i] = float32ToFloat16Bits(padded[i]!);
    yield { offset, bytes: new Uint8Array(halves.buffer) };
  }
}

/** Checks values for a tensor, and says at which of its numbers they begin. */
function checkValues(tensor: Tensor, values: Float32Array | Uint32Array, first?: number): number {
  const count = tensor.shape.reduce((product, size) => product * size, 1);
  const wanted = tensor.element === "u32" ? Uint32Array : Float32Array;
  const each = count / tensor.shape[0]!;
  const begin = (first ?? 0) * each;
  const fits = first === undefined ? values.length === count : values.length % each === 0;
  if (values instanceof wanted && fits && begin + values.length <= count) return begin;
  const place = first === undefined ? "" : ` from ${first} on`;
  throw new GraphError(
    `${tensor.name}: wants ${wanted.name} of ${count} for [${tensor.shape}], got ${values.constructor.name} of ${values.length}${place}`,
  );
}

/** The device's layout to host values. */
export function fromDevice(tensor: Tensor, bytes: Uint8Array, storage: Storage): Float32Array | Uint32Array {
  if (tensor.element === "u32") return new Uint32Array(bytes.buffer, 0, bytes.byteLength / 4);
  const stored =
    tensor.element === "f32" || storage === "f32"
      ? new Float32Array(bytes.buffer, 0, bytes.byteLength / 4)
      : halvesToFloat32(new Uint16Array(bytes.buffer, 0, bytes.byteLength / 2));
  const channels = channelsOf(tensor);
  const stride = quads(channels) * 4;
  if (stride === channels) return stored;
  const rows = rowsOf(tensor);
  const values = new Float32Array(rows * channels);
  for (let row = 0; row < rows; row++)
    values.set(stored.subarray(row * stride, row * stride + channels), row * channels);
  return values;
}

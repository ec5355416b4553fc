/** NaN and infinity: a network whose output holds one makes no picture, and the run ends with an error that names it. */

import { FaultError } from "../faults/fault.ts";
import { INFINITE_FROM } from "../graph/ops/diffusion/finite-check.ts";
import type { ComponentId } from "../memory/component.ts";
import { inTurns } from "../platform/turns.ts";
import type { Pixels } from "./latents.ts";

/** A network's output holds NaN or infinity. `Run` makes of it an error that a client may see. */
export class NotFiniteError extends Error {
  override readonly name = "NotFiniteError";
  /** Names the network to a reader: `denoiser`. */
  readonly network: string;
  readonly component: ComponentId;

  constructor(network: string, component: ComponentId, place = "") {
    super(`the ${network} (${component}) computed NaN or infinity${place}`);
    this.network = network;
    this.component = component;
  }

  /** The fault of a model. `halves`: its weights or activations are stored as f16. */
  toFault({ halves }: { readonly halves: boolean }): FaultError {
    const hope = halves ? "its weights are damaged, or need precision f32" : "its weights are damaged";
    const message = `${this.message}, so there is no picture; ${hope}`;
    return new FaultError({ code: "not-finite", status: 500, message }, { cause: this });
  }
}

/** Numbers that are looked at in one turn: less than a millisecond's work. */
const PIECE = 2 ** 18;

/** @throws NotFiniteError if one of `values` is NaN, or as large as counts as infinite */
export async function checkFinite(values: Float32Array, network: string, component: ComponentId): Promise<void> {
  const isBroken = (value: number) => !(Math.abs(value) < INFINITE_FROM);
  if (await inTurns(some(values, isBroken))) throw new NotFiniteError(network, component);
}

/**
 * A picture of a decoder, whose kernel leaves transparent what is no colour.
 * @throws NotFiniteError if there is such a pixel
 */
export async function checkPicture(picture: Pixels, network: string, component: ComponentId): Promise<Pixels> {
  const { buffer, byteOffset, byteLength } = picture.rgba;
  const isTransparent = (pixel: number) => pixel < 0xff000000; // alpha is the highest byte
  const pixels = new Uint32Array(buffer, byteOffset, byteLength / 4);
  if (await inTurns(some(pixels, isTransparent))) throw new NotFiniteError(network, component);
  return picture;
}

function* some<T extends Float32Array | Uint32Array>(
  values: T,
  is: (value: number) => boolean,
): Generator<void, boolean, void> {
  for (let first = 0; first < values.length; first += PIECE) {
    const end = Math.min(first + PIECE, values.length);
    for (let i = first; i < end; i++) if (is(values[i]!)) return true;
    yield;
  }
  return false;
}

/** Latents to pictures and back: in one piece if that fits, else in bands (`bands.ts`). */

import type { Plan, Range } from "../graph/plan.ts";
import type { Leases, PlanSpec } from "../memory/model-memory.ts";
import { type BandOptions, decodeInBands, encodeInBands, isTooLarge, isTooSliced } from "./bands.ts";
import type { InTurn } from "./device-turns.ts";
import {
  decodeOnDevice,
  decoderSpec,
  type Encoded,
  type EncoderPicture,
  encodePixels,
  encoderSpec,
  type LatentSize,
  latentBytes,
  linearSpec,
  type PictureCoder,
  type Pixels,
} from "./latents.ts";
import type { PictureModel } from "./model.ts";
import { checkFinite, checkPicture } from "./not-finite.ts";
import type { Decoder } from "./request.ts";

/** A picture on its way: everything is submitted, and the latents may change. */
export interface Decoding {
  readonly picture: Promise<Pixels>;
}

export class Pictures {
  readonly #model: PictureModel;
  readonly #leases: Leases;
  readonly #inTurn: InTurn;

  /** @param inTurn has what `decode` and `encode` do on the device done in turns */
  constructor(model: PictureModel, leases: Leases, inTurn: InTurn) {
    this.#model = model;
    this.#leases = leases;
    this.#inTurn = inTurn;
  }

  /** Brings the plan of a decoder. @throws MemoryLimitError if there is no room for it */
  ready(decoder: Decoder, size: LatentSize): Promise<Plan> {
    return this.#leases.plan(this.#spec(decoder, size));
  }

  /** Begins a picture of the first latents of `latents` by the decoder asked for. It rejects with NotFiniteError if it is none. */
  async begin(decoder: Decoder, latents: Range, size: LatentSize): Promise<Decoding> {
    const { memory } = this.#leases;
    const first = { buffer: latents.buffer, offset: latents.offset, size: latentBytes(size) };
    const plan = await this.ready(decoder, size);
    const coder = decoder === "linear" ? undefined : coderOf(this.#model, decoder);
    const scale = coder?.autoencoder.downscale ?? 1;
    const pixels = { width: size.width * scale, height: size.height * scale };
    const picture = decodeOnDevice(memory.gpu, plan, first, pixels).then((decoded) =>
      coder ? checkPicture(decoded, "decoder", coder.component) : decoded,
    );
    picture.catch(() => {}); // thrown to whoever waits for it
    return { picture };
  }

  /**
   * One picture's latents decoded in full.
   * @throws MemoryLimitError, TensorTooLargeError if not even the smallest bands fit
   * @throws NotFiniteError if it is no picture
   */
  async decode(latents: Range, size: LatentSize): Promise<Pixels> {
    const { component, autoencoder } = this.#model.full;
    const inBands = async () => {
      const decode = (options: BandOptions) => decodeInBands(this.#gpu, autoencoder, latents, size, options);
      return checkPicture(await this.#inBands(this.#model.full, "decoder", decode), "decoder", component);
    };
    if (this.#isTooSliced(decoderSpec({ component, autoencoder }, size))) return inBands();
    try {
      await this.ready("full", size);
    } catch (error) {
      if (!isTooLarge(error)) throw error;
      return inBands();
    }
    return this.#inTurn(async () => (await this.begin("full", latents, size)).picture);
  }

  /** Encodes a picture. Throws as `decode` does. */
  async encode(image: EncoderPicture): Promise<Encoded> {
    const encoded = await this.#encode(image);
    const { component } = this.#model.full;
    await checkFinite(encoded.mean, "encoder", component);
    if (encoded.logVariance) await checkFinite(encoded.logVariance, "encoder", component);
    return encoded;
  }

  async #encode(image: EncoderPicture): Promise<Encoded> {
    const { autoencoder } = this.#model.full;
    const spec = encoderSpec(this.#model.full, image);
    const inBands = () =>
      this.#inBands(this.#model.full, "encoder", (options) => encodeInBands(this.#gpu, autoencoder, image, options));
    if (this.#isTooSliced(spec)) return inBands();
    let plan: Plan;
    try {
      plan = await this.#leases.plan(spec);
    } catch (error) {
      if (!isTooLarge(error)) throw error;
      return inBands();
    }
    return this.#inTurn(() => encodePixels(plan, autoencoder, image));
  }

  #spec(decoder: Decoder, size: LatentSize): PlanSpec {
    if (decoder === "linear") return linearSpec(this.#model.linear!, size);
    return decoderSpec(coderOf(this.#model, decoder), size);
  }

  #inBands<T>(
    { component, autoencoder }: PictureCoder,
    part: string,
    work: (options: BandOptions) => Promise<T>,
  ): Promise<T> {
    const { memory, set } = this.#leases;
    const storage = autoencoder.forceUpcast ? "f32" : memory.activations;
    const parameters = set.weights(component);
    return memory.withRoom([component], (options) =>
      work({
        label: `${component} ${part}`,
        storage,
        parameters,
        choose: memory.choose,
        inTurn: this.#inTurn,
        ...options,
      }),
    );
  }

  #isTooSliced(spec: PlanSpec): boolean {
    return isTooSliced(this.#gpu, spec.record(), spec.upcast ? "f32" : this.#leases.memory.activations);
  }

  get #gpu() {
    return this.#leases.memory.gpu;
  }
}

/** The autoencoder that a decoder is: the tiny one if there is one. */
export function coderOf(model: PictureModel, decoder: "tiny" | "full"): PictureCoder {
  return decoder === "tiny" ? (model.tiny ?? model.full) : model.full;
}

/** True if the model has a tiny decoder, beside its full one or as that. */
export function hasTiny({ full, tiny }: PictureModel): boolean {
  return tiny !== undefined || full.autoencoder.kind === "tiny";
}

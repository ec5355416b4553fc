/** Previews of a run: the first picture's latents as they are after some of the steps, decoded while the next one runs. */

import { MemoryLimitError } from "../gpu/errors.ts";
import type { Range } from "../graph/plan.ts";
import type { LatentSize, Pixels } from "./latents.ts";
import type { PictureModel } from "./model.ts";
import { NotFiniteError } from "./not-finite.ts";
import { type Decoding, hasTiny, type Pictures } from "./pictures.ts";
import { type Decoder, PipelineError, type PipelineRequest } from "./request.ts";
import { limitOf } from "./room.ts";

export class Previews {
  readonly #pictures: Pictures;
  readonly #size: LatentSize;
  readonly #every: number;
  readonly #isWanted: () => boolean;
  #decoder: Decoder | undefined;
  #decoding: Decoding | undefined;

  constructor(
    pictures: Pictures,
    size: LatentSize,
    options: {
      /** None: there are no previews. */
      readonly decoder: Decoder | undefined;
      /** Steps between two of them. */
      readonly every: number;
      /** True if anybody would look at one now. */
      readonly isWanted?: () => boolean;
    },
  ) {
    this.#pictures = pictures;
    this.#size = size;
    this.#every = options.every;
    this.#isWanted = options.isWanted ?? (() => true);
    this.#decoder = options.decoder;
  }

  /** The decoder that a request's previews are made with, if it wants any. @throws PipelineError for one there is not */
  static decoder(model: PictureModel, request: PipelineRequest): Decoder | undefined {
    if (!request.previewEvery) return undefined;
    const { previewDecoder: decoder = "auto" } = request;
    if (decoder === "auto") return hasTiny(model) ? "tiny" : model.linear ? "linear" : undefined;
    if (decoder === "tiny" && !hasTiny(model)) {
      throw new PipelineError("preview_decoder", "this model has no tiny decoder; use linear or full");
    }
    if (decoder === "linear" && !model.linear) {
      throw new PipelineError("preview_decoder", "no linear map to RGB is known for this model; use full");
    }
    return decoder;
  }

  /** Brings the decoder; if it does not find room beside the denoiser there are no previews, and a warning. */
  async findRoom(warnings: string[]): Promise<void> {
    if (this.#decoder === undefined) return;
    try {
      await this.#pictures.ready(this.#decoder, this.#size);
    } catch (error) {
      if (!(error instanceof MemoryLimitError)) throw error;
      warnings.push(
        `There are no previews: their decoder (${this.#decoder}) and the denoiser do not both fit into ${limitOf(error)}.`,
      );
      this.#decoder = undefined;
    }
  }

  /** True if there is to be one after this step of so many. */
  isDue(step: number, steps: number): boolean {
    const isDue = this.#decoder !== undefined && this.#every > 0 && step % this.#every === 0 && step < steps;
    return isDue && this.#isWanted();
  }

  /** Begins one. All of it is submitted when this resolves: the latents may change. */
  async begin(latents: Range): Promise<void> {
    this.#decoding = await this.#pictures.begin(this.#decoder!, latents, this.#size);
  }

  /** The one that was begun, once it is there. If it is no picture there are no more, and a warning. */
  async take(warnings: string[]): Promise<{ readonly decoder: Decoder; readonly picture: Pixels } | undefined> {
    const decoding = this.#decoding;
    this.#decoding = undefined;
    try {
      return decoding && { decoder: this.#decoder!, picture: await decoding.picture };
    } catch (error) {
      if (!(error instanceof NotFiniteError)) throw error;
      warnings.push(`There are no previews: ${error.message}.`);
      this.#decoder = undefined;
      return undefined;
    }
  }
}

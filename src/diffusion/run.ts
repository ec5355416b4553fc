/**
 * One run: prompt → conditioning → start latents → denoising steps → pictures, as one async generator. It yields after each
 * step, so that whoever pulls decides the pace, and stops before the next step when its signal says so.
 *
 * Follows diffusers' StableDiffusionPipeline, StableDiffusionXLPipeline, LatentConsistencyModelPipeline and their
 * img2img pipelines draw for draw, so that a seed means the same picture here as there.
 */

import { FaultError } from "../faults/fault.ts";
import { MemoryLimitError } from "../gpu/errors.ts";
import type { Range } from "../graph/plan.ts";
import { Leases } from "../memory/model-memory.ts";
import type { PreparationWatch } from "../memory/preparation.ts";
import type { LoraRequest, WeightSet, WeightSetLease } from "../memory/weight-sets.ts";
import { inTurns } from "../platform/turns.ts";
import { WeightsError } from "../weights/errors.ts";
import type { Seat, SeatStep } from "./batch.ts";
import { bringControls } from "./bring-controls.ts";
import type { Customer, InTurn } from "./device-turns.ts";
import { encodersOf } from "./encoding.ts";
import { latentCount, toNhwc } from "./latents.ts";
import type { LoadedModel } from "./loaded-model.ts";
import type { FamilyModel, StepShape } from "./model.ts";
import type { NoiseGenerator } from "./noise.ts";
import { NotFiniteError } from "./not-finite.ts";
import { Pictures } from "./pictures.ts";
import { Preparing } from "./preparing.ts";
import { Previews } from "./previews.ts";
import { PipelineError, type PipelineEvent, type PipelineOptions, type PipelineRequest } from "./request.ts";
import { isOutOfRoom, limitOf, tooLarge } from "./room.ts";
import { scheduleOf } from "./schedulers/run-schedule.ts";
import type { Schedule, StepRow } from "./schedulers/schedule.ts";
import { isSameShape, stepShape } from "./shape.ts";
import { Slot } from "./slots.ts";
import { draw, fromNoise, fromPicture } from "./start.ts";
import type { Membership } from "./stepper.ts";
import { Stopwatch } from "./stopwatch.ts";
import { generatorOf, startNoise } from "./variation.ts";

/**
 * Runs one request. Runs of one model may go on at once: their steps share replays, and no picture depends on its company.
 * @throws PipelineError naming a field, GPU errors, and the signal's reason when it is aborted
 * @throws FaultError "not-finite" naming the component that computed NaN or infinity
 */
export async function* generate(
  model: LoadedModel,
  request: PipelineRequest,
  options: PipelineOptions = {},
): AsyncGenerator<PipelineEvent, void, undefined> {
  options.signal?.throwIfAborted();
  const preparing = new Preparing(options.signal);
  const begun: { run?: Run } = {};
  const beginning = async () => {
    begun.run = await Run.begin(model, request, options, preparing);
    return begun.run;
  };
  try {
    const run = yield* preparing.during(beginning());
    yield* run.events();
  } catch (error) {
    if (begun.run && isOutOfRoom(error)) throw await tooLarge(model, begun.run.weights, request, error);
    throw begun.run && error instanceof NotFiniteError ? begun.run.faultOf(error) : error;
  } finally {
    await begun.run?.end(); // it may have begun while nobody took its events any more
  }
}

class Run {
  readonly #model: LoadedModel;
  readonly #family: FamilyModel;
  readonly #options: PipelineOptions;
  readonly #preparing: Preparing;
  readonly #lease: WeightSetLease;
  readonly #leases: Leases;
  readonly #pictures: Pictures;
  readonly #previews: Previews;
  readonly #schedule: Schedule;
  readonly #noise: NoiseGenerator;
  readonly #warnings: string[];
  readonly #clock: Stopwatch;
  /** On whose account the device is used. */
  readonly #customer: Customer;
  readonly #inTurn: InTurn;
  #request: PipelineRequest;
  /** The shape of the plan of the steps; words may change it on the way. */
  #shape: StepShape;
  #membership: Membership | undefined;
  #seats: Seat[] = [];
  /** The step that was asked for last. */
  #stepping: Promise<boolean> | undefined;

  private constructor(
    model: LoadedModel,
    request: PipelineRequest,
    options: PipelineOptions,
    begun: {
      readonly shape: StepShape;
      readonly schedule: Schedule;
      readonly preparing: Preparing;
      readonly previews: (pictures: Pictures) => Previews;
      readonly lease: WeightSetLease;
      readonly warnings: string[];
      readonly clock: Stopwatch;
    },
  ) {
    this.#model = model;
    this.#family = model.family;
    this.#request = request;
    this.#options = options;
    this.#shape = begun.shape;
    this.#schedule = begun.schedule;
    this.#lease = begun.lease;
    this.#warnings = begun.warnings;
    this.#clock = begun.clock;
    this.#customer = model.turns.customer(options.client, options.priority);
    this.#preparing = begun.preparing;
    this.#leases = new Leases(model.memory, begun.lease.set, begun.preparing.watch);
    this.#inTurn = (work) => {
      return model.turns.during(this.#customer, () => {
        this.#checkSignal();
        return work();
      });
    };
    this.#pictures = new Pictures(model.family.picture, this.#leases, this.#inTurn);
    this.#previews = begun.previews(this.#pictures);
    this.#noise = generatorOf(request, request.seed);
  }

  /** Checks the request, and brings its weights. */
  static async begin(
    model: LoadedModel,
    request: PipelineRequest,
    options: PipelineOptions,
    preparing: Preparing,
  ): Promise<Run> {
    const clock = new Stopwatch();
    const { family } = model;
    const shape = stepShape(family, request);
    const schedule = scheduleOf(family, request);
    const decoder = Previews.decoder(family.picture, request);
    const warnings = [...(request.warnings ?? []), ...(await wordWarnings(family, request, shape))];
    const lease = await leaseWeights(model, request, warnings, preparing.watch);
    await bringControls(model.memory, request, preparing.watch).catch((error) => {
      lease.release();
      throw error;
    });
    const previews = (pictures: Pictures) =>
      new Previews(pictures, shape, { decoder, every: request.previewEvery ?? 0, isWanted: options.wantsPreview });
    return new Run(model, request, options, { shape, schedule, preparing, previews, lease, warnings, clock });
  }

  get weights(): WeightSet {
    return this.#lease.set;
  }

  /** NaN and infinity are the fault of the request's LoRAs if they have changed the component, else of the model. */
  faultOf(error: NotFiniteError): Error {
    const { set } = this.#lease;
    const isBase = set.ownerOf([error.component]) === this.#model.memory.weightSets.base;
    if (!isBase && this.#request.loras?.length) {
      const reason = `with them the ${error.network} (${error.component}) computes NaN or infinity; lower their scale`;
      return new PipelineError("loras", reason, { cause: error });
    }
    const isHalf = this.#model.memory.activations === "f16" || set.weights(error.component).storage === "f16";
    return error.toFault({ halves: isHalf });
  }

  async *events(): AsyncGenerator<PipelineEvent, void, undefined> {
    const preparing = this.#preparing;
    const conditioning = yield* preparing.during(this.#encode(this.#request));
    this.#lap("prompt");
    yield* preparing.during(this.#start());
    this.#leases.giveBack(); // plans that were used so far may give way to the denoiser
    yield* preparing.during(this.#prepare(this.#shape, conditioning));
    yield* preparing.during(this.#previews.findRoom(this.#warnings));
    this.#lap("start");
    yield* this.#steps();
    this.#checkSignal();
    this.#leases.giveBack();
    this.#membership?.leave();
    const pictures = [];
    for (const { slot } of this.#seats) {
      pictures.push(yield* preparing.during(this.#pictures.decode(slot.range, this.#shape)));
    }
    this.#lap("decode");
    const timings = this.#clock.times();
    yield { type: "result", pictures, latents: () => this.#latents(), timings, warnings: this.#warnings };
  }

  /** Gives back all that it had, once the step under way has been taken. */
  async end(): Promise<void> {
    this.#membership?.leave();
    await this.#stepping?.catch(() => {});
    this.#leases.giveBack();
    for (const { slot } of this.#seats) slot.release();
    this.#seats = [];
    this.#lease.release();
  }

  async *#steps(): AsyncGenerator<PipelineEvent, void, undefined> {
    const { rows, evaluations } = this.#schedule;
    const steps = this.#stepOf(rows.length - 1);
    for (const index of rows.keys()) {
      const step = this.#stepOf(index);
      const isFirst = index % evaluations === 0;
      this.#checkSignal();
      if (isFirst) yield* this.#takeUpdate();
      this.#stepping = this.#step(index);
      this.#stepping.catch(() => {}); // thrown where it is waited for, unless nobody asks for more
      const preview = await this.#previews.take(this.#warnings);
      if (preview) {
        // Read, and packed by whoever asked, while the device is at the next step.
        this.#lap("preview");
        yield { type: "preview", step: isFirst ? step - 1 : step, steps, ...preview };
        this.#checkSignal();
      }
      if (await this.#stepping) throw this.#notFinite(step, steps);
      this.#lap("denoise");
      if (!this.#endsStep(index)) continue;
      yield { type: "step", step, steps, latents: () => this.#latents() };
    }
  }

  /** The step, counted from 1, that a row belongs to. */
  #stepOf(row: number): number {
    return Math.floor(row / this.#schedule.evaluations) + 1;
  }

  #endsStep(row: number): boolean {
    return row === this.#schedule.rows.length - 1 || (row + 1) % this.#schedule.evaluations === 0;
  }

  /** Asks for the next step of all slots. */
  async #step(index: number): Promise<boolean> {
    const { rows } = this.#schedule;
    const noise = await this.#drawNoise(rows[index]!);
    const { signal } = this.#options;
    const steps = this.#seats.map((seat, at): SeatStep => {
      const use = at === 0 ? (denoised: Range) => this.#beginPreview(index, denoised) : undefined;
      const { guidanceScale, guidanceRescale } = this.#request;
      return { seat, place: { rows, index }, guidanceScale, guidanceRescale, noise: noise?.[at], signal, use };
    });
    return this.#membership!.step(steps);
  }

  /** The noise that a step adds to each slot, `[h, w, channels]`; undefined if it adds none. */
  async #drawNoise({ drawsNoise, next }: StepRow): Promise<Float32Array[] | undefined> {
    if (!drawsNoise) return undefined;
    const { slots, channels, height, width } = this.#shape;
    const drawn = await draw(this.#noise, this.#shape, slots);
    if (next.noise === 0) return undefined;
    const pixels = await inTurns(toNhwc(drawn, slots, channels, height * width));
    const each = latentCount(this.#shape);
    return this.#seats.map((_, at) => pixels.subarray(at * each, (at + 1) * each));
  }

  async #beginPreview(row: number, denoised: Range): Promise<void> {
    if (this.#options.signal?.aborted || !this.#endsStep(row)) return;
    if (!this.#previews.isDue(this.#stepOf(row), this.#stepOf(this.#schedule.rows.length - 1))) return;
    await this.#previews.begin(denoised);
  }

  #notFinite(step: number, steps: number): NotFiniteError {
    const [component] = this.#family.step.needs(this.#shape);
    return new NotFiniteError("denoiser", component!, ` in step ${step} of ${steps}`);
  }

  /** Takes a slot for each picture and writes the latents to start from. */
  async #start(): Promise<void> {
    this.#checkSignal();
    const { slots: images } = this.#shape;
    const { image } = this.#request;
    const { downscale } = this.#family.latent;
    const parts = { model: this.#family.picture, pictures: this.#pictures };
    const start = image
      ? await fromPicture(image, parts, this.#noise, this.#schedule, this.#shape, images)
      : await fromNoise(await startNoise(this.#request, this.#noise, this.#shape, downscale), this.#schedule);
    const each = latentCount(this.#shape);
    for (let index = 0; index < images; index++) {
      const slot = await Slot.take(this.#model.memory, this.#shape, this.#schedule.historySlots);
      this.#seats.push({ slot, conditioning: undefined });
      await slot.write(start.subarray(index * each, (index + 1) * each));
    }
  }

  /** Words that have changed are read anew, and the latents stay; with other guidance the steps may take another plan. */
  async *#takeUpdate(): AsyncGenerator<PipelineEvent, void, undefined> {
    const update = this.#options.takeUpdate?.();
    if (update === undefined) return;
    const changed: PipelineRequest = { ...this.#request, ...update };
    try {
      const shape = stepShape(this.#family, changed);
      const conditioning = yield* this.#preparing.during(this.#encode(changed));
      yield* this.#preparing.during(this.#prepare(shape, conditioning));
      this.#request = changed;
      if (update.prompt !== undefined || update.negativePrompt !== undefined) {
        const warnings = await wordWarnings(this.#family, changed, shape);
        this.#warnings.push(...warnings.filter((warning) => !this.#warnings.includes(warning)));
      }
    } catch (error) {
      if (!(error instanceof MemoryLimitError)) throw error;
      this.#warnings.push(
        "The prompt stayed: text encoder and denoiser do not both fit into the memory that may be used.",
      );
    }
    this.#lap("prompt");
  }

  #encode(request: PipelineRequest): Promise<unknown> {
    const tools = encodersOf(this.#family, this.#leases, this.#inTurn);
    return this.#family.encode(request, stepShape(this.#family, request), tools);
  }

  /** Joins the batch of this shape, and has the next steps show what `conditioning` says. */
  async #prepare(shape: StepShape, conditioning: unknown): Promise<void> {
    if (this.#membership === undefined || !isSameShape(shape, this.#shape)) {
      const before = this.#membership;
      this.#membership = await this.#model.stepper.join(this.#lease.set, shape, this.#customer, this.#preparing.watch);
      before?.leave();
      this.#shape = shape;
    }
    for (const seat of this.#seats) seat.conditioning = conditioning;
  }

  /** All pictures' latents, `[n, c, h, w]`. */
  async #latents(): Promise<Float32Array> {
    const each = latentCount(this.#shape);
    const all = new Float32Array(each * this.#seats.length);
    for (const [index, { slot }] of this.#seats.entries()) all.set(await slot.read(), index * each);
    return all;
  }

  #checkSignal(): void {
    this.#options.signal?.throwIfAborted();
  }

  #lap(phase: Parameters<Stopwatch["lap"]>[0]): void {
    this.#clock.lap(phase);
  }
}

/** Warnings about the words of a request: the prompt's, and the negative prompt's if steps read it. */
async function wordWarnings(
  family: FamilyModel,
  { prompt, negativePrompt = "", ...reading }: PipelineRequest,
  { branches }: StepShape,
): Promise<string[]> {
  const ofPrompt = await family.promptWarnings(prompt, "prompt", reading);
  if (negativePrompt === "" || branches === 1) return ofPrompt;
  return [...ofPrompt, ...(await family.promptWarnings(negativePrompt, "negative prompt", reading))];
}

/**
 * The weights of a run. The variant for large pictures gives way if it does not find room beside the model.
 * @throws PipelineError if what was asked for does not, or is no LoRA of this model
 * @throws FaultError if the variant for large pictures is broken
 */
export async function leaseWeights(
  { family, memory }: LoadedModel,
  { loras = [], fewStep, width, height }: Pick<PipelineRequest, "loras" | "fewStep" | "width" | "height">,
  warnings: string[],
  watch: PreparationWatch,
): Promise<WeightSetLease> {
  const files: LoraRequest[] = [...loras];
  if (fewStep) {
    if (family.fewStep === undefined) throw new PipelineError("few_step", "this model has no few-step variant");
    files.unshift({ path: family.fewStep.path, modelFiles: family.fewStep.files, scale: 1 });
  }
  if (family.large && width * height >= family.large.fromPixels) {
    // Merged, it holds a second UNet: where memory is limited there is seldom room for that.
    if (memory.gpu.maxBytes === undefined)
      files.unshift({ path: family.large.path, modelFiles: family.large.files, scale: 1 });
    else warnings.push("Drawn without the model's variant for large pictures: device memory is limited.");
  }
  try {
    const lease = await memory.weightSets.lease(files, watch);
    warnings.push(...lease.warnings);
    return lease;
  } catch (error) {
    if (error instanceof WeightsError) throw variantFault(error, family, loras);
    if (!(error instanceof MemoryLimitError)) throw error;
    throw new PipelineError(fewStep ? "few_step" : "loras", `do not fit beside this model into ${limitOf(error)}`);
  }
}

/** A file that cannot be merged: the model's own are named by their place in its folder, others by their base name. */
function variantFault(error: WeightsError, { fewStep, large }: FamilyModel, loras: readonly LoraRequest[]): Error {
  if (error.file === large?.path) {
    const message = `The model's variant for large pictures cannot be used: ${error.message}`;
    return new FaultError({ code: error.code, status: 500, message }, { cause: error });
  }
  if (error.file === fewStep?.path) {
    return new PipelineError("few_step", `the model's few-step variant cannot be used: ${error.message}`);
  }
  const index = loras.findIndex(({ path }) => path.endsWith(`/${error.file}`));
  return new PipelineError(index < 0 ? "loras" : `loras.${index}`, error.message, { cause: error });
}

/**
 * One run: prompt → conditioning → start latents → denoising steps → pictures, as one async generator. It yields after each
 * step, so that whoever pulls decides the pace, and stops before the next step when its signal says so.
 *
 * Follows diffusers' StableDiffusionPipeline, StableDiffusionXLPipeline, LatentConsistencyModelPipeline and their
 * img2img pipelines draw for draw, so that a seed means the same picture here as there.
 */

import { MemoryLimitError } from "../gpu/errors.ts";
import type { Range } from "../graph/plan.ts";
import { Leases } from "../memory/model-memory.ts";
import type { WeightSet, WeightSetLease } from "../memory/weight-sets.ts";
import { inTurns } from "../platform/turns.ts";
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
import {
  PipelineError,
  type PipelineEvent,
  type PipelineOptions,
  type PipelineRequest,
  type PipelineUpdate,
} from "./request.ts";
import { isOutOfRoom, tooLarge } from "./room.ts";
import { leaseWeights } from "./run-weights.ts";
import { levelAfter, scheduleOf } from "./schedulers/run-schedule.ts";
import type { Schedule, StepRow } from "./schedulers/schedule.ts";
import { isSameShape, latentSize, stepShape } from "./shape.ts";
import { Slot } from "./slots.ts";
import { startOf } from "./start.ts";
import type { Membership } from "./stepper.ts";
import { Stopwatch } from "./stopwatch.ts";
import { draw, generatorOf } from "./variation.ts";
import { wordWarnings } from "./word-warnings.ts";
import { Words } from "./words.ts";

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
  #words: Words;
  /** The request with the words of this step. */
  #request: PipelineRequest;
  /** The conditioning by the words of a step, which may come back. */
  readonly #conditionings = new WeakMap<PipelineRequest, Promise<unknown>>();
  /** The shape of the plan of the steps; words may change it on the way. */
  #shape: StepShape;
  #membership: Membership | undefined;
  #seats: Seat[] = [];
  /** The step that was asked for last. */
  #stepping: Promise<boolean> | undefined;

  private constructor(
    model: LoadedModel,
    words: Words,
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
    this.#words = words;
    this.#request = words.at(0);
    this.#options = options;
    this.#shape = begun.shape;
    this.#schedule = begun.schedule;
    this.#lease = begun.lease;
    this.#warnings = begun.warnings;
    this.#clock = begun.clock;
    this.#customer = model.turns.customer(options.client, options.priority);
    this.#preparing = begun.preparing;
    this.#leases = new Leases(model.memory, begun.lease.set, begun.preparing.watch);
    this.#inTurn = async (work) => {
      options.onPhase?.("wait");
      try {
        return await model.turns.during(this.#customer, () => {
          this.#checkSignal();
          options.onPhase?.("encode");
          return work();
        });
      } finally {
        options.onPhase?.("compile");
      }
    };
    this.#pictures = new Pictures(model.family.picture, this.#leases, this.#inTurn);
    this.#previews = begun.previews(this.#pictures);
    this.#noise = generatorOf(words.request, words.request.seed);
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
    latentSize(family, request); // a wrong size is said before anything else
    const schedule = scheduleOf(family, request);
    const words = new Words(request, request.steps * schedule.evaluations);
    const shape = stepShape(family, words.at(0));
    const decoder = Previews.decoder(family.picture, request);
    const warnings = [...(request.warnings ?? []), ...(await wordWarnings(family, words.at(0), shape))];
    const lease = await leaseWeights(model, request, warnings, preparing.watch);
    await bringControls(model.memory, request, preparing.watch).catch((error) => {
      lease.release();
      throw error;
    });
    const previews = (pictures: Pictures) =>
      new Previews(pictures, shape, { decoder, every: request.previewEvery ?? 0, isWanted: options.wantsPreview });
    return new Run(model, words, options, { shape, schedule, preparing, previews, lease, warnings, clock });
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
    // While the text encoders are there: with little memory they give way to the denoiser.
    for (const later of this.#words.all(this.#schedule.rows.length)) yield* preparing.during(this.#encode(later));
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
      yield* this.#takeWords(index, isFirst ? this.#options.takeUpdate?.() : undefined);
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
      this.#options.onPhase?.("wait");
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
    const { signal, onPhase } = this.#options;
    const after = levelAfter(this.#schedule, index);
    onPhase?.("wait");
    const begins = () => onPhase?.(index === 0 ? "first-step" : "step");
    const steps = this.#seats.map((seat, at): SeatStep => {
      const use = at === 0 ? (denoised: Range) => this.#beginPreview(index, denoised) : undefined;
      const { guidanceScale, guidanceRescale } = this.#request;
      const guidance = { guidanceScale, guidanceRescale };
      return { seat, place: { rows, index }, after, ...guidance, noise: noise?.[at], signal, begins, use };
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
    const { latents, masks } = await startOf(this.#request, {
      family: this.#family,
      pictures: this.#pictures,
      noise: this.#noise,
      schedule: this.#schedule,
      shape: this.#shape,
    });
    const each = latentCount(this.#shape);
    for (const [index, mask] of masks.entries()) {
      const slot = await Slot.take(this.#model.memory, this.#shape, this.#schedule.historySlots);
      this.#seats.push({ slot, conditioning: undefined, mask });
      await slot.write(latents.subarray(index * each, (index + 1) * each));
    }
  }

  /** Words that have changed are read anew, and the latents stay; with other guidance the steps may take another plan. */
  async *#takeWords(row: number, update?: PipelineUpdate): AsyncGenerator<PipelineEvent, void, undefined> {
    const words = update ? this.#words.with(update) : this.#words;
    const changed = words.at(row);
    if (changed === this.#request) return;
    try {
      const shape = stepShape(this.#family, changed);
      const conditioning = yield* this.#preparing.during(this.#encode(changed));
      yield* this.#preparing.during(this.#prepare(shape, conditioning));
      this.#words = words;
      this.#request = changed;
      if (update?.prompt !== undefined || update?.negativePrompt !== undefined) {
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
    const known = this.#conditionings.get(request) ?? this.#read(request);
    this.#conditionings.set(request, known);
    return known;
  }

  async #read(request: PipelineRequest): Promise<unknown> {
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

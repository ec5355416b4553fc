/**
 * An engine in a supervised child process, with the face of a runtime. The process that holds the GPU may crash, hang or be
 * killed: it is replaced, and its pictures go on where their readers are.
 */
import { randomInt } from "node:crypto";
import type { ModelChange, ModelState, RunOptions, Runtime, WarmUpShape } from "../../engine/contract.ts";
import { ControlFolder, checkControlFolder } from "../../engine/control-files.ts";
import { checkEmbeddingFolder, EmbeddingFolder } from "../../engine/embedding-files.ts";
import type { RunEvent } from "../../engine/events.ts";
import { checkLoraFolder, listLoras } from "../../engine/lora-files.ts";
import type { ImageToImageInput, TextToImageInput } from "../../engine/request.ts";
import { parseGeneration } from "../../engine/request-parsing.ts";
import { faultOf } from "../../faults/fault.ts";
import type { AdapterFacts } from "../../gpu/adapter-facts.ts";
import type { RunContext } from "../../jobs/run.ts";
import type { HostFaultCode } from "../errors.ts";
import { ENGINE_MAIN } from "../mains.ts";
import type { ProcessOptions } from "../process-place.ts";
import { DEADLINES, type Deadlines } from "../supervisor/phase-watch.ts";
import { type SupervisedHost, supervise } from "../supervisor/supervise.ts";
import { DeviceLedger } from "./device-ledger.ts";
import { EngineReplay } from "./engine-replay.ts";
import type { EngineAsk, EngineEvent, EngineFacts, EngineOptions, EngineReport } from "./messages.ts";

/** A runtime that may be in another process, which counts tokens when it can. */
export type ServedRuntime = Omit<Runtime, "countTokens" | "promptWarnings"> & {
  countTokens(text: string, model?: string): number | Promise<number>;
  /** The process, if it has one of its own. */
  readonly process?: EngineWatch;
};

/** How the process of an engine is doing. */
export interface EngineWatch {
  readonly pid: number | undefined;
  /** Why no picture can be made now; undefined if one can. */
  readonly unready: string | undefined;
  /** Processes that are ready to take over. */
  readonly spares: number;
  /** Processes that were lost so far, by the code of the fault. */
  readonly losses: ReadonlyMap<string, number>;
  /** Called whenever one is lost. */
  onLost: ((error: Error) => void) | undefined;
}

export interface EngineProcessOptions extends Pick<ProcessOptions, "onStderr" | "heartbeatMs"> {
  readonly engine: EngineOptions;
  /** Processes that are ready to take over. */
  readonly spares?: 0 | 1;
  /** Seconds that a first step may take; deadlines of other phases are in proportion. Left out: by the kind of adapter. */
  readonly firstStepSeconds?: number;
  /** Told of progress while the model is loaded, by the first process. */
  readonly onProgress?: (progress: { what: string; done: number; total: number }) => void;
  /** Told of what is odd about the models, by the first process. */
  readonly onNote?: (note: string) => void;
  /** A module in place of the engine's own. */
  readonly worker?: URL;
}

/** Steps and compilers of a software adapter, which shares its cores with all else, take so many times as long. */
const SOFTWARE_FACTOR = 10;

/** Starts an engine. @throws what `createRuntime` throws, from the process as a fault or an error with its message */
export async function openEngine(options: EngineProcessOptions): Promise<EngineProcess> {
  const { loraFolder, embeddingFolder, controlFolder } = options.engine;
  await checkLoraFolder(loraFolder);
  await checkEmbeddingFolder(embeddingFolder);
  await checkControlFolder(controlFolder);
  const engine = new EngineProcess(options);
  try {
    await engine.start();
    return engine;
  } catch (error) {
    await engine.close();
    throw error;
  }
}

export class EngineProcess implements ServedRuntime {
  readonly #options: EngineProcessOptions;
  readonly #host: SupervisedHost<EngineAsk, EngineEvent>;
  readonly device: DeviceLedger;
  readonly process: EngineWatch;
  readonly #losses = new Map<HostFaultCode, number>([
    ["host-lost", 0],
    ["host-hung", 0],
  ]);
  readonly #embeddings: EmbeddingFolder | undefined;
  readonly #controls: ControlFolder | undefined;
  readonly #watchers = new Set<(change: ModelChange) => void>();
  #facts: EngineFacts | undefined;
  #models: readonly ModelState[] = [];
  #isReady = false;

  constructor(options: EngineProcessOptions) {
    const { engine, onStderr, heartbeatMs, spares, worker = ENGINE_MAIN } = options;
    this.#options = options;
    this.#embeddings = engine.embeddingFolder === undefined ? undefined : new EmbeddingFolder(engine.embeddingFolder);
    this.#controls = engine.controlFolder === undefined ? undefined : new ControlFolder(engine.controlFolder);
    const host = supervise<EngineAsk, EngineEvent>({
      worker,
      setup: engine,
      spares,
      heartbeatMs,
      onStderr,
      // A run that is cancelled ends before its next step, whose deadline holds; the others are not to suffer.
      graceMs: LONGEST_TIMER,
      deadlines: () => this.#deadlines,
      rehearsal: { ask: "warm-up", shape: {} } satisfies EngineAsk,
      replay: (context) => new EngineReplay(context),
      onReport: (report) => this.#hear(report as EngineReport),
      onLost: (error, pid) => this.#onLost(error, pid),
    });
    this.#host = host;
    this.device = new DeviceLedger(
      () => host.pid,
      () => host.unready !== undefined,
    );
    const losses = this.#losses;
    this.process = {
      get pid() {
        return host.pid;
      },
      get unready() {
        return host.unready === undefined ? undefined : "the engine is being restarted";
      },
      get spares() {
        return host.spares;
      },
      losses,
      onLost: undefined,
    };
  }

  get adapter(): AdapterFacts {
    return this.#facts!.adapter;
  }

  get model() {
    return this.#facts!.model;
  }

  get models(): readonly ModelState[] {
    return this.#models;
  }

  watchModels(listener: (change: ModelChange) => void): () => void {
    this.#watchers.add(listener);
    return () => void this.#watchers.delete(listener);
  }

  get runsAtOnce(): number {
    return this.#facts!.runsAtOnce;
  }

  async start(): Promise<void> {
    await this.#host.start();
    this.#isReady = true;
  }

  textToImage(input: TextToImageInput, options: RunOptions = {}): AsyncGenerator<RunEvent, void, undefined> {
    return this.#picture(input, options);
  }

  imageToImage(input: ImageToImageInput, options: RunOptions = {}): AsyncGenerator<RunEvent, void, undefined> {
    return this.#picture(input, options);
  }

  async countTokens(text: string, model?: string): Promise<number> {
    for await (const tokens of this.#host.run({ ask: "tokens", text, model }, contextOf({}))) {
      return tokens as unknown as number;
    }
    throw new Error("the engine has counted no tokens");
  }

  async warmUp(shape: WarmUpShape = {}, options: Pick<RunOptions, "signal"> = {}): Promise<void> {
    for await (const _ of this.#host.run({ ask: "warm-up", shape }, contextOf(options)));
  }

  loras(): ReturnType<Runtime["loras"]> {
    return listLoras(this.#options.engine.loraFolder);
  }

  async embeddings(): Promise<readonly string[]> {
    return (await this.#embeddings?.names()) ?? [];
  }

  async controls(): Promise<readonly string[]> {
    return (await this.#controls?.names()) ?? [];
  }

  async preprocess(...[input, options = {}]: Parameters<Runtime["preprocess"]>): ReturnType<Runtime["preprocess"]> {
    for await (const picture of this.#host.run({ ask: "preprocess", input }, contextOf(options))) {
      return picture as unknown as Awaited<ReturnType<Runtime["preprocess"]>>;
    }
    throw new Error("the engine has made no picture");
  }

  close(): Promise<void> {
    return this.#host.close(0);
  }

  /** Draws a seed where none is named, so that a process that takes over draws the same picture. */
  async *#picture(input: unknown, options: RunOptions): AsyncGenerator<RunEvent, void, undefined> {
    const parsed = parseGeneration(input);
    const { seed = randomInt(LARGEST_SEED), subseed = parsed.subseed_strength ? randomInt(LARGEST_SEED) : undefined } =
      parsed;
    const request = { ...parsed, seed, ...(subseed !== undefined && { subseed }) };
    for await (const { event } of this.#host.run({ ask: "picture", request }, contextOf(options))) yield event;
  }

  #hear(report: EngineReport): void {
    switch (report.type) {
      case "facts":
        this.#facts = report.facts;
        if (!this.#isReady) this.#models = report.facts.models;
        return;
      case "progress":
        if (!this.#isReady) this.#options.onProgress?.(report.progress);
        return;
      case "note":
        if (!this.#isReady) this.#options.onNote?.(report.note);
        return;
      case "device":
        this.device.enter(report.pid, report.device);
        if (report.pid === this.#host.pid) this.#models = report.models;
        return;
      case "change": {
        if (report.pid !== this.#host.pid) return;
        const { change, error } = report;
        for (const tell of this.#watchers) tell(error === undefined ? change : { ...change, error: new Error(error) });
        return;
      }
      default:
        report satisfies never;
    }
  }

  #onLost(error: Error, pid: number | undefined): void {
    if (pid !== undefined) this.device.end(pid);
    const code = faultOf(error).code === "host-hung" ? "host-hung" : "host-lost";
    this.#losses.set(code, this.#losses.get(code)! + 1);
    this.process.onLost?.(error);
  }

  get #deadlines(): Partial<Deadlines> {
    const { firstStepSeconds } = this.#options;
    const usual = this.#facts?.adapter.kind === "software" ? SOFTWARE_FACTOR : 1;
    const factor = firstStepSeconds === undefined ? usual : (firstStepSeconds * 1000) / DEADLINES["first-step"];
    const { load, ...phases } = DEADLINES;
    return Object.fromEntries(Object.entries(phases).map(([phase, ms]) => [phase, ms * factor]));
  }
}

/** Milliseconds; `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** 2^48 is the span of `randomInt`, and more than anybody will draw twice from. */
const LARGEST_SEED = 2 ** 48 - 1;

const never = new AbortController().signal;

function contextOf(options: RunOptions): RunContext {
  const { signal = never, client, priority, updates, wants } = options;
  const requestId = (options as Partial<RunContext>).requestId ?? "";
  return { signal, requestId, client, priority, updates, wants };
}

/** Messages between a gateway and the engine in its child process. */
import type {
  DeviceWork,
  LoadProgress,
  ModelChange,
  ModelFacts,
  ModelSource,
  ModelState,
  RuntimeOptions,
  WarmUpShape,
} from "../../engine/contract.ts";
import type { RunEvent } from "../../engine/events.ts";
import type { PreprocessInput } from "../../engine/preprocessors.ts";
import type { GenerationRequest, GenerationUpdate } from "../../engine/request.ts";
import type { AdapterFacts } from "../../gpu/adapter-facts.ts";

/** A runtime's options that are data. */
export type EngineOptions = Pick<
  RuntimeOptions,
  | "adapter"
  | "precision"
  | "maxGpuMemory"
  | "runsAtOnce"
  | "tune"
  | "variant"
  | "loraFolder"
  | "embeddingFolder"
  | "controlFolder"
  | "promptSyntax"
  | "modelFolder"
  | "preload"
  | "keepAlive"
> &
  FilePaths & { readonly models?: Readonly<Record<string, ModelPaths>> };

/** A model whose files have paths. */
export type ModelPaths = Omit<ModelSource, keyof FilePaths> & FilePaths & { readonly model: string };

type FilePaths = Partial<Record<"model" | "vae" | "tinyAutoencoder", string>>;

/** The engine is asked for one of these; each is a run of its host. */
export type EngineAsk =
  | { readonly ask: "picture"; readonly request: GenerationRequest }
  | { readonly ask: "warm-up"; readonly shape: WarmUpShape }
  | { readonly ask: "preprocess"; readonly input: PreprocessInput }
  | { readonly ask: "tokens"; readonly text: string; readonly model?: string };

/** An event of a picture, with the places at which its run was given the changes so far. */
export interface EngineEvent {
  readonly event: RunEvent;
  readonly changes: readonly number[];
}

/** A change of a run, and the place at which it is given. */
export interface GivenChange {
  readonly change: GenerationUpdate;
  readonly at: number;
}

/** The state that a picture goes on from in another process: the seed gives the rest again. */
export interface EngineState {
  readonly changes: readonly GivenChange[];
  /** The place that the reader has come to. Changes without a place are given from there on. */
  readonly place: number;
}

/** The device's state as data. */
export interface DeviceReport {
  readonly memoryBytes: number;
  readonly peakMemoryBytes: number;
  readonly work: DeviceWork;
}

/** The facts that do not change while a process lives. */
export interface EngineFacts {
  readonly adapter: AdapterFacts;
  readonly model: ModelFacts;
  readonly models: readonly ModelState[];
  readonly runsAtOnce: number;
}

/** News of the engine itself. */
export type EngineNews =
  | { readonly type: "facts"; readonly facts: EngineFacts }
  | { readonly type: "progress"; readonly progress: LoadProgress }
  | { readonly type: "note"; readonly note: string }
  | { readonly type: "device"; readonly device: DeviceReport; readonly models: readonly ModelState[] }
  | { readonly type: "change"; readonly change: Omit<ModelChange, "error">; readonly error?: string };

/** News, with the process that they are of. */
export type EngineReport = EngineNews & { readonly pid: number };

/**
 * The place of an event in its run: steps and previews in their order, whichever of them a run leaves out. Undefined: news that
 * has none.
 */
export function placeOf(event: RunEvent): number | undefined {
  switch (event.type) {
    case "progress":
      return 2 * event.step;
    case "preview":
      return 2 * event.step + 1;
    case "result":
      return Number.POSITIVE_INFINITY;
    default:
      return undefined;
  }
}

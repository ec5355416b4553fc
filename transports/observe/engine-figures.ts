/** Figures of the engine behind a server, which are read at the moment when somebody asks: its device, models and processes. */
import { Counter, Gauge, type Registry } from "prom-client";

export type Registers = { readonly registers: Registry[] };

/** Figures that are read at the moment when somebody asks. */
export interface MetricSources {
  readonly device?: DeviceSource;
  /** The process of the engine, if it has one of its own. */
  readonly engine?: EngineSource;
  /** The models that are served, the default first; left out: nothing says by which model it is. */
  readonly models?: () => readonly ModelSource[];
}

export interface EngineSource {
  /** Processes that are ready to take over. */
  readonly spares: number;
  /** Processes that were lost, by the reason. */
  readonly losses: ReadonlyMap<string, number>;
}

export interface ModelSource {
  readonly name: string;
  readonly state: "loaded" | "loading" | "absent";
  readonly bytes: number;
  readonly loads: number;
  readonly evictions: number;
}

export interface DeviceSource {
  readonly lost: boolean;
  readonly memoryBytes: number;
  readonly peakMemoryBytes: number;
  /** As `DeviceWork`; left out: it is not counted. */
  readonly work?: {
    readonly batches: ReadonlyMap<number, number>;
    readonly turns: number;
    readonly waitMilliseconds: number;
    readonly merges: number;
    readonly evictions: number;
  };
}

export function watchDevice(registers: Registers, device: DeviceSource): void {
  gauge(registers, "daguerre_gpu_memory_bytes", "Bytes held on the device", () => device.memoryBytes);
  gauge(
    registers,
    "daguerre_gpu_memory_peak_bytes",
    "Most bytes ever held on the device",
    () => device.peakMemoryBytes,
  );
  gauge(registers, "daguerre_gpu_lost", "1 when the device is lost", () => Number(device.lost));
  if (device.work !== undefined) countWork(registers, () => device.work!);
}

export function watchEngine(registers: Registers, engine: EngineSource): void {
  const help = "Processes of the engine that are ready to take over";
  gauge(registers, "daguerre_engine_spares", help, () => engine.spares);
  new Counter({
    name: "daguerre_engine_losses_total",
    help: "Processes of the engine that were lost and replaced, by the reason",
    labelNames: ["reason"],
    ...registers,
    collect() {
      this.reset();
      for (const [reason, count] of engine.losses) this.inc({ reason }, count);
    },
  });
}

export function countModels(registers: Registers, models: () => readonly ModelSource[]): void {
  const facts: readonly (readonly [typeof Counter | typeof Gauge, string, string, (model: ModelSource) => number])[] = [
    [Counter, "daguerre_model_loads_total", "How often a model was loaded", ({ loads }) => loads],
    [Counter, "daguerre_model_evictions_total", "How often a model left the device", ({ evictions }) => evictions],
    [Gauge, "daguerre_model_loaded", "1 if a model is on the device", ({ state }) => Number(state === "loaded")],
    [Gauge, "daguerre_model_bytes", "Bytes that a model and its plans take on the device", ({ bytes }) => bytes],
  ];
  for (const [Kind, name, help, value] of facts) {
    new Kind({
      name,
      help,
      labelNames: ["model"],
      ...registers,
      collect() {
        this.reset();
        for (const model of models()) this.inc({ model: model.name }, value(model));
      },
    });
  }
}

function countWork(registers: Registers, work: () => NonNullable<DeviceSource["work"]>): void {
  new Counter({
    name: "daguerre_batches_total",
    help: "Replays of a denoising step, by the pictures that shared them",
    labelNames: ["slots"],
    ...registers,
    collect() {
      this.reset();
      for (const [slots, count] of work().batches) this.inc({ slots }, count);
    },
  });
  const counter = (name: string, help: string, value: () => number) =>
    new Counter({
      name,
      help,
      ...registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  counter("daguerre_turns_total", "Turns on the device: steps, prompts, pictures", () => work().turns);
  const waited = "Seconds that turns on the device were waited for";
  counter("daguerre_turn_wait_seconds_total", waited, () => work().waitMilliseconds / 1000);
  counter("daguerre_lora_merges_total", "Weight sets merged from LoRAs", () => work().merges);
  counter("daguerre_evictions_total", "Plans and merged weight sets that gave way", () => work().evictions);
}

export function gauge(registers: Registers, name: string, help: string, value: () => number): void {
  new Gauge({
    name,
    help,
    ...registers,
    collect() {
      this.set(value());
    },
  });
}

/** The engine in a child process: a runtime whose pictures, facts and device's state cross as data. */
import process from "node:process";
import type { Runtime, RuntimeOptions } from "../../engine/contract.ts";
import { createRuntime } from "../../engine/runtime.ts";
import type { AnyRun } from "../../jobs/run.ts";
import type { HostContext, PlaceLink } from "../host.ts";
import { ChangeOutlet } from "./change-outlet.ts";
import {
  type EngineAsk,
  type EngineEvent,
  type EngineNews,
  type EngineOptions,
  type EngineReport,
  type EngineState,
  placeOf,
} from "./messages.ts";

/** The exit code of a process whose device is lost. */
const DEVICE_LOST = 70;
/** Milliseconds between two looks at the device. */
const LOOK_MS = 100;

/** Opens a runtime; a test may open it on a device of its own. */
export async function open(
  options: EngineOptions,
  link: PlaceLink,
  create: (options: EngineOptions & Pick<RuntimeOptions, "onProgress" | "onNote">) => Promise<Runtime> = createRuntime,
): Promise<AnyRun<EngineAsk, unknown>> {
  // They are sent to all processes of a command; this one ends when its gateway lets it.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
  const report = (news: EngineNews) => link.report({ ...news, pid: process.pid } satisfies EngineReport);
  const runtime = await create({
    ...options,
    onProgress: (progress) => report({ type: "progress", progress }),
    onNote: (note) => report({ type: "note", note }),
  });
  const { adapter, model, models, runsAtOnce } = runtime;
  report({ type: "facts", facts: { adapter, model, models, runsAtOnce } });
  runtime.watchModels(({ error, ...change }) => {
    report({ type: "change", change, error: error === undefined ? undefined : (error as Error).message });
  });
  const engine = new Engine(runtime, report);
  return (asked, context) => engine.run(asked, context);
}

export default open;

class Engine {
  readonly #runtime: Runtime;
  readonly #report: (news: EngineNews) => void;
  /** The device's state as it was reported last, as text. */
  #reported = "";

  constructor(runtime: Runtime, report: (news: EngineNews) => void) {
    this.#runtime = runtime;
    this.#report = report;
    setInterval(() => this.#look(), LOOK_MS).unref();
  }

  async *run(asked: EngineAsk, context: HostContext): AsyncGenerator<unknown, void, undefined> {
    switch (asked.ask) {
      case "picture":
        yield* this.#picture(asked, context);
        return;
      case "warm-up":
        await this.#runtime.warmUp(asked.shape, { signal: context.signal });
        this.#look();
        return;
      case "preprocess":
        yield await this.#runtime.preprocess(asked.input, context);
        return;
      case "tokens":
        yield this.#runtime.countTokens(asked.text, asked.model);
        return;
      default:
        asked satisfies never;
    }
  }

  async *#picture(
    { request }: Extract<EngineAsk, { ask: "picture" }>,
    context: HostContext,
  ): AsyncGenerator<EngineEvent, void, undefined> {
    const { client, priority, signal, wants, announce } = context;
    const changes = new ChangeOutlet(context.updates, context.from as EngineState | undefined);
    const options = { client, priority, signal, wants, onPhase: announce, updates: changes };
    const { image, ...input } = request;
    const events =
      image === undefined
        ? this.#runtime.textToImage(input, options)
        : this.#runtime.imageToImage({ ...input, image }, options);
    let place = 0;
    try {
      for (;;) {
        await changes.give(place);
        const next = await events.next();
        if (next.done) return;
        place = placeOf(next.value) ?? place;
        if (next.value.type === "result") this.#look();
        yield { event: next.value, changes: changes.places };
      }
    } catch (error) {
      this.#endIfLost();
      throw error;
    } finally {
      changes.close();
      await events.return();
    }
  }

  /** Reports the device's state if it has changed, and ends the process if the device is lost. */
  #look(): void {
    this.#endIfLost();
    const { device: state, models } = this.#runtime;
    const { memoryBytes, peakMemoryBytes, work } = state;
    const device = { memoryBytes, peakMemoryBytes, work };
    const text = JSON.stringify([device, [...work.batches], models]);
    if (text === this.#reported) return;
    this.#reported = text;
    this.#report({ type: "device", device, models });
  }

  #endIfLost(): void {
    if (this.#runtime.device.lost) process.exit(DEVICE_LOST);
  }
}

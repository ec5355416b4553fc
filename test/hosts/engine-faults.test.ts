/** The engine of a server is lost in each way, and clients of every transport notice a pause. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { appOfRuntime } from "../../runtime-app.ts";
import { openEngine } from "../../src/hosts/engine/engine-process.ts";
import { ENGINE_MAIN } from "../../src/hosts/mains.ts";
import { listen } from "../../transports/http/listen.ts";
import { createMetrics } from "../../transports/observe/metrics.ts";
import { FaultBench, type Trial } from "./engine-faults.ts";

let bench: FaultBench;
beforeAll(async () => {
  bench = await FaultBench.open({ openEngine, appOfRuntime, listen, createMetrics, engineMain: ENGINE_MAIN });
});
afterAll(() => bench?.close());

const sse = { transport: "sse", resumes: false } as const;
const sseAgain = { transport: "sse", resumes: true } as const;
const webSocket = { transport: "websocket", resumes: false } as const;
const webSocketAgain = { transport: "websocket", resumes: true } as const;
const json = { transport: "json", resumes: false } as const;
const detached = { transport: "detached", resumes: true } as const;

/** Ten clients under three faults. `supervise.test.ts` has the other ways in which a process ends. */
const TRIALS: readonly Trial[] = [
  { kind: "SIGKILL", step: 3, clients: [sse, webSocketAgain, json, detached] },
  { kind: "loss", step: 4, clients: [webSocket, sseAgain, json] },
  { kind: "hang", step: 2, clients: [sseAgain, webSocket, detached] },
];

it.each(TRIALS)("$kind after step $step: no gap, no repeat, the same pixels", { timeout: 120_000 }, async (trial) => {
  const { device, process } = bench.engine;
  const before = { lost: sum(process.losses), steps: sum(device.work.batches) };
  const { faults, away } = await bench.run(trial);
  expect(faults).toEqual([]);
  expect(away).toEqual({ ready: 503, gpuLost: 1 });
  expect(await bench.state()).toEqual({ ready: 200, gpuLost: 0 });
  expect(sum(process.losses)).toBe(before.lost + 1);
  expect(sum(device.work.batches)).toBeGreaterThan(before.steps); // that of the lost process counts still
});

it("answers from the process, counts its work over losses, and hands it changes", async () => {
  const { engine } = bench;
  expect(engine.model.name).toBe("landscapes");
  expect(await engine.countTokens("a lake")).toBe(4);
  const steps = () => sum(engine.device.work.batches);
  const before = steps();
  const input = { prompt: "a lake", seed: 1, num_inference_steps: 4, width: 64, height: 64 };
  const changes = async function* () {
    yield { prompt: "a forest" };
  };
  for await (const event of engine.textToImage(input, { updates: changes() })) {
    if (event.type === "result") expect(event.prompt).toBe("a forest");
  }
  expect(steps()).toBe(before + 4);
  expect(engine.device.memoryBytes).toBeGreaterThan(0);
});

function sum(counts: ReadonlyMap<unknown, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}

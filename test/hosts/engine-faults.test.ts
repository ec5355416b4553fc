/** The engine of a server is lost in each way, and clients of every transport notice a pause. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { appOfRuntime } from "../../runtime-app.ts";
import { openEngine } from "../../src/hosts/engine/engine-process.ts";
import { ENGINE_MAIN } from "../../src/hosts/mains.ts";
import { listen } from "../../transports/http/listen.ts";
import { FaultBench, HANG_MS, type Trial } from "./engine-faults.ts";

let bench: FaultBench;
beforeAll(async () => {
  bench = await FaultBench.open({ openEngine, appOfRuntime, listen, engineMain: ENGINE_MAIN });
});
afterAll(() => bench?.close());

/** Ten clients under five faults: each kind, each transport, resumed and not. */
const TRIALS: readonly Trial[] = [
  { kind: "SIGKILL", step: 3, clients: [sse(false), webSocket(true)] },
  { kind: "SIGSEGV", step: 0, clients: [webSocket(false), json()] },
  { kind: "loss", step: 4, clients: [webSocket(true), detached()] },
  { kind: "SIGSTOP", step: 5, clients: [sse(true), json()] },
  { kind: "hang", step: 2, clients: [detached(), sse(false)] },
];

it.each(TRIALS)("$kind after step $step: no gap, no repeat, the same pixels", { timeout: 120_000 }, async (trial) => {
  const { faults, detectionMs } = await bench.run(trial);
  expect(faults).toEqual([]);
  if (trial.kind === "hang") expect(detectionMs).toBeGreaterThan(HANG_MS * 0.5);
});

function sse(resumes: boolean) {
  return { transport: "sse", resumes } as const;
}
function webSocket(resumes: boolean) {
  return { transport: "websocket", resumes } as const;
}
function json() {
  return { transport: "json", resumes: false } as const;
}
function detached() {
  return { transport: "detached", resumes: true } as const;
}

/**
 * A server as a process of its own, with every route and a cheap run: it prints its address. `/metrics` counts its jobs.
 *
 *     node --import ./tooling/run.mjs test/clients/server.ts
 */
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import type { RunContext } from "../../src/jobs/run.ts";
import { createApp } from "../../transports/app.ts";
import { listen } from "../../transports/http/listen.ts";
import { createMetrics } from "../../transports/observe/metrics.ts";
import { gradientRun } from "../gradient-run.ts";

const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };
/** Milliseconds of a step. */
const STEP_MS = Number(process.env.STEP_MS ?? 5);

/** As many pictures as were asked for, or an error in the third step where the prompt is "fails". */
async function* run(input: GenerationRequest, context: RunContext): AsyncGenerator<RunEvent> {
  for await (const event of gradientRun()({ ...input, step_ms: STEP_MS, side: 32 }, context)) {
    if (input.prompt === "fails" && event.type === "progress" && event.step === 3) throw new Error("the run failed");
    if (event.type !== "result") yield event;
    else yield { ...event, pictures: Array.from({ length: input.num_images ?? 1 }, () => event.pictures[0]!) };
  }
}

const app = createApp({ run, health: () => ({}), model: MODEL, metrics: createMetrics(), jobs: { concurrency: 32 } });
console.log((await listen(app, 0, "127.0.0.1")).url);

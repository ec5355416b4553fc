/**
 * A run as one JSON answer: it goes to its end, and the result comes back. `app.post("/", json(run))`.
 *
 * The result is the run's `result` event, or its last event where it has none, less the `type`. The run is a job like any
 * other: it can be looked at and cancelled by its id, joined by its idempotency key, and ends when its client leaves.
 */
import type { Context } from "hono";
import { JobError } from "../src/jobs/job-errors.ts";
import type { LogReader } from "../src/jobs/job-log.ts";
import { failureOf, failureResponse, isServerFault } from "./failure.ts";
import { inputSource, readInput } from "./input.ts";
import { JsonText } from "./json-text.ts";
import { jsonAnswer } from "./outflow.ts";
import { type JobRequestOptions, jobsOf, type Source, submit } from "./source.ts";
import { envelopeOf, idHeaders, wireEvent } from "./wire.ts";

/** Milliseconds; how long a silence lasts makes no difference here. */
const QUIET_MS = 60_000;

export function json<Input, Event>(
  source: Source<Input, Event>,
  options: JobRequestOptions<Input> = {},
): (c: Context) => Promise<Response> {
  const jobs = jobsOf(source);
  return async (c) => {
    let envelope = envelopeOf(undefined);
    try {
      const input = await readInput(c, options);
      envelope = envelopeOf(input);
      const job = submit(c, jobs, input, options, { id: envelope.requestId });
      // The job of an idempotency key has the id of the request that came first.
      envelope = { ...envelopeOf(job.input), requestId: job.id };
      const reader = job.watch({ wants: (slot) => slot !== "preview" });
      const { type: _, ...answer } = await wireEvent(await resultOf(reader, c.req.raw.signal), envelope);
      return jsonAnswer(c, JsonText.of(answer), idHeaders(envelope), options);
    } catch (error) {
      const failure = failureOf(error, inputSource(c));
      if (isServerFault(error)) options.onError?.(error, envelope.requestId);
      return failureResponse(failure, idHeaders(envelope));
    }
  };
}

/** @throws what the run has thrown */
async function resultOf<Event>(reader: LogReader<Event>, client: AbortSignal): Promise<Event> {
  if (client.aborted) reader.close();
  else client.addEventListener("abort", reader.close, { once: true });
  let result: Event | undefined;
  try {
    for (;;) {
      const read = await reader.next(QUIET_MS);
      if (read === "quiet") continue;
      if (read === "ended") break;
      if (read === "lost") throw new JobError("log-gone", "Events of this job are no longer held");
      if ("error" in read) throw read.error;
      if (!isResult(result)) result = read.event;
    }
  } finally {
    client.removeEventListener("abort", reader.close);
    reader.close();
  }
  client.throwIfAborted();
  if (result === undefined) throw new Error("the run ended without an event");
  return result;
}

function isResult(event: unknown): boolean {
  return (event as { type?: unknown } | null | undefined)?.type === "result";
}

/**
 * A run as one JSON answer: it goes to its end, and the result comes back. `app.post("/", json(run))`.
 *
 * The result is the run's `result` event, or its last event where it has none, less the `type`. The run is a job like any
 * other: it can be looked at and cancelled by its id, joined by its idempotency key, and ends when its client leaves.
 */
import type { Context } from "hono";
import { failureOf, failureResponse, isServerFault } from "./failure.ts";
import { inputSource, readInput } from "./http/input.ts";
import { GENERATION, IDEMPOTENCY, RESULT, STARTS } from "./openapi/describe.ts";
import type { Route } from "./route.ts";
import { type JobRequestOptions, jobsOf, type Source, submit } from "./source.ts";
import { jsonAnswer } from "./stream/outflow.ts";
import { NO_PREVIEWS, resultOf, watchFor } from "./stream/reading.ts";
import { JsonText } from "./wire/json-text.ts";
import { envelopeOf, envelopeOfJob, idHeaders, wireEvent } from "./wire/wire.ts";

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
      envelope = envelopeOfJob(job, options.tracing);
      const result = await resultOf(watchFor(c, job, NO_PREVIEWS));
      c.req.raw.signal.throwIfAborted();
      if (result === undefined) throw new Error("the run ended without an event");
      const { type: _, ...answer } = await wireEvent(result, envelope);
      return jsonAnswer(c, JsonText.of(answer), idHeaders(envelope), options);
    } catch (error) {
      const failure = failureOf(error, inputSource(c));
      if (isServerFault(error)) options.onError?.(error, envelope.requestId);
      return failureResponse(failure, idHeaders(envelope));
    }
  };
}

export function jsonRoutes<Input, Event>(source: Source<Input, Event>, options: JobRequestOptions<Input>): Route[] {
  return [
    {
      method: "POST",
      path: "/",
      about: {
        tag: "pictures",
        summary: "The finished picture",
        parameters: [IDEMPOTENCY],
        body: { schema: GENERATION },
        answers: { 200: { description: "the picture", schema: RESULT }, ...STARTS },
      },
      handlers: [json(source, options)],
    },
  ];
}

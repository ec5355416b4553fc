/**
 * A run as one JSON answer: it goes to its end, and the result comes back. `app.post("/", json(run))`.
 *
 * The result is the run's `result` event, or its last event where it has none, less the `type`.
 */
import type { Context } from "hono";
import { type Failure, failureOf, failureResponse } from "./failure.ts";
import { drive, type Run } from "./generator.ts";
import { type InputOptions, inputSource, readInput } from "./input.ts";
import { asciiJson, envelopeOf, idHeaders, wireEvent } from "./wire.ts";

export interface JsonOptions<Input> extends InputOptions<Input> {
  /** Told of every error that the client is not to see (5xx). */
  onError?: (error: unknown, requestId: string) => void;
}

export function json<Input, Event>(
  run: Run<Input, Event>,
  options: JsonOptions<Input> = {},
): (c: Context) => Promise<Response> {
  return async (c) => {
    let envelope = envelopeOf(undefined);
    try {
      const input = await readInput(c, options);
      envelope = envelopeOf(input);
      const { requestId } = envelope;
      let result: Event | undefined;
      await drive(run, input, { signal: c.req.raw.signal, requestId }, (event) => {
        if (!isResult(result)) result = event;
      });
      if (result === undefined) throw new Error("the run ended without an event");
      const { type: _, ...answer } = await wireEvent(result, envelope);
      return new Response(asciiJson(answer), {
        headers: { "Content-Type": "application/json", ...idHeaders(envelope) },
      });
    } catch (error) {
      const failure: Failure = failureOf(error, inputSource(c));
      if (failure.status >= 500) options.onError?.(error, envelope.requestId);
      return failureResponse(failure, idHeaders(envelope));
    }
  };
}

function isResult(event: unknown): boolean {
  return (event as { type?: unknown } | null | undefined)?.type === "result";
}

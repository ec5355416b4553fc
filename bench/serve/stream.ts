/** One run over SSE, with the times at which its events came. */

import { EventSourceParserStream } from "eventsource-parser/stream";

export interface RunTimes {
  /** Milliseconds from the request. */
  readonly first: number;
  readonly firstProgress?: number;
  readonly firstPreview?: number;
  readonly result: number;
  readonly previews: number;
}

/** Throws where the run ends without a result. */
export async function streamRun(url: string, input: Readonly<Record<string, unknown>>): Promise<RunTimes> {
  const begun = performance.now();
  const response = await fetch(`${url}/stream`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(input),
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  let first: number | undefined;
  let firstProgress: number | undefined;
  let firstPreview: number | undefined;
  let previews = 0;
  const events = response.body!.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  for await (const { data } of events) {
    const at = performance.now() - begun;
    const event = JSON.parse(data) as { type: string; detail?: unknown };
    first ??= at;
    if (event.type === "progress") firstProgress ??= at;
    if (event.type === "preview") {
      previews++;
      firstPreview ??= at;
    }
    if (event.type === "error") throw new Error(JSON.stringify(event.detail));
    if (event.type === "result") return { first, firstProgress, firstPreview, result: at, previews };
  }
  throw new Error("the stream ended without a result");
}

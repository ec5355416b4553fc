/** Results of ranks as values, or as the bytes of an event stream: a `data:` line of JSON, and a blank one. */
import type { RankEvent } from "./rank-function.ts";

const encoder = new TextEncoder();
const PREFIX = "data: ";

export function textEvent(event: RankEvent): Uint8Array {
  return encoder.encode("text" in event ? event.text : `${PREFIX}${JSON.stringify(resultOf(event))}\n\n`);
}

export function resultOf(event: RankEvent): unknown {
  if ("text" in event) return JSON.parse(event.text.slice(PREFIX.length));
  return "value" in event ? event.value : event.returned;
}

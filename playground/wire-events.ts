/**
 * Reads the events of the wire for the page. No message is trusted to be well formed: an event that cannot be used is
 * nothing, not an exception in the middle of a stream.
 */
import type { WireFault } from "../transports/wire/events.ts";
import type { Failure, RunEvent, Shown } from "./connection.ts";

type Fields = Readonly<Record<string, unknown>>;

/** A picture of an event: `url` is a data URI in JSON, `content` raw bytes in msgpack. */
function pictureOf(image: unknown): Shown | undefined {
  const { url, content, content_type, width, height } = (image ?? {}) as Fields;
  const type = typeof content_type === "string" ? content_type : "image/jpeg";
  const size = { width: Number(width) || 0, height: Number(height) || 0, type };
  // A picture may only come out of the event itself; the page fetches nothing that a message names.
  if (typeof url === "string" && url.startsWith("data:image/")) return { url, ...size };
  if (content instanceof Uint8Array) {
    return { url: URL.createObjectURL(new Blob([content as Uint8Array<ArrayBuffer>], { type })), ...size };
  }
  return undefined;
}

/** Gives back the memory of a picture that is shown no more. */
export function release(image: Shown): void {
  if (image.url.startsWith("blob:")) URL.revokeObjectURL(image.url);
}

/** An event of a run; undefined if the page does not know it. Errors are not events here: see `failureIn`. */
export function runEvent(wire: Fields): RunEvent | undefined {
  const step = Number(wire.step);
  const steps = Number(wire.steps);
  switch (wire.type) {
    case "queued":
      return {
        type: "queued",
        position: Number(wire.position) || 0,
        seconds: wire.seconds === undefined ? undefined : Number(wire.seconds) || 0,
      };
    case "preparing": {
      const [done, total] = [Number(wire.done) || 0, Number(wire.total) || 0];
      return { type: "preparing", what: String(wire.what ?? ""), done, total };
    }
    case "progress":
      return { type: "progress", step, steps, progress: Number(wire.progress) };
    case "preview": {
      const image = pictureOf(wire.image);
      return image && { type: "preview", image, step, steps };
    }
    case "result": {
      const image = pictureOf(wire.image);
      const warnings = Array.isArray(wire.warnings) ? wire.warnings.map(String) : [];
      return image && { type: "result", image, seed: String(wire.seed ?? ""), warnings };
    }
    default:
      return undefined;
  }
}

/** A failure in an error event, or in the JSON body of an error answer. */
export function failureIn(wire: Fields, status = Number(wire.status) || 500): Failure {
  const { detail } = wire;
  if (Array.isArray(detail)) {
    const faults = detail.map((item): WireFault => {
      const { loc, msg, type } = (item ?? {}) as Fields;
      return { loc: Array.isArray(loc) ? loc : [], msg: String(msg ?? ""), type: String(type ?? "") };
    });
    return { status, detail: faults };
  }
  return { status, detail: typeof detail === "string" ? detail : "" };
}

/**
 * Errors in words that somebody who has never seen the API can act on, and their place on the page.
 */
import type { WireFault } from "../transports/wire/events.ts";
import type { Failure } from "./connection.ts";

export interface Complaint {
  /** The request field it is about; undefined: the request as a whole. */
  readonly field: string | undefined;
  readonly text: string;
}

const NAMES: Readonly<Record<string, string>> = {
  prompt: "The prompt",
  negative_prompt: "The negative prompt",
  num_inference_steps: "Steps",
  guidance_scale: "Guidance",
  seed: "The seed",
  width: "The width",
  height: "The height",
  strength: "Redraw",
  image: "The painting",
};

/** @param fields the names that have a place on the page; a fault of any other is said of the whole */
export function complaints(failure: Failure, fields: ReadonlySet<string>): Complaint[] {
  const { detail } = failure;
  if (failure.status === 401 || failure.status === 403) {
    const quote = typeof detail === "string" && detail !== "" ? ` It says: ${detail.replace(/\.$/, "")}.` : "";
    return [{ field: "key", text: `This server wants a key.${quote}` }];
  }
  if (typeof detail === "string" || detail.length === 0) return [{ field: undefined, text: sentence(failure) }];
  return detail.map((fault) => {
    const name = String(fault.loc.at(1) ?? fault.loc.at(0) ?? "");
    const text = `${NAMES[name] ?? (name || "The request")} ${faultWords(name, fault)}.`;
    return { field: fields.has(name) ? name : undefined, text };
  });
}

function faultWords(name: string, { type, msg }: WireFault): string {
  const number = /-?\d+(\.\d+)?/.exec(msg)?.[0] ?? "";
  if (name === "seed") return "must be a whole number, and 18446744073709551615 at most";
  switch (type) {
    case "less_than_equal":
      return `can be ${number} at most`;
    case "greater_than_equal":
      return `must be ${number} at least`;
    case "greater_than":
      return `must be more than ${number}`;
    case "less_than":
      return `must be less than ${number}`;
    case "multiple_of":
      return `must be a multiple of ${number}`;
    case "string_too_long":
      return `can have ${number} characters at most`;
    case "missing":
      return "is missing";
    case "int_type":
    case "float_type":
      return `must be a ${type === "int_type" ? "whole " : ""}number`;
    default:
      return /^(must|may|should|can|is|has)\b/.test(msg)
        ? msg.replace(/\.$/, "")
        : `was refused: ${msg.replace(/\.$/, "")}`;
  }
}

function sentence({ status, detail, retryAfter }: Failure): string {
  const wait = retryAfter === undefined ? "in a moment" : `in ${retryAfter} ${retryAfter === 1 ? "second" : "seconds"}`;
  if (status === 0) {
    return detail === "broken"
      ? "The connection to the server broke off. Check that it is still running, then generate again."
      : "The server cannot be reached. Check that it is running, then generate again.";
  }
  if (status === 413) return "The picture to start from is too large for this server.";
  if (status === 429 || status === 503) return `The server is busy. Try again ${wait}.`;
  if (status === 504) return "The server gave up: it took too long. Fewer steps or a smaller size will help.";
  const quote = typeof detail === "string" && detail !== "Internal error" ? detail : "";
  if (status >= 500)
    return `The server could not finish this picture${quote && `: ${quote.replace(/\.$/, "")}`}. Its log says more.`;
  return quote === "" ? `The server refused the request (${status}).` : `The server refused the request: ${quote}`;
}

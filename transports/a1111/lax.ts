/** Values as the web UI's API takes them: null is a field that was left out, and a number may come as text. */
import { withoutPicture } from "../../src/engine/base64-text.ts";
import { RequestError } from "../../src/engine/errors.ts";
import { type Field, fromText } from "../../src/engine/request-fields.ts";

/** @throws RequestError if it is no object */
function withoutNulls(raw: unknown): Readonly<Record<string, unknown>> {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw) || raw instanceof Uint8Array) {
    throw new RequestError("", "must be a map of fields");
  }
  return Object.fromEntries(Object.entries(raw).filter(([, value]) => value !== null && value !== undefined));
}

/** The fields of a body that a schema knows, with the types that it wants where a text or a number says the same. */
export function knownFields(
  raw: unknown,
  fields: ReadonlyMap<string, Field>,
  pictures: ReadonlySet<string> = new Set(),
): Record<string, unknown> {
  const known = Object.entries(withoutNulls(raw)).filter(([name]) => fields.has(name));
  return Object.fromEntries(
    known.map(([name, value]) => [
      name,
      pictures.has(name) ? value : asKind(withoutPicture(value), fields.get(name)!.kind),
    ]),
  );
}

function asKind(value: unknown, kind: Field["kind"]): unknown {
  if (kind === "boolean" && (value === 0 || value === 1)) return value === 1;
  return typeof value === "string" ? fromText(value, kind) : value;
}

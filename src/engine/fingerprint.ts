/** Whether two inputs are the same request: a hash of all they hold, whatever the order of their fields. */
import { createHash, type Hash } from "node:crypto";

/** Fields that name a request and do not change what it asks. */
const NAMES = new Set(["request_id", "input_id"]);

/** SHA-256 in hex. Values that JSON does not know (functions, symbols) count as absent. */
export function fingerprint(input: unknown): string {
  const hash = createHash("sha256");
  add(hash, input, true);
  return hash.digest("hex");
}

// Every part is told apart by its kind and length, so that no two values read alike.
function add(hash: Hash, value: unknown, top: boolean): void {
  if (value instanceof Uint8Array) {
    hash.update(`bytes ${value.byteLength}\n`).update(value);
  } else if (Array.isArray(value)) {
    hash.update(`array ${value.length}\n`);
    for (const item of value) add(hash, item, false);
  } else if (typeof value === "object" && value !== null) {
    const names = Object.keys(value)
      .filter((name) => (value as Record<string, unknown>)[name] !== undefined && !(top && NAMES.has(name)))
      .sort();
    hash.update(`object ${names.length}\n`);
    for (const name of names) {
      hash.update(`${name.length} ${name}\n`);
      add(hash, (value as Record<string, unknown>)[name], false);
    }
  } else {
    const text = String(value);
    hash.update(`${typeof value} ${text.length} ${text}\n`);
  }
}

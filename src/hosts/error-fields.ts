/** Errors on their way out of a place. (It stands alone, so that a place need not load the schemas of faults to start.) */
import type { ErrorFields } from "./messages.ts";

/** The fields that may make an error a fault, those of them that can be copied. */
export function errorFields(error: unknown): ErrorFields {
  const { name = "Error", message = String(error), stack, ...rest } = (error ?? {}) as Partial<ErrorFields>;
  const { code, status, field, issues, retryAfter } = rest;
  const fields = Object.entries({ code, status, field, issues, retryAfter });
  return {
    ...Object.fromEntries(fields.filter(([, value]) => value !== undefined && isCopyable(value))),
    name: String(name),
    message: String(message),
    stack: String(stack),
  };
}

function isCopyable(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}

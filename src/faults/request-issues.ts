/** Zod's findings about a request, in the words of `Fault.issues`. */
import type { z } from "zod";

/** One thing wrong with a request: where, what, and which rule in pydantic's vocabulary (`missing`, `int_type`, …). */
export interface RequestIssue {
  /** Names and indices from the outside in: `["loras", 0, "scale"]`. Empty: the request as a whole. */
  readonly path: readonly (string | number)[];
  readonly message: string;
  readonly type: string;
}

/** True if a value is the `issues` of a `ZodError`, by its data: a program may throw those of its own copy of zod. */
export function isZodIssues(value: unknown): value is readonly z.core.$ZodIssue[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(
      (issue) => typeof issue?.code === "string" && Array.isArray(issue.path) && typeof issue.message === "string",
    )
  );
}

/** Zod's findings in pydantic's vocabulary, which fal's clients show. */
export function requestIssues({ issues }: { readonly issues: readonly z.core.$ZodIssue[] }): RequestIssue[] {
  return issues.map((issue) => ({
    path: issue.path.filter((part) => typeof part !== "symbol"),
    ...wording(issue),
  }));
}

/** pydantic's name for a wrong type, by zod's name for the right one. */
const TYPE_NAMES: Readonly<Record<string, string>> = {
  int: "int_type",
  number: "float_type",
  string: "string_type",
  boolean: "bool_type",
  array: "list_type",
  object: "model_attributes_type",
};

function wording(issue: z.core.$ZodIssue): { message: string; type: string } {
  switch (issue.code) {
    case "invalid_type":
      if (issue.input === undefined) return { message: "Field required", type: "missing" };
      return { message: issue.message, type: TYPE_NAMES[issue.expected] ?? "value_error" };
    case "too_big":
      if (issue.origin === "string") {
        return { message: `String should have at most ${issue.maximum} characters`, type: "string_too_long" };
      }
      if (issue.origin === "array") {
        return { message: `List should have at most ${issue.maximum} items`, type: "too_long" };
      }
      return issue.inclusive === false
        ? { message: `Input should be less than ${issue.maximum}`, type: "less_than" }
        : { message: `Input should be less than or equal to ${issue.maximum}`, type: "less_than_equal" };
    case "too_small":
      if (issue.origin === "string") {
        return { message: `String should have at least ${issue.minimum} characters`, type: "string_too_short" };
      }
      if (issue.origin === "array") {
        return { message: `List should have at least ${issue.minimum} items`, type: "too_short" };
      }
      return issue.inclusive === false
        ? { message: `Input should be greater than ${issue.minimum}`, type: "greater_than" }
        : { message: `Input should be greater than or equal to ${issue.minimum}`, type: "greater_than_equal" };
    case "not_multiple_of":
      return { message: `Input should be a multiple of ${issue.divisor}`, type: "multiple_of" };
    case "invalid_value":
      return {
        message: `Input should be one of ${issue.values.map((value) => `'${String(value)}'`).join(", ")}`,
        type: "literal_error",
      };
    case "invalid_format":
      return { message: issue.message, type: "string_pattern_mismatch" };
    default:
      return { message: issue.message, type: "value_error" };
  }
}

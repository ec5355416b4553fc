// Reads fields of a diffusers `scheduler_config.json` with the class's own default where a field is missing, and with an
// error naming class and field where it has the wrong type. Fields a class does not know are ignored, as the reference
// does: configurations travel between classes and keep fields of the class they came from.

import { SchedulerError } from "./scheduler-error.ts";

/** A parsed `scheduler_config.json`: untrusted, so every field is checked when read. */
export type SchedulerConfig = Readonly<Record<string, unknown>>;

/** The least and the most that a field may be. Far beyond any real value, each with its reason where it is given. */
export type Bounds = readonly [least: number, most: number];

/** Entries of a list that names steps. */
const MOST_INTEGERS = 1000;

export interface ConfigReader {
  readonly className: string;
  /** A number within `bounds`; `fallback` where the field is absent or null. */
  number(field: string, fallback: number, bounds: Bounds): number;
  /** A number within `bounds`, or null where the field is absent or null. */
  optionalNumber(field: string, bounds: Bounds): number | null;
  /** The field where it is a string, else null; the one field of the reference that may be either is a special case. */
  text(field: string): string | null;
  /** An integer within `bounds`. */
  integer(field: string, fallback: number, bounds: Bounds): number;
  boolean(field: string, fallback: boolean): boolean;
  /** A short list of integers within `bounds`; empty where the field is absent or null. */
  integers(field: string, bounds: Bounds): readonly number[];
  /** One of `choices`; anything else is refused with the list of what is supported. */
  oneOf<T extends string>(field: string, fallback: T, choices: readonly T[]): T;
  /** An array of `length` numbers within `bounds`, or null where the field is absent or null. */
  optionalNumbers(field: string, length: number, bounds: Bounds): readonly number[] | null;
  /** Refuses the configuration if `field` is set to anything but one of `allowed` (absent and null are always allowed). */
  refuseUnless(field: string, allowed: readonly unknown[], reason: string): void;
  /** Throws the error for `field`. */
  fail(field: string, reason: string): never;
}

/**
 * Wraps `config` for class `className`.
 * @throws SchedulerError from each method, naming the field.
 */
export function readConfig(className: string, config: SchedulerConfig): ConfigReader {
  const fail = (field: string, reason: string): never => {
    throw new SchedulerError(className, field, reason);
  };
  const value = (field: string): unknown => (Object.hasOwn(config, field) ? config[field] : undefined) ?? undefined;
  const within = (found: unknown, [least, most]: Bounds): found is number =>
    typeof found === "number" && found >= least && found <= most;
  const optionalNumber = (field: string, bounds: Bounds): number | null => {
    const found = value(field);
    if (found === undefined) return null;
    return within(found, bounds) ? found : fail(field, `must be a number from ${bounds[0]} to ${bounds[1]}`);
  };
  return {
    className,
    fail,
    optionalNumber,
    text: (field) => {
      const found = value(field);
      return typeof found === "string" ? found : null;
    },
    number: (field, fallback, bounds) => optionalNumber(field, bounds) ?? fallback,
    integer(field, fallback, bounds) {
      const found = value(field) ?? fallback;
      return Number.isInteger(found) && within(found, bounds)
        ? found
        : fail(field, `must be an integer from ${bounds[0]} to ${bounds[1]}`);
    },
    boolean(field, fallback) {
      const found = value(field) ?? fallback;
      return typeof found === "boolean" ? found : fail(field, "must be true or false");
    },
    integers(field, bounds) {
      const found = value(field) ?? [];
      const good =
        Array.isArray(found) &&
        found.length <= MOST_INTEGERS &&
        found.every((entry) => Number.isInteger(entry) && within(entry, bounds));
      return good ? found : fail(field, `must be a list of integers from ${bounds[0]} to ${bounds[1]}`);
    },
    oneOf(field, fallback, choices) {
      const found = value(field) ?? fallback;
      return (
        choices.find((choice) => choice === found) ??
        fail(field, `${quote(found)} is not supported; supported: ${choices.join(", ")}`)
      );
    },
    optionalNumbers(field, length, bounds) {
      const found = value(field);
      if (found === undefined) return null;
      const good = Array.isArray(found) && found.length === length && found.every((entry) => within(entry, bounds));
      return good ? found : fail(field, `must be an array of ${length} numbers from ${bounds[0]} to ${bounds[1]}`);
    },
    refuseUnless(field, allowed, reason) {
      const found = value(field);
      if (found !== undefined && !allowed.includes(found)) fail(field, reason);
    },
  };
}

/** A value of the file's own, cut short: a file may hold a megabyte of text. */
function quote(found: unknown): string {
  const text = JSON.stringify(found);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

// Reads fields of a diffusers `scheduler_config.json` with the class's own default where a field is missing, and with an
// error naming class and field where it has the wrong type. Fields a class does not know are ignored, as the reference
// does: configurations travel between classes and keep fields of the class they came from.

import { SchedulerError } from "./scheduler-error.ts";

/** A parsed `scheduler_config.json`: untrusted, so every field is checked when read. */
export type SchedulerConfig = Readonly<Record<string, unknown>>;

export interface ConfigReader {
  readonly className: string;
  /** A finite number; `fallback` where the field is absent or null. */
  number(field: string, fallback: number): number;
  /** A finite number, or null where the field is absent or null. */
  optionalNumber(field: string): number | null;
  /** The field where it is a string, else null; the one field of the reference that may be either is a special case. */
  text(field: string): string | null;
  /** An integer not below `least`. */
  integer(field: string, fallback: number, least: number): number;
  boolean(field: string, fallback: boolean): boolean;
  /** One of `choices`; anything else is refused with the list of what is supported. */
  oneOf<T extends string>(field: string, fallback: T, choices: readonly T[]): T;
  /** An array of finite numbers, or null where the field is absent or null. */
  optionalNumbers(field: string): readonly number[] | null;
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
  const optionalNumber = (field: string): number | null => {
    const found = value(field);
    if (found === undefined) return null;
    return typeof found === "number" && Number.isFinite(found) ? found : fail(field, "must be a finite number");
  };
  return {
    className,
    fail,
    optionalNumber,
    text: (field) => {
      const found = value(field);
      return typeof found === "string" ? found : null;
    },
    number: (field, fallback) => optionalNumber(field) ?? fallback,
    integer(field, fallback, least) {
      const found = optionalNumber(field) ?? fallback;
      return Number.isInteger(found) && found >= least ? found : fail(field, `must be an integer of at least ${least}`);
    },
    boolean(field, fallback) {
      const found = value(field) ?? fallback;
      return typeof found === "boolean" ? found : fail(field, "must be true or false");
    },
    oneOf(field, fallback, choices) {
      const found = value(field) ?? fallback;
      return (
        choices.find((choice) => choice === found) ??
        fail(field, `${JSON.stringify(found)} is not supported; supported: ${choices.join(", ")}`)
      );
    },
    optionalNumbers(field) {
      const found = value(field);
      if (found === undefined) return null;
      const good = Array.isArray(found) && found.length > 0 && found.every((entry) => Number.isFinite(entry));
      return good ? (found as number[]) : fail(field, "must be an array of finite numbers");
    },
    refuseUnless(field, allowed, reason) {
      const found = value(field);
      if (found !== undefined && !allowed.includes(found)) fail(field, reason);
    },
  };
}

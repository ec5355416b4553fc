/**
 * The settings: each leaf of the schema under all its names. The flags of `daguerre serve`, the environment's names, the
 * file's keys, the help and the table in `docs/configuration.md` follow from them.
 */

import { z } from "zod";
import { configSchema, type SettingFacts } from "./config-schema.ts";

/** One leaf of the schema, under all its names. */
export interface Setting extends SettingFacts {
  /** `["limits", "steps"]` */
  readonly path: readonly string[];
  /** `limits.steps` */
  readonly key: string;
  /** `--limits-steps`; undefined for secrets. */
  readonly flag: string | undefined;
  /** `DAGUERRE_LIMITS_STEPS`, then aliases. */
  readonly variables: readonly string[];
  readonly kind: "text" | "number" | "boolean" | "list" | "keys";
  /** Values to choose from, if there are few. */
  readonly choices: readonly string[] | undefined;
  /** The rule for a value, such as "a whole number from 0 to 65535"; undefined if the schema says it by itself. */
  readonly mustBe: string | undefined;
  readonly default: unknown;
}

/** Every setting, in the order of the schema. */
export const SETTINGS: readonly Setting[] = leaves(configSchema, []);

function leaves(schema: z.ZodType, at: readonly string[]): Setting[] {
  const inner = unwrapped(schema);
  const facts = schema.meta() as SettingFacts | undefined;
  if (facts?.description === undefined) {
    if (!(inner instanceof z.ZodObject)) throw new Error(`setting ${at.join(".")} has no description`);
    return Object.entries(inner.shape).flatMap(([name, field]) => leaves(field as z.ZodType, [...at, name]));
  }
  const name = at.join("_");
  const list = inner instanceof z.ZodArray;
  return [
    {
      ...facts,
      path: at,
      key: at.join("."),
      flag: facts.secret ? undefined : `--${name.replaceAll("_", "-")}`,
      variables: [`DAGUERRE_${name.toUpperCase()}`, ...(facts.env ?? [])],
      kind:
        list && unwrapped(inner.element as z.ZodType) instanceof z.ZodObject
          ? "keys"
          : list
            ? "list"
            : inner instanceof z.ZodNumber
              ? "number"
              : inner instanceof z.ZodBoolean
                ? "boolean"
                : "text",
      choices: inner instanceof z.ZodEnum ? inner.options.map(String) : undefined,
      mustBe: ruleOf(inner),
      default: schema instanceof z.ZodDefault ? schema.def.defaultValue : undefined,
    },
  ];
}

function ruleOf(schema: z.ZodType): string | undefined {
  if (schema instanceof z.ZodBoolean) return "true or false";
  if (schema instanceof z.ZodEnum) return `one of ${schema.options.join(", ")}`;
  if (!(schema instanceof z.ZodNumber)) return undefined;
  const { minValue, maxValue } = schema;
  const isWhole = schema.format === "safeint";
  const least = minValue !== null && minValue > Number.MIN_SAFE_INTEGER ? minValue : undefined;
  const most = maxValue !== null && maxValue < Number.MAX_SAFE_INTEGER ? maxValue : undefined;
  const range = most === undefined ? ` of at least ${least}` : ` from ${least} to ${most}`;
  return `a ${isWhole ? "whole " : ""}number${least === undefined ? "" : range}`;
}

function unwrapped(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault || schema instanceof z.ZodOptional || schema instanceof z.ZodPrefault
    ? unwrapped(schema.unwrap() as z.ZodType)
    : schema;
}

/** `limits-steps` for commander's `limitsSteps`. */
export function flagName(camelCase: string): string {
  return camelCase.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

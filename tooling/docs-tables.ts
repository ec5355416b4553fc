/**
 * The parts of the documents that follow from schemas. Each stands between `<!-- name -->` and `<!-- /name -->`;
 * `npm run docs:tables` writes them.
 */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { SETTINGS } from "../cli/settings.ts";
import { generationFields } from "../src/engine/request.ts";
import { type Field, fieldsOf } from "../src/engine/request-fields.ts";
import { SCOPES } from "../transports/gate/auth.ts";
import { idsSchema, wireEventSchema } from "../transports/wire/events.ts";

/** By document: each generated part by its marker. */
const PARTS: Readonly<Record<string, Readonly<Record<string, () => string>>>> = {
  "README.md": {
    request: () => `\n${requestTable()}\n`,
    events: () => `\n${eventTable()}\n`,
  },
  "docs/configuration.md": {
    settings: () => `\n${settingsTable()}\n`,
    scopes: () => SCOPES.map((scope) => `\`${scope}\``).join(", "),
  },
};

export const DOCUMENTS = Object.keys(PARTS);

export const fileOf = (document: string): URL => new URL(`../${document}`, import.meta.url);

/**
 * A document as it stands, and as it would be with its parts generated anew.
 * @throws Error if a marker is missing
 */
export async function generated(document: string): Promise<{ readonly before: string; readonly after: string }> {
  const before = await readFile(fileOf(document), "utf8");
  let after = before;
  for (const [name, generate] of Object.entries(PARTS[document]!)) {
    const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
    const from = after.indexOf(begin);
    const to = after.indexOf(end);
    if (from < 0 || to < from) throw new Error(`${document} has no part between ${begin} and ${end}`);
    after = after.slice(0, from + begin.length) + generate() + after.slice(to);
  }
  return { before, after };
}

export function requestTable(schema: z.ZodObject = generationFields): string {
  const rows = [...fieldsOf(schema)].map(([name, field]) => {
    return [`\`${name}\``, field.meaning, valuesOf(field), field.usual];
  });
  return table(["field", "meaning", "values", "default"], rows);
}

function valuesOf({ kind, choices, range }: Field): string {
  if (kind === "boolean") return "`true`, `false`";
  return choices?.map((choice) => `\`${choice}\``).join(", ") ?? range;
}

export function eventTable(events: readonly z.ZodObject[] = wireEventSchema.options): string {
  const rows = events.map(({ shape, description = "" }) => {
    const { type, ...rest } = shape as Record<string, z.ZodType> & { readonly type: z.ZodLiteral<string> };
    const fields = Object.entries(rest).filter(([name]) => !(name in idsSchema.shape));
    return [`\`${type.value}\``, description, fields.map(([name, field]) => eventField(name, field)).join(", ")];
  });
  return table(["`type`", "meaning", "fields"], rows);
}

function eventField(name: string, field: z.ZodType): string {
  const values = field instanceof z.ZodEnum && field.options.map((value) => `\`${value}\``).join(", ");
  const remarks = [field.isOptional() && "optional", field.description, values].filter(Boolean);
  return `\`${name}\`${remarks.length === 0 ? "" : ` (${remarks.join("; ")})`}`;
}

function settingsTable(): string {
  const rows = SETTINGS.map(({ key, flag, variables, description, default: usual }) => {
    const names = [flag, ...variables].flatMap((name) => (name === undefined ? [] : `\`${name}\``)).join("<br>");
    return [`\`${key}\``, names, description.replaceAll("*", "\\*"), formatDefault(usual)];
  });
  return table(["setting", "flag, environment", "meaning", "default"], rows);
}

function table(head: readonly string[], rows: readonly (readonly (string | undefined)[])[]): string {
  const line = (cells: readonly (string | undefined)[]) =>
    `| ${cells.map((cell = "") => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function formatDefault(value: unknown): string {
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return "";
  return `\`${String(value)}\``;
}

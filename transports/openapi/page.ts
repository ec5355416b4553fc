/**
 * `GET /docs`: the OpenAPI document as one page, made here. No script, nothing from elsewhere: it can be read behind any
 * policy, printed, and searched with the browser's own search.
 */
import { createHash } from "node:crypto";
import type { Handler } from "hono";
import { html, raw } from "hono/html";
import { FixedFile } from "../http/fixed-file.ts";

type Json = Record<string, unknown>;

const STYLE = `
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-weight: 600; margin: 0; }
h2 { margin-top: 3rem; text-transform: capitalize; }
details { border-top: 1px solid var(--line); padding: .6rem 0; }
summary { cursor: pointer; }
code { font: .9em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.method { display: inline-block; min-width: 4.2em; font-weight: 600; text-transform: uppercase; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
`;
const STYLE_HASH = createHash("sha256").update(STYLE).digest("base64");

const HEADERS = {
  "Content-Type": "text/html; charset=utf-8",
  "Content-Security-Policy": `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
};

/** Answers with the page for the document that `openapiDocument` makes. It is made once: it takes some milliseconds. */
export function docsPage(document: () => Json): Handler {
  let file: Promise<FixedFile> | undefined;
  return async (c) => {
    file ??= page(document()).then((text) => FixedFile.of(new TextEncoder().encode(text), HEADERS));
    return (await file).answer(c);
  };
}

async function page(document: Json): Promise<string> {
  const { info, paths, components } = document as {
    info: { title: string; version: string; description: string };
    paths: Record<string, Record<string, Operation>>;
    components: { schemas: Record<string, Json> };
  };
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const tags = [...new Set(operations.flatMap(({ operation }) => operation.tags))];
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${info.title} ${info.version}</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<h1>${info.title} ${info.version}</h1>
<p>${info.description} The same for machines: <a href="openapi.json">openapi.json</a>.</p>
${tags.map(
  (tag) => html`<h2>${tag}</h2>
${operations.filter(({ operation }) => operation.tags.includes(tag)).map(route)}`,
)}
<h2>Schemas</h2>
${Object.entries(components.schemas).map(
  ([name, schema]) => html`<details id="${name}"><summary><code>${name}</code></summary>${fields(schema)}</details>
`,
)}
</body>
</html>
`;
  return String(await page);
}

interface Operation {
  readonly tags: string[];
  readonly summary: string;
  readonly parameters?: { name: string; in: string; description: string; required?: boolean }[];
  readonly requestBody?: { content: Record<string, { schema: Json }> };
  readonly responses: Record<string, { description: string; content?: Record<string, { schema: Json }> }>;
}

function route({ path, method, operation }: { path: string; method: string; operation: Operation }) {
  const { summary, parameters = [], requestBody, responses } = operation;
  return html`<details><summary><code><span class="method">${method}</span> ${path}</code> — ${summary}</summary>
${
  requestBody === undefined
    ? ""
    : html`<p>Body: ${Object.entries(requestBody.content).map(([type, { schema }]) => html`${linkTo(schema)} as <code>${type}</code>`)}</p>`
}
${
  parameters.length === 0
    ? ""
    : html`<div class="scroll"><table><tr><th>parameter</th><th>in</th><th>meaning</th></tr>${parameters.map(
        ({ name, in: where, description }) =>
          html`<tr><td><code>${name}</code></td><td>${where}</td><td>${description}</td></tr>`,
      )}</table></div>`
}
<div class="scroll"><table><tr><th>answer</th><th>meaning</th><th>body</th></tr>${Object.entries(responses).map(
    ([status, { description, content = {} }]) =>
      html`<tr><td>${status}</td><td>${description}</td><td>${Object.entries(content).map(
        ([type, { schema }]) => html`${linkTo(schema)} <code>${type}</code> `,
      )}</td></tr>`,
  )}</table></div>
</details>
`;
}

function linkTo(schema: Json) {
  const name = nameOf(schema);
  return name === undefined ? "" : html`<a href="#${name}">${name}</a>`;
}

function nameOf({ $ref }: Json): string | undefined {
  return typeof $ref === "string" ? $ref.split("/").at(-1) : undefined;
}

function fields(schema: Json) {
  const variants = (schema.oneOf ?? schema.anyOf) as Json[] | undefined;
  if (variants !== undefined) return html`${variants.map((variant) => table(variant))}`;
  return table(schema);
}

function table(schema: Json) {
  const { properties = {}, required = [] } = schema as { properties?: Record<string, Json>; required?: string[] };
  return html`<div class="scroll"><table><tr><th>field</th><th>type</th></tr>${Object.entries(properties).map(
    ([name, field]) =>
      html`<tr><td><code>${name}</code>${required.includes(name) ? " (required)" : ""}</td><td>${typeText(field)}${
        typeof field.description === "string" ? ` — ${field.description}` : ""
      }</td></tr>`,
  )}</table></div>`;
}

/** A type in words: `integer, 1 to 200`. */
function typeText(field: Json): string {
  const { type, enum: values, items, anyOf, oneOf, minimum, maximum, maxLength, multipleOf, $ref } = field;
  if (typeof $ref === "string") return nameOf(field) ?? "";
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(", ");
  const variants = (anyOf ?? oneOf) as Json[] | undefined;
  if (variants !== undefined) return variants.map(typeText).join(" or ");
  if (type === "array") return `list of ${typeText((items ?? {}) as Json)}`;
  const range =
    minimum !== undefined || maximum !== undefined
      ? `, ${minimum ?? "…"} to ${maximum ?? "…"}`
      : maxLength !== undefined
        ? `, at most ${maxLength} characters`
        : "";
  return `${String(type ?? "any")}${range}${multipleOf === undefined ? "" : `, a multiple of ${multipleOf}`}`;
}

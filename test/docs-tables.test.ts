import { describe, expect, it } from "vitest";
import { z } from "zod";
import { plainEventSchemas } from "../src/engine/events.ts";
import { generationFields } from "../src/engine/request.ts";
import { DOCUMENTS, eventTable, generated, requestTable } from "../tooling/docs-tables.ts";
import { wireEventSchema } from "../transports/wire/events.ts";

describe("tables of the documents", () => {
  it.each(DOCUMENTS)("%s is what `npm run docs:tables` writes", async (document) => {
    const { before, after } = await generated(document);
    expect(before).toBe(after);
  });

  it("a field of a request has a row, with its values and its default", () => {
    const fields = generationFields.extend({
      tiles: z.int().min(1).max(9).default(2).describe("tiles | of a picture"),
      spacing: z.enum(["wide", "narrow"]).optional().describe("distance of two tiles; default: the model's"),
    });
    const rows = requestTable(fields).split("\n");
    expect(rows).toHaveLength(2 + Object.keys(fields.shape).length);
    expect(rows.slice(-2)).toEqual([
      "| `tiles` | tiles \\| of a picture | 1 to 9 | 2 |",
      "| `spacing` | distance of two tiles | `wide`, `narrow` | the model's |",
    ]);
  });

  it("an event has a row, with its fields but for the ids that all have", () => {
    const waiting = z
      .object({ type: z.literal("waiting"), seconds: z.number().optional().describe("so far"), input_id: z.string() })
      .describe("nothing is done");
    expect(eventTable([waiting]).split("\n")[2]).toBe("| `waiting` | nothing is done | `seconds` (optional; so far) |");
  });
});

describe("events", () => {
  it("all have a description, in memory and on the wire", () => {
    for (const event of [...plainEventSchemas, ...wireEventSchema.options]) {
      expect(event.description, event.shape.type.value).toBeTruthy();
    }
  });
});

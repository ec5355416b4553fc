import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { HOLD_KINDS } from "../src/jobs/account.ts";
import { configSchema } from "./config-schema.ts";
import { memoryBound, memoryBounds, memoryTable } from "./memory-bound.ts";

it("is the sum of its parts, follows the settings, and is documented as it is", async () => {
  const usual = configSchema.parse({});
  const bounds = memoryBounds(usual);
  const held = HOLD_KINDS.reduce((sum, kind) => sum + bounds[kind], 0);
  expect(memoryBound(usual)).toBeGreaterThan(held);
  for (const name of [
    "bodies_bytes",
    "answers_bytes",
    "sessions_bytes",
    "waiting_bytes",
    "retained_bytes",
    "log_bytes",
  ] as const) {
    const more = configSchema.parse({ limits: { [name]: usual.limits[name] + 1000 } });
    // Each of the jobs that run has a log.
    expect(memoryBound(more), name).toBe(memoryBound(usual) + (name === "log_bytes" ? 13_000 : 1_000));
  }
  const document = await readFile(new URL("../docs/security.md", import.meta.url), "utf8");
  expect(document).toContain(memoryTable(usual));
});

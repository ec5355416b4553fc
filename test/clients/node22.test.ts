/**
 * Clients that need Node 22, unmodified, as child processes under Node 22; the server stays on this Node. They are a
 * package of their own, because only its readers need them: `npm ci --ignore-scripts --prefix test/clients`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../gradient-run.ts";
import { network, type Serving, serve } from "./serving.ts";

/** npm has Node under two kinds of names. */
const NODE_22 = ["node", "node-bin"]
  .map((name) => `node_modules/${name}-${process.platform}-${process.arch}/bin/node`)
  .map((file) => path.join(import.meta.dirname, file))
  .find((file) => existsSync(file));
const STEP_MS = 20;

describe.skipIf(NODE_22 === undefined)("under Node 22 (npm ci --ignore-scripts --prefix test/clients)", () => {
  let server: Serving;
  const children: ChildProcess[] = [];
  beforeAll(async () => {
    server = await serve(STEP_MS);
  });
  afterAll(async () => {
    for (const child of children) child.kill();
    await server.close();
  });

  function run(script: string, env: Record<string, string> = {}): ChildProcess {
    const child = spawn(NODE_22!, [path.join(import.meta.dirname, script)], {
      env: { ...process.env, SERVER_URL: server.url, ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.push(child);
    return child;
  }

  /** The JSON that a script prints at its end. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever the script says; the assertions say what it should
  async function said(script: string, env?: Record<string, string>): Promise<any> {
    const child = run(script, env);
    let text = "";
    child.stdout!.on("data", (part) => {
      text += part;
    });
    const [code] = await once(child, "close");
    expect(code, script).toBe(0);
    return JSON.parse(text);
  }

  it("openai 7 generates, edits and streams, names what is wrong, and leaves no run behind", async () => {
    expect(await said("openai.mjs")).toEqual({
      node: expect.stringMatching(/^22\./),
      one: [1, "png", 3, "32x32"],
      two: ["ff", "ff"],
      linked: "data:image/png;base64",
      streamed: [
        ["image_generation.partial_image", 0, "png"],
        ["image_generation.partial_image", 1, "png"],
        ["image_generation.completed", null, "png"],
      ],
      edited: "png",
      edits: ["image_edit.partial_image", "image_edit.completed"],
      refused: [
        ["NotFoundError", 404, "model"],
        ["BadRequestError", 400, "n"],
      ],
      failed: ["InternalServerError", 500, null],
    });
    await until(async () => (await server.busy()) === 0);
  });

  it("ai 7 with @ai-sdk/openai, @ai-sdk/openai-compatible and @ai-sdk/fal", async () => {
    expect(await said("ai.mjs", { FAL_MODEL: "fal-ai/flux/dev" })).toEqual({
      node: expect.stringMatching(/^22\./),
      openai: ["image/png", 3],
      several: { types: Array(3).fill("image/png"), warnings: [] },
      many: 9,
      edit: { types: ["image/png"], warnings: [] },
      // It takes no seed, and says so.
      compatible: { types: ["image/png"], warnings: ["unsupported"] },
      unknown: ["AI_APICallError", 404],
      fal: { types: ["image/jpeg", "image/jpeg"], warnings: [] },
      aborted: "AbortError",
    });
    await until(async () => (await server.busy()) === 0);
  });

  it("@fal-ai/client through @fal-ai/server-proxy streams as it goes, and submits to the queue", async () => {
    const { spread, ...rest } = await said("fal-proxy.mjs");
    expect(rest).toEqual({
      types: ["queued", "progress", "preview", "result"],
      result: "result",
      status: "COMPLETED",
      queued: 1,
    });
    // Ten steps.
    expect(spread).toBeGreaterThan(5 * STEP_MS);
  });

  it("eventsource 5 comes back to its job after a cut, and stays away at the end", async () => {
    const before = await server.jobs();
    const between = await network(server.url);
    const env = { SERVER_URL: between.url, ADDRESS: "/stream?prompt=x&num_inference_steps=190&preview_every=50" };
    const lines: { id?: string; type?: string; closed?: number }[] = [];
    createInterface(run("eventsource.mjs", env).stdout!).on("line", (line) => lines.push(JSON.parse(line)));
    await until(() => lines.length > 5, 20_000);
    between.cut();
    await until(() => lines.some(({ closed }) => closed !== undefined), 60_000);
    const events = lines.filter(({ id }) => id !== undefined);
    const numbers = events.map(({ id }) => Number(id!.split(":")[1]));
    expect(new Set(events.map(({ id }) => id!.split(":")[0])).size).toBe(1);
    expect(numbers).toEqual([...new Set(numbers)].sort((one, other) => one - other));
    expect(events.at(-1)!.type).toBe("result");
    expect(lines.at(-1)).toEqual({ closed: 204 });
    await sleep(500);
    expect(await server.jobs()).toBe(before + 1);
    await between.close();
  });
});

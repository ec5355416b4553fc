/**
 * Every example is run as its README says, on what the build made, and must do what it promises.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { decode } from "@msgpack/msgpack";
import { chromium, type Page } from "playwright-core";
import sharp from "sharp";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const CHROMIUM = "/usr/bin/chromium";

/** A picture on a software GPU that something else is using too. */
const SOON = { timeout: 90_000 };

const open: ChildProcess[] = [];
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "daguerre-examples-"));
  if (!existsSync(join(root, "dist/index.js"))) await run("npm", ["run", "build"], { cwd: root });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

afterEach(async () => {
  await Promise.all(
    open.splice(0).map((child) => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      return child.exitCode === null ? ended : undefined;
    }),
  );
});

async function inBrowser(url: string, use: (page: Page) => Promise<void>): Promise<void> {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
  try {
    const page = await browser.newPage();
    await page.goto(url);
    await use(page);
  } finally {
    await browser.close();
  }
}

/** Starts a server and waits for the address that it prints. */
function serving(...args: string[]): Promise<string> {
  const child = spawn(process.execPath, args, { cwd: root, env: { ...process.env, PORT: "0" } });
  open.push(child);
  let said = "";
  return new Promise((resolve, reject) => {
    const listen = (chunk: Buffer) => {
      said += chunk;
      const address = /https?:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0];
      if (address !== undefined) resolve(address);
    };
    child.stdout.on("data", listen);
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk;
    });
    child.once("exit", () => reject(new Error(`${args.join(" ")} ended: ${said}`)));
  });
}

// biome-ignore lint/suspicious/noExplicitAny: events of whatever kind; the assertions say what they hold
type Event = any;

async function streamed(url: string, input: unknown): Promise<Event[]> {
  const response = await fetch(url, { method: "POST", body: JSON.stringify(input) });
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  const text = await response.text();
  return [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!));
}

async function side(picture: Buffer | string): Promise<number | undefined> {
  const bytes = typeof picture === "string" ? Buffer.from(picture.split(",")[1]!, "base64") : picture;
  return (await sharp(bytes).metadata()).width;
}

describe("sse-service", () => {
  it("draws in passes, each finer than the last", async () => {
    const url = await serving("examples/sse-service/server.mjs");
    const events = await streamed(`${url}/stream`, { zoom: 1, size: 64 });
    // One that the next has overtaken on its way out is left away, so how many arrive is not said.
    const steps = events.filter(({ type }) => type === "preview").map(({ step }) => step);
    expect(steps.length).toBeGreaterThan(0);
    expect(steps).toEqual([...new Set(steps)].sort());
    const result = events.at(-1);
    expect(result.type).toBe("result");
    expect(await side(result.image.url)).toBe(64);
    // The middle of the set, which stays, is black; the corner, which leaves at once, is not.
    const { data, info } = await sharp(Buffer.from(result.image.url.split(",")[1], "base64"))
      .raw()
      .toBuffer({ resolveWithObject: true });
    const red = (x: number, y: number) => data[(y * info.width + x) * info.channels]!;
    expect(red(36, 32)).toBeLessThan(40);
    expect(red(1, 1)).toBeGreaterThan(200);
    const refused = await fetch(`${url}/stream`, { method: "POST", body: '{"zoom": 0}' });
    expect(refused.status).toBe(422);
    expect(await refused.json()).toMatchObject({ detail: [{ loc: ["body", "zoom"] }] });
  });
});

describe("transcription", () => {
  it("reads back what was said, word by word", async () => {
    const url = await serving("examples/transcription/server.mjs");
    const words = "the picture is already there in 1839";
    const { stdout } = await run(process.execPath, ["examples/transcription/say.mjs", words], {
      cwd: root,
      maxBuffer: 1e8,
    });
    const events = await streamed(`${url}/transcribe`, JSON.parse(stdout));
    expect(events.filter(({ type }) => type === "word").map(({ text }) => text)).toEqual(words.split(" "));
    expect(events.at(-1)).toMatchObject({ type: "result", text: words });
    const starts = events.filter(({ type }) => type === "word").map(({ start }) => start);
    expect(starts).toEqual([...starts].sort((a, b) => a - b));
  });
});

describe.each(["node-http", "express", "fastify", "hono"])("embed/%s", (name) => {
  it("makes pictures under a path, and leaves the rest as it was", async () => {
    const url = await serving(`examples/embed/${name}.mjs`);
    expect(await (await fetch(url)).text()).toMatch(/was here before/);
    const events = await streamed(`${url}/pictures/stream`, { prompt: "a lake", preview_every: 2, seed: 1 });
    expect(events.some(({ type }) => type === "preview")).toBe(true);
    expect(await side(events.at(-1).image.url)).toBe(128);
    const page = await fetch(`${url}/pictures`, { headers: { accept: "text/html" } });
    expect(new URL(page.url).pathname).toBe("/pictures/");
    const script = /src="(playground\/main[^"]+)"/.exec(await page.text())?.[1];
    expect((await fetch(new URL(script!, page.url))).status).toBe(200);
    const session = new WebSocket(`${url.replace("http", "ws")}/pictures/realtime`);
    const result = new Promise((resolve, reject) => {
      session.on("error", reject);
      session.on("message", (data: Buffer, binary) => {
        const event: Event = binary ? decode(data) : {};
        if (event.type === "result") resolve(event.prompt);
      });
    });
    session.on("open", () => session.send('{"prompt":"a lake","num_inference_steps":1}'));
    expect(await result).toBe("a lake");
    session.close();
  });
});

describe("clients of a server", { timeout: 240_000 }, () => {
  const STEPS = Array.from({ length: 7 }, (_, index) => `step-${index + 1}.jpg`);

  it.each([
    ["curl", "sh", "examples/curl/develop.sh"],
    ["python", "python3", "examples/python/develop.py"],
  ])("%s: a file for every preview", async (name, command, script) => {
    const url = await serving("dist/cli.js", "serve");
    const into = join(folder, name);
    const { stdout } = await run(command, [script, "a lake at dawn, “calm”", into], {
      cwd: root,
      env: { ...process.env, DAGUERRE: url },
    });
    expect(stdout.trim().split("\n").length).toBe(8);
    expect((await readdir(into)).sort()).toEqual(["result.jpg", ...STEPS].sort());
    for (const file of ["step-1.jpg", "result.jpg"]) expect(await side(await readFile(join(into, file)))).toBe(128);
  });

  it.skipIf(!existsSync(CHROMIUM))("eventsource: a picture on a page, asked for once", async () => {
    const url = await serving("examples/eventsource/server.mjs");
    await inBrowser(url, async (page) => {
      let streams = 0;
      page.on("request", (request) => {
        if (request.url().includes("/stream")) streams++;
      });
      await page.click("button");
      await page
        .locator("[role=status]")
        .filter({ hasText: /^seed \d+$/ })
        .waitFor(SOON);
      expect(await page.evaluate("document.querySelector('img').naturalWidth")).toBe(128);
      // An EventSource would be back within three seconds.
      await page.waitForTimeout(4_000);
      expect(streams).toBe(1);
    });
  });

  it.skipIf(!existsSync(CHROMIUM))("realtime-canvas: pictures while one draws, the last drawing last", async () => {
    const url = await serving("examples/realtime-canvas/server.mjs");
    await inBrowser(url, async (page) => {
      const drawings: unknown[] = [];
      page.on("websocket", (socket) =>
        socket.on("framesent", ({ payload }) => {
          const { input_id } = decode(payload as Buffer) as { input_id?: unknown };
          if (input_id !== undefined) drawings.push(input_id);
        }),
      );
      await page.reload();
      const status = page.locator("[role=status]");
      await status.filter({ hasText: /^ready$/ }).waitFor(SOON);
      const box = (await page.locator("canvas").boundingBox())!;
      await page.mouse.move(box.x + 20, box.y + 200);
      await page.mouse.down();
      for (let x = 20; x < 360; x += 10) {
        await page.mouse.move(box.x + x, box.y + 200 - (x % 60));
        await page.waitForTimeout(20);
      }
      await page.mouse.up();
      const upToDate = async () => (await status.textContent()) === `picture ${drawings.at(-1)}`;
      await expect.poll(upToDate, SOON).toBe(true);
      expect(drawings.length).toBeGreaterThan(2);
      expect(await page.evaluate("document.querySelector('img').naturalWidth")).toBe(128);
    });
  });
});

/**
 * The page in a real browser (Debian's Chromium), before a real server with the built-in model.
 *
 * Skipped where there is no Chromium. The page is built here, from its sources.
 */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Hono } from "hono";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { chromium } from "playwright-core";
import { build } from "tsdown";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Runtime } from "../src/engine/contract.ts";
import type { RunEvent } from "../src/engine/events.ts";
import type { GenerationRequest } from "../src/engine/request.ts";
import { createRuntime } from "../src/engine/runtime.ts";
import { encodePicture } from "../src/image/encode.ts";
import type { Run } from "../src/jobs/run.ts";
import { playgroundBuild } from "../tooling/playground-page.ts";
import { createApp } from "../transports/app.ts";
import { createAuthenticator } from "../transports/gate/auth.ts";
import { type Listening, listen } from "../transports/http/listen.ts";
import { playground } from "../transports/playground.ts";
import { CHROMIUM, CHROMIUM_FLAGS } from "./chromium.ts";
import { gradient, until } from "./gradient-run.ts";

/** A picture on a software GPU that something else is using too. */
const PICTURE = { timeout: 90_000 };

/** A request to the server, and what became of it. */
interface Asked {
  readonly request: GenerationRequest;
  steps: number;
  outcome: "running" | "finished" | "stopped";
}

if (!existsSync(CHROMIUM)) console.warn(`playground.test.ts is skipped: there is no ${CHROMIUM}`);

describe.skipIf(!existsSync(CHROMIUM))("the playground", { timeout: 300_000 }, () => {
  let folder: string;
  /** The page, as the build makes it. */
  let built: URL;
  let runtime: Runtime;
  let browser: Browser;
  let server: Listening;
  let context: BrowserContext;
  let page: Page;
  /** Takes the place of the model where a test needs a server that fails. */
  let instead: Run<GenerationRequest, RunEvent> | undefined;
  /** The server's facts about a few-step variant. */
  let few_step: object | undefined;
  const asked: Asked[] = [];
  const strangers: string[] = [];
  const complaints: string[] = [];

  const run: Run<GenerationRequest, RunEvent> = async function* ({ image, ...input }, runContext) {
    const entry: Asked = { request: { image, ...input }, steps: 0, outcome: "running" };
    asked.push(entry);
    try {
      if (instead !== undefined) {
        yield* instead({ image, ...input }, runContext);
        entry.outcome = "finished";
        return;
      }
      const { signal } = runContext;
      const events =
        image === undefined
          ? runtime.textToImage(input, { signal })
          : runtime.imageToImage({ ...input, image }, { signal });
      for await (const event of events) {
        if (event.type === "progress") entry.steps = event.step;
        yield event;
      }
      entry.outcome = "finished";
    } finally {
      if (entry.outcome === "running") entry.outcome = "stopped";
    }
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "daguerre-page-"));
    built = pathToFileURL(join(folder, "page/"));
    await build({ ...playgroundBuild(join(folder, "page")), config: false, logLevel: "error" });
    runtime = await createRuntime();
    // The first picture compiles the shaders, which is not what is tested here.
    for await (const _ of runtime.textToImage({ prompt: "a lake", num_inference_steps: 2 }));
    const { defaultWidth, defaultHeight, defaultSteps, defaultGuidanceScale, name } = runtime.model;
    const defaults = {
      width: defaultWidth,
      height: defaultHeight,
      num_inference_steps: defaultSteps,
      guidance_scale: defaultGuidanceScale,
    };
    const app = new Hono()
      .route("/", playground(built))
      .route("/", createApp({ run, health: () => ({ model: name, adapter: runtime.adapter, defaults, few_step }) }));
    server = await listen(app, 0, "127.0.0.1");
    browser = await chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_FLAGS });
  }, 300_000);

  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await runtime?.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function visit(options: Parameters<Browser["newContext"]>[0] = {}): Promise<void> {
    context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
    context.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${server.url}/`) && !/^(data|blob):/.test(url)) strangers.push(url);
    });
    page = await context.newPage();
    page.on("console", (message) => {
      // Chromium reports an answer of 4xx by itself; tests that cause one look at the page instead.
      const { url } = message.location();
      if (message.type() === "error" && !/Failed to load resource/.test(message.text()))
        complaints.push(`${message.text()} ${url}`);
    });
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(server.url);
    await expectText("#machine .model", /landscapes/);
  }

  beforeEach(async () => {
    asked.length = strangers.length = complaints.length = 0;
    instead = few_step = undefined;
    await visit();
  });

  afterEach(async () => {
    await context.close();
    expect(strangers, "requests that left the origin").toEqual([]);
    expect(complaints, "errors on the console").toEqual([]);
  });

  async function expectText(selector: string, text: RegExp): Promise<void> {
    await page
      .locator(selector)
      .filter({ hasText: text })
      .waitFor({ state: "attached", ...PICTURE });
  }
  const finished = () => expectText("#strip > :last-child", /^Final$/);
  const value = (selector: string) => page.locator(selector).inputValue();
  const told = async (selector: string) => (await page.locator(selector).textContent()) ?? "";
  const focused = () => page.evaluate<string>("document.activeElement?.id");

  const busy = async (yes: boolean) => {
    await page.locator(yes ? "body.busy" : "body:not(.busy)").waitFor(PICTURE);
  };

  /**
   * Waits until the page has asked for a picture since `before` requests, has had the answer to the newest, and asks for
   * nothing more: strokes are sent some time after they were drawn, and a picture may be finished before anybody looks.
   */
  async function answered(before: number): Promise<void> {
    const QUIET_MS = 600;
    let count = before;
    let since = performance.now();
    await until(() => {
      const finished = asked.length > before && asked.at(-1)?.outcome === "finished";
      if (asked.length !== count || !finished) since = performance.now();
      count = asked.length;
      return performance.now() - since > QUIET_MS;
    }, PICTURE.timeout);
    await busy(false);
    await finished();
  }

  /** Mean colour, and how far the darkest and the lightest pixel are apart, of the picture on the plate. */
  function plate() {
    return page.evaluate(async () => {
      // biome-ignore lint/suspicious/noExplicitAny: the browser's own objects, which are not among the types of this folder
      const { document, OffscreenCanvas } = globalThis as any;
      const picture = document.querySelector("#pictures img:last-child");
      const canvas = new OffscreenCanvas(picture.naturalWidth, picture.naturalHeight);
      const drawing = canvas.getContext("2d");
      drawing.drawImage(picture, 0, 0);
      const { data } = drawing.getImageData(0, 0, canvas.width, canvas.height);
      const sum = [0, 0, 0];
      let low = 255;
      let high = 0;
      for (let i = 0; i < data.length; i += 4) {
        for (let c = 0; c < 3; c++) sum[c] += data[i + c];
        low = Math.min(low, data[i + 1]);
        high = Math.max(high, data[i + 1]);
      }
      const [red, green, blue] = sum.map((total: number) => total / (data.length / 4)) as [number, number, number];
      return { width: canvas.width as number, height: canvas.height as number, red, green, blue, range: high - low };
    });
  }

  it("develops a picture in place", async () => {
    await page.fill("#prompt", "a sailboat on a calm sea at dawn");
    await page.fill("#seed", "5");
    // Watched from within: a fast machine is done before a question from here has an answer.
    const progress = page.evaluate(async () => {
      // biome-ignore lint/suspicious/noExplicitAny: the browser's own objects, which are not among the types of this folder
      const { document, MutationObserver } = globalThis as any;
      const bar = document.querySelector("#progress");
      const seen: number[] = [];
      await new Promise<void>((resolve) => {
        const observer = new MutationObserver(() => {
          if (bar.classList.contains("running")) seen.push(Number(bar.getAttribute("aria-valuenow")));
          else if (seen.length > 0) resolve();
        });
        observer.observe(bar, { attributes: true });
      });
      return seen;
    });
    await page.click("#generate");
    await page.locator("#strip > :nth-child(3)").waitFor(PICTURE);
    await finished();
    const between = (await progress).filter((percent) => percent > 0 && percent < 100);
    expect(between.length).toBeGreaterThan(2);
    expect(between).toEqual([...between].sort((a, b) => a - b));

    // Seven previews and the picture, of eight steps.
    expect(await page.locator("#strip > *").count()).toBe(8);
    expect(await told("#figure-step")).toBe("8 of 8");
    expect(await told("#figure-seed")).toBe("5");
    const first = Number.parseFloat(await told("#figure-first"));
    expect(first).toBeGreaterThan(0);
    expect(first).toBeLessThan(Number.parseFloat(await told("#figure-total")));
    await expectText("#said", /^Finished in/);
    const picture = await plate();
    expect(picture).toMatchObject({ width: 128, height: 128 });
    expect(picture.range).toBeGreaterThan(40);
    expect(asked.map(({ request }) => request.output_format)).toEqual(["png"]);

    await page.locator("#strip > :nth-child(1)").click();
    await page.locator("#compare").waitFor();
    expect(await told("#before-tag")).toBe("Step 1");
    await page.keyboard.press("Escape");
    await page.locator("#compare").waitFor({ state: "hidden" });

    const download = page.waitForEvent("download");
    await page.click("#save");
    expect((await download).suggestedFilename()).toBe("daguerre-5.png");
  });

  /** Drops a file on the page, as a browser tells of it. */
  async function drop(bytes: Uint8Array): Promise<void> {
    const base64 = Buffer.from(bytes).toString("base64");
    await page.evaluate((text) => {
      // biome-ignore lint/suspicious/noExplicitAny: the browser's own objects, which are not among the types of this folder
      const { document, DataTransfer, DragEvent, File } = globalThis as any;
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0))], "picture"));
      for (const type of ["dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
      }
    }, base64);
  }

  it("takes over the settings of a picture that is dropped on it, its own or another program's", async () => {
    await page.fill("#prompt", "northern lights, a lake");
    await page.fill("#seed", "77");
    await page.fill("#width", "64");
    await page.fill("#height", "72");
    await page.locator("#steps").fill("3");
    await page.locator("#negative-part summary").click();
    await page.fill("#negative", "fog");
    await page.click("#generate");
    await finished();
    const first = await plate();
    const download = page.waitForEvent("download");
    await page.click("#save");
    const own = await readFile(await (await download).path());

    await page.reload();
    await expectText("#machine .model", /landscapes/);
    await drop(own);
    await expectText("#carried-words", /scheduler/);
    const fields = ["#prompt", "#seed", "#width", "#height", "#steps", "#negative"];
    expect(await Promise.all(fields.map(value))).toEqual(["northern lights, a lake", "77", "64", "72", "3", "fog"]);
    await page.click("#generate");
    await finished();
    expect(await plate()).toEqual(first);
    expect(asked.at(-1)!.request).toMatchObject({
      guidance_scale: asked[0]!.request.guidance_scale ?? expect.anything(),
    });

    const infotext =
      "a castle\nSteps: 4, Sampler: Euler a, Schedule type: Karras, CFG scale: 2.7, Seed: 9, Size: 64x64, Clip skip: 2";
    await drop((await encodePicture(gradient(16, 1), { format: "jpeg", infotext })).bytes);
    await expectText("#carried-words", /Euler a.*karras.*clip skip 1/);
    expect(await value("#guidance")).toBe("2.7");
    expect(await value("#negative")).toBe("");
    await page.locator("#carried-out").click();
    await page.locator("#carried").waitFor({ state: "hidden" });
    await page.click("#generate");
    await finished();
    expect(asked.at(-1)!.request).toMatchObject({
      prompt: "a castle",
      num_inference_steps: 4,
      guidance_scale: 2.7,
      seed: 9,
    });
    expect(asked.at(-1)!.request.scheduler).toBeUndefined();

    await drop((await encodePicture(gradient(16, 1), { format: "png" })).bytes);
    await expectText("#alert", /^No settings stand in this file\.$/);
    expect(await value("#prompt")).toBe("a castle");
  });

  it("cancels, on the page and on the server", async () => {
    await page.fill("#prompt", "the mountains at night");
    await page.locator("#steps").fill("50");
    await page.click("#generate");
    await page.locator("#strip > :nth-child(1)").waitFor(PICTURE);
    await page.click("#cancel");
    await expectText("#figure-step", /^cancelled$/);
    await until(() => asked[0]?.outcome === "stopped", 20_000);
    expect(asked[0]?.steps).toBeLessThan(50);
    expect(await page.locator("#cancel").isDisabled()).toBe(true);
    expect(await page.locator("#strip").textContent()).not.toContain("Final");
    expect(await told("#alert")).toBe("");
  });

  it("makes pictures from strokes while one paints, the newest last", async () => {
    await page.check("input[value=canvas]");
    // First of all, because each change while one paints asks for a picture.
    await page.locator("#strength").fill("0.3");
    await page.fill("#prompt", "the sea");
    const means: number[] = [];
    for (const colour of ["Night", "Snow"]) {
      const before = asked.length;
      await cover(colour);
      await answered(before);
      const { red, green, blue } = await plate();
      means.push((red + green + blue) / 3);
    }
    // Nobody pressed Generate; what is painted is what is seen.
    expect(asked.length).toBeGreaterThanOrEqual(2);
    expect(asked.every(({ request }) => request.image !== undefined && request.strength === 0.3)).toBe(true);
    expect(new Set(asked.map(({ request }) => request.seed)).size).toBe(1);
    expect(asked.at(-1)?.outcome).toBe("finished");
    expect(means[1]! - means[0]!).toBeGreaterThan(50);

    const before = asked.length;
    await page.click("#undo");
    await answered(before);
    const { red, green, blue } = await plate();
    expect(means[1]! - (red + green + blue) / 3).toBeGreaterThan(50);
  });

  it("says in plain words what is wrong with a field, at the field", async () => {
    await page.click("#generate");
    await expectText("[data-fault=prompt]", /Write what the picture should show/);
    expect(await focused()).toBe("prompt");
    expect(asked).toEqual([]);

    await page.fill("#prompt", "a lake");
    expect(await told("[data-fault=prompt]")).toBe("");
    await page.fill("#width", "100");
    await page.fill("#height", "4000");
    await page.click("#generate");
    await expectText("[data-fault=width]", /^The width must be a multiple of 8\.$/);
    await expectText("[data-fault=height]", /^The height can be 2048 at most\.$/);
    expect(await page.getAttribute("#width", "aria-invalid")).toBe("true");
    expect(await page.getAttribute("#width", "aria-describedby")).toBe("fault-width");
    expect(await focused()).toBe("width");

    await page.fill("#width", "64");
    await page.fill("#height", "64");
    await page.click("#generate");
    await finished();
    expect(await plate()).toMatchObject({ width: 64, height: 64 });
    expect(await told("[data-fault=width]")).toBe("");
  });

  it("shows a server that fails, is busy, or is gone", async () => {
    await page.fill("#prompt", "a forest");
    instead = async function* () {
      yield { type: "progress", step: 1, steps: 8, progress: 0.125, elapsed_ms: 1 };
      throw new Error("a shader at /secret/path");
    };
    await page.click("#generate");
    await expectText("#alert", /^The server could not finish this picture\. Its log says more\.$/);
    expect(await page.locator("#cancel").isDisabled()).toBe(true);

    instead = () => {
      throw Object.assign(new Error("The queue is full"), { status: 503, retryAfter: 7 });
    };
    await page.click("#generate");
    await expectText("#alert", /^The server is busy\. Try again in 7 seconds\.$/);

    await context.setOffline(true);
    await page.click("#generate");
    await expectText("#alert", /connection to the server broke off/);
    await context.setOffline(false);
    instead = undefined;
    await page.click("#generate");
    await finished();
    expect(await told("#alert")).toBe("");
  });

  /** Paints the whole canvas in one colour, in one stroke. */
  async function cover(colour: string): Promise<void> {
    await page.locator(`#swatches label[title=${colour}]`).click();
    await page.locator("#brush").fill("120");
    const box = (await page.locator("#canvas").boundingBox())!;
    await page.mouse.move(box.x + 5, box.y + 5);
    await page.mouse.down();
    for (let row = 0; row <= 6; row++) {
      const y = box.y + 5 + ((box.height - 10) * row) / 6;
      await page.mouse.move(box.x + (row % 2 === 0 ? box.width - 5 : 5), y, { steps: 6 });
      await page.mouse.move(box.x + (row % 2 === 0 ? box.width - 5 : 5), y + box.height / 7);
    }
    await page.mouse.up();
  }

  describe("over the WebSocket", () => {
    const frames: { sent: number; received: number; posts: number } = { sent: 0, received: 0, posts: 0 };

    beforeEach(async () => {
      frames.sent = frames.received = frames.posts = 0;
      page.on("websocket", (socket) => {
        if (new URL(socket.url()).host !== new URL(server.url).host) strangers.push(socket.url());
        socket.on("framesent", () => frames.sent++);
        socket.on("framereceived", () => frames.received++);
      });
      page.on("request", (request) => {
        if (request.method() === "POST") frames.posts++;
      });
      await page.check("input[value=realtime]");
    });
    afterEach(() => expect(frames.posts, "requests that did not take the WebSocket").toBe(0));

    it("makes pictures while one types, the newest last", async () => {
      await page.locator("#prompt").pressSequentially("a lighthouse at sunset", { delay: 90 });
      await until(() => asked.at(-1)?.outcome === "finished", PICTURE.timeout);
      await page.locator("#prompt").pressSequentially(" over the sea", { delay: 90 });
      await until(() => asked.at(-1)?.request.prompt.endsWith("sea") === true, PICTURE.timeout);
      await busy(false);
      await finished();
      expect(asked.at(-1)).toMatchObject({
        outcome: "finished",
        request: { prompt: "a lighthouse at sunset over the sea" },
      });
      // One seed for all of them: only the words change the picture.
      expect(new Set(asked.map(({ request }) => request.seed)).size).toBe(1);
      expect(await page.locator("#pictures img").last().getAttribute("src")).toMatch(/^blob:/);
      expect(await plate()).toMatchObject({ width: 128, height: 128 });
      expect(frames.received).toBeGreaterThan(8);
    });

    it("hurries while one types or paints, where the model can: by hand, and with steps chosen, it does not", async () => {
      few_step = { num_inference_steps: 4, guidance_scale: 1 };
      instead = async function* ({ prompt }) {
        yield { type: "progress", step: 1, steps: 1, progress: 1, elapsed_ms: 1 };
        yield { type: "result", pictures: [gradient(64, 1)], seed: 1, prompt, timings: {} };
      };
      await page.reload();
      await expectText("#machine .model", /landscapes/);
      await page.check("input[value=realtime]");
      const hurried = async (ask: () => Promise<unknown>) => {
        const before = asked.length;
        await ask();
        await answered(before);
        return asked.at(-1)!.request.few_step;
      };
      expect(await hurried(() => page.locator("#prompt").pressSequentially("the sea", { delay: 90 }))).toBe(true);
      expect(await hurried(() => page.click("#generate"))).toBe(false);
      await page.check("input[value=canvas]");
      expect(await hurried(() => cover("Night"))).toBe(true);
      await page.locator("#steps").fill("9");
      expect(await hurried(() => cover("Snow"))).toBe(false);
    });

    it("makes pictures from strokes while one paints", async () => {
      await page.check("input[value=canvas]");
      await page.fill("#prompt", "the sea");
      await page.locator("#strength").fill("0.3");
      const means: number[] = [];
      for (const colour of ["Night", "Snow"]) {
        const before = asked.length;
        await cover(colour);
        await answered(before);
        const { red, green, blue } = await plate();
        means.push((red + green + blue) / 3);
      }
      expect(asked.every(({ request }) => request.image !== undefined)).toBe(true);
      // More was sent than was computed: what is overtaken while it waits is dropped.
      expect(frames.sent).toBeGreaterThanOrEqual(asked.length);
      expect(means[1]! - means[0]!).toBeGreaterThan(50);
    });

    it("cancels, and says what is wrong with a field", async () => {
      await page.fill("#prompt", "the mountains at night");
      await page.locator("#steps").fill("50");
      await page.click("#generate");
      await page.locator("#strip > :nth-child(1)").waitFor(PICTURE);
      await page.keyboard.press("Escape");
      await expectText("#figure-step", /^cancelled$/);
      await until(() => asked.every(({ outcome }) => outcome !== "running"), 20_000);
      expect(asked.at(-1)?.outcome).toBe("stopped");

      await page.fill("#width", "100");
      await page.click("#generate");
      await expectText("[data-fault=width]", /^The width must be a multiple of 8\.$/);
    });
  });

  it.each([
    ["stream", "nobody"],
    ["realtime", "nobody"],
    // Its second token must be for the subject of its first.
    ["realtime", "everybody"],
  ])("goes on where a broken connection (%s) left off, where a key is asked of %s", async (transport, whom) => {
    const authenticator = createAuthenticator({
      keys: [{ name: "page", key: "open-sesame" }],
      tokenSecret: "0123456789abcdef0123456789abcdef",
    });
    const guarded = new Hono()
      .route("/", playground(built))
      .route("/", createApp({ run, health: () => ({ model: "landscapes" }), gate: { authenticator } }));
    const keyed = whom === "nobody" ? undefined : await listen(guarded, 0, "127.0.0.1");
    if (keyed !== undefined) await page.addInitScript('sessionStorage.setItem("daguerre-key", "open-sesame")');
    const sockets = new Set<net.Socket>();
    const cable = net.createServer((near) => {
      const far = net.connect((keyed ?? server).port, "127.0.0.1");
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(one);
        one.pipe(other);
        one.on("error", () => other.destroy());
        one.on("close", () => sockets.delete(one));
      }
    });
    cable.listen(0, "127.0.0.1");
    await once(cable, "listening");
    try {
      const address = `http://127.0.0.1:${(cable.address() as net.AddressInfo).port}`;
      await page.goto(address);
      await page.fill("#prompt", "a lake at dawn");
      await page.locator("#steps").fill("12");
      await page.check(`input[value=${transport}]`);
      await page.click("#generate");
      await page.locator("#strip > :nth-child(2)").waitFor(PICTURE);
      for (const socket of sockets) socket.destroy();
      await finished();
      expect(asked.length).toBe(1);
      const names = await page.locator("#strip > *").allTextContents();
      expect(names).toEqual([...new Set(names)]);
      expect(names.length).toBeGreaterThan(6);
      expect(await told("#alert")).toBe("");
      strangers.splice(0, strangers.length, ...strangers.filter((url) => !url.startsWith(address)));
    } finally {
      for (const socket of sockets) socket.destroy();
      cable.close();
      await keyed?.close();
    }
  });

  it("asks for a key where the server wants one", async () => {
    const authenticator = createAuthenticator({ keys: [{ name: "page", key: "open-sesame" }] });
    const guarded = new Hono()
      .route("/", playground(built))
      .route("/", createApp({ run, health: () => ({ model: "landscapes" }), gate: { authenticator } }));
    const other = await listen(guarded, 0, "127.0.0.1");
    try {
      await page.goto(other.url);
      strangers.length = 0;
      await page.fill("#prompt", "a lake");
      await page.click("#generate");
      await expectText("[data-fault=key]", /^This server wants a key\./);
      expect(await focused()).toBe("key");
      await page.keyboard.type("open-sesame");
      await page.keyboard.press("Enter");
      await finished();
      expect(asked.length).toBe(1);
      strangers.splice(0, strangers.length, ...strangers.filter((url) => !url.startsWith(other.url)));
    } finally {
      await other.close();
    }
  });

  it("works with the keyboard alone", async () => {
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    expect(await focused()).toBe("prompt");
    await page.keyboard.type("a windmill on green hills");
    await page.keyboard.press("Enter");
    await finished();
    expect(asked[0]?.request.prompt).toBe("a windmill on green hills");

    // On to Generate, the ideas and the sliders, in the order in which they are seen.
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("generate");
    for (let i = 0; i < 12 && (await focused()) !== "steps"; i++) await page.keyboard.press("Tab");
    expect(await focused()).toBe("steps");
    await page.keyboard.press("ArrowLeft");
    expect(await value("#steps")).toBe("7");
    for (let i = 0; i < 12 && !(await page.evaluate<boolean>("document.activeElement?.role === 'option'")); i++) {
      await page.keyboard.press("Tab");
    }
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await expectText("#before-tag", /^Step 2$/);

    // Painting.
    await page.locator("input[value=words]").focus();
    await page.keyboard.press("ArrowRight");
    expect(await page.isChecked("input[value=canvas]")).toBe(true);
    for (let i = 0; i < 40 && (await focused()) !== "canvas"; i++) await page.keyboard.press("Tab");
    expect(await focused()).toBe("canvas");
    asked.length = 0;
    await page.keyboard.down("Space");
    for (let i = 0; i < 5; i++) await page.keyboard.press("ArrowRight");
    await page.keyboard.up("Space");
    await until(() => asked.at(-1)?.outcome === "finished", PICTURE.timeout);
    expect(asked[0]?.request.image?.byteLength).toBeGreaterThan(100);
    await page.keyboard.press("Control+z");
    expect(await page.locator("#undo").isDisabled()).toBe(true);

    await page.locator("#steps").fill("50");
    await page.locator("#prompt").focus();
    await page.keyboard.press("Enter");
    await busy(true);
    await page.keyboard.press("Escape");
    await expectText("#figure-step", /^cancelled$/);
  });

  it("fits a narrow phone, and keeps the chosen appearance", async () => {
    await context.close();
    await visit({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, colorScheme: "dark" });
    const wide = () => page.evaluate<number>("document.documentElement.scrollWidth");
    const ground = () => page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
    expect(await wide()).toBe(360);
    await page.check("input[value=canvas]");
    expect(await wide()).toBe(360);

    const dark = await ground();
    await page.click("#theme");
    expect(await ground()).not.toBe(dark);
    const light = await ground();
    await page.reload();
    expect(await ground()).toBe(light);
  });

  it("is served with a policy that lets nothing else in, and files that may be kept", async () => {
    const answer = await fetch(server.url, { headers: { accept: "text/html,*/*" } });
    const policy = answer.headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toContain("unsafe");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    const html = await answer.text();
    expect(html).not.toMatch(/https?:|<style|style=|onclick/);
    const files = [...html.matchAll(/(?:href|src)="(playground\/[^"]+)"/g)].map(([, path]) => path!);
    expect(files.length).toBe(4);
    for (const file of files) {
      const asset = await fetch(new URL(file, server.url));
      expect(asset.status).toBe(200);
      expect(asset.headers.get("cache-control")).toContain("immutable");
      expect(file).toMatch(/-[\w-]{8}\.(js|css|svg)$/);
    }
    const again = await fetch(server.url, {
      headers: { accept: "text/html", "if-none-match": answer.headers.get("etag")! },
    });
    expect(again.status).toBe(304);
    expect((await fetch(new URL("playground/..%2Findex.html", server.url))).status).toBe(404);
    expect(await (await fetch(server.url)).text()).toContain("curl -N");
  });
});

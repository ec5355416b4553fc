/**
 * The states of the page in a real browser (Debian's Chromium), before a server whose runs follow the test's script: new
 * sizes, runs that fail, are cancelled or lose their connection, preparations, and each state under axe-core.
 *
 * Skipped if there is no Chromium. The page is built here, from its sources.
 */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import axe from "axe-core";
import { Hono } from "hono";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { build } from "tsdown";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Picture, RunEvent } from "../src/engine/events.ts";
import type { GenerationRequest } from "../src/engine/request.ts";
import { playgroundBuild } from "../tooling/playground-page.ts";
import { createApp } from "../transports/app.ts";
import { type Listening, listen } from "../transports/http/listen.ts";
import { playground } from "../transports/playground.ts";
import { CHROMIUM, CHROMIUM_FLAGS } from "./chromium.ts";
import { until } from "./gradient-run.ts";

const DEFAULTS = { width: 96, height: 96, num_inference_steps: 8, guidance_scale: 3 };
const FEW_STEP = { num_inference_steps: 4, guidance_scale: 1 };
const WAIT = { timeout: 30_000 };

/** A picture in one colour. */
function plain({ width, height }: { width?: number; height?: number }, shade: number): Picture {
  const [across, down] = [width ?? DEFAULTS.width, height ?? DEFAULTS.height];
  const rgba = new Uint8Array(across * down * 4).fill(shade);
  for (let i = 3; i < rgba.length; i += 4) rgba[i] = 255;
  return { width: across, height: down, rgba };
}

type Script = (input: GenerationRequest, signal: AbortSignal) => AsyncIterable<object>;

/** Settles when the run is cancelled. */
const cancelled = async (signal: AbortSignal) => {
  if (!signal.aborted) await once(signal, "abort");
  signal.throwIfAborted();
};
/** A run stops at a gate until the test opens it; cancelling the run ends the wait, too. */
class Gate {
  open = () => {};
  private readonly opened = new Promise<void>((resolve) => (this.open = resolve));
  async pass(signal: AbortSignal): Promise<void> {
    await Promise.race([this.opened, cancelled(signal)]);
  }
}
const progress = (step: number, steps = 8) => ({
  type: "progress",
  step,
  steps,
  progress: step / steps,
  elapsed_ms: 1,
});
const preview = (input: GenerationRequest, step: number, steps = 8) => ({
  ...progress(step, steps),
  type: "preview",
  picture: plain(input, 20 * step),
  decoder: "tiny",
});
const result = (input: GenerationRequest) => ({
  type: "result",
  pictures: [plain(input, 200)],
  seed: input.seed ?? 77,
  prompt: input.prompt,
  timings: {},
});

/** Two previews and a picture. */
const whole: Script = async function* (input) {
  yield preview(input, 1);
  yield preview(input, 2);
  yield progress(8);
  yield result(input);
};

if (!existsSync(CHROMIUM)) console.warn(`playground-states.test.ts is skipped: there is no ${CHROMIUM}`);

describe.skipIf(!existsSync(CHROMIUM))("the states of the page", { timeout: 120_000 }, () => {
  let folder: string;
  let browser: Browser;
  let server: Listening;
  let context: BrowserContext;
  let page: Page;
  let script: Script;
  let unready: string | undefined;
  const asked: GenerationRequest[] = [];
  const complaints: string[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "daguerre-states-"));
    await build({ ...playgroundBuild(join(folder, "page")), config: false, logLevel: "error" });
    const app = createApp({
      run: (input, { signal }) => {
        asked.push(input);
        return script(input, signal) as AsyncIterable<RunEvent>;
      },
      health: () => ({ model: "landscapes", adapter: { name: "none" }, defaults: DEFAULTS, few_step: FEW_STEP }),
      unready: () => unready,
      // A test leaves nothing running for the next.
      resume: { streamSeconds: 1, sessionMs: 500 },
    });
    const built = pathToFileURL(join(folder, "page/"));
    server = await listen(new Hono().route("/", playground(built)).route("/", app), 0, "127.0.0.1");
    browser = await chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_FLAGS });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function visit(options: Parameters<Browser["newContext"]>[0] = {}): Promise<void> {
    context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
    page = await context.newPage();
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(server.url);
    await says("#machine .model", /landscapes/);
  }
  beforeEach(async () => {
    asked.length = complaints.length = 0;
    script = whole;
    unready = undefined;
    await visit();
  });
  afterEach(async () => {
    await context.close();
    expect(complaints, "errors on the page").toEqual([]);
  });

  const says = (selector: string, text: RegExp) =>
    page
      .locator(selector)
      .filter({ hasText: text })
      .waitFor({ state: "attached", ...WAIT });
  const text = async (selector: string) => (await page.locator(selector).innerText()).trim();
  const frames = () => page.locator("#strip > *").allTextContents();
  const picture = () => page.locator("#pictures img").last();
  const settled = async (count: number) => {
    await page.locator(`#strip > :nth-child(${count})`).waitFor({ state: "attached", ...WAIT });
    await until(async () => (await page.locator("#pictures img").count()) === 1, WAIT.timeout);
  };

  /** Asks by hand and waits for the whole picture, unless the script ends otherwise. */
  async function generate(prompt: string, fields: Record<string, string> = {}): Promise<void> {
    await page.fill("#prompt", prompt);
    for (const [id, value] of Object.entries(fields)) await page.fill(`#${id}`, value);
    await page.locator("#prompt").blur();
    await page.click("#generate");
  }
  async function finish(prompt: string, fields: Record<string, string> = {}): Promise<void> {
    script = whole;
    await generate(prompt, fields);
    // The picture before it has a strip that ends in the same word.
    await says("#caption", new RegExp(`^${prompt}$`));
    await says("#strip > :last-child", /^Final$/);
    await settled(3);
  }

  /** Everything that belongs to the picture on the plate. */
  async function shown() {
    return {
      plate: await picture().getAttribute("src"),
      caption: (await text("#caption")).replace(/\s+/g, " "),
      seed: await text("#figure-seed"),
      saved: await page.getAttribute("#save", "href"),
      file: await page.getAttribute("#save", "download"),
      strip: await frames(),
    };
  }
  /** The browser still has the bytes of the picture that would be saved. */
  const savable = () =>
    page.evaluate(async () => {
      // biome-ignore lint/suspicious/noExplicitAny: the browser's own objects, which are not among the types of this folder
      const { document, Image } = globalThis as any;
      const image = new Image();
      image.src = document.querySelector("#save").href;
      await image.decode();
      return image.naturalWidth as number;
    });
  const dimmed = () => page.locator("#plate.dimmed").count();
  const idle = () => page.locator("body:not(.busy)").waitFor(WAIT);

  describe.each(["stream", "realtime"])("over %s", (transport) => {
    beforeEach(() => page.check(`input[value=${transport}]`));

    const stops: Record<string, { script: Script; act: () => Promise<unknown>; figure: RegExp }> = {
      failed: {
        // biome-ignore lint/correctness/useYield: it fails before its first event
        script: async function* () {
          throw new Error("lost");
        },
        act: () => says("#alert", /could not finish/),
        figure: /^failed$/,
      },
      cancelled: {
        script: async function* (_, signal) {
          yield progress(1);
          await cancelled(signal);
        },
        act: async () => {
          await says("#figure-step", /^1 of 8$/);
          await page.click("#cancel");
        },
        figure: /^cancelled$/,
      },
      offline: {
        script: whole,
        act: async () => {
          await says("#alert", /connection to the server broke off|cannot be reached/);
          await context.setOffline(false);
        },
        figure: /^failed$/,
      },
    };
    // A WebSocket that is open already is not cut by the browser's offline mode.
    const hows = Object.keys(stops).filter((how) => how !== "offline" || transport === "stream");

    it.each(hows)("keeps the picture before a run that is %s without one, and all that belongs to it", async (how) => {
      await finish("a lake at dawn", { seed: "5" });
      const before = await shown();
      expect(before).toMatchObject({ caption: "a lake at dawn", seed: "5", file: "daguerre-5.png" });
      expect(before.saved).toBe(before.plate);

      script = stops[how]!.script;
      if (how === "offline") await context.setOffline(true);
      await generate("a city at night", { seed: "6" });
      await stops[how]!.act();
      await idle();
      await says("#figure-step", stops[how]!.figure);
      expect(await shown()).toEqual(before);
      expect(await savable()).toBe(96);
      expect(await dimmed()).toBe(0);
      expect(await page.inputValue("#prompt")).toBe("a city at night");
      // The states of the old picture can still be compared.
      await page.click("#strip > :nth-child(2)");
      expect(await text("#before-tag")).toBe("Step 2");

      await finish("a city at night", { seed: "6" });
      expect(await shown()).toMatchObject({ caption: "a city at night", seed: "6", file: "daguerre-6.png" });
    });

    it.each([
      ["failed", "6"],
      ["cancelled", "6"],
      ["cancelled", ""],
    ])("is %s after two previews (seed %j): they are the picture, with their own words", async (how, seed) => {
      await finish("a lake at dawn", { seed: "5" });
      script = async function* (input, signal) {
        yield preview(input, 1);
        yield preview(input, 2);
        if (how === "failed") throw new Error("lost");
        await cancelled(signal);
      };
      await generate("a city at night", { seed });
      await says("#caption", /a city at night.*step 2/);
      if (how === "cancelled") await page.click("#cancel");
      await says("#figure-step", new RegExp(`^${how}$`));
      await settled(2);
      const now = await shown();
      expect(now).toMatchObject({
        caption: "a city at night stopped after step 2 of 8",
        seed: seed || "–",
        file: `daguerre-${seed && `${seed}-`}step-2.jpeg`,
        strip: ["Step 1", "Step 2"],
      });
      expect(now.saved).toBe(now.plate);
      expect(await savable()).toBe(96);
      expect(await page.isDisabled("#figure-seed")).toBe(seed === "");
    });

    it("says that kernels are prepared, and how far that is", async () => {
      const gate = new Gate();
      script = async function* (input, signal) {
        yield { type: "preparing", what: "kernels", done: 12, total: 60 };
        await gate.pass(signal);
        yield* whole(input, signal);
      };
      await generate("a lake", { width: "128" });
      await says("#waiting", /^Preparing kernels, 12 of 60$/);
      expect(await page.locator("#waiting").isVisible()).toBe(true);
      await says("[aria-live=polite]", /^Preparing kernels, 12 of 60$/);
      expect(await page.getAttribute("#progress", "aria-valuenow")).toBe("20");
      expect(await page.getAttribute("#progress", "aria-valuetext")).toBe("Preparing kernels, 12 of 60");
      gate.open();
      await says("#strip > :last-child", /^Final$/);
      expect(await text("#waiting")).toBe("");
      expect(await page.getAttribute("#progress", "aria-valuetext")).toBeNull();
    });
  });

  it("says while one types, too, that kernels are prepared", async () => {
    await page.check("input[value=realtime]");
    script = async function* (_, signal) {
      yield { type: "preparing", what: "weights", done: 1, total: 3 };
      await cancelled(signal);
    };
    await page.locator("#prompt").pressSequentially("a lake");
    await says("#waiting", /^Loading weights, 1 of 3$/);
    await page.keyboard.press("Escape");
    await says("#waiting", /^$/);
  });

  it("says that the server still starts: at once, and when a run hears nothing", async () => {
    unready = "kernels are being compiled";
    await context.close();
    await visit();
    await says("#waiting", /^The server is not ready yet: kernels are being compiled$/);
    await says("[aria-live=polite]", /not ready yet/);
    unready = undefined;
    await says("#waiting", /^$/);

    const ready = new Gate();
    script = async function* (input, signal) {
      await ready.pass(signal);
      yield* whole(input, signal);
    };
    unready = "the device is being replaced";
    await generate("a lake");
    await says("#waiting", /^The server is not ready yet: the device is being replaced$/);
    unready = undefined;
    ready.open();
    await says("#strip > :last-child", /^Final$/);
    await says("#waiting", /^$/);
  });

  /** Proportions as they are seen, and as they are in the file. */
  const proportions = () =>
    page.evaluate(() => {
      // biome-ignore lint/suspicious/noExplicitAny: the browser's own objects, which are not among the types of this folder
      const { document } = globalThis as any;
      return [...document.querySelectorAll("#pictures img, #before img")].map((image) => {
        const { width, height } = image.getBoundingClientRect();
        return [width / height, image.naturalWidth / image.naturalHeight] as const;
      });
    });
  async function expectOwnProportions(ratio: number): Promise<void> {
    const all = await proportions();
    expect(all.length).toBeGreaterThan(0);
    for (const [seen, own] of all) {
      expect(own).toBeCloseTo(ratio, 5);
      expect(seen / own).toBeCloseTo(1, 1);
    }
  }

  it.each([
    ["128", "64"],
    ["64", "192"],
    ["100", "128"],
    ["4000", ""],
    ["", "x"],
  ])(
    "leaves the picture as it is if another size is chosen (%s × %s), until there is one of that size",
    async (width, height) => {
      const first = { width: "128", height: "96" };
      await finish("a lake", first);
      await expectOwnProportions(128 / 96);
      const box = await page.locator("#plate").boundingBox();

      await page.fill("#width", width);
      await page.fill("#height", height);
      await page.locator("#height").blur();
      await expectOwnProportions(128 / 96);
      expect(await page.locator("#plate").boundingBox()).toEqual(box);
      await page.click("#strip > :nth-child(1)");
      await expectOwnProportions(128 / 96);
      await page.keyboard.press("Escape");

      const gate = new Gate();
      script = async function* (input, signal) {
        yield progress(1);
        await gate.pass(signal);
        yield* whole(input, signal);
      };
      await page.click("#generate");
      if (asked.length === 1) await page.locator(".fault:not(:empty)").first().waitFor(WAIT);
      await until(() => asked.length === 2, 1_000).catch(() => {});
      await expectOwnProportions(128 / 96);
      if (asked.length === 1) return;
      await says("#figure-step", /^1 of 8$/);
      await expectOwnProportions(128 / 96);
      gate.open();
      await idle();
      await settled(3);
      const { width: across, height: down } = asked[1]!;
      await expectOwnProportions((across ?? DEFAULTS.width) / (down ?? DEFAULTS.height));
    },
  );

  it("keeps the proportions of a painting, too, and of a picture that is put onto the canvas", async () => {
    const pixel = (x: number, y: number) =>
      page.evaluate(
        ([across, down]) => {
          // biome-ignore lint/suspicious/noExplicitAny: the browser's own objects, which are not among the types of this folder
          const canvas = (globalThis as any).document.querySelector("#canvas");
          const at = [across! * (canvas.width - 1), down! * (canvas.height - 1)].map(Math.round);
          return [...canvas.getContext("2d").getImageData(at[0], at[1], 1, 1).data.slice(0, 3)] as number[];
        },
        [x, y],
      );
    const size = async (width: string, height: string) => {
      await page.fill("#width", width);
      await page.fill("#height", height);
      await page.locator("#height").blur();
    };
    const BRICK = [0xa5, 0x34, 0x2c];
    await finish("a lake", { width: "128", height: "64" });
    // The plate keeps this wide picture.
    script = async function* (_, signal) {
      yield progress(1);
      await cancelled(signal);
    };
    await page.check("input[value=canvas]");
    await size("96", "96");
    await page.click("#swatches label[title=Brick]");
    await page.click("#fill");
    for (const [width, height, edge] of [
      ["192", "96", [0.1, 0.5]],
      ["96", "192", [0.5, 0.1]],
    ] as const) {
      await size(width, height);
      expect(await pixel(0.5, 0.5)).toEqual(BRICK);
      expect(await pixel(edge[0], edge[1])).not.toEqual(BRICK);
    }
    await size("96", "96");
    for (const [x, y] of [
      [0, 0],
      [1, 0],
      [0.5, 0.5],
      [1, 1],
    ]) {
      expect(await pixel(x!, y!)).toEqual(BRICK);
    }
    await page.click("#adopt");
    await until(async () => (await pixel(0.5, 0.5))[0] === 200, WAIT.timeout);
    expect(await pixel(0.01, 0.5)).toEqual([200, 200, 200]);
    expect(await pixel(0.5, 0.1)).not.toEqual([200, 200, 200]);
  });

  it("shows the steps and the guidance that each way of asking takes, and says which", async () => {
    const sliders = async () => [await text("#steps-said"), await text("#guidance-said")];
    const steps = () => page.inputValue("#steps");
    expect(await sliders()).toEqual(["8", "3"]);
    expect(await page.locator("#quick-hint").isVisible()).toBe(false);

    await page.check("input[value=realtime]");
    expect(await sliders()).toEqual(["4", "1"]);
    expect(await steps()).toBe("4");
    expect(await text("#quick-hint")).toMatch(/^While you type,.*few-step.* Generate takes 8 steps at guidance 3\.$/);
    expect(await page.getByText("Pictures follow as you type.").isVisible()).toBe(true);

    for (const transport of ["realtime", "stream"]) {
      await page.check(`input[value=${transport}]`);
      await page.check("input[value=canvas]");
      expect(await sliders()).toEqual(["4", "1"]);
      expect(await text("#quick-hint")).toMatch(/^While you paint,/);
      expect(await text("#strength-hint")).toMatch(/: 2 of 4 steps$/);
      expect(await page.getByText("Pictures follow as you type.").isVisible()).toBe(false);
      expect(await page.getByText(/Pictures follow as you paint/).isVisible()).toBe(true);
      expect(await text("#invitation")).toMatch(/^Paint/);
    }
    await page.locator("#strength").fill("0.9");
    expect(await text("#strength-hint")).toMatch(/: 3 of 4 steps$/);

    await page.locator("#strength").fill("0.1");
    expect(await text("#strength-hint")).toMatch(/: 1 step$/);
    await page.locator("#strength").fill("0.9");

    // A value that is chosen is a choice against the variant.
    await page.locator("#steps").fill("9");
    expect(await sliders()).toEqual(["9", "3"]);
    expect(await page.locator("#quick-hint").isVisible()).toBe(false);
    expect(await text("#strength-hint")).toMatch(/: 8 of 9 steps$/);
    await page.check("input[value=words]");
    expect(await sliders()).toEqual(["9", "3"]);
  });

  it("leads its ideas with the scenes that the model draws best", async () => {
    const ideas = await page.locator("#ideas button").evaluateAll((all) => all.map((one) => one.getAttribute("title")));
    expect(ideas.slice(0, 2)).toEqual(["northern lights over a lake", "a sailboat at sunset"]);
    expect(ideas.join()).not.toContain("lighthouse");
  });

  /** The rules that axe-core finds broken, with the elements; of all its rules if none are named. */
  async function violations(rules?: readonly string[]): Promise<string[]> {
    // Fades end: half-faded text has half the contrast.
    await page.evaluate(`Promise.allSettled(
      document.getAnimations()
        .filter((one) => one.effect?.getComputedTiming().iterations !== Infinity)
        .map((one) => one.finished))`);
    if (!(await page.evaluate<boolean>("'axe' in globalThis"))) await page.evaluate(axe.source);
    const options = JSON.stringify(rules === undefined ? {} : { runOnly: rules });
    const { violations } = await page.evaluate<{ violations: axe.Result[] }>(`axe.run(document, ${options})`);
    return violations.flatMap(({ id, nodes }) =>
      nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`),
    );
  }

  it.each([
    ["desktop", { viewport: { width: 1280, height: 860 } }],
    ["phone", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
  ])("breaks no rule of axe-core on a %s, in any state", async (device, options) => {
    await context.close();
    await visit({ colorScheme: "light", ...options });
    const broken: Record<string, string[]> = {};
    const look = async (state: string) => {
      for (const colorScheme of ["light", "dark"] as const) {
        await page.emulateMedia({ colorScheme });
        // The dark page is the light one in other colours, which two rules look at.
        const found = await violations(colorScheme === "dark" ? ["color-contrast", "link-in-text-block"] : undefined);
        if (found.length > 0) broken[`${state}, ${colorScheme}`] = found;
        const shots = process.env.DAGUERRE_SHOTS;
        if (shots !== undefined)
          await page.screenshot({ path: `${shots}/${colorScheme}-${device}-${state}.png`, fullPage: true });
      }
      await page.emulateMedia({ colorScheme: "light" });
    };
    await look("empty");
    await page.click("#generate");
    await says("[data-fault=prompt]", /Write/);
    await page.fill("#width", "x");
    await page.click("#generate");
    await look("faults");
    await page.fill("#width", "");

    script = async function* (_, signal) {
      yield { type: "preparing", what: "kernels", done: 12, total: 60 };
      await cancelled(signal);
    };
    await generate("a lake");
    await says("#waiting", /Preparing/);
    await look("preparing");
    await page.click("#cancel");
    await finish("northern lights over a lake");
    await look("finished");
    await page.click("#strip > :nth-child(1)");
    await look("compared");
    await page.keyboard.press("Escape");

    script = async function* (input, signal) {
      yield preview(input, 1);
      await cancelled(signal);
    };
    await generate("a sailboat at sunset, and a long list of other things that somebody would like to see in it");
    await says("#caption", /step 1/);
    await look("developing");
    await page.click("#cancel");
    await look("cancelled");

    await finish("northern lights over a lake", { width: "128", height: "64" });
    script = async function* (_, signal) {
      yield progress(1);
      await cancelled(signal);
    };
    await generate("a city", { width: "64", height: "128" });
    await says("#figure-step", /1 of 8/);
    await look("new-size");
    await page.click("#cancel");
    // biome-ignore lint/correctness/useYield: it fails before its first event
    script = async function* () {
      throw new Error("lost");
    };
    await generate("a city");
    await says("#alert", /could not finish/);
    await look("failed");
    await context.setOffline(true);
    await generate("a city");
    await says("#alert", /connection to the server broke off/);
    await look("offline");
    await context.setOffline(false);

    script = whole;
    await page.fill("#width", "");
    await page.fill("#height", "");
    await page.check("input[value=canvas]");
    await page.click("#fill");
    await says("#strip > :last-child", /^Final$/);
    await idle();
    await look("painting");
    await page.check("input[value=realtime]");
    await look("painting-realtime");
    await page.check("input[value=words]");
    await page.locator("#negative-part summary").click();
    await look("realtime");
    unready = "kernels are being compiled";
    await page.reload();
    await says("#waiting", /not ready/);
    await look("starting");
    expect(broken).toEqual({});
  });

  describe.each(["light", "dark"] as const)("in %s", (colorScheme) => {
    it("shows the key of the main button in letters that can be read", async () => {
      await context.close();
      await visit({ colorScheme });
      for (const selector of ["#generate kbd", "#cancel kbd"]) {
        if (selector === "#cancel kbd") {
          script = async function* (_, signal) {
            yield progress(1);
            await cancelled(signal);
          };
          await generate("a lake");
          await page.locator("#cancel:enabled").waitFor(WAIT);
        }
        const ratio = await page.evaluate((selector) => {
          // biome-ignore lint/suspicious/noExplicitAny: the browser's own objects, which are not among the types of this folder
          const { document, getComputedStyle } = globalThis as any;
          const element = document.querySelector(selector);
          const drawing = document.createElement("canvas").getContext("2d");
          const light = (colour: string, over: readonly number[]) => {
            drawing.clearRect(0, 0, 1, 1);
            drawing.fillStyle = colour;
            drawing.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = drawing.getImageData(0, 0, 1, 1).data;
            return [r, g, b].map((value: number, i: number) => (value * a) / 255 + over[i]! * (1 - a / 255));
          };
          const luminance = (rgb: readonly number[]) => {
            const [r, g, b] = rgb.map((v) =>
              v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4,
            );
            return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
          };
          let opacity = 1;
          for (let e = element; e !== null; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
          const ground = light(getComputedStyle(element.closest("button")).backgroundColor, [255, 255, 255]);
          const ink = light(getComputedStyle(element).color, ground).map(
            (v, i) => v * opacity + ground[i]! * (1 - opacity),
          );
          const [high, low] = [luminance(ink), luminance(ground)].sort((a, b) => b - a);
          return (high! + 0.05) / (low! + 0.05);
        }, selector);
        expect(ratio, selector).toBeGreaterThanOrEqual(4.5);
      }
    });
  });
});

import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { LoadProgress, Runtime } from "../src/engine/contract.ts";
import { parseGeneration } from "../src/engine/request-parsing.ts";
import { decodePicture } from "../src/image/decode.ts";
import { encodePicture } from "../src/image/encode.ts";
import { gradient, gradientRun, type RunRecord, until } from "../test/gradient-run.ts";
import { canBeFaster } from "./advise.ts";
import { configSchema } from "./config-schema.ts";
import * as flags from "./flags.ts";
import { generate } from "./generate.ts";
import { loadingScreen } from "./loading.ts";
import { gpuVendors } from "./machine.ts";
import { serve } from "./serve.ts";

/** The gradient run in a runtime's clothes: what the commands do around a runtime does not depend on the model. */
function gradientRuntime(record?: RunRecord) {
  const run = gradientRun(record);
  const inputs: unknown[] = [];
  const start: Runtime["textToImage"] = (input, { signal } = {}) => {
    inputs.push(input);
    const { prompt, num_inference_steps, preview_every } = parseGeneration(input);
    const context = { signal: signal ?? new AbortController().signal, requestId: "cli" };
    return run({ prompt, num_inference_steps, preview_every }, context) as ReturnType<Runtime["textToImage"]>;
  };
  const runtime: Runtime = {
    adapter: {
      kind: "software",
      name: "llvmpipe",
      vendor: "mesa",
      architecture: "",
      description: "",
      backend: "vulkan",
      features: [],
    },
    model: {
      name: "gradient",
      defaultWidth: 64,
      defaultHeight: 64,
      defaultSteps: 10,
      defaultGuidanceScale: 3,
      fewStep: { steps: 4, guidanceScale: 1 },
    },
    models: [],
    watchModels: () => () => {},
    runsAtOnce: 1,
    device: {
      lost: false,
      memoryBytes: 1_000,
      peakMemoryBytes: 2_000,
      work: { batches: new Map(), turns: 0, waitMilliseconds: 0, merges: 0, evictions: 0 },
    },
    warmUp: async () => {},
    loras: async () => ({ names: [], notes: [] }),
    countTokens: (text) => text.split(" ").length + 2,
    embeddings: async () => [],
    controls: async () => [],
    preprocess: () => Promise.reject(new Error("no command asks for it")),
    promptWarnings: async (prompt) => (prompt.includes("xyzzy") ? ["This model knows no word of the prompt."] : []),
    textToImage: start,
    imageToImage: start,
    close: async () => {},
  };
  return { runtime, inputs };
}

describe("flags", () => {
  it("read sizes, LoRA files and adapters", () => {
    expect(flags.size("512x768")).toEqual({ width: 512, height: 768 });
    expect(flags.lora("ink.safetensors:0.8")).toEqual([{ path: "ink.safetensors", scale: 0.8 }]);
    expect(flags.lora("ink.safetensors:.8:-0.5")).toEqual([{ path: "ink.safetensors", scale: 0.8, unet: -0.5 }]);
    expect(flags.lora("C:\\ink.safetensors", [{ path: "oil", scale: 2 }])).toEqual([
      { path: "oil", scale: 2 },
      { path: "C:\\ink.safetensors", scale: 1 },
    ]);
    expect(flags.adapter("software")).toEqual({ prefer: "software" });
    expect(flags.adapter("NVIDIA")).toEqual({ name: "NVIDIA" });
    expect(flags.pictureFile("a/b.JPG")).toEqual({ file: "a/b.JPG", format: "jpeg" });
  });

  it.each([
    () => flags.size("512"),
    () => flags.size("512x"),
    () => flags.number("many"),
    () => flags.pictureFile("out.gif"),
    () => flags.pictureFile("out"),
  ])("refuse what they cannot mean: %s", (read) => {
    expect(read).toThrow();
  });
});

describe("generate", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(path.join(tmpdir(), "daguerre-cli-"));
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  function screen(isTTY: boolean) {
    const stream = Object.assign(new PassThrough(), { isTTY });
    return { stream, text: () => String(stream.read() ?? "") };
  }

  it("writes the picture and the previews, and says each step plainly where there is no terminal", async () => {
    const { runtime } = gradientRuntime();
    const { stream, text } = screen(false);
    const file = path.join(dir, "new", "out.png");
    const previewDir = path.join(dir, "previews");
    const files = await generate(
      runtime,
      {
        input: { prompt: "a hill", num_inference_steps: 20, preview_every: 5 },
        output: { file, format: "png" },
        previewDir,
      },
      stream,
    );
    expect(files).toEqual([file]);
    const picture = await decodePicture(await readFile(file));
    expect(picture.rgba).toEqual(gradient(64, 1).rgba);
    expect(await readdir(previewDir)).toEqual(["preview-005.jpg", "preview-010.jpg", "preview-015.jpg"]);
    const shown = text();
    expect(shown.match(/^step \d+\/20 {2}[\d.]+ s$/gm)).toHaveLength(10);
    expect(shown).toMatch(/out\.png: 64x64, seed 7 in [\d.]+ s \(llvmpipe, a software GPU\)\n$/);
  });

  it("shows a bar on a terminal", async () => {
    const { runtime } = gradientRuntime();
    const { stream, text } = screen(true);
    const terminal = Object.assign(stream, { cursorTo() {}, moveCursor() {}, clearLine() {}, columns: 100 });
    const output = { file: path.join(dir, "out.jpg"), format: "jpeg" } as const;
    await generate(runtime, { input: { prompt: "x", num_inference_steps: 4 }, output }, terminal);
    const shown = text();
    expect(shown).toContain("█");
    expect(shown).not.toMatch(/^step 2\/4 {2}/m);
  });

  it("starts from a picture", async () => {
    const { runtime, inputs } = gradientRuntime();
    const start = path.join(dir, "start.png");
    const { bytes } = await encodePicture(gradient(64, 1), { format: "png" });
    await writeFile(start, bytes);
    const output = { file: path.join(dir, "out.webp"), format: "webp" } as const;
    const input = { prompt: "x", strength: 0.4 };
    await generate(runtime, { input, output, image: start }, screen(false).stream);
    expect(inputs[0]).toMatchObject({ strength: 0.4, image: new Uint8Array(bytes) });
  });

  it("writes nothing when it is interrupted", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const { runtime } = gradientRuntime(record);
    const output = { file: path.join(dir, "out.png"), format: "png" } as const;
    const interrupt = new AbortController();
    setTimeout(() => interrupt.abort(), 40);
    const input = { prompt: "x", num_inference_steps: 200 };
    await expect(generate(runtime, { input, output }, screen(false).stream, interrupt.signal)).rejects.toThrow();
    expect(record.ended).toBe(true);
    expect(record.steps).toBeLessThan(200);
    expect(await readdir(dir)).toEqual([]);
  });
});

describe("serve", () => {
  const config = (more: object = {}) => configSchema.parse({ port: 0, log_level: "silent", ...more });
  const asked = async (path: string, url: string, body: object) => {
    const answer = await fetch(url + path, { method: "POST", body: JSON.stringify({ prompt: "x", ...body }) });
    let text = "";
    try {
      for await (const chunk of answer.body!) text += Buffer.from(chunk);
    } catch {
      // A stream that failed ends with its connection.
    }
    return { status: answer.status, retry: answer.headers.get("retry-after"), text };
  };

  it("finishes what it has when it ends, answers probes meanwhile and refuses new work", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const { runtime } = gradientRuntime(record);
    const server = await serve(runtime, config(), () => {});
    const queued = (await (
      await fetch(`${server.url}/queue/a/b`, { method: "POST", body: '{"prompt":"x","num_inference_steps":200}' })
    ).json()) as { response_url: string; status_url: string };
    const behind = asked("/stream", server.url, {});
    await until(() => record.steps > 2);
    const closed = server.close(60_000);
    expect((await fetch(`${server.url}/ready`)).status).toBe(503);
    expect(await asked("/stream", server.url, {})).toMatchObject({ status: 503, retry: "5" });
    // A job of the queue is nobody's connection, and finished all the same; its client can see it until the end.
    expect((await fetch(queued.status_url)).status).toBe(202);
    await closed;
    expect(record.aborted).toBe(false);
    expect((await behind).text).toContain('"type":"result"');
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
  });

  it("hands back what it cannot finish in time: the one that runs and those that wait", async () => {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const { runtime } = gradientRuntime(record);
    const server = await serve(runtime, config(), () => {});
    const running = asked("/stream", server.url, { num_inference_steps: 200, preview_every: 0 });
    await until(() => record.steps > 2);
    const waiting = asked("/", server.url, {});
    await until(async () => (await metric(server.url, "daguerre_queue_depth")) === 1);
    await server.close(20);
    expect(record.aborted).toBe(true);
    expect(await waiting).toMatchObject({ status: 503, retry: "5", text: expect.stringContaining("restarting") });
    // The stream had begun: its last words are the error, with when to ask again.
    expect((await running).text).toContain('"status":503,"retry_after":5');
  });

  async function metric(url: string, name: string): Promise<number> {
    const text = await (await fetch(`${url}/metrics`)).text();
    return Number(new RegExp(`^${name} (.+)$`, "m").exec(text)?.[1]);
  }

  it("says what it computes on, and prints an address that answers", async () => {
    const { runtime } = gradientRuntime();
    let said = "";
    const server = await serve(runtime, configSchema.parse({ port: 0, log_level: "silent" }), (text) => {
      said += text;
    });
    try {
      expect(said).toContain("adapter  llvmpipe (a software GPU");
      expect(said.includes("daguerre doctor")).toBe(canBeFaster(gpuVendors(), runtime.adapter));
      const [, url, body] = /curl -N (\S+) -H 'content-type: application\/json' -d '(.+)'/.exec(said)!;
      const response = await fetch(url!, { method: "POST", body: body! });
      expect(await response.text()).toContain('"type":"result"');
      expect(await (await fetch(`${server.url}/health`)).json()).toEqual({
        status: "ok",
        version: expect.stringMatching(/^\d+\.\d+\.\d+/),
        adapter: { name: "llvmpipe", kind: "software", backend: "vulkan" },
        model: "gradient",
        defaults: { width: 64, height: 64, num_inference_steps: 10, guidance_scale: 3 },
        few_step: { num_inference_steps: 4, guidance_scale: 1 },
      });
    } finally {
      await server.close();
    }
  });

  it("answers under names of its own, and says which setting holds them", async () => {
    const asked = (url: string, host: string, path = "/stream", method = "POST") =>
      new Promise<[number, string]>((resolve, reject) => {
        request(url + path, { method, headers: { host } }, async (answer) => {
          resolve([answer.statusCode!, (await answer.toArray()).join("")]);
        })
          .on("error", reject)
          .end(method === "POST" ? '{"prompt":"x"}' : undefined);
      });
    const settings = { host: "localhost", hosts: ["daguerre", "*.example.org"], public_url: "https://a.example/base" };
    const server = await serve(gradientRuntime().runtime, config(settings), () => {});
    const keys = [{ name: "a", key: "k" }];
    const secured = await serve(gradientRuntime().runtime, config({ ...settings, auth: { keys } }), () => {});
    try {
      for (const host of ["localhost", "127.0.0.1", "daguerre:1", "a.example.org", "a.example"]) {
        expect((await asked(server.url, host))[0], host).toBe(200);
      }
      const [status, text] = await asked(server.url, "evil.example");
      expect([status, text]).toEqual([421, expect.stringContaining("setting hosts")]);
      expect((await asked(server.url, "evil.example", "/health", "GET"))[0]).toBe(200);
      expect((await asked(server.url, "daguerre", "/stream?prompt=x", "GET"))[1]).toContain("get_stream");
      expect((await asked(server.url, "daguerre", "/queue/a/b"))[1]).toContain('"https://a.example/base/queue/a/b/');
      expect((await asked(secured.url, "evil.example"))[0]).toBe(401);
    } finally {
      await Promise.all([server.close(), secured.close()]);
    }
  });

  it("is ready once its kernels are compiled, and not before", async () => {
    let compiled = () => {};
    const warming = new Promise<void>((resolve) => (compiled = resolve));
    const runtime: Runtime = { ...gradientRuntime().runtime, warmUp: () => warming };
    const port = await freePort();
    let said = "";
    const serving = serve(runtime, configSchema.parse({ port, log_level: "silent" }), (text) => {
      said += text;
    });
    const ready = () => fetch(`http://127.0.0.1:${port}/ready`).catch(() => undefined);
    try {
      await expect.poll(async () => (await ready())?.status).toBe(503);
      expect(await (await ready())!.json()).toEqual({ status: "unready", reason: "kernels are being compiled" });
      expect(said).toBe("");
      compiled();
      const server = await serving;
      expect((await ready())!.status).toBe(200);
      expect(said).toContain(server.url);
    } finally {
      compiled();
      await (await serving).close();
    }
  });

  it("does not stay where its kernels cannot be compiled", async () => {
    const fault = new Error("the picture is too large");
    const runtime: Runtime = { ...gradientRuntime().runtime, warmUp: () => Promise.reject(fault) };
    const port = await freePort();
    const serving = serve(runtime, configSchema.parse({ port, log_level: "silent" }), () => {});
    await expect(serving).rejects.toBe(fault);
    await expect(fetch(`http://127.0.0.1:${port}/ready`)).rejects.toThrow();
  });
});

describe("what is shown while a model is made ready", () => {
  const steps: LoadProgress[] = [
    { what: "unet", done: 10, total: 100 },
    { what: "unet", done: 100, total: 100 },
    { what: "kernels", done: 1, total: 4 },
  ];

  it("is a bar on a terminal, which goes away", () => {
    const stream = Object.assign(new PassThrough(), { isTTY: true, columns: 100 });
    Object.assign(stream, { cursorTo() {}, moveCursor() {}, clearLine() {} });
    const loading = loadingScreen(stream);
    for (const step of steps) loading.show(step);
    loading.end();
    const shown = String(stream.read());
    expect(shown).toContain("unet 10%");
    expect(shown).toContain("kernels 25%");
  });

  it("is nothing elsewhere unless it takes long, and then a line now and then", () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    try {
      const stream = Object.assign(new PassThrough(), { isTTY: false });
      const loading = loadingScreen(stream);
      for (const step of steps) loading.show(step);
      expect(stream.read()).toBeNull();
      vi.advanceTimersByTime(5000);
      loading.show({ what: "kernels", done: 2, total: 4 });
      loading.show({ what: "kernels", done: 3, total: 4 });
      expect(String(stream.read())).toBe("getting ready: kernels 50%  5.0 s\n");
      vi.advanceTimersByTime(1000);
      loading.show({ what: "kernels", done: 4, total: 4 });
      vi.advanceTimersByTime(100);
      loading.end();
      loading.end();
      expect(String(stream.read())).toBe("getting ready: kernels 100%  6.0 s\ngetting ready: done  6.1 s\n");
    } finally {
      vi.useRealTimers();
    }
  });
});

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/**
 * The published package works where it is installed: the tarball in an empty project, its command and its import.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const MINUTES = 60_000;

let project: string;
let installed: { stderr: string };

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), "daguerre-package-"));
  await run("npm", ["pack", "--silent", "--pack-destination", project], { cwd: root });
  const [tarball] = (await readdir(project)).filter((name) => name.endsWith(".tgz"));
  await writeFile(join(project, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }));
  installed = await run("npm", ["install", "--no-audit", "--no-fund", "--prefer-offline", join(project, tarball!)], {
    cwd: project,
  });
}, 5 * MINUTES);

afterAll(() => rm(project, { recursive: true, force: true }));

function daguerre(...args: string[]) {
  return run(join(project, "node_modules/.bin/daguerre"), args, { cwd: project });
}

/** Lines but for news of kernels that are compiled, of which there may be any number. */
function linesOf(output: string): string[] {
  return output
    .trim()
    .split("\n")
    .filter((line) => line !== "preparing");
}

describe("the installed package", () => {
  it("holds JavaScript, types, shaders and the model, and nothing to train or test with", async () => {
    const files = await readdir(join(project, "node_modules/daguerre"), { recursive: true });
    for (const wanted of [
      "dist/index.js",
      "dist/index.d.ts",
      "dist/transports.d.ts",
      "dist/jobs.js",
      "dist/hosts.js",
      "dist/cli.js",
      "dist/thread-main.js",
      "dist/process-main.js",
      "dist/engine-main.js",
      "shaders/conv2d_subgroup.wgsl",
      "LICENSE",
    ]) {
      expect(files).toContain(wanted);
    }
    expect(files).toContain("models/landscapes/unet/diffusion_pytorch_model.safetensors");
    expect(files).toContainEqual(
      expect.stringMatching(/^native\/swiftshader-linux-x64-.*\/libvk_swiftshader\.so\.br$/),
    );
    for (const platform of ["darwin-universal", "linux-arm64", "linux-x64", "win32-arm64", "win32-x64"]) {
      expect(files).toContainEqual(
        expect.stringMatching(`^native/dawn-${platform}-.*/dist/${platform}/dawn\\.node\\.br$`),
      );
    }
    expect(files.filter((name) => /\.test\.|^(src|test|bench)\/|\/(train|stages|evaluation)/.test(name))).toEqual([]);
    expect(files.filter((name) => /\.(png|jpe?g|webp)$/.test(name) && !name.startsWith("dist/playground/"))).toEqual(
      [],
    );
  });

  it("has a command that says its version and makes a picture", { timeout: 2 * MINUTES }, async () => {
    const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    expect((await daguerre("--version")).stdout.trim()).toBe(version);
    await daguerre("generate", "a sunset over the sea", "-o", "sunset.png", "--steps", "2", "--seed", "1");
    const png = await readFile(join(project, "sunset.png"));
    expect(png.subarray(1, 4).toString()).toBe("PNG");
  });

  it("can be imported, with its types", { timeout: 2 * MINUTES }, async () => {
    await writeFile(
      join(project, "use.js"),
      `import { createRuntime } from "daguerre";
       const runtime = await createRuntime();
       for await (const event of runtime.textToImage({ prompt: "a night sky", num_inference_steps: 2 })) console.log(event.type);
       await runtime.close();
       process.exit(0);`,
    );
    const { stdout } = await run("node", ["use.js"], { cwd: project });
    expect(linesOf(stdout)).toEqual(["progress", "progress", "result"]);
    await writeFile(
      join(project, "use.ts"),
      `import { createRuntime, type Runtime } from "daguerre";
       const runtime: Runtime = await createRuntime({ precision: "f32" });
       for await (const event of runtime.textToImage({ prompt: "x" })) if (event.type === "result") event.pictures[0]?.rgba;
       // @ts-expect-error: a prompt is required
       runtime.textToImage({});`,
    );
    await writeFile(
      join(project, "routes.ts"),
      `import { createServer } from "node:http";
       import { Hono } from "hono";
       import { appOfRuntime, createRuntime } from "daguerre";
       import { createJobs, map, type RunContext } from "daguerre/jobs";
       import { cancelJob, json, mount, realtime, resume, sse } from "daguerre/transports";
       async function* generate({ words }: { words: string[] }, { signal }: RunContext) {
         yield* map(words, async (word) => ({ type: "word", word: word.toUpperCase() }), { signal });
       }
       const app = new Hono();
       app.post("/stream", sse(generate));
       app.post("/text", sse(["a", "b"], { contentType: "text/plain" }));
       app.post("/", json(generate, { parse: (raw) => raw as { words: string[] } }));
       app.get("/realtime", realtime(generate));
       const jobs = createJobs(generate, { concurrency: 2 });
       app.post("/jobs", sse(jobs)).get("/stream/:job", resume(jobs)).delete("/jobs/:job", cancelJob(jobs));
       const runtime = await createRuntime();
       const whole = appOfRuntime(runtime, { limits: { steps: 20 } });
       const mounted = mount(whole, "/pictures");
       createServer(mounted.request).on("upgrade", mounted.upgrade);
       await whole.drain(1_000);
       // @ts-expect-error: a number is not something to read events from
       sse(7);`,
    );
    const options = [
      "--noEmit",
      "--strict",
      "--module",
      "nodenext",
      "--target",
      "es2022",
      "--skipLibCheck",
      "use.ts",
      "routes.ts",
    ];
    const tsc = ["--typeRoots", join(root, "node_modules/@types"), "--types", "node", ...options];
    await run(join(root, "node_modules/.bin/tsc"), tsc, { cwd: project });
  });

  it("has types that hold under strict checks, with and without those of a page", {
    timeout: 5 * MINUTES,
  }, async () => {
    const readme = await readFile(join(root, "README.md"), "utf8");
    const sample = [...readme.matchAll(/```ts\n(.*?)```/gs)]
      .map(([, code]) => code)
      .find((code) => code?.includes("createRuntime"));
    await writeFile(join(project, "sample.ts"), sample!);
    await writeFile(
      join(project, "entries.ts"),
      `export * from "daguerre"; export * from "daguerre/transports"; export * from "daguerre/jobs"; export * from "daguerre/hosts";`,
    );
    const strict =
      "--noEmit --strict --module nodenext --target es2022 --skipLibCheck false --noUncheckedIndexedAccess";
    for (const lib of ["es2022", "es2022,dom"]) {
      const options = [...strict.split(" "), "--exactOptionalPropertyTypes", "--lib", lib, "sample.ts", "entries.ts"];
      const types = ["--typeRoots", join(root, "node_modules/@types"), "--types", "node"];
      const { stdout } = await run(join(root, "node_modules/.bin/tsc"), [...types, ...options], { cwd: project }).catch(
        (error) => error,
      );
      expect(stdout).toBe("");
    }
  });

  it("takes less than 150 MB, and none of its packages refuses this Node or holds another platform's binaries", async () => {
    const files = await readdir(join(project, "node_modules"), { recursive: true, withFileTypes: true });
    const sizes = await Promise.all(
      files
        .filter((file) => file.isFile())
        .map(async (file) => ({
          name: join(file.parentPath, file.name),
          size: (await stat(join(file.parentPath, file.name))).size,
        })),
    );
    const bytes = sizes.reduce((sum, { size }) => sum + size, 0);
    expect(bytes).toBeLessThan(150e6);
    expect(bytes).toBeGreaterThan(50e6);
    expect(
      sizes.filter(({ name, size }) => size > 1e6 && /\.(node|dll|so[.\d]*)$/.test(name)).map(({ name }) => name),
    ).toEqual(sizes.filter(({ name, size }) => size > 1e6 && name.includes("sharp-libvips")).map(({ name }) => name));
    expect(installed.stderr).not.toContain("EBADENGINE");
  });

  it("loads neither a GPU nor libvips for its transports, jobs and hosts", { timeout: MINUTES }, async () => {
    await writeFile(
      join(project, "loads.js"),
      `const loaded = () => process.report.getReport().sharedObjects.filter((path) => /dawn|vips/.test(path)).length;
       const { sse } = await import("daguerre/transports");
       const { createJobs, map } = await import("daguerre/jobs");
       const { worker } = await import("daguerre/hosts");
       const before = [typeof sse, typeof createJobs, typeof map, typeof worker, loaded()];
       const { encodePicture } = await import("daguerre");
       await encodePicture({ width: 1, height: 1, rgba: new Uint8Array(4) });
       console.log(JSON.stringify([...before, loaded() > 0]));
       process.exit(0);`,
    );
    const { stdout } = await run("node", ["loads.js"], { cwd: project });
    expect(JSON.parse(stdout)).toEqual(["function", "function", "function", "function", 0, true]);
  });

  it("runs a module in a thread", { timeout: 2 * MINUTES }, async () => {
    await writeFile(
      join(project, "draw.js"),
      `import { createRuntime } from "daguerre";
       const runtime = await createRuntime();
       export default (input, context) => runtime.textToImage(input, context);`,
    );
    await writeFile(
      join(project, "thread.js"),
      `import { worker } from "daguerre";
       const draw = worker("./draw.js");
       const context = { signal: new AbortController().signal, requestId: "x" };
       for await (const { type } of draw({ prompt: "a night sky", num_inference_steps: 2 }, context))
         if (type !== "preparing") console.log(type);
       const wrong = draw({ prompt: "a night sky", num_inference_steps: 0 }, context);
       await wrong.next().catch(({ status, field }) => console.log(status, field));`,
    );
    const { stdout } = await run("node", ["thread.js"], { cwd: project });
    expect(linesOf(stdout)).toEqual(["progress", "progress", "result", "422 num_inference_steps"]);
  });

  it("serves, prints a curl line that works, and stops when told", { timeout: 2 * MINUTES }, async () => {
    const server = spawn(join(project, "node_modules/.bin/daguerre"), ["serve", "--port", "0"], { cwd: project });
    try {
      const greeting = await outputUntil(server, /curl -N .*\n/);
      const line = /curl -N .*/.exec(greeting)![0];
      const url = /http:\/\/[\d.:]+/.exec(line)![0];
      expect(await (await fetch(`${url}/health`)).json()).toMatchObject({ status: "ok" });
      const { stdout } = await run("bash", ["-c", `${line} --silent`], { maxBuffer: 2 ** 26 });
      const events = stdout
        .split("\n")
        .flatMap((text) => (text.startsWith("data: ") ? [JSON.parse(text.slice(6))] : []));
      expect(events.at(-1)).toMatchObject({ type: "result", prompt: expect.any(String) });
      expect(events.some((event) => event.type === "preview")).toBe(true);
      const ended = new Promise((resolve) => server.once("exit", resolve));
      server.kill("SIGTERM");
      await ended;
    } finally {
      server.kill("SIGKILL");
    }
  });
});

function outputUntil(child: ChildProcess, pattern: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const errors: string[] = [];
    child.stderr!.on("data", (data) => errors.push(String(data)));
    child.stdout!.on("data", (data) => {
      text += data;
      if (pattern.test(text)) resolve(text);
    });
    child.once("exit", (code) => reject(new Error(`ended with ${code}: ${text}${errors.join("")}`)));
  });
}

/** Commands run as a person runs them: their real output, errors and exit codes. None of these loads a model, but the last. */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../test/gradient-run.ts";
import { checkAddress, checkGenerate, makeFolder } from "./checks.ts";
import { withGenerationFlags } from "./generation-flags.ts";
import { SETTINGS } from "./settings.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "daguerre-commands-"));
});
afterAll(() => rm(folder, { recursive: true }));

const ROOT = path.resolve(import.meta.dirname, "..");

function daguerre(args: readonly string[], env: Record<string, string> = {}) {
  const program = path.join(ROOT, "cli/daguerre.ts");
  const loader = path.join(ROOT, "tooling/run.mjs");
  const child = spawn(process.execPath, ["--import", loader, program, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
  });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.on("close", (code, signal) => resolve(signal ?? code));
  });
  return { child, output, ended };
}

async function run(...args: readonly string[]) {
  const { output, ended } = daguerre(args);
  const code = await ended;
  return { ...output, code };
}

describe("the command", () => {
  it("alone shows its help", async () => {
    const { stdout, stderr, code } = await run();
    expect(stdout).toMatch(/^Usage: daguerre/);
    expect(stdout).toContain("generate");
    expect([stderr, code]).toEqual(["", 0]);
  });

  it("shows a flag for each field of a request and each setting of the server", async () => {
    const shown = (help: string) => new Set(help.match(/(?<=^ +(?:-\w, )?)--[\w-]+/gm));
    const generate = shown((await run("generate", "--help")).stdout);
    for (const { long } of withGenerationFlags(new Command()).options) expect(generate).toContain(long);
    const serve = shown((await run("serve", "--help")).stdout);
    expect([...serve].sort()).toEqual([...SETTINGS.flatMap(({ flag }) => flag ?? []), "--config", "--help"].sort());
  });

  it("says its version by -v", async () => {
    const { stdout, stderr, code } = await run("-v");
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect([stderr, code]).toEqual(["", 0]);
  });

  it.each([
    [["generate", ""], /^daguerre: the prompt has no words/],
    [["generate", "a lake", "--steps", "9999"], /^daguerre: --steps should be less than or equal to 200\n$/],
    [["generate", "a lake", "--seed", "x"], /^daguerre: --seed must be a whole number/],
    [["serve", "--port", "99999"], /^daguerre: --port: should be less than or equal to 65535\n$/],
  ])("%j is an error at once, in a line that names the flag", async (args, line) => {
    const begun = performance.now();
    const { stdout, stderr, code } = await run(...args);
    expect(stderr).toMatch(line);
    expect(stderr).not.toMatch(/Warning|\n\s+at /);
    expect([stdout, code]).toEqual(["", 1]);
    expect(performance.now() - begun).toBeLessThan(20_000);
  });
});

describe("what is known before anything is loaded", () => {
  const file = () => path.join(folder, "out.png");
  const check = (options: Partial<Parameters<typeof checkGenerate>[1]>, prompt = "a lake") =>
    checkGenerate(prompt, { output: { file: file() }, ...options });

  it("passes what can be done, and makes the folders", async () => {
    const output = { file: path.join(folder, "new/deep/out.png") };
    await check({ output, previewDir: path.join(folder, "previews") });
    expect(await readdir(path.join(folder, "new"))).toEqual(["deep"]);
    await check({ output }); // once more, now that they are there
  });

  it.each([
    ["--strength", { strength: 0.5 }],
    ["--image", { image: "/nowhere/picture.png" }],
    ["--image", { image: "/" }],
    ["--lora", { lora: [{ path: "/nowhere/ink.safetensors" }] }],
    ["--output", { output: { file: "/proc/daguerre/deep/out.png" } }],
    ["--output", { output: { file: "/dev/null/out.png" } }],
    ["--output", { output: { file: "/tmp" } }],
    ["--preview-dir", { previewDir: "/dev/null/previews" }],
  ])("names %s: %j", async (flag, options) => {
    await expect(check(options)).rejects.toMatchObject({ name: "UsageError", message: expect.stringContaining(flag) });
  });

  it("a name that is a file already is no folder", async () => {
    const taken = path.join(folder, "taken");
    await writeFile(taken, "");
    await expect(makeFolder("--output", path.join(taken, "below"))).rejects.toThrow(/taken is a file/);
    await mkdir(path.join(folder, "there"));
    await makeFolder("--output", path.join(folder, "there"));
  });

  it("a port that is in use, a host that is nobody's, and a free one", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    await expect(checkAddress(port, "127.0.0.1")).rejects.toThrow(`port ${port} is in use by another program`);
    await new Promise((resolve) => other.close(resolve));
    await checkAddress(port, "127.0.0.1");
    await expect(checkAddress(0, "192.0.2.1")).rejects.toThrow("192.0.2.1 is no address of this machine");
  });
});

it("Ctrl-C ends generate while kernels are compiled", async () => {
  const cold = { XDG_CACHE_HOME: folder, MESA_SHADER_CACHE_DISABLE: "1" };
  const { child, output, ended } = daguerre(["generate", "a lake", "-o", path.join(folder, "late.png")], cold);
  await until(() => output.stderr.includes("kernels"), 60_000);
  const begun = performance.now();
  child.kill("SIGINT");
  expect(await ended).toBe(130);
  expect(performance.now() - begun).toBeLessThan(3_000);
});

/** Commands run as a person runs them: their real output, errors and exit codes. */
import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

import { promisify, stripVTControlCharacters } from "node:util";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { lavapipeDriver, swiftShaderDriver } from "../src/gpu/drivers/software-driver.ts";
import { until } from "../test/gradient-run.ts";
import type { BenchReport } from "./bench.ts";
import { checkAddress, checkGenerate, makeFolder } from "./checks.ts";
import type { DoctorReport } from "./doctor.ts";
import { withGenerationFlags } from "./generation-flags.ts";
import type { ProfileReport } from "./profile.ts";
import { SETTINGS } from "./settings.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "daguerre-commands-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Ends a process that loads Dawn. */
const NO_GPU = `data:text/javascript,${encodeURIComponent(
  `const { dlopen } = process;
   process.dlopen = (module, file, ...rest) => {
     if (/dawn/.test(file)) process.exit(99);
     return dlopen.call(process, module, file, ...rest);
   };`,
)}`;

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

  it.each(["serve", "generate", "profile", "bench", "tune", "doctor"])(
    "has help for %s, in groups, with an example",
    async (name) => {
      const { stdout, stderr, code } = await run(name, "--help");
      expect(stdout).toMatch(new RegExp(`^Usage: daguerre ${name} `));
      expect(stdout).toMatch(new RegExp(`\\nExample: daguerre ${name} ?.*\\n$`));
      const groups = {
        serve: ["Settings", "Settings of limits"],
        generate: ["GPU and model", "Picture", "More files"],
      };
      for (const group of groups[name as "serve"] ?? ["Options"]) expect(stdout).toContain(`\n${group}:\n`);
      expect([stderr, code]).toEqual(["", 0]);
    },
  );

  const HINT = "\n(daguerre --help lists commands and flags)";
  it.each([
    ["nonsense", `unknown command 'nonsense'${HINT}`],
    ["serve --nonsense", `unknown option '--nonsense'${HINT}`],
    ["serve --port 99999", "--port: must be a whole number from 0 to 65535"],
    ["serve --port many", "--port: must be a whole number from 0 to 65535"],
    ["serve --limits-steps 0", "--limits-steps: must be a whole number from 1 to 200"],
    ["serve --get-stream perhaps", "--get-stream: must be true or false"],
    ["serve --precision f8", "--precision: must be one of auto, f32, f16"],
    ["serve --max-gpu-memory much", "--max-gpu-memory: must be bytes, or an amount as 512MiB or 6GiB"],
    ["serve --lora-dir /nowhere", "--lora-dir: is no folder that exists"],
    ["serve --host 192.0.2.1", "host 192.0.2.1 is no address of this machine; 0.0.0.0 stands for all of them"],
    ["serve --config /nowhere.json", "/nowhere.json: cannot be read (ENOENT)"],
    ["generate", `missing required argument 'prompt'${HINT}`],
    ["generate ", 'the prompt has no words; try: daguerre generate "northern lights over a lake"'],
    ["generate lake --steps 9999", "--steps should be less than or equal to 200"],
    ["generate lake --steps many", `option '--steps <number>' argument 'many' is invalid. It must be a number.${HINT}`],
    ["generate lake --images 0", "--images should be greater than or equal to 1"],
    ["generate lake --seed x", "--seed must be a whole number, at most 2^64 - 1; -1 takes any"],
    [
      "generate lake --size 512",
      `option '--size <WxH>' argument '512' is invalid. A size is WIDTHxHEIGHT in pixels, as 512x768.${HINT}`,
    ],
    ["generate lake --size 100x101", "--size should be a multiple of 8"],
    [
      "generate lake --strength 0.5",
      "--strength says how much of a picture to draw anew: name the picture with --image",
    ],
    ["generate lake --image /nowhere.png", "--image /nowhere.png: there is no such file or folder"],
    ["generate lake --lora /nowhere.safetensors", "--lora /nowhere.safetensors: there is no such file or folder"],
    [
      "generate lake -o out.gif",
      `option '-o, --output <file>' argument 'out.gif' is invalid. A picture's name ends in .png, .jpg or .webp.${HINT}`,
    ],
    ["generate lake -o /dev/null/out.png", "--output: the folder /dev/null cannot be made: /dev/null is a file"],
    [
      "generate lake --precision f8",
      `option '--precision <type>' argument 'f8' is invalid. Allowed choices are auto, f32, f16.${HINT}`,
    ],
    ["bench --rounds 0", "--rounds must be a whole number from 1 to 1000"],
    ["bench --steps 0", "--steps should be greater than or equal to 1"],
    ["tune --size 12x12", "--size should be greater than or equal to 64\n--size should be a multiple of 8"],
    ["profile --layers -1", "--layers must be a whole number from 0 to 1000"],
    ["doctor --port 1", `unknown option '--port'${HINT}`],
  ])("%s: an error at once, in words that name the flag, before a GPU is opened", async (line, message) => {
    const { output, ended } = daguerre(line.split(" "), { NODE_OPTIONS: `--import ${NO_GPU}` });
    expect(await ended).toBe(1);
    expect(output).toEqual({ stdout: "", stderr: `daguerre: ${message}\n` });
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

const DRIVERS = [
  ["lavapipe", lavapipeDriver()],
  ["SwiftShader", await swiftShaderDriver()],
  ["a driver that is not there", path.join(tmpdir(), "no-such-driver.json")],
] as const;

describe.each(DRIVERS)("with %s", (_, driver) => {
  const env = { VK_DRIVER_FILES: driver ?? "", VK_ICD_FILENAMES: driver ?? "" };

  it.runIf(driver).each(["serve --port 0", "generate lake", "profile", "bench", "tune"])(
    "%s writes its own error alone",
    async (line) => {
      const { output, ended } = daguerre([...line.split(" "), "--adapter", "no such GPU"], env);
      expect(await ended).toBe(1);
      expect(output.stdout).toBe("");
      expect(output.stderr).toMatch(/^daguerre: no GPU named like "no such GPU" was found; there is .*\n$/);
    },
  );

  it.runIf(driver)("doctor writes nothing but its report, as lines or as JSON", async () => {
    const lines = daguerre(["doctor"], env);
    const json = daguerre(["doctor", "--json"], env);
    expect([await lines.ended, await json.ended]).toEqual([0, 0]);
    expect(lines.output.stderr + json.output.stderr).toBe("");
    const report = JSON.parse(json.output.stdout) as DoctorReport;
    expect(report).toMatchObject({ usable: true, platform: process.platform, dawn_problem: null });
    expect(lines.output.stdout.trimEnd().split("\n").at(-1)).toBe(report.advice);
    expect(report.chosen).toEqual(expect.any(String));
  });
});

describe("run to the end, with nothing on stderr that is not theirs", { timeout: 300_000 }, () => {
  const small = ["--size", "64x64"];
  const own = /^(getting ready: \w+ \d+% {2}[\d.]+ s|step \d+\/\d+ .*|.*\.png: .*)$/;
  const foreign = (stderr: string) => stderr.split("\n").filter((line) => line !== "" && !own.test(line));
  const subject = { model: "landscapes", width: 64, height: 64, precision: "f32", backend: "vulkan" };

  it("generate", async () => {
    const file = path.join(folder, "lake.png");
    const { output, ended } = daguerre(["generate", "a lake", "-o", file, "--steps", "2", ...small]);
    expect(await ended).toBe(0);
    expect([output.stdout, foreign(output.stderr)]).toEqual(["", []]);
    expect(output.stderr).toContain(`${file}: 64x64, seed `);
  });

  it("bench, as JSON", async () => {
    const { output, ended } = daguerre(["bench", "--json", "--steps", "2", "--rounds", "1", ...small]);
    expect([await ended, foreign(output.stderr)]).toEqual([0, []]);
    const report = JSON.parse(output.stdout) as BenchReport;
    expect(report).toMatchObject({ ...subject, steps: 2, linear_preview_ms: expect.any(Number) });
    expect(report.picture_ms).toBeGreaterThan(report.step_ms);
    expect(report.advice).not.toEqual([]);
  });

  it("tune, which counts, says its gain, and remembers; then as JSON", async () => {
    const env = { XDG_CACHE_HOME: path.join(folder, "tuned") };
    const lines = daguerre(["tune", ...small], env);
    expect([await lines.ended, foreign(lines.output.stderr)]).toEqual([0, []]);
    const rows = lines.output.stdout
      .split("\n")
      .flatMap((line) => /^ {2} *(\d+)\/(\d+) {2}/.exec(line)?.slice(1).map(Number) ?? []);
    const total = rows[1]!;
    expect(rows).toEqual(Array.from({ length: total }, (_, index) => [index + 1, total]).flat());
    expect(lines.output.stdout).toMatch(
      /\n\d+ of \d+ take another kernel than by rule; .*(less|nothing is gained).*; remembered in .*\n$/,
    );
    const json = daguerre(["tune", "--json", ...small], env);
    expect([await json.ended, foreign(json.output.stderr)]).toEqual([0, []]);
    expect(JSON.parse(json.output.stdout)).toMatchObject({ ...subject, shapes: [], rule_ms: 0, tuned_ms: 0 });
  });

  it("profile, as JSON", async () => {
    const { output, ended } = daguerre(["profile", "--json", ...small]);
    expect([await ended, foreign(output.stderr)]).toEqual([0, []]);
    const { step, decode, ...rest } = JSON.parse(output.stdout) as ProfileReport;
    expect(rest).toMatchObject(subject);
    for (const { ms, kernels, layers } of [step, decode]) {
      const sum = (rows: typeof kernels, of: "ms" | "count") => rows.reduce((total, row) => total + row[of], 0);
      expect(sum(kernels, "ms")).toBeCloseTo(ms, 3);
      expect(sum(layers, "ms")).toBeCloseTo(ms, 3);
      expect(sum(layers, "count")).toBe(sum(kernels, "count"));
    }
  });

  it("serve, which logs JSON on a pipe, each request at its end, and ends with 0 at SIGTERM", async () => {
    const { child, output, ended } = daguerre(["serve", "--port", "0"]);
    await until(() => output.stdout.includes("curl"), 240_000);
    const url = /serving {2}(\S+)/.exec(output.stdout)![1]!;
    const body = JSON.stringify({ prompt: "a lake", num_inference_steps: 2, request_id: "r-1" });
    await (await fetch(`${url}/stream`, { method: "POST", body })).text();
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
    const entries = output.stderr
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(entries).toContainEqual(
      expect.objectContaining({ msg: "request", request_id: "r-1", status: 200, ended: "completed" }),
    );
  });
});

it("the log is made of lines for people on a terminal", async () => {
  const code = `
    import { openLog, REQUEST } from ${JSON.stringify(path.join(ROOT, "cli/log.ts"))};
    const log = await openLog({ log_level: "info", log_format: "auto" });
    log.info({ method: "POST", path: "/", status: 200, ended: "completed", ms: 13800, headers_ms: 112, client: "studio" }, REQUEST);
    log.error({ err: new Error("the disk is full") }, "request failed");`;
  const file = path.join(folder, "log.mts");
  await writeFile(file, code);
  const line = `exec "${process.execPath}" --import "${ROOT}/tooling/run.mjs" "${file}"`;
  const { stdout } = await promisify(execFile)("script", ["-qec", line, "/dev/null"], { cwd: ROOT });
  const text = stripVTControlCharacters(stdout);
  expect(text).toMatch(/^\[\d\d:\d\d:\d\d\] INFO: POST \/ 200, completed in 13\.80 s \{"client":"studio"\}\r?\n/);
  expect(text).toContain("ERROR: request failed");
  expect(text).toContain("the disk is full");
});

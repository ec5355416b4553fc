/** Commands run as a person runs them: their real output, errors and exit codes. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify, stripVTControlCharacters } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lavapipeDriver, swiftShaderDriver } from "../src/gpu/drivers/software-driver.ts";
import { until } from "../test/gradient-run.ts";
import { daguerre, ROOT } from "../test/run-command.ts";
import type { BenchReport } from "./bench.ts";
import type { DoctorReport } from "./doctor.ts";
import type { ProfileReport } from "./profile.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "daguerre-commands-"));
});
afterAll(() => rm(folder, { recursive: true }));

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

describe.each(DRIVERS)("with %s", (name, driver) => {
  const env = { VK_DRIVER_FILES: driver ?? "", VK_ICD_FILENAMES: driver ?? "" };

  // All go through one supervisor: one driver sees each of them.
  const commands =
    name === "lavapipe" ? ["serve --port 0", "generate lake", "profile", "bench", "tune"] : ["generate lake"];
  it.runIf(driver).each(commands)("%s writes its own error alone", async (line) => {
    const { output, ended } = daguerre([...line.split(" "), "--adapter", "no such GPU"], env);
    expect(await ended).toBe(1);
    expect(output.stdout).toBe("");
    expect(output.stderr).toMatch(/^daguerre: no GPU named like "no such GPU" was found; there is .*\n$/);
  });

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
  const own = /^(getting ready: (?:\w+ \d+%|done) {2}[\d.]+ s|step \d+\/\d+ .*|.*\.png: .*)$/;
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

  // A minute of timing: `DAGUERRE_TEST_TUNE=1` asks for it.
  it.runIf(process.env.DAGUERRE_TEST_TUNE === "1")(
    "tune, which counts, says its gain, and remembers; then as JSON",
    async () => {
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
    },
  );

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

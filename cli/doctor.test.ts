import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import type { AdapterFacts } from "../src/gpu/adapter-facts.ts";
import { lavapipeDriver, swiftShaderDriver } from "../src/gpu/drivers/software-driver.ts";
import { advise, canBeFaster, type Findings } from "./advise.ts";
import { doctor } from "./doctor.ts";
import { readDistribution } from "./mending.ts";

const linux = process.platform === "linux";
const folder = mkdtempSync(join(tmpdir(), "daguerre-doctor-"));
afterAll(() => rmSync(folder, { recursive: true }));

it("finds this machine usable, with a computation that came out right", async () => {
  const lines: string[] = [];
  const report = await doctor((line) => lines.push(line));
  const text = lines.join("\n");
  expect(report.usable, text).toBe(true);
  expect(report.advice).toBe(lines.at(-1));
  expect(report.adapters.map(({ name }) => name)).toContain(report.chosen);
  expect(text).toContain(`Node ${process.versions.node}`);
  expect(text).toMatch(/f16 (yes|no); subgroups (no|\d+ (to \d+ )?lanes); timestamps (yes|no)/);
  expect(text).toMatch(/largest buffer \d+ MiB, of which a kernel sees \d+ MiB at once/);
  expect(text).toContain("1024 squares came out right");
  expect(lines.at(-1)).toMatch(/^Ready/);
  for (const line of lines) expect(line).not.toContain("\n");
});

it("writes each line by itself as a command", () => {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const args = ["--import", "./tooling/wgsl-loader.mjs", "--import", "tsx", "cli/daguerre.ts", "doctor"];
  const { stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  const lines = stdout.trimEnd().split("\n");
  expect(lines[0]).toBe("Machine");
  expect(lines).toContain("Trial");
  expect(lines.at(-1)).toMatch(/^Ready/);
});

/** The report of a process whose Vulkan is restricted to these drivers. */
function doctorWith(driverFiles: readonly string[]): { code: number | null; lines: string[] } {
  const script = join(folder, "doctor.mts");
  const doctorModule = fileURLToPath(new URL("./doctor.ts", import.meta.url));
  writeFileSync(
    script,
    `import { doctor } from ${JSON.stringify(doctorModule)};
     process.exitCode = (await doctor((line) => console.log(line))).usable ? 0 : 1;`,
  );
  const run = spawnSync(process.execPath, ["--import", import.meta.resolve("tsx"), script], {
    env: { ...process.env, VK_DRIVER_FILES: driverFiles.join(delimiter) },
    encoding: "utf8",
  });
  return { code: run.status, lines: run.stdout.trimEnd().split("\n") };
}

const usable = linux ? (lavapipeDriver() ?? (await swiftShaderDriver())) : undefined;

describe.runIf(usable)("restricted to certain drivers", () => {
  it("says so, and what each is", () => {
    const broken = join(folder, "broken.json");
    writeFileSync(broken, "{");
    const { code, lines } = doctorWith([usable ?? "", broken]);
    expect(code).toBe(0);
    const text = lines.join("\n");
    expect(text).toContain(`VK_DRIVER_FILES restricts Vulkan to: ${usable}, ${broken}`);
    expect(text).toMatch(new RegExp(`${usable}: (lavapipe, Mesa [\\d.]+|SwiftShader): accepted`));
    expect(text).toMatch(/broken\.json: unusable: .*JSON/);
  });

  const compiler = spawnSync("cc", ["--version"]).status === 0;

  it.runIf(compiler)("survives a driver that kills its process, names it and says how to go round it", () => {
    const source = join(folder, "crash.c");
    const library = join(folder, "libcrash.so");
    const icd = join(folder, "crash.json");
    writeFileSync(source, "#include <stdlib.h>\n__attribute__((constructor)) static void crash(void) { abort(); }\n");
    execFileSync("cc", ["-shared", "-fPIC", "-o", library, source]);
    const content = { file_format_version: "1.0.0", ICD: { library_path: library, api_version: "1.3.0" } };
    writeFileSync(icd, JSON.stringify(content));
    const { code, lines } = doctorWith([icd, usable ?? ""]);
    expect(code).toBe(1);
    expect(lines).toContain(`  ${icd}: BROKEN: the process died (SIGABRT)`);
    expect(lines.at(-1)).toMatch(/^Not usable: a Vulkan driver breaks the process\. .*export VK_DRIVER_FILES=/);
    expect(lines.at(-1)).toContain(usable);
    expect(lines.at(-1)).not.toContain(icd);
  });
});

describe("advice", () => {
  const software: AdapterFacts = {
    kind: "software",
    name: "SwiftShader Device (Subzero)",
    vendor: "google",
    architecture: "swiftshader",
    description: "SwiftShader driver 5.0.0",
    backend: "vulkan",
    driver: "swiftshader",
    features: [],
  };
  const lavapipe: AdapterFacts = { ...software, name: "llvmpipe", driver: "lavapipe" };
  const hardware: AdapterFacts = { ...software, kind: "hardware", name: "NVIDIA H200", driver: undefined };
  const none: Findings = {
    distribution: readDistribution("ID=debian\nVERSION_CODENAME=bookworm"),
    deb822: true,
    dawnProblem: undefined,
    swiftShader: "installed",
    gpus: [],
    forbidden: undefined,
    lavapipe: undefined,
    crashing: [],
    working: [],
    adapter: undefined,
    platform: "linux",
  };

  it("has nothing to mend on a GPU, or on lavapipe where there is none", () => {
    expect(advise({ ...none, gpus: ["NVIDIA"], adapter: hardware })).toBe(
      "Ready: NVIDIA H200. There is nothing to mend.",
    );
    expect(advise({ ...none, adapter: lavapipe })).toMatch(/^Ready, .*nothing to mend\.$/);
  });

  it.each([
    ["a GPU", hardware, [], false],
    ["lavapipe alone", lavapipe, [], false],
    ["lavapipe beside a GPU", lavapipe, ["AMD"], true],
    ["SwiftShader", software, [], true],
  ] as const)("says the same as the greeting about what would be faster: %s", (_, chosen, gpus, faster) => {
    expect(canBeFaster(gpus, chosen)).toBe(faster);
    expect(advise({ ...none, gpus, adapter: chosen }).endsWith("othing to mend.")).toBe(!faster);
  });

  it("points at a GPU that is there and not used, and at the reason", () => {
    expect(advise({ ...none, gpus: ["NVIDIA"], adapter: lavapipe })).toMatch(
      /^Ready, .*NVIDIA.*DRIVER_CAPABILITIES=all/,
    );
    const locked = advise({ ...none, gpus: ["AMD"], forbidden: "/dev/dri/renderD128", adapter: lavapipe });
    expect(locked).toMatch(/renderD128 is not open to this user: add the user to the group "render"/);
  });

  it("recommends lavapipe over SwiftShader, and a newer Mesa where Dawn refuses it", () => {
    expect(advise({ ...none, adapter: software })).toMatch(
      /^Ready, .*lavapipe is several times faster, as root: .*backports/,
    );
    const old = { ...none, lavapipe: { version: "22.3.6", accepted: false } };
    expect(advise({ ...old, adapter: software })).toMatch(
      /^Ready, .*Dawn refuses this machine's Mesa \(22\.3\.6\).*backports/,
    );
    expect(advise(old)).toMatch(/^Not usable: Dawn refuses this Mesa \(22\.3\.6\)\. As root: .*backports/);
  });

  it("offers the software GPU that comes with a checkout where nothing is there and root may not be had", () => {
    expect(advise({ ...none, swiftShader: "missing" })).toMatch(/^Not usable: .*without root: npm ci$/);
    expect(advise({ ...none, swiftShader: "impossible" })).not.toContain("npm ci");
  });

  it("says where Dawn cannot run at all", () => {
    expect(advise({ ...none, dawnProblem: "GLIBC_2.34 not found" })).toMatch(/^Not usable: Dawn cannot be loaded/);
    expect(advise({ ...none, platform: "win32" })).toMatch(/^Not usable: .*graphics driver/);
  });
});

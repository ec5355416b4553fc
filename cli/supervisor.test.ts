/** Real processes: a program that runs itself below the supervisor and does what native code does. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DriverMessages } from "../src/gpu/drivers/driver-messages.ts";
import { until } from "../test/gradient-run.ts";
import { ROOT, watched } from "../test/run-command.ts";

const DAWN = [
  "Warning: loader_get_json: Failed to open JSON file /nonexist.json",
  "Warning: vkCreateInstance failed with VK_ERROR_INCOMPATIBLE_DRIVER",
  "    at CheckVkSuccessImpl (/home/runner/work/third_party/dawn/src/dawn/native/vulkan/VulkanError.cpp:106)",
  "",
  "Warning: maxDynamicUniformBuffersPerPipelineLayout artificially reduced from 1000000 to 16 to fit a limit.",
];
const MESA = [
  "MESA-INTEL: warning: Performance support disabled, consider sysctl dev.i915.perf_stream_paranoid=0",
  "WARNING: radv is not a conformant Vulkan implementation, testing use only.",
  "MESA: error: ZINK: failed to choose pdev",
];
const THROWN = [
  "file:///srv/app.js:1",
  'throw new Error("x")',
  "^",
  "",
  "Error: x",
  "    at file:///srv/app.js:1:7",
  "",
  "Node.js v20.20.2",
];

let folder: string;
let program: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "daguerre-supervisor-"));
  program = path.join(folder, "program.mjs");
  const module = (name: string) => JSON.stringify(path.join(import.meta.dirname, name));
  await writeFile(
    program,
    `import { writeSync } from "node:fs";
     import { isSupervised, takeStderr } from ${module("supervised.ts")};
     import { onInterrupt } from ${module("interrupts.ts")};
     if (isSupervised()) {
       takeStderr();
       const native = (text) => writeSync(2, text);
       await new Function("native", "onInterrupt", "return (async () => {" + process.argv[2] + "})()")(native, onInterrupt);
     } else {
       const { supervise } = await import(${module("supervisor.ts")});
       await supervise();
     }`,
  );
});
afterAll(() => rm(folder, { recursive: true }));

function start(code: string, env: Record<string, string> = {}, detached = false) {
  const args = ["--import", path.join(ROOT, "tooling/run.mjs"), program, code];
  const { DEBUG: _, ...rest } = process.env;
  const child = spawn(process.execPath, args, { cwd: ROOT, env: { ...rest, ...env }, detached });
  return watched(child);
}

async function run(code: string, env: Record<string, string> = {}) {
  const { output, ended } = start(code, env);
  const exit = await ended;
  return { ...output, code: exit };
}

const written = (lines: readonly string[]) => `native(${JSON.stringify(`${lines.join("\n")}\n`)});`;

describe("messages of drivers", () => {
  it("are known by their shape", () => {
    const messages = new DriverMessages();
    for (const line of [...DAWN, ...MESA, "Error: [Invalid Buffer] is invalid.", " - While calling [Queue].Submit"]) {
      expect([line, messages.isDrivers(line)]).toEqual([line, true]);
    }
  });

  it.each([
    THROWN,
    ["(node:7) Warning: Setting the NODE_TLS_REJECT_UNAUTHORIZED", "(Use `node --trace-warnings ...`)"],
    ["FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"],
    ["LLVM ERROR: out of memory", "    at an indented place", ""],
  ])("are not those of Node and others: %j", (...lines) => {
    const messages = new DriverMessages();
    for (const line of lines) expect([line, messages.isDrivers(line)]).toEqual([line, false]);
  });
});

describe("a command in a child", { timeout: 60_000 }, () => {
  it("hides what drivers write and shows all else", async () => {
    const code = `${written(DAWN)} process.stderr.write("own\\n"); ${written(["LLVM ERROR: out of memory", ...MESA])} console.log("out");`;
    const { stdout, stderr, code: exit } = await run(code);
    expect([stdout, exit]).toEqual(["out\n", 0]);
    expect(stderr.split("\n").sort()).toEqual(["", "LLVM ERROR: out of memory", "own"]);
  });

  it("shows all of it where DEBUG is set", async () => {
    expect((await run(written(DAWN), { DEBUG: "1" })).stderr).toBe(`${DAWN.join("\n")}\n`);
  });

  it("shows an error that nobody catches, as Node prints it", async () => {
    const { stderr, code } = await run(`${written(DAWN)} setTimeout(() => { throw new Error("unforeseen"); })`);
    expect(stderr).toMatch(/\n\s*\^\n\nError: unforeseen\n {4}at /);
    expect(stderr).not.toMatch(/^Warning: /m);
    expect(code).toBe(1);
  });

  it("passes on a line without an end at once, unless it may be a driver's", async () => {
    const { child, output, ended } = start(
      'native("dots .."); await new Promise((r) => process.stdin.once("data", r)); native(".\\nWarn"); process.exit(0);',
    );
    await until(() => output.stderr === "dots ..", 20_000);
    child.stdin.end("go on");
    await ended;
    expect(output.stderr).toBe("dots ...\nWarn");
  });

  it.each(["pipe", "file"])("loses nothing of 8 MB that are written before it exits, to a %s", async (where) => {
    const code = 'process.stderr.write("x".repeat(8e6)); process.stderr.write("end\\n"); process.exit(3);';
    if (where === "pipe") {
      const { stderr, code: exit } = await run(code);
      expect([stderr.length, stderr.slice(-4), exit]).toEqual([8e6 + 4, "end\n", 3]);
      return;
    }
    const file = path.join(folder, "log");
    const handle = await open(file, "w");
    const args = ["--import", path.join(ROOT, "tooling/run.mjs"), program, code];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", handle.fd] });
    expect(await new Promise((resolve) => child.on("close", resolve))).toBe(3);
    await handle.close();
    expect((await readFile(file, "utf8")).length).toBe(8e6 + 4);
  });

  it("has a terminal where its parent has one", async () => {
    const show = path.join(folder, "terminal.json");
    const code = `const { isTTY, columns, rows } = process.stderr; const { writeFileSync } = await import("node:fs");
      writeFileSync(${JSON.stringify(show)}, JSON.stringify([isTTY, columns, rows, process.stdin.isTTY, process.stdout.isTTY]));`;
    const file = path.join(folder, "code.mjs");
    await writeFile(file, code);
    const importing = `await import(${JSON.stringify(file)})`;
    const line = `stty cols 91 rows 17; exec "${process.execPath}" --import "${ROOT}/tooling/run.mjs" "${program}" '${importing}'`;
    const child = spawn("script", ["-qec", line, "/dev/null"], { cwd: ROOT, stdio: ["ignore", "ignore", "ignore"] });
    expect(await new Promise((resolve) => child.on("close", resolve))).toBe(0);
    expect(JSON.parse(await readFile(show, "utf8"))).toEqual([true, 91, 17, true, true]);
  });

  it.each([
    ["process.exit(7)", 7, ""],
    ["process.exitCode = 2", 2, ""],
    [
      'process.kill(process.pid, "SIGSEGV"); await new Promise(() => {});',
      139,
      "daguerre: the process crashed (SIGSEGV)",
    ],
    ["process.abort()", 134, "daguerre: the process crashed (SIGABRT)"],
    ['process.kill(process.pid, "SIGKILL")', 137, "daguerre: the system ended the process (SIGKILL)"],
    ['process.kill(process.pid, "SIGTERM"); setTimeout(() => {}, 1e6);', 143, ""],
  ])("ends as it did: %s", async (code, exit, sentence) => {
    const result = await run(code);
    expect(result.code).toBe(exit);
    const own = result.stderr.split("\n").filter((line) => line.startsWith("daguerre: "));
    expect(own.join().slice(0, sentence.length)).toBe(sentence);
    expect(own).toHaveLength(sentence === "" ? 0 : 1);
  });
});

describe.each(["SIGINT", "SIGTERM"] as const)("%s", (signal) => {
  const acting = `let times = 0; onInterrupt(() => { times++; setTimeout(() => { console.log("times", times); process.exit(5); }, 300); });
    console.log("ready"); setInterval(() => {}, 1e6);`;
  const ready = (output: { stdout: string }) => until(() => output.stdout.includes("ready"), 20_000);
  const group = ({ pid }: ChildProcess) => process.kill(-(pid as number), signal);

  it.each(["the command", "its group"])("to %s is acted on once", async (whom) => {
    const { child, output, ended } = start(acting, {}, true);
    await ready(output);
    if (whom === "its group") group(child);
    else child.kill(signal);
    expect(await ended).toBe(5);
    expect(output.stdout).toBe("ready\ntimes 1\n");
  });

  it.each(["the command", "its group"])("to %s ends one that does not act on it", async (whom) => {
    const { child, output, ended } = start('console.log("ready"); setInterval(() => {}, 1e6);', {}, true);
    await ready(output);
    if (whom === "its group") group(child);
    else child.kill(signal);
    expect(await ended).toBe(signal === "SIGINT" ? 130 : 143);
    expect(output.stderr).toBe("");
  });
});

it("the child ends if its parent is killed", async () => {
  const { child, output } = start("console.log(process.pid); setInterval(() => {}, 1e6);");
  await until(() => /\d+\n/.test(output.stdout), 20_000);
  const pid = Number(output.stdout);
  child.kill("SIGKILL");
  await until(() => {
    try {
      return !process.kill(pid, 0);
    } catch {
      return true;
    }
  }, 5_000);
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cpuMs, startTurnMeter, type TurnReport } from "./turn-meter.ts";

/** Until this thread has had so many ms of CPU, however busy the machine and the process's other threads are. */
function compute(ms: number): void {
  for (const begun = cpuMs(); cpuMs() - begun < ms; );
}

describe("the longest turn", () => {
  test("is that of the longest computation, not their sum and not the waiting between them", async () => {
    const meter = startTurnMeter();
    for (const ms of [30, 120, 40]) {
      await setTimeout(20);
      compute(ms);
    }
    await setTimeout(300);
    const { longestMs } = meter.stop();
    expect(longestMs).toBeGreaterThanOrEqual(120);
    expect(longestMs).toBeLessThan(150);
  });

  test("is short where work is cut by immediates", async () => {
    const meter = startTurnMeter();
    for (let i = 0; i < 40; i++) {
      compute(3);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(meter.stop().longestMs).toBeLessThan(20);
  });

  test("counts the turn that is under way, and begins anew when taken", async () => {
    const meter = startTurnMeter();
    await setTimeout(5);
    compute(80);
    expect(meter.take().longestMs).toBeGreaterThanOrEqual(80);
    await setTimeout(30);
    expect(meter.stop().longestMs).toBeLessThan(40);
  });
});

describe("as a preload", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "daguerre-turns-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("it writes at SIGUSR2 and at exit", async () => {
    const file = join(folder, "turns.json");
    const meter = new URL("turn-meter.ts", import.meta.url);
    const program = `
      import("${meter}").then(({ cpuMs }) => {
        process.stdin.on("data", (ms) => {
          for (const begun = cpuMs(); cpuMs() - begun < ms; );
          console.log("done");
        });
        console.log("ready", process.env.TURN_METER_FILE);
      });`;
    const child = spawn(process.execPath, ["--import", "tsx", "--import", meter.pathname, "-e", program], {
      env: { ...process.env, TURN_METER_FILE: file },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    const report = async (number: number): Promise<TurnReport> => {
      for (;;) {
        const text = await readFile(file, "utf8").catch(() => "{}");
        const found = JSON.parse(text) as TurnReport;
        if (found.reports === number) return found;
        await setTimeout(5);
      }
    };
    const [greeting] = await once(child.stdout, "data");
    expect(String(greeting)).toBe("ready undefined\n");
    child.kill("SIGUSR2"); // what loading took
    await report(1);
    child.stdin.write("150");
    await once(child.stdout, "data");
    child.kill("SIGUSR2");
    const busy = await report(2);
    expect(busy.latestMs).toBeGreaterThanOrEqual(150);
    expect(busy.latestMs).toBeLessThan(200);
    child.stdin.end();
    await exited;
    const last = await report(3);
    expect(last.latestMs).toBeLessThan(75);
    expect(last.longestMs).toBeGreaterThanOrEqual(busy.latestMs);
  });
});

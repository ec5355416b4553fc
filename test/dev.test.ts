/** `npm run dev`: a change restarts the server, and Ctrl-C leaves no process behind. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { utimes } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import { until } from "./gradient-run.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** Milliseconds until a server that runs from its sources answers, on a machine that does other work too. */
const START_MS = 90_000;

let dev: ChildProcess | undefined;

afterEach(async () => {
  if (dev === undefined || dev.exitCode !== null || dev.signalCode !== null) return;
  const ended = once(dev, "exit");
  process.kill(-dev.pid!, "SIGTERM");
  await ended;
});

it("restarts the server on change, and stops with all its processes", { timeout: 2.5 * START_MS }, async () => {
  dev = spawn("npm", ["run", "--silent", "dev", "--", "--port", "0", "--tune", "off"], {
    cwd: ROOT,
    // A process group of its own, so that the signal reaches npm and its child as Ctrl-C in a terminal does.
    detached: true,
  });
  const ended = once(dev, "exit");
  let output = "";
  for (const stream of [dev.stdout!, dev.stderr!]) stream.on("data", (data) => (output += data));
  const addresses = () => [...output.matchAll(/serving +(http:\S+)/g)].map(([, address]) => address!);
  const answers = (address: string) =>
    fetch(`${address}/health`).then(
      ({ ok }) => ok,
      () => false,
    );

  await until(() => addresses().length === 1, START_MS);
  const [first] = addresses();
  const page = await fetch(first!, { headers: { accept: "text/html" } });
  expect(await page.text()).toContain("playground/main-");

  const now = new Date();
  await utimes(join(ROOT, "transports/json.ts"), now, now);
  await until(() => addresses().length === 2, START_MS);
  const second = addresses()[1]!;
  expect(output).toContain("transports/json.ts changed");
  expect(await answers(first!)).toBe(false);
  expect(await answers(second)).toBe(true);

  process.kill(-dev.pid!, "SIGINT");
  await ended;
  expect(await answers(second)).toBe(false);
});

/** `daguerre serve` with the built-in model as a process of its own, with the probe in it. */

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

export interface Probe {
  readonly milliseconds: number;
  readonly cpuMilliseconds: number;
  readonly threadMilliseconds?: number;
  readonly delayP50: number;
  readonly delayP99: number;
  readonly delayMax: number;
}

export interface Served {
  readonly url: string;
  /** From the start of the process until it said that it was ready, in ms. */
  readonly startMilliseconds: number;
  /** Its use since the last probe. */
  probe(): Promise<Probe>;
  stop(): void;
}

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const POLL_MS = 20;
const READY_WITHIN_MS = 180_000;

export async function startServer(): Promise<Served> {
  const port = await freePort();
  const begun = performance.now();
  const args = [
    ...["--import", path("../../tooling/wgsl-loader.mjs"), "--import", "tsx", "--import", path("probe.mjs")],
    ...[path("../../cli/main.ts"), "serve", "--port", String(port)],
  ];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe", "ipc"] });
  let said = "";
  child.stderr!.on("data", (data) => (said = `${said}${data}`.slice(-1000)));
  let ended: string | undefined;
  child.on("exit", (code) => (ended = `the server ended with ${code}: ${said.trim()}`));
  const url = `http://127.0.0.1:${port}`;
  while (true) {
    if (ended) throw new Error(ended);
    if (performance.now() - begun > READY_WITHIN_MS) {
      child.kill("SIGKILL");
      throw new Error(`the server was not ready within ${READY_WITHIN_MS / 1000} s: ${said.trim()}`);
    }
    const response = await fetch(`${url}/ready`).catch(() => undefined);
    if (response?.ok) break;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return {
    url,
    startMilliseconds: performance.now() - begun,
    probe: () =>
      new Promise((resolve) => {
        child.once("message", (message) => resolve(message as Probe));
        child.send("probe");
      }),
    stop: () => void child.kill("SIGKILL"),
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

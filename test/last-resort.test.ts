/**
 * An error that nobody caught, in a real `daguerre serve`: it is written down, what runs is finished, new work is refused,
 * and the process ends with 1.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createParser } from "eventsource-parser";
import { afterEach, expect, it } from "vitest";
import { WebSocket } from "ws";
import { until } from "./gradient-run.ts";

const ROOT = path.resolve(import.meta.dirname, "..");

/** Throws where nobody can catch it, while a request, an upgrade, a frame or a line of the log is handled. */
const FAULTS = `
import http from "node:http";
import net from "node:net";
const { emit } = http.Server.prototype;
http.Server.prototype.emit = function (event, request, ...rest) {
  const fault = event === "request" || event === "upgrade" ? /fault=(\\w+)/.exec(request.url)?.[1] : undefined;
  if (fault === "later") setImmediate(() => { throw new Error("thrown later"); });
  if (fault === "rejected") Promise.reject(new Error("rejected"));
  if (fault === "frame") request.socket.on("data", () => { throw new Error("thrown at a frame"); });
  if (fault === "log") {
    const { stringify } = JSON;
    JSON.stringify = () => { JSON.stringify = stringify; setImmediate(() => { throw new Error("thrown at a line"); }); return "{}"; };
  }
  return emit.call(this, event, request, ...rest);
};
`;

const running: ChildProcess[] = [];
let dir: string | undefined;
afterEach(async () => {
  for (const child of running.splice(0)) child.kill("SIGKILL");
  if (dir !== undefined) await rm(dir, { recursive: true });
  dir = undefined;
});

async function serving() {
  dir = await mkdtemp(path.join(tmpdir(), "daguerre-faults-"));
  const preload = path.join(dir, "faults.mjs");
  await writeFile(preload, FAULTS);
  const child = spawn(
    process.execPath,
    [
      ...["./tooling/wgsl-loader.mjs", "tsx", preload].flatMap((module) => ["--import", module]),
      ...["cli/main.ts", "serve", "--port", "0", "--adapter", "software", "--shutdown-seconds", "60"],
    ],
    { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] },
  );
  running.push(child);
  const server = { child, out: "", log: "", code: undefined as number | null | undefined, url: "" };
  child.stdout.on("data", (data) => {
    server.out += data;
  });
  child.stderr.on("data", (data) => {
    server.log += data;
  });
  child.on("exit", (code) => {
    server.code = code;
  });
  await until(() => /serving\s+http/.test(server.out) || server.code !== undefined, 110_000);
  server.url = /serving\s+(http\S+)/.exec(server.out)?.[1] ?? "";
  expect(server.url, server.log).not.toBe("");
  return server;
}

it.each(["later", "rejected", "frame", "log"])(
  "thrown so (%s) is logged, and the process ends with its drain",
  async (fault) => {
    const server = await serving();
    const types: string[] = [];
    const parser = createParser({ onEvent: ({ data }) => types.push(JSON.parse(data).type) });
    const stream = await fetch(`${server.url}/stream`, {
      method: "POST",
      body: JSON.stringify({ prompt: "a lighthouse", width: 64, height: 64, num_inference_steps: 60 }),
    });
    const ended = (async () => {
      for await (const chunk of stream.body!) parser.feed(Buffer.from(chunk).toString());
    })();
    await until(() => types.includes("progress"), 60_000);
    if (fault === "frame") {
      const socket = new WebSocket(`${server.url.replace("http", "ws")}/realtime?fault=frame`);
      socket.on("error", () => {});
      socket.on("open", () => socket.send("{}"));
    } else await fetch(`${server.url}/health?fault=${fault}`).catch(() => {});
    await until(() => /"level":60/.test(server.log), 10_000);
    const fatal = JSON.parse(server.log.split("\n").find((line) => line.includes('"level":60'))!);
    expect(fatal.err.message).toMatch(/thrown|rejected/);
    const refused = await fetch(`${server.url}/`, { method: "POST", body: '{"prompt":"x"}' });
    expect(refused.status).toBe(503);
    expect((await fetch(`${server.url}/ready`)).status).toBe(503);
    await ended;
    expect(types.at(-1)).toBe("result");
    await until(() => server.code !== undefined, 20_000);
    expect(server.code).toBe(1);
  },
);

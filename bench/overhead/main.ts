/**
 * The cost of a request besides its run, in CPU time of the server, of two checkouts in turns:
 *
 *     npm run bench:overhead -- OTHER_CHECKOUT [--pairs 30] [--requests 200]
 *
 * A usual request over server-sent events and over a WebSocket, and one with a picture of 2 MB, as JSON and as msgpack.
 * Printed are the medians, and the median of the pairs' differences with the 95% interval of that median.
 */
import { type ChildProcess, fork } from "node:child_process";
import http from "node:http";
import path from "node:path";
import { parseArgs } from "node:util";
import { encode } from "@msgpack/msgpack";
import { WebSocket } from "ws";
import { measurePairs, pairsLine } from "../pairs.ts";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { pairs: { type: "string", default: "30" }, requests: { type: "string", default: "200" } },
});
const here = path.resolve(import.meta.dirname, "../..");
const other = positionals[0];
if (other === undefined) {
  console.error("Name the checkout to compare with.");
  process.exit(1);
}

interface Server {
  readonly child: ChildProcess;
  readonly port: number;
}

function tell<Answer>(child: ChildProcess, message?: object): Promise<Answer> {
  return new Promise((resolve) => {
    child.once("message", (answer) => resolve(answer as Answer));
    if (message !== undefined) child.send(message);
  });
}

async function start(checkout: string): Promise<Server> {
  const loaders = [path.join(here, "tooling/wgsl-loader.mjs"), "tsx"].flatMap((module) => ["--import", module]);
  const child = fork(path.join(here, "bench/overhead/server.ts"), [path.resolve(checkout)], {
    execArgv: loaders,
    cwd: here,
  });
  return { child, port: (await tell<{ port: number }>(child)).port };
}

const cpuOf = async ({ child }: Server) => (await tell<{ cpuMs: number }>(child, { cpu: true })).cpuMs;

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
function post({ port }: Server, pathname: string, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, path: pathname, method: "POST", agent }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`${pathname} answered ${response.statusCode}`));
      response.resume().on("end", resolve);
    });
    request.on("error", reject);
    request.end(body);
  });
}

const sockets = new Map<Server, WebSocket>();
async function ask(server: Server, message: string | Uint8Array): Promise<void> {
  const socket = sockets.get(server) ?? new WebSocket(`ws://127.0.0.1:${server.port}/realtime`);
  sockets.set(server, socket);
  if (socket.readyState !== socket.OPEN) await new Promise((resolve) => socket.once("open", resolve));
  const answered = new Promise<void>((resolve) => {
    const take = (_: Buffer, binary: boolean) => {
      if (!binary) return;
      socket.off("message", take);
      resolve();
    };
    socket.on("message", take);
  });
  socket.send(message);
  await answered;
}

const WORDS = {
  prompt: "a lighthouse at sunset, long exposure",
  num_inference_steps: 20,
  width: 64,
  height: 64,
  seed: 7,
};
const picture = Buffer.alloc(2e6, 1).map((_, index) => (index * 2654435761) >>> 13);
const json = JSON.stringify(WORDS);
const withPicture = JSON.stringify({ ...WORDS, image: `data:image/png;base64,${picture.toString("base64")}` });
const packed = encode({ ...WORDS, image: new Uint8Array(picture) });

const requests = Number(flags.requests);
const KINDS: Record<string, { readonly times: number; readonly run: (server: Server) => Promise<void> }> = {
  SSE: { times: requests, run: (server) => post(server, "/stream", json) },
  WebSocket: { times: requests, run: (server) => ask(server, json) },
  "picture of 2 MB, JSON": { times: Math.ceil(requests / 10), run: (server) => post(server, "/stream", withPicture) },
  "picture of 2 MB, msgpack": { times: Math.ceil(requests / 10), run: (server) => ask(server, packed) },
};

const servers = { here: await start(here), other: await start(other) };
for (const [name, { times, run }] of Object.entries(KINDS).filter(
  ([name]) => !process.env.ONLY || name.includes(process.env.ONLY),
)) {
  const lap = async (server: Server) => {
    const before = await cpuOf(server);
    for (let n = 0; n < times; n++) await run(server);
    return ((await cpuOf(server)) - before) / times;
  };
  for (const server of Object.values(servers)) for (let n = 0; n < 5; n++) await lap(server);
  const pairs = await measurePairs(
    Number(flags.pairs),
    () => lap(servers.here),
    () => lap(servers.other),
  );
  console.log(pairsLine(name, pairs));
}
for (const socket of sockets.values()) socket.terminate();
for (const { child } of Object.values(servers)) child.kill();
agent.destroy();

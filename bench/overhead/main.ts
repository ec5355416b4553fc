/**
 * What a request costs besides its run, in CPU time of the server, of two checkouts in turns:
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
  const pairs: [here: number, other: number][] = [];
  for (let n = 0; n < Number(flags.pairs); n++) {
    const first = n % 2 === 0 ? await lap(servers.here) : undefined;
    const second = await lap(servers.other);
    pairs.push([first ?? (await lap(servers.here)), second]);
  }
  const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
  const differences = pairs.map(([a, b]) => a - b).sort((a, b) => a - b);
  // Ranks of a binomial's middle 95%: https://en.wikipedia.org/wiki/Median#Variance, by its normal approximation.
  const half = 0.98 * Math.sqrt(pairs.length);
  const rank = (offset: number) =>
    differences[Math.min(Math.max(Math.round(pairs.length / 2 + offset), 0), pairs.length - 1)]!;
  const [mine, theirs] = [median(pairs.map(([a]) => a)), median(pairs.map(([, b]) => b))];
  console.log(
    `${name}: ${mine.toFixed(3)} ms here, ${theirs.toFixed(3)} ms there, ${median(differences).toFixed(3)} ms more (${rank(-half).toFixed(3)} to ${rank(half).toFixed(3)}), ${(((mine - theirs) / theirs) * 100).toFixed(1)}%`,
  );
}
for (const socket of sockets.values()) socket.terminate();
for (const { child } of Object.values(servers)) child.kill();
agent.destroy();

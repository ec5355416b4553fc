/** A peer's process: `node … serve-peer.ts <peer> <options as JSON>`. Reads requests until its standard input ends. */

import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Peer, Prepared, Reply, Request } from "./peer.ts";
import { REPLY } from "./peer.ts";

export interface PeerOptions {
  readonly driver?: "lavapipe" | "swiftshader";
  /** PyTorch's type of number, and whether it replays a CUDA graph. */
  readonly torch?: { readonly type: "f32" | "f16"; readonly graph?: boolean };
}

type Open = (options: PeerOptions) => Promise<Peer>;

const PEERS: Record<string, () => Promise<Open>> = {
  daguerre: async () => (await import("./daguerre.ts")).open,
  "ort-webgpu": async () => (await import("./onnxruntime-node.ts")).openWebGpu,
  "ort-cpu": async () => (await import("./onnxruntime-node.ts")).openCpu,
  "ort-web": async () => (await import("./onnxruntime-web.ts")).open,
  "tfjs-webgpu": async () => (await import("./tfjs.ts")).open,
  "jax-js": async () => (await import("./jax.ts")).open,
};

const [name = "", options = "{}"] = process.argv.slice(2);
const reply = (message: Reply) => process.stdout.write(`${REPLY}${JSON.stringify(message)}\n`);
const reason = (error: unknown) => (error instanceof Error ? error.message : String(error));

let prepared: Prepared | undefined;

async function timed<T>(work: () => Promise<T>) {
  const begun = performance.now();
  const before = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(before);
  return { result, lap: { milliseconds: performance.now() - begun, cpuMilliseconds: (user + system) / 1000 } };
}

async function answer(request: Request, peer: Peer): Promise<Reply> {
  switch (request.method) {
    case "prepare":
      await prepared?.release();
      prepared = undefined;
      prepared = await peer.prepare(request.work);
      return { ok: true, ...(prepared.note ? { note: prepared.note } : {}) };
    case "run":
      return { ok: true, ...(await timed(() => prepared!.run(request.times))).lap };
    case "output": {
      const { result, lap } = await timed(() => prepared!.output());
      writeFileSync(request.file, result);
      return { ok: true, ...lap };
    }
    case "release":
      await prepared?.release();
      prepared = undefined;
      return { ok: true };
    default:
      return request satisfies never;
  }
}

try {
  const open = await PEERS[name]!();
  const peer = await open(JSON.parse(options));
  reply({ ready: peer.description });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      reply(await answer(JSON.parse(line), peer));
    } catch (error) {
      reply({ error: reason(error) });
    }
  }
} catch (error) {
  reply({ error: reason(error) });
}
process.exit(0);

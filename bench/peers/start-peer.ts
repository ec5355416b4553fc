/** Starts peers' processes and talks to them. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { lavapipeDriver, swiftShaderDriver } from "../../src/gpu/drivers/software-driver.ts";
import type { Lap } from "../turns.ts";
import { REPLY, type Reply, type Request, type Work } from "./peer.ts";
import type { PeerOptions } from "./serve-peer.ts";

export const PEER_NAMES = [
  "daguerre",
  "ort-webgpu",
  "ort-cpu",
  "ort-web",
  "tfjs-webgpu",
  "jax-js",
  "torch-cpu",
  "torch-cuda",
] as const;
export type PeerName = (typeof PEER_NAMES)[number];

export interface RunningPeer {
  readonly name: PeerName;
  readonly description: string;
  /** Gives the peer's own note. Throws what the peer says is wrong. */
  prepare(work: Work): Promise<string | undefined>;
  /** The result of a run, and how long that took. */
  output(file: string): Promise<{ values: Float32Array; lap: Lap }>;
  /** Milliseconds of so many runs, by the clock and of all the process's threads. */
  run(times: number): Promise<Lap>;
  release(): Promise<void>;
  stop(): void;
}

/** The first Python that has what torch_peer.py needs; the first of all where none has, to say what is missing. */
function findPython(): string {
  const candidates = ["python3", "/usr/bin/python3", "/usr/local/bin/python3", "python"];
  const check = [
    "-c",
    "import importlib.util as u, sys; sys.exit(not (u.find_spec('torch') and u.find_spec('numpy')))",
  ];
  return candidates.find((python) => spawnSync(python, check, { timeout: 20_000 }).status === 0) ?? candidates[0]!;
}
const python = () => process.env["BENCH_PYTHON"] ?? findPython();
const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));

/** Throws with the peer's own error where it does not start. */
export async function startPeer(name: PeerName, options: PeerOptions): Promise<RunningPeer> {
  const env = { ...process.env, ...(await driverVariables(options)) };
  // Preset to an old core on some machines, which halves PyTorch.
  delete env["OPENBLAS_CORETYPE"];
  const isTorch = name === "torch-cpu" || name === "torch-cuda";
  const command = isTorch ? python() : process.execPath;
  const args = isTorch
    ? [path("torch_peer.py"), JSON.stringify({ device: name.slice("torch-".length), ...options.torch })]
    : [
        "--import",
        path("../../tooling/wgsl-loader.mjs"),
        "--import",
        "tsx",
        path("serve-peer.ts"),
        name,
        JSON.stringify(options),
      ];
  const child = spawn(command, args, { env, stdio: ["pipe", "pipe", "pipe"] });
  const replies = replyReader(child);
  const ask = async (request: Request) => {
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const reply = await replies();
    if ("error" in reply) throw new Error(reply.error);
    return reply as Extract<Reply, { ok: true }>;
  };
  const first = await replies();
  if (!("ready" in first)) throw new Error("error" in first ? first.error : "no greeting");
  return {
    name,
    description: first.ready,
    prepare: async (work) => (await ask({ method: "prepare", work })).note,
    async output(file) {
      const lap = lapOf(await ask({ method: "output", file }));
      const bytes = readFileSync(file);
      return { values: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), lap };
    },
    run: async (times) => lapOf(await ask({ method: "run", times })),
    release: async () => void (await ask({ method: "release" })),
    // Some runtimes never come to an end by themselves.
    stop: () => void child.kill("SIGKILL"),
  };
}

const lapOf = ({ milliseconds, cpuMilliseconds }: Extract<Reply, { ok: true }>): Lap => ({
  wall: milliseconds!,
  cpu: cpuMilliseconds!,
});

/** Everybody is to see the one driver; a peer's own choice of adapter knows no names. */
async function driverVariables({ driver }: PeerOptions): Promise<Record<string, string>> {
  const file =
    driver === "lavapipe" ? lavapipeDriver() : driver === "swiftshader" ? await swiftShaderDriver() : undefined;
  return file ? { VK_DRIVER_FILES: file, VK_ICD_FILENAMES: file } : {};
}

/** The next reply of a child; an error with the end of what it wrote to stderr when it ends instead. */
function replyReader(child: ChildProcess): () => Promise<Reply> {
  const ready: Reply[] = [];
  const waiting: ((reply: Reply) => void)[] = [];
  let last = "";
  const give = (reply: Reply) => {
    const taker = waiting.shift();
    if (taker) taker(reply);
    else ready.push(reply);
  };
  createInterface({ input: child.stdout! }).on("line", (line) => {
    if (line.startsWith(REPLY)) give(JSON.parse(line.slice(REPLY.length)));
  });
  child.stderr!.on("data", (data) => {
    last = `${last}${data}`.slice(-2000);
    if (process.env["BENCH_DEBUG"]) process.stderr.write(data);
  });
  child.on("error", (error) => give({ error: error.message }));
  child.on("exit", (code, signal) =>
    give({ error: `ended with ${signal ?? code}: ${last.trim().split("\n").slice(-3).join(" / ")}` }),
  );
  return () => new Promise((resolve) => (ready.length > 0 ? resolve(ready.shift()!) : waiting.push(resolve)));
}

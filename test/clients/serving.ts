/** A server in a process of its own, and a network before it that breaks when a test says so. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";

const ROOT = path.resolve(import.meta.dirname, "../..");

export interface Serving {
  readonly url: string;
  /** Jobs that it has begun. */
  jobs(): Promise<number>;
  /** Jobs that run or wait. */
  busy(): Promise<number>;
  /** Stops the process for so many milliseconds; its connections stay open and say nothing. */
  pause(ms: number): Promise<void>;
  close(): Promise<void>;
}

/** @param stepMs milliseconds of a step */
export async function serve(stepMs: number): Promise<Serving> {
  const args = ["--import", "./tooling/run.mjs", "test/clients/server.ts"];
  const env = { ...process.env, STEP_MS: String(stepMs) };
  const child = spawn(process.execPath, args, { cwd: ROOT, env, stdio: ["ignore", "pipe", "inherit"] });
  const [url] = (await once(createInterface(child.stdout!), "line")) as [string];
  const sum = async (metric: RegExp) => {
    const text = await (await fetch(`${url}/metrics`)).text();
    return [...text.matchAll(metric)].reduce((all, [, count]) => all + Number(count), 0);
  };
  const busy = () => sum(/^daguerre_jobs\{state="(?:queued|running)"\} (\d+)$/gm);
  return {
    url,
    busy,
    jobs: async () => (await busy()) + (await sum(/^daguerre_jobs_total\{.*\} (\d+)$/gm)),
    async pause(ms) {
      child.kill("SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, ms));
      child.kill("SIGCONT");
    },
    close: () => ended(child),
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

export interface Network {
  readonly url: string;
  /** Connections that were opened through it. */
  readonly connections: number;
  /** Ends every connection at once, for both sides. */
  cut(): void;
  close(): Promise<void>;
}

/** A network between clients and a server. */
export async function network(serverUrl: string): Promise<Network> {
  const open = new Set<() => void>();
  let connections = 0;
  const proxy = net.createServer((client) => {
    connections++;
    const server = net.connect(Number(new URL(serverUrl).port), "127.0.0.1");
    const both = () => {
      open.delete(both);
      client.destroy();
      server.destroy();
    };
    open.add(both);
    for (const side of [client, server]) side.on("error", () => {}).on("close", both);
    client.pipe(server).pipe(client);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const both of [...open]) both();
  };
  return {
    url: `http://127.0.0.1:${(proxy.address() as net.AddressInfo).port}`,
    get connections() {
      return connections;
    },
    cut,
    close: () => {
      cut();
      return new Promise((resolve) => proxy.close(() => resolve()));
    },
  };
}

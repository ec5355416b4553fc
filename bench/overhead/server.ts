/**
 * A server whose run yields its result at once: all that a request costs is what lies before and after the run. Told `cpu`
 * over its channel, it answers with the CPU time that the process has taken so far.
 *
 *     node --import ./tooling/wgsl-loader.mjs --import tsx server.ts CHECKOUT
 */
import process from "node:process";
import { pathToFileURL } from "node:url";

const checkout = pathToFileURL(`${process.argv[2]}/`);
// The checkout may be an older one: only what both have is used.
const { createApp, createMetrics, listen } = await import(new URL("index.ts", checkout).href);

const metrics = createMetrics();
const app = createApp({
  async *run() {
    yield { type: "result", pictures: [], seed: 1, prompt: "x", timings: {} };
  },
  health: () => ({}),
  model: { name: "none", defaultWidth: 64, defaultHeight: 64, defaultSteps: 4, countTokens: () => 3 },
  gate: { sessions: 100, requestsPerMinute: 1e9 },
  jobs: { retentionMs: 1_000, retainedJobs: 8 },
  metrics,
  onRequest: () => {},
});
const server = await listen(app, 0, "127.0.0.1", { frameBytes: 28 * 2 ** 20, onServer: metrics.watch });
process.on("message", () => {
  const { user, system } = process.cpuUsage();
  process.send?.({ cpuMs: (user + system) / 1000 });
});
process.send?.({ port: server.port });

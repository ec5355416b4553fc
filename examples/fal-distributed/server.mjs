// fal's guide to multi-GPU apps: a runner for each worker, an endpoint that streams, and one that invokes.
import { serve } from "@hono/node-server";
import { DistributedRunner } from "daguerre/hosts";
import { Hono } from "hono";

const worker = new URL("./workers.mjs", import.meta.url);
const streaming = new DistributedRunner(worker, { name: "StreamingWorker", worldSize: 2 });
const gathering = new DistributedRunner(worker, { name: "GatherWorker", worldSize: 2 });
await Promise.all([streaming.start(), gathering.start()]);

/** fal's `StreamingResponse(runner.stream(payload, as_text_events=True), media_type="text/event-stream")`. */
async function streamed(runner, c) {
  const results = runner.stream(await c.req.json(), { streamingTimeout: 30, asTextEvents: true });
  return new Response(ReadableStream.from(results), { headers: { "content-type": "text/event-stream" } });
}

const app = new Hono()
  .post("/stream", (c) => streamed(streaming, c))
  .post("/gather", (c) => streamed(gathering, c))
  .post("/gather/invoke", async (c) => c.json(await gathering.invoke(await c.req.json(), { timeout: 60 })));

serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8093), hostname: "127.0.0.1" }, ({ port }) => {
  console.log(`http://127.0.0.1:${port}`);
});

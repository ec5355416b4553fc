// Modal's guide to streaming endpoints, program by program.
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "@hono/node-server";
import { createPool } from "daguerre/hosts";
import { sse } from "daguerre/transports";
import { Hono } from "hono";
import { z } from "zod";
import { readWav, split } from "../transcription/listen.mjs";

const worker = new URL("./functions.mjs", import.meta.url);
const renderer = createPool({ worker, name: "fakeVideoRender", size: 1 });
const mapper = createPool({ worker, name: "mapMe", size: 8, kind: "thread" });
const listener = createPool({ worker, name: "transcribeSegment", size: 2 });

// Simple: an endpoint returns a generator.
async function* fakeVideoStreamer() {
  for (let i = 0; i < 10; i++) {
    yield { text: `frame ${i}: hello world!` };
    await sleep(100);
  }
}

// Split, map, stream: pieces are transcribed side by side, and go out in the order of the recording.
const audio = z.string().regex(/^data:audio\/wav;base64,/, "must be a data URI of a WAV file");
async function* streamWhisper({ audio }, { signal }) {
  const recording = readWav(Buffer.from(audio.slice(audio.indexOf(",") + 1), "base64"));
  yield* listener.map(split(recording), { signal });
}

const range = (n) => Array.from({ length: n }, (_, index) => index);
const inputs = z.object({ audio });

const app = new Hono()
  .get("/", (c) => sse(fakeVideoStreamer())(c))
  .get("/hook", (c) => sse(renderer.remoteGen({}))(c))
  .get("/mapped", (c) => sse(mapper.map(range(8), { ordered: c.req.query("ordered") !== "false" }))(c))
  .post("/transcribe", sse(streamWhisper, { parse: (raw) => inputs.parse(raw, { reportInput: true }) }));

await Promise.all([renderer.start(), mapper.start(), listener.start()]);
serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8092), hostname: "127.0.0.1" }, ({ port }) => {
  console.log(`http://127.0.0.1:${port}`);
});

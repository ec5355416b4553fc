// Split, work, stream: a transcription service. Its generator yields text, and is served like any other.
import { serve } from "@hono/node-server";
import { map } from "daguerre/jobs";
import { sse } from "daguerre/transports";
import { Hono } from "hono";
import { z } from "zod";
import { read, readWav, split } from "./listen.mjs";

const input = z.object({ audio: z.string().regex(/^data:audio\/wav;base64,/, "must be a data URI of a WAV file") });

async function* transcribe({ audio }, { signal }) {
  const recording = readWav(Buffer.from(audio.slice(audio.indexOf(",") + 1), "base64"));
  const words = [];
  // Several at a time, in the order of the recording. A listener that asks another service would be awaited here.
  for await (const word of map(split(recording), hear, { concurrency: 4, signal })) {
    words.push(word.text);
    yield { type: "word", ...word };
  }
  yield { type: "result", text: words.join(" "), duration: seconds(recording.samples.length / recording.rate) };
}

const hear = (chunk) => ({ text: read(chunk), start: seconds(chunk.start), end: seconds(chunk.end) });
const seconds = (value) => Math.round(value * 100) / 100;

const app = new Hono().post(
  "/transcribe",
  sse(transcribe, { parse: (raw) => input.parse(raw, { reportInput: true }) }),
);

serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8091), hostname: "127.0.0.1" }, ({ port }) => {
  console.log(`http://127.0.0.1:${port}`);
});

/** Realtime requests of one step, alone and beside a job of fifty steps of the same size. */
import { decode, encode } from "@msgpack/msgpack";
import { WebSocket } from "ws";
import { streamRun } from "./stream.ts";
import { spreadOf } from "./summary.ts";

const SIZE = 128;
const REQUESTS = 120;

export async function realtimeBeside(url: string): Promise<void> {
  const socket = new WebSocket(`${url.replace("http", "ws")}/realtime`);
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  let answered: () => void = () => {};
  socket.on("message", (data: Buffer, isBinary) => {
    if (isBinary && (decode(data) as { type?: string }).type === "result") answered();
  });
  const draw = async (seed: number): Promise<number> => {
    const begun = performance.now();
    const result = new Promise<void>((resolve) => (answered = resolve));
    const request = { prompt: "a lake", seed, width: SIZE, height: SIZE, num_inference_steps: 1, guidance_scale: 3 };
    socket.send(encode({ ...request, preview_every: 0 }));
    await result;
    return performance.now() - begun;
  };
  const times = { idle: [] as number[], beside: [] as number[] };
  for (let i = 0; i < 10; i++) await draw(i);
  while (times.beside.length < REQUESTS) {
    for (let i = 0; i < 20; i++) times.idle.push(await draw(i));
    let isOver = false;
    const job = { prompt: "dunes", seed: 1, width: SIZE, height: SIZE, num_inference_steps: 50, guidance_scale: 3 };
    const long = streamRun(url, { ...job, preview_every: 0 }).finally(() => (isOver = true));
    await new Promise((resolve) => setTimeout(resolve, 300));
    while (!isOver) times.beside.push(await draw(times.beside.length));
    await long;
  }
  socket.terminate();
  const [idle, beside] = [spreadOf(times.idle), spreadOf(times.beside)];
  console.log(
    `\nRealtime, one step of ${SIZE}², beside 50 steps: p50 ${beside.p50.toFixed(0)} ms, p99 ${beside.p99.toFixed(0)} ms`,
  );
  console.log(
    `idle: p50 ${idle.p50.toFixed(0)} ms, p99 ${idle.p99.toFixed(0)} ms; p99 over idle p50 ${(beside.p99 / idle.p50).toFixed(1)}, p99 over p99 ${(beside.p99 / idle.p99).toFixed(1)}`,
  );
}

/**
 * A child process of a host: it serves the runs of one module. It speaks frames over a socket that its parent has opened,
 * and a second one beats: a thread writes a byte into it every `BEAT_MS`, so that it goes on while a run computes without
 * pause, and stops if the process does.
 *
 * It never outlives its parent: the end of the first socket ends it, and that of the second, even in the middle of a
 * computation.
 */
import { Socket } from "node:net";
import { Worker } from "node:worker_threads";
import { FrameReader } from "./frames.ts";
import type { PlaceMessage } from "./messages.ts";
import { serveModule } from "./open-module.ts";
import { BEAT_MS, BEATS_FD, FRAMES_FD, writeFrame } from "./process-link.ts";
import type { ServedRuns } from "./served-runs.ts";

const BEATS = `
  const { writeSync } = require("node:fs");
  setInterval(() => {
    try {
      writeSync(${BEATS_FD}, "\\n");
    } catch (error) {
      if (error.code !== "EAGAIN") process.kill(process.pid, "SIGKILL");
    }
  }, ${BEAT_MS});
`;
new Worker(BEATS, { eval: true, resourceLimits: { maxOldGenerationSizeMb: 8 } }).unref();

const socket = new Socket({ fd: FRAMES_FD, readable: true, writable: true });
const reader = new FrameReader();
let runs: ServedRuns | undefined;

function receive(message: PlaceMessage): void {
  if (message.type === "open") runs = serveModule(message, (reply) => writeFrame(socket, reply));
  else if (message.type === "leave") process.exit(0);
  else runs?.receive(message);
}

socket.on("data", (chunk) => {
  for (const message of reader.push(chunk)) receive(message as PlaceMessage);
});
socket.on("error", () => {}); // its end follows
socket.on("close", () => process.exit(0));

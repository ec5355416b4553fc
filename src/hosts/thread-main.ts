/** A thread of a host: it serves the runs of one module. */
import { parentPort, workerData } from "node:worker_threads";
import type { PlaceMessage } from "./messages.ts";
import { serveModule } from "./open-module.ts";
import type { Send, ServedRuns } from "./served-runs.ts";

const port = parentPort!;

/** 1 once this thread has loaded native code, which may leave promises behind that no other thread may cut off. */
const isNative = new Int32Array(workerData.isNative as SharedArrayBuffer);
const { dlopen } = process;
process.dlopen = (...library: Parameters<typeof dlopen>) => {
  Atomics.store(isNative, 0, 1);
  dlopen.apply(process, library);
};

let runs: ServedRuns | undefined;
const send: Send = (reply) => port.postMessage(reply);
port.on("message", (message: PlaceMessage) => {
  if (message.type === "open") runs = serveModule(message, send);
  else if (message.type === "leave") port.close();
  else runs?.receive(message);
});

/**
 * A watcher inside a server's process, loaded with `node --import`: CPU time of the main thread for each turn of the event
 * loop, and memory. It answers on a Unix socket (`DAGUERRE_WATCH_SOCKET`), so that the server's own HTTP is untouched.
 *
 * A turn is what lies between two check phases. An immediate that is not referenced runs in each of them without keeping
 * the loop awake, so an idle server stays idle. The kernel brings a thread's CPU time up to date when it is switched or at
 * its own tick: a turn's time is right to within 4 ms. Elsewhere than on Linux the turn's wall time stands in for it.
 *
 * One line of JSON in, one out: `"read"`, `"reset"` (begins anew), `"collect"` (collects garbage, then reads).
 */
import { openSync, readSync } from "node:fs";
import { createServer } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { isMainThread } from "node:worker_threads";

const MEMORY_EVERY_MS = 100;
/** Turns longer than this are counted. */
const LONG_MS = 50;

const socket = process.env.DAGUERRE_WATCH_SOCKET;
// The process of the engine and workers of the server load this too; the server is the command's own process.
if (isMainThread && socket !== undefined && process.argv[1]?.endsWith("cli.js")) watch(socket);

function watch(path) {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  const cpu = cpuClock();
  let seen;
  let begun;

  function reset() {
    seen = { longestTurnMs: 0, longTurns: 0, turns: 0, peakHeapBytes: 0, peakExternalBytes: 0 };
    begun = cpu();
    remember();
  }

  function turn() {
    const now = cpu();
    const spent = now - begun;
    begun = now;
    seen.turns++;
    if (spent > LONG_MS) seen.longTurns++;
    if (spent > seen.longestTurnMs) seen.longestTurnMs = spent;
    setImmediate(turn).unref();
  }

  function remember() {
    const { heapUsed, external } = process.memoryUsage();
    seen.peakHeapBytes = Math.max(seen.peakHeapBytes, heapUsed);
    // `external` holds `arrayBuffers` too.
    seen.peakExternalBytes = Math.max(seen.peakExternalBytes, external);
    return { heapBytes: heapUsed, externalBytes: external };
  }

  async function answer(asked) {
    if (asked === "collect") {
      const before = { ...seen };
      // Twice: the first runs finalizers, whose objects the second takes.
      for (let round = 0; round < 2; round++) {
        collect();
        await nextTurn();
      }
      // The turns of collecting are ours.
      seen = before;
      begun = cpu();
    }
    const told = { pid: process.pid, ...remember(), ...seen };
    if (asked === "reset") reset();
    return told;
  }

  reset();
  setImmediate(turn).unref();
  setInterval(remember, MEMORY_EVERY_MS).unref();
  createServer((client) => {
    client.unref();
    client.on("error", () => client.destroy());
    client.setEncoding("utf8");
    let text = "";
    client.on("data", async (part) => {
      text += part;
      for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n")) {
        const asked = JSON.parse(text.slice(0, at));
        text = text.slice(at + 1);
        client.write(`${JSON.stringify(await answer(asked))}\n`);
      }
    });
  })
    .on("error", (error) => process.stderr.write(`the watcher does not listen: ${error.message}\n`))
    .listen(path)
    .unref();
}

/** Milliseconds of CPU that this thread has used. */
function cpuClock() {
  const bytes = Buffer.alloc(64);
  try {
    // The main thread's id is the process's.
    const file = openSync(`/proc/self/task/${process.pid}/schedstat`, "r");
    return () => Number.parseInt(bytes.toString("latin1", 0, readSync(file, bytes, 0, 64, 0)), 10) / 1e6;
  } catch {
    return () => performance.now();
  }
}

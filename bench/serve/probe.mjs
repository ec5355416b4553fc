// Loaded into the served process (`node --import`): tells over IPC what its event loop and its CPU have done since it was
// last asked.
import { readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

const RESOLUTION_MS = 5;
// Linux counts a thread's CPU time in ticks of 1/100 s (USER_HZ, fixed for user space on all architectures Node runs on).
const TICK_MS = 10;

const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delay.enable();
let cpu = process.cpuUsage();
let since = performance.now();
let thread = threadMilliseconds();

/** CPU time of the main thread, which runs JavaScript; undefined where there is no /proc. */
function threadMilliseconds() {
  try {
    const fields = readFileSync(`/proc/self/task/${process.pid}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
  } catch {
    return undefined;
  }
}

process.on("message", (message) => {
  if (message !== "probe") return;
  const now = performance.now();
  const used = process.cpuUsage(cpu);
  const threadNow = threadMilliseconds();
  process.send?.({
    milliseconds: now - since,
    cpuMilliseconds: (used.user + used.system) / 1000,
    threadMilliseconds: thread === undefined ? undefined : threadNow - thread,
    // What the timer's own period adds to each sample is not delay.
    delayP50: Math.max(0, delay.percentile(50) / 1e6 - RESOLUTION_MS),
    delayP99: Math.max(0, delay.percentile(99) / 1e6 - RESOLUTION_MS),
    delayMax: Math.max(0, delay.max / 1e6 - RESOLUTION_MS),
  });
  cpu = process.cpuUsage();
  since = now;
  thread = threadNow;
  delay.reset();
});
// The channel alone must not keep the process alive.
process.channel?.unref();

/** A process that does nothing: its event-loop delay is what the machine itself adds while something else is measured. */
import { monitorEventLoopDelay } from "node:perf_hooks";

const delay = monitorEventLoopDelay({ resolution: 5 });
delay.enable();
process.once("message", () => {
  process.send?.(delay.percentile(99) / 1e6 - 5);
  process.disconnect?.();
});
process.send?.("ready");

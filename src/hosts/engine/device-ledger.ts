/** The device's state over all processes that an engine has had: work only grows, memory is that of the living. */
import type { DeviceState, DeviceWork } from "../../engine/contract.ts";
import type { DeviceReport } from "./messages.ts";

const NO_WORK: DeviceWork = { batches: new Map(), turns: 0, waitMilliseconds: 0, merges: 0, evictions: 0 };

export class DeviceLedger implements DeviceState {
  readonly #pid: () => number | undefined;
  readonly #isLost: () => boolean;
  /** The last report of each living process. */
  readonly #reports = new Map<number, DeviceReport>();
  /** The work of processes that have ended. */
  #past = NO_WORK;

  /** @param pid the process that computes, if there is one; `isLost` says if none can compute now */
  constructor(pid: () => number | undefined, isLost: () => boolean) {
    this.#pid = pid;
    this.#isLost = isLost;
  }

  get lost(): boolean {
    return this.#isLost();
  }

  get memoryBytes(): number {
    return this.#reports.get(this.#pid() ?? 0)?.memoryBytes ?? 0;
  }

  get peakMemoryBytes(): number {
    return this.#reports.get(this.#pid() ?? 0)?.peakMemoryBytes ?? 0;
  }

  get work(): DeviceWork {
    return [...this.#reports.values()].reduce((total, { work }) => sum(total, work), this.#past);
  }

  enter(pid: number, report: DeviceReport): void {
    this.#reports.set(pid, report);
  }

  /** A process has ended. */
  end(pid: number): void {
    this.#past = sum(this.#past, this.#reports.get(pid)?.work ?? NO_WORK);
    this.#reports.delete(pid);
  }
}

function sum(one: DeviceWork, other: DeviceWork): DeviceWork {
  const batches = new Map(one.batches);
  for (const [slots, count] of other.batches) batches.set(slots, (batches.get(slots) ?? 0) + count);
  return {
    batches,
    turns: one.turns + other.turns,
    waitMilliseconds: one.waitMilliseconds + other.waitMilliseconds,
    merges: one.merges + other.merges,
    evictions: one.evictions + other.evictions,
  };
}

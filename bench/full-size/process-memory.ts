/**
 * How much memory this process takes, from outside (what the kernel counts) and inside (what JavaScript holds). A software
 * GPU's buffers are ordinary memory of the process, so the first counts them too.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { freemem } from "node:os";

/** The most memory that was resident at once since `resetPeak`, in bytes; since the start where it cannot be reset. */
export function peakResidentBytes(): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(statusFile());
  // In KiB too, on all systems but Windows and macOS, which report bytes through libuv as KiB.
  return (line ? Number(line[1]) : process.resourceUsage().maxRSS) * 1024;
}

/** Forgets the peak (Linux only: `man 5 proc`, clear_refs). */
export function resetPeak(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // elsewhere the peak is that of the whole run
  }
}

/** Memory that could still be taken without swapping, in bytes. */
export function availableBytes(): number {
  try {
    const line = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"));
    if (line) return Number(line[1]) * 1024;
  } catch {
    // not Linux
  }
  return freemem();
}

function statusFile(): string {
  try {
    return readFileSync("/proc/self/status", "utf8");
  } catch {
    return "";
  }
}

/** Bytes that JavaScript holds: its heap, and what hangs on it outside (array buffers). */
function heldBytes(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Runs `work` and tells how far what JavaScript holds rose above where it began, sampled every few milliseconds. */
export async function withHeapWatched<T>(
  work: (sample: () => void) => Promise<T>,
): Promise<{ result: T; growth: number }> {
  globalThis.gc?.();
  const before = heldBytes();
  let peak = before;
  const sample = () => {
    peak = Math.max(peak, heldBytes());
  };
  const timer = setInterval(sample, 5);
  try {
    const result = await work(sample);
    sample();
    return { result, growth: peak - before };
  } finally {
    clearInterval(timer);
  }
}

/**
 * Watches a device, so that nothing it reports goes unheard.
 *
 * Errors that no scope captured arrive as events, some turns after the call that caused them; loss arrives as a promise.
 * Both are kept here as typed errors until somebody who can act on them asks: `check()` after a run, or `lost`.
 */

import { DeviceLostError, type GpuError, toGpuError } from "./errors.ts";

/** The fault log of one device. */
export interface DeviceWatch {
  /**
   * Throws the device's loss if it is lost, else the first uncaptured error since the last check. Later ones are most
   * often its consequences ("… is invalid due to a previous error"), and are its `cause`-less siblings in `errors`.
   */
  check(): void;
  /** Uncaptured errors since the last check, oldest first, at most 32. */
  readonly errors: readonly GpuError[];
  /** Resolves when the device is lost, for whatever reason; never rejects. */
  readonly lost: Promise<DeviceLostError>;
  /** The loss, once it happened. */
  readonly loss: DeviceLostError | undefined;
}

/** One fault in a loop would otherwise grow the log for ever. */
const MAX_ERRORS = 32;

/**
 * Starts watching `device`; to be called once, right after it was made. `onError` is told of each uncaptured error as it
 * arrives (for the log); its own errors are not caught.
 */
export function watchDevice(device: GPUDevice, onError?: (error: GpuError) => void): DeviceWatch {
  let errors: GpuError[] = [];
  let loss: DeviceLostError | undefined;

  device.addEventListener("uncapturederror", (event) => {
    // Else dawn.node prints it to stderr as well.
    event.preventDefault();
    const error = toGpuError((event as GPUUncapturedErrorEvent).error);
    if (errors.length < MAX_ERRORS) errors.push(error);
    onError?.(error);
  });

  const lost = device.lost.then((info) => {
    loss = new DeviceLostError(info.reason, `GPU device lost (${info.reason}): ${info.message || "no reason given"}`);
    return loss;
  });

  return {
    check() {
      if (loss !== undefined) throw loss;
      const first = errors[0];
      errors = [];
      if (first !== undefined) throw first;
    },
    get errors() {
      return errors;
    },
    lost,
    get loss() {
      return loss;
    },
  };
}

/**
 * Every device a test can have here: each adapter that is present, in each form that the kernels take on it.
 *
 * An adapter is a hardware GPU, lavapipe where it is installed, SwiftShader where its package is. Its forms are the
 * subgroup kernels, where its subgroups have one size, and the workgroup-tiled ones.
 */

import { type Gpu, openGpu } from "../../gpu/device.ts";
import type { AdapterChoice } from "../../gpu/drivers/adapter.ts";
import { AdapterError } from "../../gpu/errors.ts";

export interface TestDevice {
  /** For titles: `lavapipe, subgroups of 8`. */
  readonly name: string;
  readonly gpu: Gpu;
}

const CHOICES: readonly [string, AdapterChoice][] = [
  ["hardware", { prefer: "hardware" }],
  ["lavapipe", { driver: "lavapipe" }],
  ["swiftshader", { driver: "swiftshader" }],
];

/** One device an adapter, in the form that it would be used in. Throws where there is no adapter at all. */
export async function openAdapters(): Promise<TestDevice[]> {
  const devices: TestDevice[] = [];
  for (const [name, adapter] of CHOICES) {
    const gpu = await open(adapter);
    if (gpu) devices.push({ name, gpu });
  }
  if (devices.length === 0) throw new Error("no adapter at all: neither hardware, nor lavapipe, nor SwiftShader");
  return devices;
}

/** Each adapter in each form. */
export async function openDevices(): Promise<TestDevice[]> {
  const devices: TestDevice[] = [];
  for (const [name, adapter] of CHOICES) {
    const gpu = await open(adapter);
    if (!gpu) continue;
    if (gpu.lanes === undefined) {
      devices.push({ name: `${name}, tiled`, gpu });
      continue;
    }
    devices.push({ name: `${name}, subgroups of ${gpu.lanes}`, gpu });
    devices.push({ name: `${name}, tiled`, gpu: await openGpu({ adapter, withoutSubgroups: true }) });
  }
  if (devices.length === 0) throw new Error("no adapter at all: neither hardware, nor lavapipe, nor SwiftShader");
  return devices;
}

/** Undefined where this machine has no such adapter; any other trouble is thrown. */
async function open(adapter: AdapterChoice): Promise<Gpu | undefined> {
  try {
    return await openGpu({ adapter });
  } catch (error) {
    if (error instanceof AdapterError) return undefined;
    throw error;
  }
}

export function closeAll(devices: readonly TestDevice[]): void {
  for (const { gpu } of devices) gpu.close();
}

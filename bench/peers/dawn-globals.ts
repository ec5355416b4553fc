/**
 * The globals that a browser would give a WebGPU library: `navigator.gpu` and the constants, from the same Dawn that
 * Daguerre uses.
 */

import { globals } from "webgpu";
import { openAdapter } from "../../src/gpu/drivers/adapter.ts";
import type { PeerOptions } from "./serve-peer.ts";

export { settle } from "../../src/gpu/waiting.ts";

export async function provideWebGpu({ driver }: PeerOptions): Promise<string> {
  const { gpu, facts } = await openAdapter(driver ? { prefer: "software", driver } : {});
  Object.assign(globalThis, globals);
  const navigator = { gpu, userAgent: "node", hardwareConcurrency: 2 };
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true, writable: true });
  return `Dawn on ${facts.name}`;
}

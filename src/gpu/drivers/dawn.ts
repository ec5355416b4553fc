/**
 * Dawn, the WebGPU implementation: npm's package `webgpu` in a checkout; where Daguerre is installed, the same package's
 * files for this platform, which come with it compressed.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { packedSet, unpack } from "../../platform/packed-libraries.ts";

type Dawn = typeof import("webgpu");

/** Loads Dawn's library into this process. */
export async function loadDawn(): Promise<Dawn> {
  const packed = await packedDawn();
  return packed === undefined ? import("webgpu") : ((await import(packed)) as Dawn);
}

/** The address of Dawn's module, for another process to import. */
export async function dawnModule(): Promise<string> {
  return (await packedDawn()) ?? pathToFileURL(createRequire(import.meta.url).resolve("webgpu")).href;
}

async function packedDawn(): Promise<string | undefined> {
  const { platform, arch } = process;
  const set = packedSet(`dawn-${platform}-${platform === "darwin" ? "universal" : arch}`);
  return set && pathToFileURL(join(await unpack(set), "index.js")).href;
}

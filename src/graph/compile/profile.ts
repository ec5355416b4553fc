import { BufferUsage, type Gpu } from "../../gpu/device.ts";
import { GraphError } from "../errors.ts";
import { type BoundDispatch, encodeAll } from "./bound.ts";
import type { KernelTime } from "./plan.ts";

// WebGPU's limit for one query set.
const MAX_QUERIES = 4096;

/**
 * Runs the dispatches once, each in a pass of its own with a timestamp on both sides.
 * @throws GraphError if the adapter has no timestamps
 */
export async function profile(gpu: Gpu, label: string, list: readonly BoundDispatch[]): Promise<KernelTime[]> {
  if (!gpu.hasTimestamps) {
    throw new GraphError(`${label}: this adapter has no timestamp-query, so nothing can be profiled`);
  }
  const times: KernelTime[] = [];
  for (let first = 0; first < list.length; first += MAX_QUERIES / 2) {
    times.push(...(await profilePart(gpu, label, list.slice(first, first + MAX_QUERIES / 2))));
  }
  return times;
}

async function profilePart(gpu: Gpu, label: string, part: readonly BoundDispatch[]): Promise<KernelTime[]> {
  const count = part.length * 2;
  const querySet = gpu.timestamps(label, count);
  const usage = BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC;
  const resolved = gpu.createBuffer(`${label}: timestamps`, count * 8, usage);
  try {
    gpu.submit(`${label} profile`, (encoder) => {
      part.forEach((bound, index) => {
        const timestampWrites = { querySet, beginningOfPassWriteIndex: index * 2, endOfPassWriteIndex: index * 2 + 1 };
        const pass = encoder.beginComputePass({ label: bound.dispatch.label, timestampWrites });
        encodeAll(pass, [bound]);
        pass.end();
      });
      encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    });
    const stamps = new BigUint64Array((await gpu.read(resolved, 0, count * 8)).buffer);
    return part.map(({ dispatch }, index) => ({
      kernel: dispatch.kernel.name,
      layer: dispatch.label,
      milliseconds: Number(stamps[index * 2 + 1]! - stamps[index * 2]!) / 1e6,
    }));
  } finally {
    querySet.destroy();
    gpu.destroyBuffer(resolved);
  }
}

/** A dispatch with its pipeline and bind group: a step of a replay. */

import type { Dispatch } from "../dispatch.ts";

export interface BoundDispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly dispatch: Dispatch;
}

export function encodeAll(pass: GPUComputePassEncoder, list: readonly BoundDispatch[]): void {
  let current: GPUComputePipeline | undefined;
  for (const { pipeline, group, dispatch } of list) {
    if (pipeline !== current) pass.setPipeline((current = pipeline));
    pass.setBindGroup(0, group);
    const [x, y, z] = dispatch.workgroups; // spread, each call takes longer
    pass.dispatchWorkgroups(x, y, z);
  }
}

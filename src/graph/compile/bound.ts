/** A dispatch with its pipeline and bind group: a step of a replay. */

import type { Dispatch, Work } from "../dispatch.ts";

export interface BoundDispatch {
  readonly workgroups: Work["workgroups"];
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly dispatch: Dispatch;
}

export function encodeAll(pass: GPUComputePassEncoder, list: readonly BoundDispatch[]): void {
  let current: GPUComputePipeline | undefined;
  for (const { pipeline, group, workgroups } of list) {
    if (pipeline !== current) pass.setPipeline((current = pipeline));
    pass.setBindGroup(0, group);
    const [x, y, z] = workgroups; // spread, each call takes longer
    pass.dispatchWorkgroups(x, y, z);
  }
}

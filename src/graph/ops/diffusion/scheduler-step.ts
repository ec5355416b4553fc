import source from "../../../../shaders/scheduler_step.wgsl" with { type: "text" };
import { grid, kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import type { Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";
import { imageQuads, ROW_QUADS } from "./rows.ts";

export interface SchedulerStepOperands {
  readonly latents: Tensor;
  readonly model: Tensor;
  readonly noise: Tensor;
  readonly history: Tensor;
  readonly rows: Tensor;
}

/** One row of a scheduler's table applied to the latents, in place; `output` is the denoised prediction. */
export interface SchedulerStep extends OperationBase, SchedulerStepOperands {
  readonly kind: "scheduler-step";
}

/** Advances the latents in place by one row of a scheduler's table; gives the denoised prediction, f32. */
export function schedulerStep(g: Graph, operands: SchedulerStepOperands, name: string): Tensor {
  const output = g.tensor(`${g.path(name)} denoised`, operands.latents.shape, { element: "f32" });
  return g.push<SchedulerStep>({ kind: "scheduler-step", name: g.path(name), ...operands, output }).output;
}

export const schedulerStepKind: OperationKind<SchedulerStep> = {
  reads: ({ latents, model, noise, history, rows }) => [latents, model, noise, history, rows],
  changesState: true,
  lower({ name, latents, model, noise, history, rows, output }, { storage }) {
    const images = latents.shape[0]!;
    const { workgroups, width } = grid(images * imageQuads(latents));
    return [
      {
        kernel: kernel("scheduler_step", source, storage),
        label: name,
        params: {
          images,
          image_quads: imageQuads(latents),
          branches: model.shape[0]! / images,
          row_quads: ROW_QUADS,
          slots: history.shape[0]! / images,
          grid_width: width,
        },
        bindings: [latents, model, noise, history, rows, output].map((tensor) => ({ tensor })),
        workgroups,
      },
    ];
  },
};

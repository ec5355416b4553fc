/** Noise, and the two ends of a denoising step: what the model is given, and how its answer moves the latents. */

import modelInput from "../../../shaders/model_input.wgsl" with { type: "text" };
import philoxNormal from "../../../shaders/philox_normal.wgsl" with { type: "text" };
import schedulerStep from "../../../shaders/scheduler_step.wgsl" with { type: "text" };
import { type Dispatch, grid, kernel, params, type Target } from "../dispatch.ts";
import {
  channelsOf,
  type ModelInput,
  type PhiloxNormals,
  quads,
  rowsOf,
  type SchedulerStep,
  type Tensor,
} from "../tensor.ts";

/** vec4s of an image's row, as `shaders/scheduler_step.wgsl` lists them. */
export const ROW_QUADS = 6;

function imageQuads(latents: Tensor): number {
  return (rowsOf(latents) / latents.shape[0]!) * quads(channelsOf(latents));
}

export function lowerModelInput(operation: ModelInput, target: Target): Dispatch[] {
  const { latents, rows, output } = operation;
  const { workgroups, width } = grid(output.shape[0]! * imageQuads(latents));
  return [
    {
      kernel: kernel("model_input", modelInput, target.storage),
      label: operation.name,
      params: params(latents.shape[0]!, imageQuads(latents), output.shape[0]!, ROW_QUADS, width),
      bindings: [{ tensor: latents }, { tensor: rows }, { tensor: output }],
      workgroups,
    },
  ];
}

export function lowerSchedulerStep(operation: SchedulerStep, target: Target): Dispatch[] {
  const { latents, model, noise, history, rows, output } = operation;
  const images = latents.shape[0]!;
  const { workgroups, width } = grid(images * imageQuads(latents));
  return [
    {
      kernel: kernel("scheduler_step", schedulerStep, target.storage),
      label: operation.name,
      params: params(
        ...[images, imageQuads(latents), model.shape[0]! / images, ROW_QUADS],
        ...[history.shape[0]! / images, width],
      ),
      bindings: [latents, model, noise, history, rows, output].map((tensor) => ({ tensor })),
      workgroups,
    },
  ];
}

export function lowerPhiloxNormals(operation: PhiloxNormals, target: Target): Dispatch[] {
  const { draws, output } = operation;
  const images = output.shape[0]!;
  const pixels = rowsOf(output) / images;
  const channels = channelsOf(output);
  const { workgroups, width } = grid(rowsOf(output) * quads(channels));
  return [
    {
      kernel: kernel("philox_normal", philoxNormal, target.storage),
      label: operation.name,
      params: params(images, pixels, channels, quads(channels), width),
      bindings: [{ tensor: draws }, { tensor: output }],
      workgroups,
    },
  ];
}

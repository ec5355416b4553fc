import source from "../../../../shaders/model_input.wgsl" with { type: "text" };
import { grid, kernel } from "../../dispatch.ts";
import type { Graph } from "../../graph.ts";
import type { OperationBase } from "../../operation.ts";
import type { Tensor } from "../../tensor.ts";
import type { OperationKind } from "../kind.ts";
import { imageQuads, ROW_QUADS } from "./rows.ts";

/** The model's input from the latents: `out[b] = latents[b mod n] · row[b mod n].input_scale`, in the plan's storage. */
export interface ModelInput extends OperationBase {
  readonly kind: "model-input";
  readonly latents: Tensor;
  readonly rows: Tensor;
}

/** f32 latents `[n, h, w, c]` → the model's input `[n · branches, h, w, c]`, scaled by each image's row. */
export function modelInput(g: Graph, latents: Tensor, rows: Tensor, branches: number, name: string): Tensor {
  const shape = [latents.shape[0]! * branches, ...latents.shape.slice(1)];
  const output = g.tensor(g.path(name), shape);
  return g.push<ModelInput>({ kind: "model-input", name: g.path(name), latents, rows, output }).output;
}

export const modelInputKind: OperationKind<ModelInput> = {
  reads: ({ latents, rows }) => [latents, rows],
  lower({ name, latents, rows, output }, { storage }) {
    const { workgroups, width } = grid(output.shape[0]! * imageQuads(latents));
    return [
      {
        kernel: kernel("model_input", source, storage),
        label: name,
        params: {
          images: latents.shape[0]!,
          image_quads: imageQuads(latents),
          batch: output.shape[0]!,
          row_quads: ROW_QUADS,
          grid_width: width,
        },
        bindings: [{ tensor: latents }, { tensor: rows }, { tensor: output }],
        workgroups,
      },
    ];
  },
};

import source from "../../../shaders/geglu.wgsl" with { type: "text" };
import { grid, kernel } from "../dispatch.ts";
import type { Graph } from "../graph.ts";
import type { OperationBase } from "../operation.ts";
import { channelsOf, partsOf, quads, rowsOf, type Tensor, type View } from "../tensor.ts";
import type { OperationKind } from "./kind.ts";

/** `out = value · GELU(gate)` */
export interface Geglu extends OperationBase {
  readonly kind: "geglu";
  readonly value: View;
  readonly gate: View;
}

/** `[…, 2c]` → `[…, c]`: the first half times the GELU of the second. */
export function geglu(g: Graph, x: Tensor, name: string): Tensor {
  const channels = channelsOf(x) / 2;
  if (channels % 4 !== 0) throw g.error(name, `${channels * 2} channels do not split into two halves of quads`);
  const output = g.tensor(g.path(name), [...x.shape.slice(0, -1), channels]);
  const [value, gate] = [
    { tensor: x, offset: 0 },
    { tensor: x, offset: channels },
  ];
  return g.push<Geglu>({ kind: "geglu", name: g.path(name), value, gate, output }).output;
}

export const gegluKind: OperationKind<Geglu> = {
  reads: ({ value, gate }) => [value.tensor, gate.tensor],
  split(operation, slicing) {
    const { value, gate } = operation;
    const parts = partsOf(slicing.stored(value.tensor));
    if (parts.length === 1) {
      if (!slicing.fits(operation.output)) throw slicing.tooLarge(operation, operation.output);
      return [operation];
    }
    // Sliced by halves, of which the value is the first.
    const values = parts.slice(0, parts.length / 2);
    const gates = partsOf(slicing.stored(gate.tensor)).slice(parts.length / 2);
    if (gates.length !== values.length || gates.some((part, i) => channelsOf(part) !== channelsOf(values[i]!))) {
      throw slicing.tooLarge(operation, value.tensor);
    }
    return slicing.sliceInto(operation, values.map(channelsOf)).map(({ tensor }, i) => ({
      ...operation,
      value: { tensor: values[i]!, offset: 0 },
      gate: { tensor: gates[i]!, offset: 0 },
      output: tensor,
    }));
  },
  lower({ name, value, gate, output }, { storage }) {
    const rows = rowsOf(output);
    const outQuads = quads(channelsOf(output));
    const { workgroups, width } = grid(rows * outQuads);
    return [
      {
        kernel: kernel("geglu", source, storage),
        label: name,
        params: {
          rows,
          out_quads: outQuads,
          value_row: quads(channelsOf(value.tensor)),
          value_offset: value.offset / 4,
          gate_row: quads(channelsOf(gate.tensor)),
          gate_offset: gate.offset / 4,
          grid_width: width,
        },
        bindings: [{ tensor: value.tensor }, { tensor: gate.tensor }, { tensor: output }],
        workgroups,
      },
    ];
  },
};

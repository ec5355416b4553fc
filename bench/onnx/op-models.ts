/**
 * The measured operations as ONNX models. Where ONNX has several ways of saying one thing there are several models, and
 * onnxruntime is measured with the one that its provider runs fastest.
 */

import { transposed } from "../layout.ts";
import type { OpCase } from "../ops/cases.ts";
import { createModelWriter, type ModelWriter } from "./model-writer.ts";

type Values = (name: string) => Float32Array;

const EPS = { float: 1e-5 };

/** Writes `<prefix>-<form>.onnx`; gives the files. */
export function writeOpModels(op: OpCase, values: Values, prefix: string): string[] {
  const write = (form: string, build: (m: ModelWriter) => { result: string; shape: readonly number[] }) => {
    const writer = createModelWriter(`${prefix}-${form}.onnx`);
    const { result, shape } = build(writer);
    writer.output(result, shape);
    return writer.finish();
  };
  switch (op.kind) {
    case "gemm": {
      const { rows, inputs, outputs } = op;
      const shape = [rows, outputs];
      return [
        write("MatMul", (m) => {
          const weight = m.weight("weight", [inputs, outputs], transposed(values("weight"), 1, outputs, inputs));
          return { result: m.node("MatMul", [m.input("x", [rows, inputs]), weight]), shape };
        }),
        write("Gemm", (m) => {
          const weight = m.weight("weight", [outputs, inputs], values("weight"));
          return {
            result: m.node("Gemm", [m.input("x", [rows, inputs]), weight], { attributes: { transB: 1 } }),
            shape,
          };
        }),
      ];
    }
    case "conv": {
      const { inputs, outputs, size, kernel, stride, padding } = op;
      return [
        write("Conv", (m) => {
          const x = m.input("x", [1, inputs, size, size]);
          const weight = m.weight("weight", [outputs, inputs, kernel, kernel], values("weight"));
          const bias = m.weight("bias", [outputs], values("bias"));
          const attributes = {
            kernel_shape: [kernel, kernel],
            strides: [stride, stride],
            pads: [padding, padding, padding, padding],
          };
          return {
            result: m.node("Conv", [x, weight, bias], { attributes }),
            shape: [1, outputs, size / stride, size / stride],
          };
        }),
      ];
    }
    case "group-norm": {
      const shape = [1, op.channels, op.size, op.size];
      const chain = (form: (m: ModelWriter, x: string) => string) => (m: ModelWriter) => {
        let x = m.input("x", shape);
        for (let i = 0; i < op.times; i++) x = form(m, x);
        return { result: x, shape };
      };
      const silu = (m: ModelWriter, x: string) => m.node("Mul", [x, m.node("Sigmoid", [x])]);
      const scales = (m: ModelWriter, dimensions: readonly number[]) => [
        m.weight("gamma", dimensions, values("gamma")),
        m.weight("beta", dimensions, values("beta")),
      ];
      return [
        write(
          "InstanceNormalization",
          chain((m, x) => silu(m, instanceGroupNorm(m, x, shape, op.groups, scales(m, [op.channels, 1, 1])))),
        ),
        write(
          "GroupNormalization",
          chain((m, x) => {
            const inputs = [x, ...scales(m, [op.channels])];
            return silu(
              m,
              m.node("GroupNormalization", inputs, { attributes: { num_groups: op.groups, epsilon: EPS } }),
            );
          }),
        ),
        write("GroupNorm (com.microsoft)", (m) => {
          let x = m.node("Transpose", [m.input("x", shape)], { attributes: { perm: [0, 2, 3, 1] } });
          const attributes = { groups: op.groups, epsilon: EPS, activation: 1, channels_last: 1 };
          for (let i = 0; i < op.times; i++) {
            x = m.node("GroupNorm", [x, ...scales(m, [op.channels])], { domain: "com.microsoft", attributes });
          }
          return { result: m.node("Transpose", [x], { attributes: { perm: [0, 3, 1, 2] } }), shape };
        }),
      ];
    }
    case "attention": {
      const channels = op.heads * op.head;
      return [
        write("MultiHeadAttention", (m) => {
          const query = m.input("query", [1, op.queries, channels]);
          const [key, value] = [m.input("key", [1, op.keys, channels]), m.input("value", [1, op.keys, channels])];
          const attributes = { num_heads: op.heads };
          const result = m.node("MultiHeadAttention", [query, key, value], { domain: "com.microsoft", attributes });
          return { result, shape: [1, op.queries, channels] };
        }),
      ];
    }
    default:
      return op satisfies never;
  }
}

/** Group normalisation as exporters write it: a group as a channel of instance normalisation, then scale and shift. */
export function instanceGroupNorm(
  m: ModelWriter,
  x: string,
  shape: readonly number[],
  groups: number,
  [gamma, beta]: readonly string[],
  eps = EPS,
): string {
  const ones = m.weight(`ones:${groups}`, [groups], new Float32Array(groups).fill(1));
  const zeros = m.weight(`zeros:${groups}`, [groups], new Float32Array(groups));
  const grouped = m.node("Reshape", [x, m.integers([shape[0]!, groups, -1])]);
  const normal = m.node("InstanceNormalization", [grouped, ones, zeros], { attributes: { epsilon: eps } });
  const back = m.node("Reshape", [normal, m.integers(shape)]);
  return m.node("Add", [m.node("Mul", [back, gamma!]), beta!]);
}

/** `npm run bench -- ops`: single operations, each beside all peers. */

import { join } from "node:path";
import { type Contender, compare, type Entry, withScratch, writeTensor } from "../compare.ts";
import type { TensorFile } from "../peers/peer.ts";
import { randomValues } from "../random.ts";
import type { TurnOptions } from "../turns.ts";
import { flops, type OpCase, tensorsOf } from "./cases.ts";

export interface OpResult {
  readonly op: OpCase;
  readonly flops: number;
  readonly entries: readonly Entry[];
}

export interface OpOptions extends TurnOptions {
  /** Writes the operation's ONNX models (`writeOpModels`), where a contender reads them. */
  readonly onnx?: (op: OpCase, values: (name: string) => Float32Array, prefix: string) => string[];
}

export async function measureOp(op: OpCase, contenders: readonly Contender[], options: OpOptions): Promise<OpResult> {
  return withScratch(async (directory) => {
    const values = new Map<string, Float32Array>();
    const tensors: Record<string, TensorFile> = {};
    for (const { name, shape, deviation, mean, weight } of tensorsOf(op)) {
      const count = shape.reduce((product, size) => product * size, 1);
      const data = randomValues(`${op.name} ${name}`, count, { deviation, mean, half: weight });
      values.set(name, data);
      tensors[name] = writeTensor(directory, name, shape, data);
    }
    const onnx = options.onnx?.(op, (name) => values.get(name)!, join(directory, "op")) ?? [];
    const entries = await compare(contenders, { kind: "op", op, tensors, onnx }, directory, options);
    return { op, flops: flops(op), entries };
  });
}

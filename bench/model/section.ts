/** `npm run bench -- model`: whole networks, beside onnxruntime on an ONNX file of the same network. */

import { join } from "node:path";
import { type Contender, compare, type Entry, withScratch, writeTensor } from "../compare.ts";
import { exportGraph } from "../onnx/export-graph.ts";
import type { TensorFile } from "../peers/peer.ts";
import { randomValues } from "../random.ts";
import type { TurnOptions } from "../turns.ts";
import { declareShape } from "./generated-weights.ts";
import { inputShape, type NetworkCase } from "./networks.ts";

export interface NetworkResult {
  readonly network: NetworkCase;
  readonly entries: readonly Entry[];
}

export async function measureNetwork(
  network: NetworkCase,
  contenders: readonly Contender[],
  options: TurnOptions,
): Promise<NetworkResult> {
  return withScratch(async (directory) => {
    const { recorder, weights } = await network.build();
    for (const { parts } of recorder.parameters.values()) {
      for (const { name, shape } of parts) declareShape(name, shape);
    }
    const tensors: Record<string, TensorFile> = {};
    for (const [name, tensor] of recorder.inputs) {
      const count = tensor.shape.reduce((product, size) => product * size, 1);
      const values =
        tensor.element === "u32"
          ? Int32Array.from({ length: count }, (_, index) => (index * 37) % 256)
          : randomValues(`${network.name} ${name}`, count, { deviation: 1 });
      tensors[name] = writeTensor(directory, name, inputShape(tensor), values);
    }
    const onnx = [exportGraph(recorder, weights, join(directory, "network.onnx"))];
    const wanted = contenders.filter(({ storage }) => storage === undefined || network.storages.includes(storage));
    const entries = await compare(
      wanted,
      { kind: "network", network: network.name, tensors, onnx },
      directory,
      options,
    );
    return { network, entries };
  });
}

/** Steps of the built-in model's picture. */
const STEPS = 8;

/**
 * A whole picture of the built-in model: its prompt, eight steps, its decoding, added up from their medians in this run.
 * Nothing where one of the three was not measured.
 */
export function wholePicture(results: readonly NetworkResult[]): { name: string; entries: Entry[] } | undefined {
  const find = (text: string) =>
    results.find(({ network }) => network.name.includes("built-in") && network.name.startsWith(text));
  const [step, text, decode] = [find("UNet"), find("text"), find("decode")];
  if (!step || !text || !decode) return undefined;
  const entries = step.entries.flatMap(({ name }): Entry[] => {
    const part = ({ entries: of }: NetworkResult) => of.find((entry) => entry.name === name)?.timing;
    const [s, t, d] = [part(step), part(text), part(decode)];
    if (!s || !t || !d) return [];
    const sum = (by: "median" | "cpu") => STEPS * s[by] + t[by] + d[by];
    const spread = Math.max(s.spread, t.spread, d.spread);
    return [{ name, timing: { median: sum("median"), cpu: sum("cpu"), spread, samples: [] } }];
  });
  return { name: `${STEPS}-step picture, built-in model, 128² (its parts added up)`, entries };
}

/** Random networks of small layers, wired as models wire them and in ways that none does. */

import { headPadding, Recorder } from "../recorder.ts";
import { type Activation, activationCode, channelsOf, rowsOf, type Tensor } from "../tensor.ts";
import { type Random, random } from "./values.ts";

const ACTIVATIONS = Object.keys(activationCode) as Activation[];
const IMAGES = 2;
const FACTORS = 6;

/** A network of so many layers: inputs `x` (a picture), `row` (one row an image), `factors` (numbers an image); outputs by the number of their layer. */
export function randomNetwork(seed: number, layers: number): Recorder {
  const source = random(seed);
  const g = new Recorder();
  const row = g.input("row", [IMAGES, 8]);
  const factors = g.input("factors", [IMAGES, FACTORS], { element: "f32" });
  const made: Tensor[] = [g.input("x", [IMAGES, 4, 5, 8]), g.input("fixed", [IMAGES, 4, 5, 8], { constant: true })];
  // Mostly what was just made, so that there is something to fuse.
  const any = () => (source.uniform() < 0.7 ? made.at(-1)! : source.pick(made));
  for (let layer = 0; layer < layers; layer++) {
    made.push(addLayer(g, source, `layer${layer}`, any(), made, { row, factors }));
    if (source.uniform() < 0.15) g.output(`layer${layer}`, made.at(-1)!);
  }
  g.output("last", made.at(-1)!);
  return g;
}

function addLayer(
  g: Recorder,
  source: Random,
  name: string,
  x: Tensor,
  made: readonly Tensor[],
  { row, factors }: { readonly row: Tensor; readonly factors: Tensor },
): Tensor {
  const [n, h, w, c] = x.shape as [number, number, number, number];
  const outputs = source.pick([4, 8, 8, 8, 12, 6]);
  const alike = made.filter((other) => rowsOf(other) === rowsOf(x) && channelsOf(other) === c && other.shape[1] === h);
  switch (source.integer(0, 16)) {
    case 0:
    case 1:
      return g.conv2d(x, name, { outputs, padding: 1 });
    case 2:
      return g.conv2d(x, name, { outputs, kernel: 1, bias: source.uniform() < 0.5 });
    case 3:
      return g.linear(x, name, { outputs });
    case 4:
      return g.activation(x, source.pick(ACTIVATIONS));
    case 5:
      return g.add(x, source.pick(alike), name);
    case 6:
      return g.add(source.pick(alike), x, name);
    case 7:
      return g.add(x, g.linear(row, name, { outputs: c }), name);
    case 8:
      return g.groupNorm(x, name, { groups: source.pick([1, 2]), eps: 1e-5 });
    case 9: {
      const small = h * w <= 20;
      return g.upsampleNearest(
        x,
        name,
        small ? { height: h + source.integer(0, h), width: w * 2 } : { height: 4, width: 5 },
      );
    }
    case 10: {
      const other = made.findLast((other) => rowsOf(other) === rowsOf(x) && other.shape[1] === h && other !== x) ?? x;
      const joined = g.concat(x, other);
      return source.uniform() < 0.5
        ? g.conv2d(joined, name, { outputs, padding: 1 })
        : g.groupNorm(joined, name, { groups: 2, eps: 1e-5 });
    }
    case 11:
      return g.affine(x, name, { scale: 0.5, shift: 0.25, activation: source.pick(ACTIVATIONS) });
    case 12:
      return source.uniform() < 0.5 ? g.layerNorm(x, name, { eps: 1e-5 }) : g.softmax(x, name);
    case 13: {
      const addend = source.uniform() < 0.5 ? source.pick(alike) : g.linear(row, name, { outputs: c });
      return g.addScaled(x, addend, { tensor: factors, column: source.integer(0, FACTORS - 1) }, name);
    }
    case 14:
      return h * w > 4 ? g.averagePool(x, name, source.integer(1, 3)) : x;
    case 15: {
      const [one, other] = [x, source.pick(alike)].map((picture) => g.reshape(picture, [n, h * w, c]));
      return h * w > 40 ? x : g.reshape(g.joinTokens(one!, other!, name), [n, 2 * h, w, c]);
    }
    default: {
      const tokens = g.reshape(x, [n, h * w, c]);
      const query = g.linear(tokens, [`${name}.q`, `${name}.k`, `${name}.v`], { outputs: 8, bias: false });
      const view = (offset: number) => ({ tensor: query, offset });
      const out = g.attention(
        name,
        { query: view(0), key: view(8), value: view(16) },
        { heads: 1, head: headPadding(8) },
      );
      return g.reshape(out, [n, h, w, 8]);
    }
  }
}

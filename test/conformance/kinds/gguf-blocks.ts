/** Blocks of GGUF's quantised types: bytes to numbers. */

import { BLOCK_TYPES, blockConversion } from "../../../src/weights/gguf-blocks.ts";
import type { Kind } from "../kind.ts";

export const ggufBlocksKind: Kind = {
  name: "gguf blocks",
  recognises: ({ expected }) => [...expected.keys()].some((name) => /^Q\d\w*\.random_bytes$/.test(name)),
  async run(run) {
    const types = new Map(Object.values(BLOCK_TYPES).map((type) => [type.name, type]));
    for (const name of run.folder.expected.keys()) {
      const [, type, set] = /^(\w+)\.((?:random_)?)bytes$/.exec(name) ?? [];
      if (type === undefined) continue;
      run.optional(`${type}.source`); // the row that was quantised, which only a quantiser reads
      const block = types.get(type);
      if (block === undefined) {
        run.fail(type, name, "no such type of block");
        continue;
      }
      const source = Uint8Array.from(run.input(name).values);
      const { from, to, convert } = blockConversion(block);
      const target = new Uint8Array((source.byteLength / from) * to);
      convert(source, target);
      run.compare(`${type}.${set}values`, new Float32Array(target.buffer), { measure: "relative", bound: 2e-6 });
    }
  },
};

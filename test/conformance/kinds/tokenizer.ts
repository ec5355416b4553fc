/** CLIP's tokenizer: texts to ids, padded with the end token or with id 0. */

import { join } from "node:path";
import { loadClipTokenizer } from "../../../src/text/clip-tokenizer.ts";
import type { CaseRun, Kind } from "../kind.ts";

interface Text {
  readonly id: string;
  readonly text: string;
  readonly ids_unpadded?: readonly number[];
}

/** The suffix of the ids' tensors, and the folder of the tokenizer that makes them. */
const TOKENIZERS = { ids: "tokenizer", ids_pad0: "tokenizer_2" } as const;

export const tokenizerKind: Kind = {
  name: "tokenizer",
  recognises: ({ files }) => files.includes("texts.json") && files.some((file) => file.startsWith("tokenizer")),
  async run(run) {
    const texts = JSON.parse(await run.folder.readText("texts.json")) as Text[];
    for (const [suffix, folder] of Object.entries(TOKENIZERS)) {
      if (!run.folder.files.includes(folder)) continue;
      await run.group(folder, async () => {
        const tokenizer = await loadClipTokenizer(join(run.folder.path, folder));
        for (const text of texts) encode(run, tokenizer, text, suffix, folder);
      });
    }
  },
};

function encode(
  run: CaseRun,
  tokenizer: Awaited<ReturnType<typeof loadClipTokenizer>>,
  { id, text, ids_unpadded: unpadded }: Text,
  suffix: string,
  folder: string,
): void {
  const { ids, tokenCount, truncated } = tokenizer.encode(text);
  if (run.folder.expected.has(`${id}.${suffix}`)) {
    run.compare(`${id}.${suffix}`, ids, run.tolerances.exact, { group: folder });
  }
  // They are the first tokenizer's; the second has a special token more, its padding, which a text may spell.
  if (!unpadded || suffix !== "ids") return;
  run.equal(folder, `${id}: count of tokens`, [tokenCount], [unpadded.length], run.tolerances.exact);
  if (!truncated) run.equal(folder, `${id}: unpadded`, ids.subarray(0, tokenCount), unpadded, run.tolerances.exact);
}

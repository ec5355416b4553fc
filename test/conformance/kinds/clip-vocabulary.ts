/**
 * The vocabulary that comes with the package: texts to the ids of openai/CLIP.
 *
 * That tokenizer first mends a text (ftfy) and reads HTML's entities; transformers' parts Chinese characters and drops
 * invisible ones. Texts that either of them touches are left out.
 */

import { createClipTokenizer } from "../../../src/text/clip-tokenizer.ts";
import { clipVocabulary } from "../../../src/text/clip-vocabulary.ts";
import { readClipTokenizerFiles } from "../../../src/text/tokenizer-files.ts";
import type { Kind } from "../kind.ts";

/** Entities; ligatures, full-width and half-width letters; curly quotes; bytes of UTF-8 read as Latin-1. */
const MENDED =
  /&[a-z#0-9]+;|[\ufb00-\ufb06\uff01-\uffee\u2018-\u201f\u0132\u0133\u01c4-\u01cc]|[\u00c2\u00c3\u00e2][\u0080-\u00bf\u20ac\u2122]/;
const PARTED = /[\p{Script=Han}\p{Cf}]/u;

export const clipVocabularyKind: Kind = {
  name: "clip vocabulary",
  recognises: ({ facts }) => facts.kind === "clip-vocabulary",
  async run(run) {
    const texts = JSON.parse(await run.folder.readText("expected.json")) as { text: string; ids: number[] }[];
    const files = await readClipTokenizerFiles(await clipVocabulary("<|endoftext|>"));
    const tokenizer = createClipTokenizer({ ...files, modelMaxLength: 1024 });
    run.equal("vocabulary", "size", [tokenizer.size], [run.folder.facts.vocabulary as number], run.tolerances.exact);
    for (const { text, ids } of texts) {
      if (MENDED.test(text) || PARTED.test(text)) continue;
      const { ids: row, tokenCount } = tokenizer.encode(text);
      run.equal("texts", JSON.stringify(text).slice(0, 40), row.subarray(1, tokenCount - 1), ids, run.tolerances.exact);
    }
  },
};

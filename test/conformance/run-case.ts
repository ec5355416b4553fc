/** One case from its folder to its checks. */

import { openCase } from "./case-folder.ts";
import type { Check } from "./comparison.ts";
import { type Bench, caseRun, type Kind } from "./kind.ts";
import { autoencoderKind } from "./kinds/autoencoder.ts";
import { autoencoderFileKind } from "./kinds/autoencoder-file.ts";
import { clipKind } from "./kinds/clip.ts";
import { clipVocabularyKind } from "./kinds/clip-vocabulary.ts";
import { controlKind } from "./kinds/control.ts";
import { ggufBlocksKind } from "./kinds/gguf-blocks.ts";
import { guidanceKind } from "./kinds/guidance.ts";
import { ipAdapterKind } from "./kinds/ip-adapter.ts";
import { loraKind } from "./kinds/lora.ts";
import { noiseKind } from "./kinds/noise.ts";
import { pipelineKind } from "./kinds/pipeline.ts";
import { promptScheduleKind } from "./kinds/prompt-schedule.ts";
import { promptsKind, textualInversionKind } from "./kinds/prompts.ts";
import { schedulersKind } from "./kinds/schedulers.ts";
import { singleFileKind } from "./kinds/single-file.ts";
import { tokenizerKind } from "./kinds/tokenizer.ts";
import { unetKind } from "./kinds/unet.ts";
import { variationKind } from "./kinds/variation.ts";

const KINDS: readonly Kind[] = [
  unetKind,
  autoencoderKind,
  clipKind,
  loraKind,
  controlKind,
  ipAdapterKind,
  pipelineKind,
  guidanceKind,
  promptsKind,
  promptScheduleKind,
  textualInversionKind,
  variationKind,
  schedulersKind,
  tokenizerKind,
  noiseKind,
  singleFileKind,
  autoencoderFileKind,
  ggufBlocksKind,
  clipVocabularyKind,
];

export interface CaseResult {
  readonly name: string;
  /** The kinds that it was recognised as. */
  readonly kinds: readonly string[];
  readonly checks: readonly Check[];
  readonly milliseconds: number;
}

/** Runs a case; whatever goes wrong is a failed check of its. */
export async function runCase(path: string, bench: Bench): Promise<CaseResult> {
  const begun = performance.now();
  const done = (name: string, kinds: readonly string[], checks: readonly Check[]): CaseResult => ({
    name,
    kinds,
    checks,
    milliseconds: performance.now() - begun,
  });
  let folder: Awaited<ReturnType<typeof openCase>>;
  try {
    folder = await openCase(path);
  } catch (error) {
    const note = error instanceof Error ? error.message : String(error);
    return done(path, [], [{ group: "", what: "", passed: false, note }]);
  }
  const run = caseRun(folder, bench);
  const kinds = KINDS.filter((kind) => kind.recognises(folder));
  if (kinds.length === 0) run.fail("", "", `not recognised: none of ${KINDS.map((kind) => kind.name).join(", ")}`);
  for (const kind of kinds) await run.group(kind.name, () => kind.run(run));
  if (kinds.length > 0)
    for (const name of run.leftOver()) run.fail("not compared", name, "neither taken as an input nor compared");
  return done(
    folder.name,
    kinds.map((kind) => kind.name),
    run.checks,
  );
}

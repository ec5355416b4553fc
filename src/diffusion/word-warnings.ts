import type { FamilyModel, StepShape } from "./model.ts";
import type { PipelineRequest } from "./request.ts";

/** Warnings about the words of a request: the prompt's, and the negative prompt's if steps read it. */
export async function wordWarnings(
  family: FamilyModel,
  { prompt, negativePrompt = "", ...reading }: PipelineRequest,
  { branches }: StepShape,
): Promise<string[]> {
  const ofPrompt = await family.promptWarnings(prompt, "prompt", reading);
  if (negativePrompt === "" || branches === 1) return ofPrompt;
  return [...ofPrompt, ...(await family.promptWarnings(negativePrompt, "negative prompt", reading))];
}

/**
 * Prompt syntax of other programs: weights, LoRAs, switches. Unless a request asks for the weighted syntax, a prompt is
 * plain text, and a warning says that they are read as words.
 */

import type { PromptSyntax } from "./prompt-syntax.ts";

interface Syntax {
  readonly pattern: RegExp;
  /** True if the weighted syntax reads it. */
  readonly isWeighted?: boolean;
  /** Its meaning elsewhere, and the advice to do something else. */
  readonly advice: string;
}

/** Numbers as weights have them. The patterns have no nested repetitions: a prompt may be long, and is a stranger's. */
const SYNTAXES: readonly Syntax[] = [
  {
    pattern: /<(?:lora|lyco|lycoris):[^<>]{1,200}>/i,
    isWeighted: true,
    advice: "ask for LoRAs with the field loras, or for prompt_syntax weighted",
  },
  { pattern: /<hypernet:[^<>]{1,200}>/i, advice: "there are no hypernetworks" },
  { pattern: /\bembedding:[\w-]{1,100}/i, advice: "this server has no embedding of that name" },
  { pattern: /\([^()]{1,200}:\s?-?\d{0,2}\.?\d{1,4}\s?\)/, isWeighted: true, advice: "ask for prompt_syntax weighted" },
  { pattern: /\(\([^()]{1,200}\)\)/, isWeighted: true, advice: "ask for prompt_syntax weighted" },
  { pattern: /\[\[[^[\]]{1,200}\]\]/, isWeighted: true, advice: "ask for prompt_syntax weighted" },
  {
    pattern: /[\w)](?:\+{2,5}|-{2,5})(?=[\s,.)]|$)/,
    advice: "weights of words are (word:1.2), with prompt_syntax weighted",
  },
  {
    pattern: /\[[^[\]]{0,200}:\s?\d{1,3}(?:\.\d{1,4})?\s?\]/,
    isWeighted: true,
    advice: "ask for prompt_syntax weighted",
  },
  { pattern: /\[[^[\]|]{1,200}\|[^[\]]{1,200}\]/, isWeighted: true, advice: "ask for prompt_syntax weighted" },
  { pattern: /(?:^|\s)BREAK(?=\s|$)/, isWeighted: true, advice: "ask for prompt_syntax weighted" },
  { pattern: /(?:^|\s)AND(?=\s|$)/, advice: "a prompt is one text" },
];

/** Pieces of a prompt that mean something to another program, each with what to do here. */
export function foreignSyntax(
  prompt: string,
  syntax: PromptSyntax = "plain",
): { readonly text: string; readonly advice: string }[] {
  return SYNTAXES.flatMap(({ pattern, isWeighted, advice }) => {
    if (isWeighted && syntax === "weighted") return [];
    const text = pattern.exec(prompt)?.[0].trim();
    return text === undefined ? [] : [{ text, advice }];
  });
}

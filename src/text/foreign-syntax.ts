/**
 * Prompt syntax of other programs: weights, LoRAs, switches. Here a prompt is plain text, so whoever writes them is told
 * that they are read as words.
 */

interface Syntax {
  readonly pattern: RegExp;
  /** Its meaning elsewhere, and the advice to do something else. */
  readonly advice: string;
}

/** Numbers as weights have them. The patterns have no nested repetitions: a prompt may be long, and is a stranger's. */
const SYNTAXES: readonly Syntax[] = [
  { pattern: /<(?:lora|lyco|lycoris):[^<>]{1,200}>/i, advice: "ask for LoRAs with the field loras" },
  { pattern: /<hypernet:[^<>]{1,200}>/i, advice: "there are no hypernetworks" },
  { pattern: /\bembedding:[\w-]{1,100}/i, advice: "there are no embeddings" },
  { pattern: /\([^()]{1,200}:\s?-?\d{0,2}\.?\d{1,4}\s?\)/, advice: "there are no weights of words" },
  { pattern: /\(\([^()]{1,200}\)\)/, advice: "there are no weights of words" },
  { pattern: /\[\[[^[\]]{1,200}\]\]/, advice: "there are no weights of words" },
  { pattern: /[\w)](?:\+{2,5}|-{2,5})(?=[\s,.)]|$)/, advice: "there are no weights of words" },
  { pattern: /\[[^[\]]{0,200}:\s?\d{1,3}(?:\.\d{1,4})?\s?\]/, advice: "words stay the same for all steps" },
  { pattern: /\[[^[\]|]{1,200}\|[^[\]]{1,200}\]/, advice: "words stay the same for all steps" },
  { pattern: /(?:^|\s)(?:BREAK|AND)(?=\s|$)/, advice: "a prompt is one text" },
];

/** Pieces of a prompt that mean something to another program, each with what to do here. */
export function foreignSyntax(prompt: string): { readonly text: string; readonly advice: string }[] {
  return SYNTAXES.flatMap(({ pattern, advice }) => {
    const text = pattern.exec(prompt)?.[0].trim();
    return text === undefined ? [] : [{ text, advice }];
  });
}

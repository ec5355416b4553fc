// The weighted prompt syntax of AUTOMATIC1111's web UI: (more), ((more still)), [less], (by a number:1.3), escapes with a
// backslash, BREAK, and <lora:name:0.8>. A prompt becomes segments of plain text with a weight each.

/** Text that is read with a weight. */
export interface Segment {
  readonly text: string;
  readonly weight: number;
}

/** A place where a new chunk of tokens begins. */
export const BREAK = "break";

export type PromptPart = Segment | typeof BREAK;

/** How a prompt is read: as diffusers does, where parentheses are text, or with weights. */
export const PROMPT_SYNTAXES = ["plain", "weighted"] as const;
export type PromptSyntax = (typeof PROMPT_SYNTAXES)[number];

const ROUND = 1.1;
const SQUARE = 1 / ROUND;
/** Multiples of what a token means. Far beyond it there is only noise, and the numbers of a network end. */
const MOST_WEIGHT = 100;

/** No nested repetitions: a prompt may be long, and is a stranger's. */
const TOKEN = /\\[()[\]\\]|\\|\(|\[|:[+-]?(?:\d+\.?\d*|\.\d+)\)|\)|\]|[^\\()[\]:]+|:/g;
const WEIGHT = /^:([+-]?[.\d]+)\)$/;
const BREAK_WORD = /\s*\bBREAK\b\s*/;

/**
 * A LoRA in a prompt: `<lora:name>`, `<lora:name:0.8>`, and with a second number for the UNet alone, `<lora:name:0.8:0.5>`. The
 * web UI's names are read too, `te=0.8`, `unet=0.5`, and `lbw=1,0,…` of its extension for block weights.
 */
const LORA = /<(?:lora|lyco|lycoris):([^<>:]{1,1024})((?::[^<>:]{0,200}){0,6})>/gi;
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)$/;

export interface PromptLora {
  readonly name: string;
  readonly scale: number;
  /** The scale of the UNet, instead of `scale`. */
  readonly unet?: number;
  /** Factors of the UNet's blocks, behind one of the text encoders. */
  readonly blocks?: number[];
}

/** The LoRAs that a prompt names, in order. */
export function lorasIn(prompt: string): PromptLora[] {
  return [...prompt.matchAll(LORA)].map(([, name, rest]) => {
    const settings = (rest as string)
      .split(":")
      .slice(1)
      .map((text) => text.trim());
    const bare = settings.filter((text) => NUMBER.test(text)).map(Number);
    const named = (word: string) =>
      settings.find((text) => text.toLowerCase().startsWith(`${word}=`))?.slice(word.length + 1);
    const number = (text: string | undefined) => (text !== undefined && NUMBER.test(text) ? Number(text) : undefined);
    const scale = number(named("te")) ?? bare[0] ?? 1;
    const unet = number(named("unet")) ?? bare[1];
    const list = named("lbw")
      ?.split(",")
      .map((text) => text.trim());
    const blocks = list?.every((text) => NUMBER.test(text)) ? list.map(Number) : undefined;
    return { name: (name as string).trim(), scale, ...(unet !== undefined && { unet }), ...(blocks && { blocks }) };
  });
}

/** The prompt without the LoRAs that it names. */
export function withoutLoras(prompt: string): string {
  return prompt.replace(LORA, "");
}

/** The parts of a prompt in the weighted syntax; at least one. Brackets that are never closed count to the end. */
export function weightedParts(prompt: string): PromptPart[] {
  const parts: { text: string; weight: number }[] = [];
  const breaks = new Set<object>();
  const open: Record<"round" | "square", number[]> = { round: [], square: [] };
  const multiply = (from: number, factor: number) => {
    for (let i = from; i < parts.length; i++) (parts[i] as { weight: number }).weight *= factor;
  };
  for (const [token] of withoutLoras(prompt).matchAll(TOKEN)) {
    const number = WEIGHT.exec(token)?.[1];
    if (token.length === 2 && token.startsWith("\\")) parts.push({ text: token.slice(1), weight: 1 });
    else if (token === "(") open.round.push(parts.length);
    else if (token === "[") open.square.push(parts.length);
    else if (number !== undefined && open.round.length > 0) multiply(open.round.pop() as number, Number(number));
    else if (token === ")" && open.round.length > 0) multiply(open.round.pop() as number, ROUND);
    else if (token === "]" && open.square.length > 0) multiply(open.square.pop() as number, SQUARE);
    else {
      for (const [index, text] of token.split(BREAK_WORD).entries()) {
        if (index > 0) {
          const part = { text: "", weight: 1 };
          breaks.add(part);
          parts.push(part);
        }
        parts.push({ text, weight: 1 });
      }
    }
  }
  closeAll(parts, open.round, ROUND);
  closeAll(parts, open.square, SQUARE);
  return merged(parts, breaks);
}

/** Closes brackets at the end of a prompt; there may be thousands. `places`, ascending: the parts that they stand before. */
function closeAll(parts: readonly { weight: number }[], places: readonly number[], factor: number): void {
  let next = 0;
  for (const [index, part] of parts.entries()) {
    while (next < places.length && (places[next] as number) <= index) next++;
    part.weight *= factor ** next;
  }
}

/** Neighbours of one weight as one segment. */
function merged(parts: readonly Segment[], breaks: ReadonlySet<object>): PromptPart[] {
  const all: PromptPart[] = [];
  for (const part of parts) {
    const last = all.at(-1);
    if (breaks.has(part)) all.push(BREAK);
    else if (last !== undefined && last !== BREAK && last.weight === part.weight) {
      all[all.length - 1] = { text: last.text + part.text, weight: last.weight };
    } else all.push(part);
  }
  return all.length === 0
    ? [{ text: "", weight: 1 }]
    : all.map((part) => (part === BREAK ? part : { ...part, weight: bounded(part.weight) }));
}

function bounded(weight: number): number {
  return Math.min(Math.max(weight, -MOST_WEIGHT), MOST_WEIGHT);
}

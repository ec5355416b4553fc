/**
 * Prompts that change on the way, as in AUTOMATIC1111's web UI: `[from:to:when]`, `[to:when]`, `[from::when]`, and `[a|b]`,
 * which takes turns step by step. They nest. `when` with a point is a share of the steps, without one a step.
 *
 * `(…)` and `[…]` without colons or bars are emphasis: they stay in the texts (`prompt-syntax.ts` reads them). A prompt with
 * a bar outside of `[…]` is not read at all and stays as it is.
 */

/** A text, and the last step (from 1) that it is for. */
export interface ScheduledText {
  readonly until: number;
  readonly text: string;
}

export interface ScheduleOptions {
  /** Evaluations of the network in this pass. */
  readonly steps: number;
  /** Those of the pass before this one, if this is the second: `when` goes on counting, and shares count from 1. */
  readonly firstPassSteps?: number;
  /** `when` below 1 is a share and anything else a step, as before version 1.6 of the web UI. */
  readonly oldScheduling?: boolean;
}

type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "all"; readonly nodes: readonly Node[] }
  | { readonly kind: "switch"; readonly before: Node; readonly after: Node; readonly when: string }
  | { readonly kind: "turns"; readonly nodes: readonly Node[] };

const NOTHING: Node = { kind: "all", nodes: [] };

/** Brackets within brackets that are read; deeper ones stay text. */
const MOST_LEVELS = 64;

const PLAIN = /(?:[^\\[\]():|]|\\.)+/suy;
const STRAY = /[\][():]+/y;
const WHEN = /^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*$/iu;

/** True if a prompt may change between steps. */
export function mayChange(prompt: string): boolean {
  return prompt.includes("[") && /[:|]/.test(prompt);
}

/** The texts of a prompt, in the order of their last steps, of which the last one is `steps`. */
export function promptSchedule(prompt: string, options: ScheduleOptions): ScheduledText[] {
  const { steps } = options;
  const tree = new Reader(prompt).all();
  if (tree === undefined) return [{ until: steps, text: prompt }];
  const ends = new Set([steps]);
  collectEnds(tree, options, ends);
  return [...ends].sort((one, other) => one - other).map((until) => ({ until, text: textAt(tree, until, options) }));
}

/**
 * The text of a step. The web UI counts the steps of a sampler from 0 and those of a schedule from 1: the first text is there
 * for one step more than its schedule says.
 * @param step evaluations of the network so far
 */
export function textOfStep(schedule: readonly ScheduledText[], step: number): string {
  return (schedule.find(({ until }) => step <= until) ?? schedule.at(-1)!).text;
}

class Reader {
  readonly #prompt: string;
  #at = 0;
  #levels = 0;
  /** Brackets that are known to be none, so that no text is read twice for each level around it. */
  readonly #strays = new Set<number>();

  constructor(prompt: string) {
    this.#prompt = prompt;
  }

  /** The whole prompt; undefined: it has a bar, or a backslash at its end, where none may be. */
  all(): Node | undefined {
    const nodes: Node[] = [];
    while (this.#at < this.#prompt.length) {
      const node = this.#item() ?? this.#text(STRAY);
      if (node === undefined) return undefined;
      nodes.push(node);
    }
    return { kind: "all", nodes };
  }

  #text(pattern: RegExp): Node | undefined {
    pattern.lastIndex = this.#at;
    const [text] = pattern.exec(this.#prompt) ?? [];
    if (text === undefined) return undefined;
    this.#at += text.length;
    return { kind: "text", text };
  }

  #item(): Node | undefined {
    const next = this.#prompt[this.#at];
    return next === "[" || next === "(" ? this.#bracketed(next === "[" ? "]" : ")") : this.#text(PLAIN);
  }

  /** Text within brackets up to a colon, a bar or the closing bracket. */
  #inner(): Node {
    const nodes: Node[] = [];
    for (let node = this.#item(); node !== undefined; node = this.#item()) nodes.push(node);
    return { kind: "all", nodes };
  }

  /** Leaves the place as it was if there is no closing bracket, or what is within means nothing. */
  #bracketed(closing: "]" | ")"): Node | undefined {
    const start = this.#at;
    if (this.#strays.has(start) || this.#levels === MOST_LEVELS) return undefined;
    this.#levels++;
    this.#at++;
    const parts: Node[] = [];
    const places = [this.#at];
    let separators = "";
    for (;;) {
      parts.push(this.#inner());
      const next = this.#prompt[this.#at];
      if (next !== ":" && next !== "|") break;
      separators += next;
      places.push(++this.#at);
    }
    const isClosed = this.#prompt[this.#at] === closing;
    const last = this.#prompt.slice(places.at(-1), this.#at);
    this.#at++;
    this.#levels--;
    const node = isClosed ? nodeOf(closing, parts, separators, last) : undefined;
    if (node !== undefined) return node;
    this.#at = start;
    this.#strays.add(start);
    return undefined;
  }
}

/** The meaning of `parts` within brackets; undefined: none. `last`: the last of them as it is written. */
function nodeOf(closing: "]" | ")", parts: readonly Node[], separators: string, last: string): Node | undefined {
  if (separators === "") return emphasis(closing, parts);
  if (closing === ")") return separators === ":" ? emphasis(closing, parts) : undefined;
  if (/^\|+$/.test(separators)) return { kind: "turns", nodes: parts };
  const when = WHEN.exec(last)?.[1];
  if (when === undefined || (separators !== ":" && separators !== "::")) return undefined;
  const [after = NOTHING, before = NOTHING] = separators === ":" ? [parts[0]] : [parts[1], parts[0]];
  return { kind: "switch", before, after, when };
}

function emphasis(closing: "]" | ")", parts: readonly Node[]): Node {
  const text = (text: string): Node => ({ kind: "text", text });
  const within = parts.flatMap((part, index) => (index === 0 ? [part] : [text(":"), part]));
  return { kind: "all", nodes: [text(closing === "]" ? "[" : "("), ...within, text(closing)] };
}

/** The last step that the first text of a switch is for; below 1: none. */
function endOf(when: string, { steps, firstPassSteps, oldScheduling = false }: ScheduleOptions): number {
  const value = Number(when);
  if (oldScheduling) return Math.min(steps, Math.trunc(value < 1 ? value * steps : value));
  const end = when.includes(".")
    ? (value - (firstPassSteps === undefined ? 0 : 1)) * steps
    : value - (firstPassSteps ?? 0);
  return Math.min(steps, Math.trunc(end));
}

function collectEnds(node: Node, options: ScheduleOptions, ends: Set<number>): void {
  if (node.kind === "text") return;
  if (node.kind === "switch") {
    const end = endOf(node.when, options);
    if (end >= 1) ends.add(end);
    collectEnds(node.before, options, ends);
    collectEnds(node.after, options, ends);
    return;
  }
  if (node.kind === "turns") for (let step = 1; step <= options.steps; step++) ends.add(step);
  for (const child of node.nodes) collectEnds(child, options, ends);
}

function textAt(node: Node, step: number, options: ScheduleOptions): string {
  switch (node.kind) {
    case "text":
      return node.text;
    case "all":
      return node.nodes.map((child) => textAt(child, step, options)).join("");
    case "switch":
      return textAt(step <= endOf(node.when, options) ? node.before : node.after, step, options);
    case "turns":
      return textAt(node.nodes[(step - 1) % node.nodes.length]!, step, options);
  }
}

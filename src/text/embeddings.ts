// Textual inversion (Gal et al. 2022): vectors that stand for a word in a text encoder's table. A prompt names them; each
// vector is a token whose id lies behind the vocabulary.

import type { PromptSyntax } from "./prompt-syntax.ts";

/** Vectors under a name, for one text encoder or several. */
export interface TextEmbedding {
  /** As prompts name it: `easynegative`, `<fox>`. */
  readonly name: string;
  /** Tells its vectors from others of the same name: files change. */
  readonly digest: string;
  /** `[vectors, width]` by the width of the encoder that reads them. */
  readonly vectors: ReadonlyMap<number, readonly Float32Array[]>;
}

/** The ids of an embedding's vectors. */
export interface AddedToken {
  readonly name: string;
  readonly ids: readonly number[];
}

/** ids, one after the other from `first`, in the order of the embeddings. */
export function addedTokens(embeddings: readonly TextEmbedding[], width: number, first: number): AddedToken[] {
  let next = first;
  return embeddings.map(({ name, vectors }) => {
    const ids = (vectors.get(width) ?? []).map(() => next++);
    return { name, ids };
  });
}

/**
 * A text cut at the names of embeddings. `embedding:name` and a name in angle brackets are read in both syntaxes, a bare
 * name, which must stand alone, in the weighted one.
 */
export function splitAtAdded(
  text: string,
  added: readonly AddedToken[],
  syntax: PromptSyntax,
): readonly (string | AddedToken)[] {
  if (added.length === 0) return [text];
  const pattern = namePattern(
    added.map(({ name }) => name),
    syntax,
  );
  const byName = new Map(added.map((token) => [token.name.toLowerCase(), token]));
  // Names stand at odd places.
  return text.split(pattern).map((part, index) => {
    if (index % 2 === 0) return part;
    return byName.get(part.replace(/^embedding:/i, "").toLowerCase()) as AddedToken;
  });
}

/** Names of embeddings that a prompt has. */
export function embeddingsIn(prompt: string, names: readonly string[], syntax: PromptSyntax): string[] {
  if (names.length === 0) return [];
  const byName = new Map(names.map((name) => [name.toLowerCase(), name]));
  const found = prompt
    .split(namePattern(names, syntax))
    .filter((_, index) => index % 2 === 1)
    .map((part) => byName.get(part.replace(/^embedding:/i, "").toLowerCase()) as string);
  return [...new Set(found)];
}

function namePattern(names: readonly string[], syntax: PromptSyntax): RegExp {
  const longestFirst = names.toSorted((one, other) => other.length - one.length);
  const any = (some: readonly string[]) => some.map(escaped).join("|");
  const bracketed = longestFirst.filter((name) => name.startsWith("<") && name.endsWith(">"));
  const forms = [`embedding:(?:${any(longestFirst)})(?![\\w.-]*\\w)`];
  if (bracketed.length > 0) forms.push(any(bracketed));
  if (syntax === "weighted") forms.push(`(?<![\\w-])(?:${any(longestFirst)})(?![\\w-])`);
  return new RegExp(`(${forms.join("|")})`, "iu");
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

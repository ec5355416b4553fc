/**
 * The files of textual inversion in a folder, and those of them that a request's prompts name: by the file's name without
 * its ending, or by the token that diffusers writes into it.
 *
 * Three forms are read: diffusers' (the token is the tensor's name), the web UI's (`emb_params`, or `*` of `string_to_param`),
 * and SDXL's with a tensor for each text encoder (`clip_l`, `clip_g`); from safetensors, or from pickles as `torch.save` writes
 * them (`.pt`, `.bin`), of which nothing is run (`src/weights/pickle.ts`).
 */

import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileTree } from "../platform/folder-tree.ts";
import { pathKind } from "../platform/path-kind.ts";
import { quoted } from "../platform/quoted.ts";
import { embeddingsIn, type TextEmbedding } from "../text/embeddings.ts";
import type { PromptSyntax } from "../text/prompt-syntax.ts";
import { isFloatType, toFloat32 } from "../weights/element-types.ts";
import { WeightsError } from "../weights/errors.ts";
import { openTensorFile } from "../weights/tensor-file.ts";
import type { TensorSet } from "../weights/tensor-set.ts";
import { RequestError } from "./errors.ts";

/** As many as anybody has collected. */
const BOUNDS = { depth: 8, entries: 10_000 };
const ENDING = /\.(?:safetensors|pt|bin)$/i;
/** Bytes of a file: the most vectors of the most numbers for two text encoders, and as much beside them. */
const MOST_BYTES = 16 * 2 ** 20;
/** Vectors of one word: a row of a text encoder has room for as many. */
const MOST_VECTORS = 75;
/** Numbers of a vector, at most: the widest text encoder has 4096. */
const MOST_WIDTH = 8192;
const LONGEST_HEADER = 64 * 1024;
/** Characters of a name that a prompt could have. */
const LONGEST_NAME = 200;
/** Tensors that stand for a word whose name is the file's. */
const NAMELESS: ReadonlySet<string> = new Set(["emb_params", "clip_l", "clip_g", "<unknown>", "*"]);

/** The token that a file brings, as long as the file is the same. */
interface Known {
  readonly version: string;
  readonly token: string | undefined;
}

/** @throws WeightsError "model-location" if the folder whose embeddings are to be offered is none */
export async function checkEmbeddingFolder(folder: string | undefined): Promise<void> {
  if (folder === undefined || (await pathKind(folder)) === "folder") return;
  const reason = (await pathKind(folder)) === "absent" ? "there is no such folder" : "is no folder";
  throw new WeightsError("model-location", `embedding_dir ${quoted(folder)}: ${reason}`);
}

export class EmbeddingFolder {
  readonly #folder: string;
  readonly #known = new Map<string, Known>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Names that prompts may have: of files, and the tokens in those that have been read. */
  async names(): Promise<string[]> {
    return [...(await this.#byName()).keys()].sort();
  }

  /**
   * Those that a request's prompts name, in the order of their names.
   * @throws RequestError naming `prompt` if a file that is named cannot be read
   */
  async in(prompts: readonly string[], syntax: PromptSyntax): Promise<TextEmbedding[]> {
    const byName = await this.#byName();
    const names = [...byName.keys()];
    const named = new Set(prompts.flatMap((prompt) => embeddingsIn(prompt, names, syntax)));
    const sorted = [...named].sort();
    return Promise.all(sorted.map(async (name) => ({ ...(await this.#read(name, byName.get(name)!)), name })));
  }

  async #byName(): Promise<ReadonlyMap<string, string>> {
    const { files } = await fileTree(this.#folder, BOUNDS).catch(() => {
      throw new RequestError("prompt", "the server's folder of embeddings cannot be read");
    });
    const byName = new Map<string, string>();
    const isPickle = (file: string) => Number(!file.toLowerCase().endsWith(".safetensors"));
    // If files differ in the ending alone, the one that is no pickle has the name.
    for (const file of files.filter((path) => ENDING.test(path)).toSorted((a, b) => isPickle(a) - isPickle(b))) {
      const name = basename(file).replace(ENDING, "");
      if (name !== "" && name.length <= LONGEST_NAME && !byName.has(name)) byName.set(name, file);
      const token = await this.#tokenOf(file);
      if (token !== undefined && !byName.has(token)) byName.set(token, file);
    }
    return byName;
  }

  /** The token that a file of diffusers' form brings; undefined if it brings none, or cannot be read. */
  async #tokenOf(file: string): Promise<string | undefined> {
    const path = join(this.#folder, file);
    try {
      const version = await versionOf(path);
      const known = this.#known.get(file);
      if (known?.version === version) return known.token;
      const tensors = await openEmbedding(path, basename(file));
      const token = tokenIn([...tensors.names()]);
      await tensors.close();
      this.#known.set(file, { version, token });
      return token;
    } catch {
      return undefined; // a prompt that names the file itself gets the error
    }
  }

  async #read(name: string, file: string): Promise<TextEmbedding> {
    const path = join(this.#folder, file);
    try {
      return { ...(await readEmbedding(path, basename(file))), digest: await versionOf(path) };
    } catch (error) {
      const reason = error instanceof WeightsError ? `: ${error.message}` : " cannot be read";
      throw new RequestError("prompt", `the embedding ${quoted(name)}${reason}`);
    }
  }
}

/** Tells a file from what was there before under its name. */
async function versionOf(path: string): Promise<string> {
  const { size, mtimeMs } = await stat(path);
  return `${size} ${mtimeMs}`;
}

/** The token in diffusers' form, whose one tensor has its name. */
function tokenIn(names: readonly string[]): string | undefined {
  const [name] = names;
  const isToken = names.length === 1 && name !== undefined && !NAMELESS.has(name) && name.length <= LONGEST_NAME;
  return isToken ? name : undefined;
}

/** Reads a file of textual inversion; its name is the token's, or the file's without its ending. @throws WeightsError */
export async function readEmbedding(path: string, file: string): Promise<TextEmbedding> {
  const tensors = await openEmbedding(path, file);
  try {
    const names = [...tensors.names()];
    if (names.length === 0 || names.length > 2) throw noEmbedding(file, `has ${names.length} tensors`);
    const vectors = new Map<number, readonly Float32Array[]>();
    for (const name of names) {
      const rows = await rowsOf(tensors, name, file);
      vectors.set(rows[0]!.length, rows);
    }
    return { name: tokenIn(names) ?? file.replace(ENDING, ""), digest: "", vectors };
  } finally {
    await tensors.close();
  }
}

/** Other files that lie in the folder are not read: a checkpoint has a header of megabytes. */
async function openEmbedding(path: string, file: string): Promise<TensorSet> {
  const { size } = await stat(path);
  if (size > MOST_BYTES) throw noEmbedding(file, `has ${size} bytes`);
  return openTensorFile(path, { name: file, longestHeader: LONGEST_HEADER });
}

async function rowsOf(tensors: TensorSet, name: string, file: string): Promise<Float32Array[]> {
  const entry = tensors.get(name)!;
  const [count, width] = entry.shape.length === 1 ? [1, entry.shape[0]!] : [entry.shape[0] ?? 0, entry.shape[1] ?? 0];
  if (entry.shape.length > 2 || count < 1 || count > MOST_VECTORS || width < 1 || width > MOST_WIDTH) {
    throw noEmbedding(file, `has a tensor ${quoted(name)} of shape [${entry.shape.join(", ")}]`);
  }
  if (!isFloatType(entry.dtype)) throw noEmbedding(file, `has a tensor ${quoted(name)} of ${entry.dtype}`);
  const bytes = new Uint8Array(entry.byteLength);
  await entry.read(bytes);
  const values = toFloat32(bytes, entry.dtype);
  if (!values.every(Number.isFinite)) throw noEmbedding(file, `has NaN or infinity in ${quoted(name)}`);
  return Array.from({ length: count }, (_, row) => values.slice(row * width, (row + 1) * width));
}

function noEmbedding(file: string, reason: string): WeightsError {
  const message = `${reason}; an embedding has one tensor of up to ${MOST_VECTORS} vectors, or clip_l and clip_g`;
  return new WeightsError("weights-shape", message, { file });
}

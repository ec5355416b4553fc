/** Downloads a model from a hub into the hub's cache: the files that it needs, each checked, and then a snapshot of links. */
import { copyFile, link, mkdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import pLimit from "p-limit";
import { z } from "zod";
import { quoted } from "../platform/quoted.ts";
import { INDEX_FILE } from "../weights/model-directory.ts";
import { chooseFiles, shardsOf } from "./choose-files.ts";
import { Connection } from "./connection.ts";
import { checkRoom, diskError, sizeOf } from "./disk.ts";
import { type Digest, download } from "./download.ts";
import { HubError } from "./errors.ts";
import { type HubName, hubNameText, isFileName } from "./hub-name.ts";
import { takeLock } from "./lock.ts";
import type { HubSettings } from "./settings.ts";
import { findSnapshot, RepositoryFolder } from "./snapshots.ts";

export interface PullOptions {
  readonly variant?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly report?: PullReport | undefined;
}

/** Called while a model is downloaded. */
export interface PullReport {
  /** The files are known. */
  begins?(facts: { name: string; revision: string; files: number; bytes: number; present: number }): void;
  /** Bytes of all files that are there. */
  progress?(bytes: number, total: number): void;
  /** The other side asked to wait. */
  waits?(seconds: number): void;
}

export interface Pulled {
  /** The snapshot's folder, or the one file that was asked for. */
  readonly path: string;
  /** The commit. */
  readonly revision: string;
  /** Variants of the weights; "" for plain ones. */
  readonly variants: readonly string[];
}

interface ListedFile {
  readonly path: string;
  readonly bytes: number;
  readonly digest: Digest;
}

const MOST_FILES = 20_000;
/** Bytes of a configuration; a tokenizer's largest has 35 MB. */
const LONGEST_SMALL = 64 * 2 ** 20;
/** Files that come side by side. */
const AT_ONCE = 4;

const sha1 = z.string().regex(/^[0-9a-f]{40}$/);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const size = z.int().min(0);
const entrySchema = z.object({
  type: z.string(),
  path: z.string().refine(isFileName),
  size,
  oid: sha1,
  lfs: z.object({ oid: sha256, size }).optional(),
});

/**
 * Downloads a model, or one file of a repository. Files that are there are not downloaded again.
 * @throws HubError; the signal's reason
 */
export async function pull(settings: HubSettings, name: HubName, options: PullOptions = {}): Promise<Pulled> {
  if (settings.isOffline) return offline(settings, name);
  const stop = new AbortController();
  const connection = new Connection({
    base: new URL(settings.endpoint),
    token: settings.token,
    signal: AbortSignal.any([stop.signal, ...(options.signal ? [options.signal] : [])]),
    onWait: options.report?.waits,
  });
  try {
    const commit = await commitOf(connection, settings, name);
    const listing = await listingOf(connection, settings, name.repository, commit);
    const folder = new RepositoryFolder(settings.cache, name.repository);
    const release = await takeLock(folder.lock, name.repository).catch((error) => {
      throw error instanceof HubError ? error : diskError(error);
    });
    try {
      return await new Pull({ connection, settings, folder, name, commit, listing, options, stop }).run();
    } finally {
      await release();
    }
  } finally {
    await connection.close();
  }
}

async function offline({ cache }: HubSettings, name: HubName): Promise<Pulled> {
  const path = await findSnapshot(cache, name);
  if (path !== undefined) {
    const commit = await new RepositoryFolder(cache, name.repository).commit(name.revision);
    return { path, revision: commit!, variants: [] };
  }
  const text = hubNameText(name);
  throw new HubError("offline", `${text} is not in the hub's cache, and HF_HUB_OFFLINE is set: nothing is downloaded`);
}

async function commitOf(connection: Connection, { endpoint }: HubSettings, name: HubName): Promise<string> {
  const { modelInfo } = await import("@huggingface/hub");
  const { repository, revision = "main" } = name;
  const { api: fetch } = connection;
  const info = await answered(
    modelInfo({ name: repository, revision, hubUrl: endpoint, fetch, additionalFields: ["sha"] }),
  );
  const commit = sha1.safeParse(info.sha);
  if (!commit.success) throw new HubError("bad-answer", `the hub names no commit for ${hubNameText(name)}`);
  return commit.data;
}

/** An answer that is no JSON is an error of the hub. */
async function answered<Answer>(answer: Promise<Answer>): Promise<Answer> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) {
      throw new HubError(
        "bad-answer",
        "the hub's answer is not as its API is documented: is HF_ENDPOINT a hub?",
        error,
      );
    }
    throw error;
  }
}

async function listingOf(
  connection: Connection,
  { endpoint }: HubSettings,
  repository: string,
  commit: string,
): Promise<Map<string, ListedFile>> {
  const { listFiles } = await import("@huggingface/hub");
  const options = { repo: repository, revision: commit, recursive: true, hubUrl: endpoint, fetch: connection.api };
  const listing = new Map<string, ListedFile>();
  const entries = listFiles(options);
  for (;;) {
    const { done, value } = await answered(entries.next());
    if (done) return listing;
    if (value.type === "directory") continue;
    const entry = entrySchema.safeParse(value);
    if (!entry.success) {
      const path = typeof value?.path === "string" ? quoted(value.path) : "without a name";
      throw new HubError("bad-answer", `the hub lists a file ${path} that cannot be one: nothing was downloaded`);
    }
    const { path, size, oid, lfs } = entry.data;
    const digest: Digest = lfs === undefined ? { kind: "git", hex: oid } : { kind: "sha256", hex: lfs.oid };
    listing.set(path, { path, bytes: lfs?.size ?? size, digest });
    if (listing.size > MOST_FILES) throw new HubError("bad-answer", `${repository} has over ${MOST_FILES} files`);
  }
}

/** A model of which all is known but its files' bytes. */
interface Task {
  readonly connection: Connection;
  /** Ends what the connection does. */
  readonly stop: AbortController;
  readonly settings: HubSettings;
  readonly folder: RepositoryFolder;
  readonly name: HubName;
  readonly commit: string;
  readonly listing: ReadonlyMap<string, ListedFile>;
  readonly options: PullOptions;
}

class Pull {
  readonly #task: Task;
  /** Bytes that are there, by checksum. */
  readonly #done = new Map<string, number>();
  #total = 0;

  constructor(task: Task) {
    this.#task = task;
  }

  async run(): Promise<Pulled> {
    await this.#makeFolders();
    const { file } = this.#task.name;
    const { files, variants } = file === undefined ? await this.#filesOfModel() : { files: [file], variants: [] };
    const wanted = files.map((path) => this.#listed(path));
    // Two tokenizers may have the same vocabulary.
    const blobs = [...new Map(wanted.map((one) => [one.digest.hex, one])).values()];
    await this.#checkRoom(blobs, wanted.length);
    await this.#fetchAll(blobs);
    for (const one of wanted) await this.#link(one);
    await this.#writeRef();
    const folder = this.#task.folder.snapshot(this.#task.commit);
    return { path: file === undefined ? folder : join(folder, file), revision: this.#task.commit, variants };
  }

  /** Also what other tools expect of a cache, empty or not. */
  async #makeFolders(): Promise<void> {
    for (const name of ["blobs", "refs", "snapshots"]) {
      await mkdir(join(this.#task.folder.root, name), { recursive: true }).catch((error) => {
        throw diskError(error);
      });
    }
  }

  async #filesOfModel(): Promise<{ files: string[]; variants: string[] }> {
    const { repository } = this.#task.name;
    const listing = new Map([...this.#task.listing.values()].map(({ path, bytes }) => [path, bytes]));
    const index = listing.has(INDEX_FILE) ? await this.#json(INDEX_FILE) : undefined;
    const { small, weights } = chooseFiles(repository, listing, index, this.#task.options.variant);
    const files = [...small, ...weights.map(({ file }) => file)];
    for (const { file, folder } of weights.filter(({ isIndex }) => isIndex)) {
      files.push(...shardsOf(await this.#json(file), folder));
    }
    return { files: [...new Set(files)], variants: [...new Set(weights.map(({ variant }) => variant))] };
  }

  #listed(path: string): ListedFile {
    const file = this.#task.listing.get(path);
    if (file !== undefined) return file;
    throw new HubError(
      "not-found",
      `${this.#task.name.repository} has no file ${quoted(path)} at ${this.#task.commit.slice(0, 7)}`,
    );
  }

  async #json(path: string): Promise<Record<string, unknown>> {
    const file = this.#listed(path);
    if (file.bytes > LONGEST_SMALL)
      throw new HubError("bad-answer", `${quoted(path)} is too long to be a configuration`);
    await this.#fetch(file);
    const text = await readFile(this.#task.folder.blob(file.digest.hex), "utf8");
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
    } catch {
      // as one that is no object
    }
    throw new HubError(
      "bad-answer",
      `${quoted(path)} of ${this.#task.name.repository} is not the JSON that it must be`,
    );
  }

  /** Sums up what is to come, and looks whether there is room. */
  async #checkRoom(blobs: readonly ListedFile[], files: number): Promise<void> {
    let missing = 0;
    for (const { bytes, digest } of blobs) {
      const blob = this.#task.folder.blob(digest.hex);
      const isThere = (await sizeOf(blob)) === bytes;
      const there = isThere ? bytes : Math.min(await sizeOf(`${blob}.incomplete`), bytes);
      this.#done.set(digest.hex, there);
      this.#total += bytes;
      missing += bytes - there;
    }
    const { report } = this.#task.options;
    const facts = { name: this.#task.name.repository, revision: this.#task.commit, files };
    report?.begins?.({ ...facts, bytes: this.#total, present: this.#total - missing });
    await checkRoom(this.#task.folder.root, this.#task.name.repository, missing);
  }

  async #fetchAll(files: readonly ListedFile[]): Promise<void> {
    const limit = pLimit(AT_ONCE);
    const transfers = files.map((file) => limit(() => this.#fetch(file)));
    try {
      await Promise.all(transfers);
    } catch (error) {
      this.#task.stop.abort();
      await Promise.allSettled(transfers);
      throw error;
    }
  }

  async #fetch({ path, bytes, digest }: ListedFile): Promise<void> {
    const blob = this.#task.folder.blob(digest.hex);
    if ((await sizeOf(blob)) !== bytes) {
      const { endpoint } = this.#task.settings;
      const at = path.split("/").map(encodeURIComponent).join("/");
      const url = new URL(`${endpoint}/${this.#task.name.repository}/resolve/${this.#task.commit}/${at}`);
      const file = { url, name: path, bytes, digest };
      await download(this.#task.connection, file, `${blob}.incomplete`, (there) => this.#count(digest, there));
      await rename(`${blob}.incomplete`, blob);
    }
    this.#count(digest, bytes);
  }

  #count({ hex }: Digest, bytes: number): void {
    if (this.#total === 0) return; // a configuration that says which files are wanted
    this.#done.set(hex, bytes);
    const sum = [...this.#done.values()].reduce((total, one) => total + one, 0);
    this.#task.options.report?.progress?.(sum, this.#total);
  }

  /** A link to the bytes, as other tools make it; where the system has no links, the bytes under a second name. */
  async #link({ path, digest }: ListedFile): Promise<void> {
    const blob = this.#task.folder.blob(digest.hex);
    const place = join(this.#task.folder.snapshot(this.#task.commit), path);
    await mkdir(dirname(place), { recursive: true });
    await rm(place, { force: true });
    await symlink(relative(dirname(place), blob), place)
      .catch(() => link(blob, place))
      .catch(() => copyFile(blob, place));
  }

  async #writeRef(): Promise<void> {
    const { revision = "main" } = this.#task.name;
    if (revision === this.#task.commit) return;
    const place = this.#task.folder.ref(revision);
    await mkdir(dirname(place), { recursive: true });
    await writeFile(place, this.#task.commit);
  }
}

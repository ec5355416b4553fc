/** The content of the caches: every snapshot of the hub's cache, and the files of other addresses; and their removal. */
import { lstat, readdir, realpath, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { addressFolder, INCOMPLETE, readSource, SOURCE_FILE } from "./address-files.ts";
import { HubError } from "./errors.ts";
import { parseHubName } from "./hub-name.ts";
import { takeLock } from "./lock.ts";
import { RepositoryFolder, repositoryOf } from "./snapshots.ts";

/** A model on this disk. */
export interface CachedModel {
  /** `owner/name`, or the name of a file. */
  readonly name: string;
  /** The commit; undefined for a file of another address. */
  readonly revision?: string;
  /** Branches and tags that are at the commit. */
  readonly refs: readonly string[];
  /** The snapshot's folder, or the file. */
  readonly path: string;
  /** Bytes of its files, those that it shares with another snapshot included. */
  readonly bytes: number;
  /** False if a part of it has come. */
  readonly isComplete: boolean;
  /** The address of a file that is no hub's. */
  readonly source?: string;
}

export interface Caches {
  /** The hub's. */
  readonly cache: string;
  /** That of other addresses. */
  readonly files: string;
}

const DEEPEST = 8;

/** All models of both caches, by name. Folders that cannot be read are left out. */
export async function cachedModels({ cache, files }: Caches): Promise<CachedModel[]> {
  const models: CachedModel[] = [];
  for (const folder of await namesIn(cache)) {
    const repository = repositoryOf(folder);
    if (repository !== undefined) models.push(...(await snapshotsOf(cache, folder, repository)));
  }
  for (const folder of await namesIn(files)) models.push(...(await fileIn(join(files, folder))));
  return models.sort((a, b) => a.name.localeCompare(b.name));
}

async function namesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => !name.startsWith(".")).sort();
}

async function snapshotsOf(cache: string, name: string, repository: string): Promise<CachedModel[]> {
  const folder = new RepositoryFolder(cache, repository);
  const refs = await folder.refs();
  const models: CachedModel[] = [];
  for (const commit of await folder.commits()) {
    const blobs = await blobsOf(folder.snapshot(commit));
    const bytes = [...blobs.values()].reduce((sum, size) => sum + size, 0);
    const own = [...refs].flatMap(([ref, at]) => (at === commit ? [ref] : []));
    const path = folder.snapshot(commit);
    models.push({ name: repository, revision: commit, refs: own, path, bytes, isComplete: true });
  }
  if (models.length > 0) return models;
  const bytes = await bytesIn(join(cache, name, "blobs"));
  return bytes === 0 ? [] : [{ name: repository, refs: [], path: folder.root, bytes, isComplete: false }];
}

/** Bytes by the real path of a file, so that two links to one count once. */
async function blobsOf(folder: string, depth = 0): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  if (depth > DEEPEST) return found;
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      for (const [blob, bytes] of await blobsOf(path, depth + 1)) found.set(blob, bytes);
      continue;
    }
    const real = await realpath(path).catch(() => undefined);
    const facts = real === undefined ? undefined : await stat(real).catch(() => undefined);
    if (real !== undefined && facts?.isFile()) found.set(real, facts.size);
  }
  return found;
}

async function bytesIn(folder: string): Promise<number> {
  return [...(await blobsOf(folder)).values()].reduce((sum, size) => sum + size, 0);
}

async function fileIn(folder: string): Promise<CachedModel[]> {
  const source = await readSource(folder);
  if (source === undefined) return [];
  const models: CachedModel[] = [];
  for (const name of await namesIn(folder)) {
    if (name === SOURCE_FILE) continue;
    const path = join(folder, name);
    const { size } = await lstat(path);
    const isComplete = !name.endsWith(INCOMPLETE);
    models.push({ name: basename(name, INCOMPLETE), refs: [], path, bytes: size, isComplete, source: source.url });
  }
  return models;
}

/**
 * Removes models by a name: `owner/name` with all its snapshots, one snapshot by `owner/name@revision`, a file by
 * its name or its address.
 * @returns bytes that became free
 * @throws HubError "not-found" if there is no such model, "choice" if there are several files of that name
 */
export async function removeCached(caches: Caches, text: string): Promise<number> {
  const name = parseHubName(text);
  if (name !== undefined && name.file === undefined) {
    const folder = new RepositoryFolder(caches.cache, name.repository);
    const isThere = await stat(folder.root).then(
      (facts) => facts.isDirectory(),
      () => false,
    );
    if (isThere) {
      const release = await takeLock(folder.lock, name.repository);
      try {
        return await (name.revision === undefined ? removeAll(folder) : removeSnapshot(folder, name.revision, text));
      } finally {
        await release();
        await rm(dirname(folder.lock), { recursive: true, force: true });
      }
    }
  }
  return removeFile(caches, text);
}

async function removeAll(folder: RepositoryFolder): Promise<number> {
  const places = await Promise.all(["blobs", "snapshots"].map((name) => blobsOf(join(folder.root, name))));
  const blobs = new Map(places.flatMap((place) => [...place]));
  const bytes = [...blobs.values()].reduce((sum, size) => sum + size, 0);
  await rm(folder.root, { recursive: true, force: true });
  return bytes;
}

/** Removes one snapshot, and the bytes that no other snapshot has. */
async function removeSnapshot(folder: RepositoryFolder, revision: string, text: string): Promise<number> {
  const commit = await folder.commit(revision);
  if (commit === undefined)
    throw new HubError("not-found", `${text} is not in the cache: daguerre models lists what is`);
  const others = (await folder.commits()).filter((other) => other !== commit);
  if (others.length === 0) return removeAll(folder);
  const kept = new Set<string>();
  for (const other of others) for (const blob of (await blobsOf(folder.snapshot(other))).keys()) kept.add(blob);
  let bytes = 0;
  for (const [blob, size] of await blobsOf(folder.snapshot(commit))) {
    if (kept.has(blob)) continue;
    bytes += size;
    // A link may lead anywhere; only the cache's own blobs are removed.
    if (dirname(blob) === (await realpath(join(folder.root, "blobs")))) await rm(blob, { force: true });
  }
  await rm(folder.snapshot(commit), { recursive: true, force: true });
  for (const [ref, at] of await folder.refs()) if (at === commit) await rm(folder.ref(ref), { force: true });
  return bytes;
}

async function removeFile({ cache, files }: Caches, text: string): Promise<number> {
  const byAddress = URL.canParse(text) ? join(files, addressFolder(new URL(text))) : undefined;
  const found = (await cachedModels({ cache, files })).filter(
    ({ source, name, path }) =>
      source !== undefined && (name === text || source === text || dirname(path) === byAddress),
  );
  const folders = [...new Set(found.map(({ path }) => dirname(path)))];
  if (folders.length > 1) {
    throw new HubError("choice", `${folders.length} files are named ${text}: name one by its address`);
  }
  const [folder] = folders;
  if (folder === undefined) {
    throw new HubError("not-found", `${text} is not in the cache: daguerre models lists what is`);
  }
  await rm(folder, { recursive: true, force: true });
  return found.reduce((sum, { bytes }) => sum + bytes, 0);
}

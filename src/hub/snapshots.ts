/**
 * The hub's cache on this disk, in the layout that all its tools share (huggingface.co/docs/hub/local-cache):
 *
 *     models--owner--name/
 *       blobs/<checksum>            the bytes, and <checksum>.incomplete while they come
 *       refs/main                   the commit that a branch was at
 *       snapshots/<commit>/...      links to blobs, under the names of the repository
 *     .locks/models--owner--name/
 *
 * This file loads nothing but Node: a server that is started with a model's name looks the name up here.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { HubName } from "./hub-name.ts";

const PREFIX = "models--";
const LONGEST_REF = 200;

/** Where a repository is in a cache. */
export class RepositoryFolder {
  readonly root: string;
  readonly lock: string;

  constructor(cache: string, repository: string) {
    const name = PREFIX + repository.replace("/", "--");
    this.root = join(cache, name);
    this.lock = join(cache, ".locks", name, "daguerre.lock");
  }

  blob(checksum: string): string {
    return join(this.root, "blobs", checksum);
  }

  ref(revision: string): string {
    return join(this.root, "refs", revision);
  }

  snapshot(commit: string): string {
    return join(this.root, "snapshots", commit);
  }

  /** The commits that there are snapshots of. */
  async commits(): Promise<string[]> {
    const names = await readdir(join(this.root, "snapshots")).catch(() => []);
    return names.filter((name) => !name.startsWith(".")).sort();
  }

  /** The commits by branch and tag. */
  async refs(inside = ""): Promise<Map<string, string>> {
    const found = new Map<string, string>();
    const entries = await readdir(join(this.root, "refs", inside), { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const name = inside === "" ? entry.name : `${inside}/${entry.name}`;
      if (entry.isDirectory()) for (const [ref, commit] of await this.refs(name)) found.set(ref, commit);
      else found.set(name, await this.#commitAt(name));
    }
    return found;
  }

  async #commitAt(ref: string): Promise<string> {
    const text = await readFile(this.ref(ref), "utf8").catch(() => "");
    return text.slice(0, LONGEST_REF).trim();
  }

  /** The commit of a revision that is here; without a revision that of `main`, else the only one. */
  async commit(revision: string | undefined): Promise<string | undefined> {
    const commits = await this.commits();
    if (revision !== undefined && commits.includes(revision)) return revision;
    const named = await this.#commitAt(revision ?? "main");
    if (commits.includes(named)) return named;
    return revision === undefined && commits.length === 1 ? commits[0] : undefined;
  }
}

/** The repository of a folder of the cache; undefined for other folders. */
export function repositoryOf(folder: string): string | undefined {
  return folder.startsWith(PREFIX) ? folder.slice(PREFIX.length).replaceAll("--", "/") : undefined;
}

/** The path of a model's snapshot in a cache, or of its file there; undefined if it is not there. */
export async function findSnapshot(
  cache: string,
  { repository, revision, file }: HubName,
): Promise<string | undefined> {
  const folder = new RepositoryFolder(cache, repository);
  const commit = await folder.commit(revision);
  if (commit === undefined) return undefined;
  const path = file === undefined ? folder.snapshot(commit) : join(folder.snapshot(commit), file);
  return stat(path).then(
    () => path,
    () => undefined,
  );
}

/** `daguerre models`: the models that were downloaded, what each is, what it takes; and their removal. */
import { locateModel } from "../src/engine/model-location.ts";
import { kindOfModel } from "../src/families/registry.ts";
import { bytesText } from "../src/hub/bytes-text.ts";
import { type CachedModel, cachedModels, removeCached } from "../src/hub/listing.ts";
import { addressCache, hubCache } from "../src/hub/settings.ts";

/** The report in JSON. */
export interface ModelsReport {
  /** The hub's cache, and the folder of files from other addresses. */
  readonly folders: readonly string[];
  readonly models: readonly {
    readonly name: string;
    /** The kind in words, or why it is none that runs. */
    readonly kind: string;
    /** True for a model that `--model` takes. */
    readonly runs: boolean;
    readonly complete: boolean;
    readonly size_bytes: number;
    /** The commit; null for a file of another address. */
    readonly revision: string | null;
    /** Branches and tags that are at the commit. */
    readonly refs: readonly string[];
    readonly path: string;
    /** The address of a file that is no hub's; else null. */
    readonly source: string | null;
  }[];
}

/** Lists the models of the caches. */
export async function listModels(write: (line: string) => void): Promise<ModelsReport> {
  const caches = { cache: hubCache(), files: addressCache() };
  const models: ModelsReport["models"][number][] = [];
  for (const cached of await cachedModels(caches)) {
    const { name, isComplete, bytes, revision, refs, path, source } = cached;
    models.push({
      name,
      ...(await kindOf(cached)),
      complete: isComplete,
      size_bytes: bytes,
      revision: revision ?? null,
      refs,
      path,
      source: source ?? null,
    });
  }
  for (const { name, kind, size_bytes, revision, refs, path } of models) {
    const at = refs.length > 0 ? refs.join(", ") : revision?.slice(0, 7);
    write(`${name}${at === undefined ? "" : ` (${at})`}: ${bytesText(size_bytes)}, ${kind}`);
    write(`  ${path}`);
  }
  if (models.length === 0) write(`no models in ${caches.cache} and ${caches.files}: daguerre pull gets one`);
  return { folders: [caches.cache, caches.files], models };
}

/** The kind of a model by its own files. */
async function kindOf({ name, path, isComplete }: CachedModel): Promise<{ kind: string; runs: boolean }> {
  if (!isComplete) return { kind: `unfinished: daguerre pull ${name} goes on`, runs: false };
  try {
    return { kind: await kindOfModel(await locateModel(path)), runs: true };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { kind: `not run as a model: ${reason.replace(`model ${JSON.stringify(path)}: `, "")}`, runs: false };
  }
}

/** Removes models by their names. @throws HubError at the first that is not there */
export async function removeModels(names: readonly string[], write: (line: string) => void): Promise<void> {
  for (const name of names) {
    const bytes = await removeCached({ cache: hubCache(), files: addressCache() }, name);
    write(`removed ${name}: ${bytesText(bytes)}`);
  }
}

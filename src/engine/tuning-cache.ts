/**
 * The tuner's choices on disk: one small JSON file for each adapter, driver and set of kernels, in the user's cache
 * directory. A file of another adapter, driver or version of the kernels has another name and is not looked at; one that
 * cannot be read is as good as none, and is written anew.
 */

import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { AdapterFacts } from "../gpu/adapter-facts.ts";
import type { Choose } from "../graph/choice.ts";
import { chooserOf } from "../graph/tuner.ts";
import { VARIANTS, type Variant } from "../graph/variants.ts";
import { cacheDirectory } from "../platform/cache-directory.ts";
import { packagePath } from "../platform/package-files.ts";

const schema = z.object({
  adapter: z.string(),
  winners: z.record(z.string(), z.enum(VARIANTS as [Variant, ...Variant[]])),
});

/** The path of the winners of this adapter with these kernels. */
export async function tuningFile(facts: AdapterFacts, shaders: string = packagePath("shaders")): Promise<string> {
  const hash = createHash("sha256");
  // The description has the driver's version in it; the subgroups' size decides which kernels there are.
  const { name, vendor, architecture, description, backend, driver, subgroupMinSize, subgroupMaxSize } = facts;
  hash.update(JSON.stringify([name, vendor, architecture, description, backend, driver]));
  hash.update(JSON.stringify([subgroupMinSize, subgroupMaxSize]));
  for (const file of (await readdir(shaders, { recursive: true })).sort()) {
    if (!file.endsWith(".wgsl")) continue;
    hash.update(file);
    hash.update(await readFile(join(shaders, file)));
  }
  return join(cacheDirectory(), "tuning", `${hash.digest("hex").slice(0, 32)}.json`);
}

/** Winning variants by shape; empty where nothing (readable) is remembered. */
export async function readWinners(file: string): Promise<Map<string, Variant>> {
  try {
    return new Map(Object.entries(schema.parse(JSON.parse(await readFile(file, "utf8"))).winners));
  } catch {
    return new Map();
  }
}

/**
 * Remembers `winners` beside those that the file has already.
 * @throws the system's error where it cannot be written
 */
export async function rememberWinners(
  file: string,
  facts: AdapterFacts,
  winners: ReadonlyMap<string, Variant>,
): Promise<void> {
  const all = new Map([...(await readWinners(file)), ...winners]);
  const text = JSON.stringify({ adapter: facts.name, winners: Object.fromEntries(all) }, undefined, 1);
  await mkdir(join(file, ".."), { recursive: true });
  // Under another name until it is whole: a second process may be reading, or writing too.
  const partial = `${file}.${randomUUID()}`;
  try {
    await writeFile(partial, text);
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

/** The choice of kernels by what `daguerre tune` found on this adapter; undefined if it has not run here. */
export async function rememberedChoice(facts: AdapterFacts): Promise<Choose | undefined> {
  try {
    const winners = await readWinners(await tuningFile(facts));
    return winners.size > 0 ? chooserOf(winners) : undefined;
  } catch {
    return; // No folder of shaders, as in somebody's bundle: nobody could have tuned it.
  }
}

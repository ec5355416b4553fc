/**
 * Vulkan drivers on Linux: which are installed, and one to bring along where none is.
 *
 * Vocabulary. The *loader* is `libvulkan.so.1`, which an application opens; it reads *ICD* files (installable client
 * drivers: small JSON files naming a shared library) and opens the drivers they name. *lavapipe* (Mesa) and
 * *SwiftShader* (Chromium) are drivers that compute on the CPU. `VK_DRIVER_FILES` lists ICD files to use instead of the
 * installed ones.
 *
 * SwiftShader and a loader come with the package (Linux x64), compressed (`platform/packed-libraries.ts`). Nothing here
 * talks to a GPU; that is `adapter.ts`. macOS and Windows have their own drivers and need none of this.
 *
 * Search order of ICD files: the Vulkan loader's documentation, "LoaderDriverInterface".
 */

import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { constants, homedir } from "node:os";
import { delimiter, dirname, isAbsolute, join, resolve } from "node:path";
import { cacheDirectory } from "../../platform/cache-directory.ts";
import { type PackedSet, packedSet, unpack } from "../../platform/packed-libraries.ts";
import type { SoftwareDriver } from "../adapter-facts.ts";

/** One ICD file. */
export interface VulkanDriver {
  /** Path of the JSON file. */
  readonly file: string;
  /** The library it names, made absolute where it is relative to the file. */
  readonly library: string;
  readonly apiVersion: string;
  /** Which software driver it is; undefined for a GPU's driver. */
  readonly software?: SoftwareDriver;
}

/** An ICD file that cannot be used, and why. */
export interface UnreadableDriver {
  readonly file: string;
  readonly problem: string;
}

const LOADER = "libvulkan.so.1";

/** Debian's and Fedora's Chromium bring a SwiftShader that needs no unpacking. */
const CHROMIUM_ICDS = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/usr/lib64/chromium-browser/vk_swiftshader_icd.json",
  "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
];

/**
 * Tells Mesa to keep its compiled shaders in our cache directory, unless the user chose. lavapipe compiles a kernel at
 * its first dispatch, which takes up to 7 s; a kernel found in the cache takes under 1 ms. Mesa's default is `~/.cache`
 * too, but it has none where HOME is not set. Best effort: without a cache things are slower, not wrong.
 */
export function keepMesaShaders(): void {
  const { MESA_SHADER_CACHE_DIR, MESA_SHADER_CACHE_DISABLE, MESA_GLSL_CACHE_DIR } = process.env;
  if (MESA_SHADER_CACHE_DIR || MESA_SHADER_CACHE_DISABLE || MESA_GLSL_CACHE_DIR) return;
  const directory = join(cacheDirectory(), "mesa");
  try {
    mkdirSync(directory, { recursive: true });
    process.env.MESA_SHADER_CACHE_DIR = directory;
  } catch {
    // A read-only home: Mesa falls back to its own default, or to none.
  }
}

/** The ICD files that `VK_DRIVER_FILES` (or its old name) lists; undefined where neither is set. */
export function chosenDriverFiles(env: NodeJS.ProcessEnv = process.env): string[] | undefined {
  const value = env.VK_DRIVER_FILES || env.VK_ICD_FILENAMES;
  return value ? value.split(delimiter).filter((file) => file !== "") : undefined;
}

/** Makes the Vulkan loader use these ICD files, and no others, from the next `create()` on; undefined undoes that. */
export function chooseDriverFiles(files: readonly string[] | undefined): void {
  if (files === undefined) {
    delete process.env.VK_DRIVER_FILES;
    delete process.env.VK_ICD_FILENAMES;
    return;
  }
  process.env.VK_DRIVER_FILES = files.join(delimiter);
  // Loaders before 1.3.207 know only this name; later ones ignore it beside the other.
  process.env.VK_ICD_FILENAMES = process.env.VK_DRIVER_FILES;
}

/** The folders in which the loader looks for ICD files, in its order. */
export function driverFolders(env: NodeJS.ProcessEnv = process.env): string[] {
  const split = (value: string | undefined, fallback: string) =>
    (value || fallback).split(delimiter).filter((folder) => isAbsolute(folder));
  const home = homedir();
  const roots = [
    env.XDG_CONFIG_HOME || join(home, ".config"),
    ...split(env.XDG_CONFIG_DIRS, "/etc/xdg"),
    "/usr/local/etc",
    "/etc",
    env.XDG_DATA_HOME || join(home, ".local/share"),
    ...split(env.XDG_DATA_DIRS, "/usr/local/share:/usr/share"),
  ];
  return [...new Set(roots.map((root) => join(root, "vulkan", "icd.d")))];
}

/** Reads one ICD file. */
export function readDriver(file: string): VulkanDriver | UnreadableDriver {
  try {
    const parsed: unknown = JSON.parse(readFileSync(file, "utf8"));
    const icd = (parsed as { ICD?: { library_path?: unknown; api_version?: unknown } } | null)?.ICD;
    if (typeof icd?.library_path !== "string" || icd.library_path === "") {
      return { file, problem: "it has no ICD.library_path" };
    }
    const path = icd.library_path;
    // A bare name is searched for as any library; a path with a slash is relative to the file.
    const library = path.includes("/") ? resolve(dirname(file), path) : path;
    if (isAbsolute(library) && !existsSync(library)) return { file, problem: `its library ${library} is missing` };
    const software = /swiftshader/i.test(path) ? "swiftshader" : /vulkan_lvp/.test(path) ? "lavapipe" : undefined;
    const apiVersion = typeof icd.api_version === "string" ? icd.api_version : "unknown";
    return software === undefined ? { file, library, apiVersion } : { file, library, apiVersion, software };
  } catch (error) {
    return { file, problem: error instanceof Error ? error.message : String(error) };
  }
}

/** The drivers installed on this machine, whatever `VK_DRIVER_FILES` says. A file made for another processor counts too. */
export function installedDrivers(env: NodeJS.ProcessEnv = process.env): (VulkanDriver | UnreadableDriver)[] {
  const drivers: (VulkanDriver | UnreadableDriver)[] = [];
  for (const folder of driverFolders(env)) {
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch {
      continue; // Most of these folders do not exist on most machines.
    }
    for (const name of names.sort()) if (name.endsWith(".json")) drivers.push(readDriver(join(folder, name)));
  }
  return drivers;
}

/**
 * RTLD_NODELETE, which Node's constants leave out; the value is the same in glibc and musl. Without it the library is
 * closed again at once, since Node takes it for a broken addon.
 */
const RTLD_NODELETE = 0x1000;

/**
 * True if `dlopen` can open a library, given by name or path.
 * @param keep leaves it open, so that a later `dlopen` by its name finds it wherever it lies.
 * @returns the reason where it cannot.
 */
export function openLibrary(library: string, keep = false): { opened: true } | { opened: false; problem: string } {
  const { RTLD_NOW, RTLD_GLOBAL } = constants.dlopen;
  try {
    process.dlopen({ exports: {} }, library, keep ? RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE : RTLD_NOW);
  } catch (error) {
    // Node opens addons and complains that this is none: then the library itself did open.
    const message = error instanceof Error ? error.message : String(error);
    if (!/did not self-register/.test(message)) return { opened: false, problem: message };
  }
  return { opened: true };
}

/** Where the Vulkan loader came from; `undefined` where there is none and none could be brought. */
export type LoaderSource = "system" | "packed";

/**
 * Makes sure that Dawn will find `libvulkan.so.1`: the system's, else the one beside SwiftShader, opened by its path so
 * that a later `dlopen` by name finds it already there.
 */
export async function ensureLoader(): Promise<LoaderSource | undefined> {
  if (openLibrary(LOADER).opened) return "system";
  const icd = await unpackSwiftShader();
  if (icd === undefined) return undefined;
  return openLibrary(join(dirname(icd), LOADER), true).opened ? "packed" : undefined;
}

/** SwiftShader's ICD file: the one of an installed Chromium, else the one that comes with the package, unpacked. */
export async function swiftShaderDriver(): Promise<string | undefined> {
  return CHROMIUM_ICDS.find((file) => existsSync(file)) ?? (await unpackSwiftShader());
}

/** lavapipe's ICD file, where Mesa installed one for this processor. */
export function lavapipeDriver(): string | undefined {
  const drivers = installedDrivers().filter((d) => "software" in d && d.software === "lavapipe");
  // Multi-arch systems have one file a processor: `lvp_icd.i686.json` is of no use to a 64-bit process.
  const fits = drivers.find((d) => !/\.(i[3-6]86|armv7l|armhf)\.json$/.test(d.file));
  return fits?.file;
}

const ICD = "vk_swiftshader_icd.json";

/** SwiftShader as it comes with the package: its only build is for Linux on x64. */
export function packedSwiftShader(): PackedSet | undefined {
  return process.platform === "linux" ? packedSet(`swiftshader-linux-${process.arch}`) : undefined;
}

/** @returns the ICD file; undefined if the package has none for this processor */
async function unpackSwiftShader(): Promise<string | undefined> {
  const set = packedSwiftShader();
  return set && join(await unpack(set), ICD);
}

/**
 * Vulkan drivers on Linux: which are installed, and one to bring along where none is.
 *
 * Vocabulary. The *loader* is `libvulkan.so.1`, which an application opens; it reads *ICD* files (installable client
 * drivers: small JSON files naming a shared library) and opens the drivers they name. *lavapipe* (Mesa) and
 * *SwiftShader* (Chromium) are drivers that compute on the CPU. `VK_DRIVER_FILES` lists ICD files to use instead of the
 * installed ones.
 *
 * SwiftShader and a loader come in the optional npm package `@sparticuz/chromium` (Linux x64), as a tar archive that is
 * unpacked once into the user's cache directory. Nothing here talks to a GPU; that is `adapter.ts`. macOS and Windows
 * have their own drivers and need none of this.
 *
 * Search order of ICD files: the Vulkan loader's documentation, "LoaderDriverInterface".
 */

import { createReadStream, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { constants, homedir, tmpdir } from "node:os";
import { delimiter, dirname, isAbsolute, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
import { cacheDirectory } from "../../platform/cache-directory.ts";
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
 * Whether `dlopen` can open a library, given by name or path.
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
export type LoaderSource = "system" | "@sparticuz/chromium";

/**
 * Makes sure that Dawn will find `libvulkan.so.1`: the system's, else the one beside SwiftShader, opened by its path so
 * that a later `dlopen` by name finds it already there.
 */
export async function ensureLoader(): Promise<LoaderSource | undefined> {
  if (openLibrary(LOADER).opened) return "system";
  const icd = await unpackSwiftShader();
  if (icd === undefined) return undefined;
  return openLibrary(join(dirname(icd), LOADER), true).opened ? "@sparticuz/chromium" : undefined;
}

/** SwiftShader's ICD file: the one of an installed Chromium, else the one in `@sparticuz/chromium`, unpacked. */
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

/** What the npm package holds, and for which processor: its only build is for x64. */
export interface SwiftShaderPackage {
  readonly version: string;
  readonly archive: string;
}

const PACKAGE = "@sparticuz/chromium";
const ICD = "vk_swiftshader_icd.json";
/** The archive also holds OpenGL libraries (8 MB) that nothing here opens. */
const WANTED = new Set([ICD, "libvk_swiftshader.so", LOADER]);

/** The installed `@sparticuz/chromium`, or undefined: it is optional, and npm skips optional packages that fail. */
export function swiftShaderPackage(): SwiftShaderPackage | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return undefined;
  try {
    const entry = createRequire(import.meta.url).resolve(PACKAGE);
    const root = entry.slice(0, entry.lastIndexOf(join("@sparticuz", "chromium"))) + join("@sparticuz", "chromium");
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    const archive = join(root, "bin", "swiftshader.tar.br");
    return existsSync(archive) ? { version, archive } : undefined;
  } catch {
    return undefined;
  }
}

let unpacked: Promise<string | undefined> | undefined;

/**
 * Unpacks SwiftShader and its loader into the cache directory, unless they are there already.
 * @returns the ICD file; undefined where the package is not installed.
 */
function unpackSwiftShader(): Promise<string | undefined> {
  unpacked ??= unpackOnce().catch((error: unknown) => {
    unpacked = undefined; // A full disk may be empty the next time.
    throw error;
  });
  return unpacked;
}

async function unpackOnce(): Promise<string | undefined> {
  const found = swiftShaderPackage();
  if (found === undefined) return undefined;
  const cache = cacheDirectory();
  const home = join(cache, `swiftshader-${found.version}-${process.arch}`);
  if (existsSync(join(home, ICD))) return join(home, ICD);
  try {
    await mkdir(cache, { recursive: true });
    const fresh = await extract(found.archive, join(cache, ".swiftshader-"));
    try {
      await rename(fresh, home);
    } catch (error) {
      // Another process may have been faster: its copy is as good.
      await rm(fresh, { recursive: true, force: true });
      if (!existsSync(join(home, ICD))) throw error;
    }
    return join(home, ICD);
  } catch (error) {
    if (!isReadOnly(error)) throw error;
    // A container with a read-only home: a private folder for the life of this process. Never a fixed name under /tmp,
    // where somebody else could have put libraries for us to open.
    const fresh = await extract(found.archive, join(tmpdir(), "daguerre-swiftshader-"));
    process.once("exit", () => rmSync(fresh, { recursive: true, force: true }));
    return join(fresh, ICD);
  }
}

function isReadOnly(error: unknown): boolean {
  return ["EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");
}

interface TarFs {
  extract(
    directory: string,
    options: { ignore: (path: string) => boolean; chown: boolean; strict: boolean },
  ): NodeJS.WritableStream;
}

/** Extracts the wanted files into a new folder whose name starts with `prefix`. */
async function extract(archive: string, prefix: string): Promise<string> {
  // tar-fs is what the package itself unpacks with, so it is there whenever the package is.
  const fromPackage = createRequire(createRequire(import.meta.url).resolve(PACKAGE));
  const tar = fromPackage("tar-fs") as TarFs;
  const folder = await mkdtemp(prefix);
  try {
    const sink = tar.extract(folder, {
      ignore: (path) => !WANTED.has(path.slice(path.lastIndexOf("/") + 1)),
      chown: false,
      strict: false,
    });
    await pipeline(createReadStream(archive), createBrotliDecompress(), sink);
    for (const name of WANTED) {
      if (!existsSync(join(folder, name))) throw new Error(`${archive} holds no ${name}`);
    }
    return folder;
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

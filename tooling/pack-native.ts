/**
 * `npm run native`: the native libraries that come with the package, compressed, in `native/`
 * (`src/platform/packed-libraries.ts` unpacks them).
 *
 * - `swiftshader`: the software GPU of npm's `@sparticuz/chromium`, 4 MB of its 66. After `npm ci`.
 * - `dawn`: npm's `webgpu`, a set for each platform. Only while the package is packed, since a checkout has `webgpu`.
 * - `clean`: removes Dawn's again.
 */
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, createBrotliDecompress } from "node:zlib";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const NATIVE = join(ROOT, "native");
const CACHE = join(ROOT, "node_modules/.cache/native");
const require = createRequire(import.meta.url);

/** 9 takes eleven times as long and gains 4%. */
const QUALITY = 5;
const LIBRARY = /\.(node|dll|so(\.\d+)?)$/;

/** Compresses `files` (paths relative to `from`) as the set `name`, unless that was done before, and puts it in place. */
async function pack(name: string, from: string, files: readonly string[]): Promise<void> {
  const packed = join(CACHE, name);
  if (!existsSync(packed)) {
    await mkdir(CACHE, { recursive: true });
    const fresh = await mkdtemp(join(CACHE, ".packing-"));
    for (const file of files) {
      const bytes = await readFile(join(from, file));
      const isLibrary = LIBRARY.test(file);
      const to = join(fresh, isLibrary ? `${file}.br` : file);
      await mkdir(dirname(to), { recursive: true });
      const params = { [constants.BROTLI_PARAM_QUALITY]: QUALITY, [constants.BROTLI_PARAM_LGWIN]: 24 };
      await writeFile(to, isLibrary ? brotliCompressSync(bytes, { params }) : bytes);
    }
    await rename(fresh, packed);
  }
  await remove((other) => other.startsWith(name.replace(/[\d.]+$/, "")));
  await cp(packed, join(NATIVE, name), { recursive: true });
}

async function remove(which: (set: string) => boolean): Promise<void> {
  if (!existsSync(NATIVE)) return;
  const sets = (await readdir(NATIVE)).filter(which);
  await Promise.all(sets.map((set) => rm(join(NATIVE, set), { recursive: true })));
}

function versionIn(folder: string): string {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).version;
}

async function packDawn(): Promise<void> {
  const home = dirname(require.resolve("webgpu"));
  for (const platform of await readdir(join(home, "dist"))) {
    const libraries = (await readdir(join(home, "dist", platform))).map((file) => join("dist", platform, file));
    const files = ["index.js", "package.json", "LICENSE.md", ...libraries];
    await pack(`dawn-${platform}-${versionIn(home)}`, home, files);
  }
}

async function packSwiftShader(): Promise<void> {
  const home = dirname(dirname(dirname(require.resolve("@sparticuz/chromium"))));
  const tar = createRequire(require.resolve("@sparticuz/chromium"))("tar-fs");
  await mkdir(CACHE, { recursive: true });
  const folder = await mkdtemp(join(CACHE, ".swiftshader-"));
  try {
    const archive = createReadStream(join(home, "bin/swiftshader.tar.br"));
    await pipeline(archive, createBrotliDecompress(), tar.extract(folder));
    const files = ["vk_swiftshader_icd.json", "libvk_swiftshader.so", "libvulkan.so.1"];
    await pack(`swiftshader-linux-x64-${versionIn(home)}`, folder, files);
  } finally {
    await rm(folder, { recursive: true });
  }
}

switch (process.argv[2]) {
  case "swiftshader":
    await packSwiftShader();
    break;
  case "dawn":
    await packSwiftShader();
    await packDawn();
    break;
  case "clean":
    await remove((set) => set.startsWith("dawn-"));
    break;
  default:
    throw new Error("npm run native -- swiftshader | dawn | clean");
}

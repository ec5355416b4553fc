/**
 * Makes the playground's page from `playground/index.html` as the build's last step: style sheets become one file, every
 * file but the page itself gets its content's hash in its name, and the page names them so. A browser may then keep
 * them for ever; the page alone is asked for again.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { UserConfig } from "tsdown";

/** In the order in which they build on each other. */
const STYLES = ["tokens", "page", "controls", "stage", "easel"];

/** The part of rolldown's plugin interface that this file uses. */
interface Emitting {
  emitFile(file: { type: "asset"; fileName: string; source: string }): unknown;
  addWatchFile(path: string): void;
}
type Bundle = Record<string, { fileName: string; name?: string; isEntry?: boolean }>;

const SOURCES = new URL("../playground/", import.meta.url);

/** The configuration with which tsdown builds the page into `outDir`. */
export function playgroundBuild(outDir: string): UserConfig {
  const source = (path: string) => fileURLToPath(new URL(path, SOURCES));
  return {
    entry: { main: source("main.ts"), theme: source("theme.ts") },
    outDir,
    platform: "browser",
    // These have `light-dark()` and `:has()`; older browsers get a page in plain colours.
    target: ["chrome123", "firefox121", "safari17.5"],
    format: "esm",
    dts: false,
    minify: true,
    clean: true,
    // Nothing is fetched from elsewhere: what the page uses of npm is in its files.
    deps: { alwaysBundle: [/./] },
    tsconfig: source("tsconfig.json"),
    outputOptions: { entryFileNames: "[name]-[hash].js" },
    plugins: [playgroundPage(SOURCES)],
  };
}

/** @param folder the playground's sources, absolute, with a slash at the end */
function playgroundPage(folder: URL) {
  const read = (path: string) => readFile(new URL(path, folder), "utf8");
  return {
    name: "playground-page",
    async generateBundle(this: Emitting, _options: unknown, bundle: Bundle): Promise<void> {
      const styles = await Promise.all(STYLES.map((name) => read(`styles/${name}.css`)));
      const icon = await read("icon.svg");
      let page = await read("index.html");
      const put = (name: string, fileName: string) => {
        if (!page.includes(`"playground/${name}"`)) throw new Error(`index.html does not name playground/${name}`);
        page = page.replace(`"playground/${name}"`, `"playground/${fileName}"`);
      };
      const emit = (stem: string, ending: string, source: string) => {
        const hash = createHash("sha256").update(source).digest("base64url").slice(0, 8);
        const fileName = `${stem}-${hash}.${ending}`;
        this.emitFile({ type: "asset", fileName, source });
        put(`${stem}.${ending}`, fileName);
      };
      emit("main", "css", styles.join("\n"));
      emit("icon", "svg", icon);
      for (const { name, fileName, isEntry } of Object.values(bundle)) if (isEntry) put(`${name}.js`, fileName);
      this.emitFile({ type: "asset", fileName: "index.html", source: page });
    },
  };
}

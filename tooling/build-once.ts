/** For vitest: the package is built before tests that run its commands, unless it has been since the last change. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** All that the build reads. */
const SOURCES = ["src", "shaders", "transports", "cli", "playground", "package.json", "tsdown.config.ts"];

/** Milliseconds since 1970 at which a file, or any file in a folder, was changed last. */
function lastChange(at: string): number {
  const { mtimeMs } = statSync(at);
  if (!statSync(at).isDirectory()) return mtimeMs;
  return Math.max(mtimeMs, ...readdirSync(at).map((name) => lastChange(path.join(at, name))));
}

export default function buildOnce(): void {
  const built = path.join(ROOT, "dist/cli.js");
  const newest = Math.max(...SOURCES.map((name) => lastChange(path.join(ROOT, name))));
  if (existsSync(built) && statSync(built).mtimeMs > newest) return;
  execFileSync("npm", ["run", "--silent", "build"], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
}

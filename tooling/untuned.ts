import { mkdtempSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";

/**
 * The environment of a process that takes kernels by rule: without this user's tuning, which may fit the shaders of one
 * checkout alone. Kernels that Mesa has compiled are found again.
 */
export function untunedEnvironment(): NodeJS.ProcessEnv {
  const cache = mkdtempSync(path.join(tmpdir(), "daguerre-untuned-"));
  process.once("exit", () => rmSync(cache, { recursive: true, force: true }));
  const { XDG_CACHE_HOME = path.join(homedir(), ".cache"), MESA_SHADER_CACHE_DIR = XDG_CACHE_HOME } = process.env;
  return { ...process.env, XDG_CACHE_HOME: cache, MESA_SHADER_CACHE_DIR };
}

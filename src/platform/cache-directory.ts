import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/**
 * Daguerre's folder in the user's cache directory: `$XDG_CACHE_HOME` or `~/.cache`, then `daguerre`; on macOS
 * `~/Library/Caches/daguerre`, on Windows `%LOCALAPPDATA%\daguerre\Cache`.
 */
export function cacheDirectory(platform: NodeJS.Platform = process.platform): string {
  const { XDG_CACHE_HOME: xdg, LOCALAPPDATA: local } = process.env;
  // The XDG base directory specification: a relative path is to be ignored.
  if (xdg !== undefined && isAbsolute(xdg)) return join(xdg, "daguerre");
  if (platform === "darwin") return join(homedir(), "Library", "Caches", "daguerre");
  if (platform === "win32") return join(local || join(homedir(), "AppData", "Local"), "daguerre", "Cache");
  return join(homedir(), ".cache", "daguerre");
}

/**
 * The settings that tools of the hub share, from the environment: where the hub is, where its cache is, whose token.
 *
 * | variable | meaning |
 * | --- | --- |
 * | `HF_ENDPOINT` | the hub's address |
 * | `HF_HOME` | the folder of the cache and the token; `~/.cache/huggingface` |
 * | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` | the cache; `$HF_HOME/hub` |
 * | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` | a token |
 * | `HF_TOKEN_PATH` | a file with the token; `$HF_HOME/token` |
 * | `HF_HUB_OFFLINE` | 1: nothing is downloaded |
 */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { cacheDirectory } from "../platform/cache-directory.ts";
import { HubError } from "./errors.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  /** The folder of the hub's cache. */
  readonly cache: string;
  /** The folder for files of other addresses. */
  readonly files: string;
  readonly token: string | undefined;
  readonly isOffline: boolean;
}

const ENDPOINT = "https://huggingface.co";
/** Bytes of a token's file that are read. */
const LONGEST_TOKEN = 4096;

function home(env: Environment): string {
  return expanded(env.HF_HOME) ?? join(expanded(env.XDG_CACHE_HOME) ?? join(homedir(), ".cache"), "huggingface");
}

/** An empty variable counts as none; `~` is the user's folder, as in other tools of the hub. */
function expanded(path: string | undefined): string | undefined {
  if (path === undefined || path === "") return undefined;
  return resolve(path.replace(/^~(?=$|[/\\])/, homedir()));
}

/** The folder of the hub's cache. */
export function hubCache(env: Environment = process.env): string {
  return expanded(env.HF_HUB_CACHE) ?? expanded(env.HUGGINGFACE_HUB_CACHE) ?? join(home(env), "hub");
}

/** The folder for files that were downloaded from other addresses than a hub's. */
export function addressCache(): string {
  return join(cacheDirectory(), "models");
}

/**
 * Reads the settings, and the token's file.
 * @throws HubError "usage" that names the variable
 */
export async function hubSettings(env: Environment = process.env): Promise<HubSettings> {
  const text = (env.HF_ENDPOINT || ENDPOINT).replace(/\/+$/, "");
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== "" || url.search !== "") {
    throw new HubError("usage", "HF_ENDPOINT must be an address, as https://huggingface.co");
  }
  return {
    endpoint: text,
    cache: hubCache(env),
    files: addressCache(),
    token: await tokenOf(env),
    isOffline: /^(?:1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? ""),
  };
}

async function tokenOf(env: Environment): Promise<string | undefined> {
  const named = env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN;
  const file = expanded(env.HF_TOKEN_PATH) ?? join(home(env), "token");
  const text = named ?? (await readFile(file, "utf8").catch(() => "")).slice(0, LONGEST_TOKEN);
  const token = text.trim();
  if (token === "") return undefined;
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new HubError("usage", `${named ? "HF_TOKEN" : "the file of the token"} has characters that no token has`);
  }
  return token;
}

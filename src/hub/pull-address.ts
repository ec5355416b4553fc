/** Downloads one file from any `https://` address into a folder of its own in Daguerre's cache. */
import { mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { foreignKind, HEAD_BYTES } from "../platform/file-kind.ts";
import { quoted } from "../platform/quoted.ts";
import { addressFolder, INCOMPLETE, readSource, SOURCE_FILE } from "./address-files.ts";
import { Connection, isPrivateHost } from "./connection.ts";
import { checkRoom, diskError, sizeOf } from "./disk.ts";
import { download } from "./download.ts";
import { HubError } from "./errors.ts";
import { isFileName } from "./hub-name.ts";
import { takeLock } from "./lock.ts";
import type { PullOptions } from "./pull.ts";
import type { HubSettings } from "./settings.ts";

export interface AddressOptions extends Omit<PullOptions, "variant"> {
  /** The checksum that the file must have, in hexadecimal. */
  readonly sha256?: string | undefined;
}

const CHECKPOINT = /\.(?:safetensors|sft|ckpt|pth?|bin|gguf)$/i;

/** The facts of a file that an answer to a request for its first byte tells. */
interface Facts {
  readonly name: string;
  /** Undefined if the server does not tell. */
  readonly bytes: number | undefined;
  /** Its `ETag`, if that stands for the same bytes always. */
  readonly version: string | undefined;
}

/**
 * Downloads the file at an address, and goes on with one that is there in part.
 * @returns the file's path
 * @throws HubError; the signal's reason
 */
export async function pullAddress(settings: HubSettings, text: string, options: AddressOptions = {}): Promise<string> {
  const url = new URL(text);
  url.hash = "";
  const isAllowed = url.protocol === "https:" || (url.protocol === "http:" && (await isPrivateHost(url)));
  if (!isAllowed || url.username !== "") {
    throw new HubError("usage", `${quoted(text)}: an address must begin with https://, and hold no name or password`);
  }
  if (settings.isOffline) throw new HubError("offline", "HF_HUB_OFFLINE is set: nothing is downloaded");
  const connection = new Connection({ base: url, signal: options.signal, onWait: options.report?.waits });
  const folder = join(settings.files, addressFolder(url));
  try {
    const release = await takeLock(join(settings.files, ".locks", addressFolder(url)), "this address");
    try {
      return await pullInto(folder, url, connection, options);
    } finally {
      await release();
    }
  } finally {
    await connection.close();
  }
}

async function pullInto(folder: string, url: URL, connection: Connection, options: AddressOptions): Promise<string> {
  const { name, bytes, version } = await factsOf(connection, url);
  await mkdir(folder, { recursive: true }).catch((error) => {
    throw diskError(error);
  });
  const path = join(folder, name);
  const partial = path + INCOMPLETE;
  const source = await readSource(folder);
  const isSame = version !== undefined && source?.version === version;
  if (isSame && options.sha256 === undefined && bytes !== undefined && (await sizeOf(path)) === bytes) return path;
  // A part of another version of the file is not gone on with.
  if (!isSame) await rm(partial, { force: true });
  const present = await sizeOf(partial);
  options.report?.begins?.({ name, revision: url.host, files: 1, bytes: bytes ?? 0, present });
  await checkRoom(folder, name, (bytes ?? 0) - present);
  await writeFile(join(folder, SOURCE_FILE), JSON.stringify({ url: url.origin + url.pathname, version }));
  const { sha256 } = options;
  const digest = sha256 === undefined ? undefined : ({ kind: "sha256", hex: sha256.toLowerCase() } as const);
  await download(connection, { url, name, bytes, digest, version }, partial, (there) =>
    options.report?.progress?.(there, bytes ?? there),
  );
  await checkContent(partial, name);
  await rename(partial, path);
  return path;
}

/** @throws HubError for a page, or a file that is no checkpoint by its name */
async function factsOf(connection: Connection, url: URL): Promise<Facts> {
  const response = await connection.get(url, new Headers({ range: "bytes=0-0" }), [416]);
  await response.body?.cancel();
  const { headers } = response;
  if (/^text\/html\b/i.test(headers.get("content-type") ?? "")) {
    throw new HubError(
      "bad-answer",
      `${url.host} answers with a web page, not a file: name the address of the file itself (its download link); ` +
        "a page to log in means that the file is not for everybody",
    );
  }
  const [, total] = /^bytes [^/]*\/(\d+)$/.exec(headers.get("content-range") ?? "") ?? [];
  const bytes = response.status === 206 || response.status === 416 ? total : headers.get("content-length");
  const etag = headers.get("etag") ?? undefined;
  return {
    name: nameOf(url, headers.get("content-disposition") ?? ""),
    bytes: bytes === null || bytes === undefined ? undefined : Number(bytes),
    version: etag?.startsWith("W/") ? undefined : etag,
  };
}

/** The name that the server gives to the file, else the last part of the address. */
function nameOf(url: URL, disposition: string): string {
  const [, extended] = /filename\*=(?:utf-8|iso-8859-1)''([^;\s]+)/i.exec(disposition) ?? [];
  const [, quotedName, plain] = /filename="([^"]+)"|filename=([^;\s]+)/i.exec(disposition) ?? [];
  const names = [extended, quotedName, plain, url.pathname.split("/").at(-1)].flatMap((name) => decoded(name) ?? []);
  const found = names.find((name) => CHECKPOINT.test(name) && isFileName(name) && !name.includes("/"));
  if (found !== undefined && !found.startsWith(".")) return found;
  throw new HubError(
    "usage",
    `${url.host} has no checkpoint there by its name (.safetensors, .gguf, .ckpt): ${quoted(names.at(0) ?? url.pathname)}`,
  );
}

function decoded(text: string | undefined): string | undefined {
  try {
    return text === undefined || text === "" ? undefined : decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @throws HubError for a file that is something else than its name says */
async function checkContent(path: string, name: string): Promise<void> {
  const handle = await open(path);
  const head = new Uint8Array(HEAD_BYTES);
  const { bytesRead } = await handle.read(head, 0, HEAD_BYTES, 0);
  await handle.close();
  const foreign = bytesRead === 0 ? undefined : foreignKind(head.subarray(0, bytesRead), name);
  if (bytesRead > 0 && (foreign === undefined || ["pickle", "gguf"].includes(foreign.kind))) return;
  await rm(path, { force: true });
  throw new HubError("bad-answer", `${quoted(name)} ${foreign?.reason ?? "is an empty file"}`);
}

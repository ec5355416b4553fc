/**
 * One file from an address to the disk: goes on where an earlier try ended, survives cut connections, and checks the
 * bytes against the checksum that the hub lists.
 */
import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { quoted } from "../platform/quoted.ts";
import { type Connection, TRIES } from "./connection.ts";
import { diskError } from "./disk.ts";
import { HubError } from "./errors.ts";

/** A checksum: SHA-256 of the bytes (Git LFS), or SHA-1 of git's blob (`blob <length>\0` and the bytes). */
export interface Digest {
  readonly kind: "sha256" | "git";
  readonly hex: string;
}

export interface RemoteFile {
  readonly url: URL;
  /** In messages. */
  readonly name: string;
  /** Undefined: as many as come. */
  readonly bytes: number | undefined;
  readonly digest: Digest | undefined;
  /** The `ETag` of the file that an unfinished one is a part of, if it has no checksum. */
  readonly version?: string | undefined;
}

const BACKOFF_MS = 250;
const PIECE = 2 ** 20;
const POINTER = "version https://git-lfs.github.com/spec/";

/**
 * Downloads into `path`, which may have the beginning already. An end before the last byte leaves the bytes that came.
 * @param onBytes called with the bytes that are there
 * @throws HubError; the signal's reason
 */
export async function download(
  connection: Connection,
  file: RemoteFile,
  path: string,
  onBytes: (bytes: number) => void = () => {},
): Promise<void> {
  const handle = await open(path, "a+").catch((error) => {
    throw diskError(error);
  });
  try {
    const transfer = new Transfer(connection, file, handle, onBytes);
    await transfer.run();
  } finally {
    await handle.close();
  }
}

class Transfer {
  readonly #connection: Connection;
  readonly #file: RemoteFile;
  readonly #handle: FileHandle;
  readonly #onBytes: (bytes: number) => void;
  #offset = 0;
  #bytes: number | undefined;
  #hash: Hash | undefined;

  constructor(connection: Connection, file: RemoteFile, handle: FileHandle, onBytes: (bytes: number) => void) {
    this.#connection = connection;
    this.#file = file;
    this.#handle = handle;
    this.#onBytes = onBytes;
    this.#bytes = file.bytes;
  }

  async run(): Promise<void> {
    await this.#begin();
    let isResumed = this.#offset > 0;
    for (;;) {
      await this.#complete();
      if (this.#isSound()) break;
      await this.#restart();
      // The beginning may have been another tool's, or of a disk that filled up.
      if (!isResumed) {
        throw new HubError(
          "bad-answer",
          `${quoted(this.#file.name)} has not the checksum that it should have: it was changed on the way, or is damaged; try again`,
        );
      }
      isResumed = false;
    }
    await this.#handle.datasync();
  }

  /** Takes over the bytes that are there. */
  async #begin(): Promise<void> {
    const { size } = await this.#handle.stat();
    await this.#restartHash();
    if (size === 0) return;
    const isPart = this.#bytes === undefined ? this.#file.version !== undefined : size <= this.#bytes;
    if (!isPart) return this.#restart();
    const piece = new Uint8Array(PIECE);
    while (this.#offset < size) {
      this.#connection.signal?.throwIfAborted();
      const { bytesRead } = await this.#handle.read(piece, 0, PIECE, this.#offset);
      if (bytesRead === 0) break;
      this.#hash?.update(piece.subarray(0, bytesRead));
      this.#offset += bytesRead;
    }
    this.#onBytes(this.#offset);
  }

  async #restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.#offset = 0;
    this.#restartHash();
    this.#onBytes(0);
  }

  #restartHash(): void {
    const { digest } = this.#file;
    this.#hash = digest && createHash(digest.kind === "git" ? "sha1" : "sha256");
    if (digest?.kind === "git") this.#hash?.update(`blob ${this.#bytes}\0`);
  }

  #isSound(): boolean {
    return this.#hash === undefined || this.#hash.copy().digest("hex") === this.#file.digest?.hex;
  }

  /** Asks for what is missing until nothing is. A connection that brought something does not count as a failure. */
  async #complete(): Promise<void> {
    for (let failures = 0; this.#bytes === undefined || this.#offset < this.#bytes; ) {
      const before = this.#offset;
      try {
        await this.#receive();
      } catch (error) {
        this.#connection.signal?.throwIfAborted();
        if (error instanceof HubError) throw error;
      }
      if (this.#bytes === this.#offset) return;
      failures = this.#offset > before ? 1 : failures + 1;
      if (failures >= TRIES) {
        throw new HubError(
          "unreachable",
          `${this.#file.url.host} broke the connection ${failures} times; the same command goes on from here`,
        );
      }
      await sleep(BACKOFF_MS * 2 ** (failures - 1), undefined, { signal: this.#connection.signal });
    }
  }

  /** One request, and the bytes that it brings. */
  async #receive(): Promise<void> {
    const headers = new Headers();
    if (this.#offset > 0) headers.set("range", `bytes=${this.#offset}-`);
    if (this.#offset > 0 && this.#file.version !== undefined) headers.set("if-range", this.#file.version);
    const response = await this.#connection.get(this.#file.url, headers, [416]);
    if (response.status === 416) {
      // The server's file is shorter than what is there of it.
      await response.body?.cancel();
      return this.#restart();
    }
    await this.#checkAnswer(response);
    for await (const chunk of response.body as AsyncIterable<Uint8Array> & object) {
      if (this.#bytes !== undefined && this.#offset + chunk.byteLength > this.#bytes) {
        await this.#restart();
        throw new HubError(
          "bad-answer",
          `${quoted(this.#file.name)} is longer than the ${this.#bytes} bytes that it should have`,
        );
      }
      await this.#write(chunk);
      this.#hash?.update(chunk);
      this.#offset += chunk.byteLength;
      this.#onBytes(this.#offset);
    }
    this.#bytes ??= this.#offset;
  }

  /** Compares where the bytes begin and how many there are with what should come. */
  async #checkAnswer(response: Response): Promise<void> {
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
    const length = response.headers.get("content-length");
    const isPart = response.status === 206;
    if (isPart && Number(range?.[1]) !== this.#offset) {
      await response.body?.cancel();
      throw new HubError(
        "bad-answer",
        `${this.#file.url.host} sent another part of ${quoted(this.#file.name)} than was asked for`,
      );
    }
    // A server that knows no ranges sends the whole.
    if (!isPart && this.#offset > 0) await this.#restart();
    const total = isPart ? range?.[2] : length;
    if (total === null || total === undefined || total === "*") return;
    this.#bytes ??= Number(total);
    if (Number(total) === this.#bytes) return;
    const isPointer = Number(total) < 1024 && (await response.text()).startsWith(POINTER);
    await response.body?.cancel().catch(() => {});
    throw new HubError(
      "bad-answer",
      isPointer
        ? `${this.#file.url.host} sent a Git LFS pointer in place of ${quoted(this.#file.name)}: it does not have the file itself`
        : `${this.#file.url.host} sends ${total} bytes for ${quoted(this.#file.name)}, which should have ${this.#bytes}`,
    );
  }

  async #write(chunk: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < chunk.byteLength; ) at += (await this.#handle.write(chunk, at)).bytesWritten;
    } catch (error) {
      throw diskError(error);
    }
  }
}

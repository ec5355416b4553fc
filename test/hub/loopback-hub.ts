/**
 * A hub on loopback that answers as the public one's API is documented to (huggingface.co/docs/hub/api, and the headers that
 * its clients read): a model's facts, its files page by page, and the files themselves: small ones at once, large ones by a
 * redirect to another origin, which serves ranges and refuses the hub's token, as a signed address does. It can misbehave.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Files = Readonly<Record<string, Uint8Array | string>>;

export interface Repository {
  readonly files: Files;
  /** Branches and tags besides `main`. */
  readonly revisions?: Readonly<Record<string, Files>>;
  /** Only this token sees it; the hub tells others that there is no such model. */
  readonly token?: string;
  /** Only this token, of those who accepted the terms, may download it. */
  readonly gate?: string;
  /** Entries of the listing beside the files. */
  readonly entries?: readonly object[];
}

/** How the hub misbehaves with a file, by its path. A number counts the requests that it does so with. */
export interface Faults {
  /** Breaks the connection after so many bytes of each answer. */
  cuts?: { after: number; times: number };
  /** Answers a few times with this status and these headers. */
  refusals?: { status: number; times: number; headers?: Record<string, string> };
  /** Sends these bytes in place of the file's. */
  bytes?: Uint8Array;
  /** Redirects there. */
  location?: string;
  /** Sends the whole, whatever was asked for. */
  hasNoRanges?: boolean;
  /** Sends a few bytes and then nothing, until the client leaves. */
  stallsAfter?: number;
}

export interface Asked {
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
  readonly origin: "hub" | "storage";
}

/** Bytes from which on a file is in Git LFS. */
const LARGE = 1000;
const PAGE = 7;

export class LoopbackHub {
  readonly repositories = new Map<string, Repository>();
  /** By a file's path; `api` for a model's facts. */
  readonly faults = new Map<string, Faults>();
  /** Files of other addresses, by path. */
  readonly pages = new Map<string, { headers: Record<string, string>; body: Uint8Array | string }>();
  readonly asked: Asked[] = [];
  readonly #hub: Server;
  readonly #storage: Server;
  readonly #stored = new Map<string, { path: string; bytes: Buffer }>();

  private constructor() {
    this.#hub = createServer((request, response) => this.#answer(request, response));
    this.#storage = createServer((request, response) => this.#store(request, response));
  }

  static async start(): Promise<LoopbackHub> {
    const hub = new LoopbackHub();
    for (const server of [hub.#hub, hub.#storage]) {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    }
    return hub;
  }

  get url(): string {
    return addressOf(this.#hub);
  }

  get storage(): string {
    return addressOf(this.#storage);
  }

  async close(): Promise<void> {
    for (const server of [this.#hub, this.#storage]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** The commit of a revision. */
  commit(name: string, revision = "main"): string {
    return createHash("sha1").update(`${name} ${revision}`).digest("hex");
  }

  /** Requests for files' bytes since the last call, as `path range`. */
  downloads(): string[] {
    const found = this.asked
      .filter(({ origin }) => origin === "storage")
      .map(({ path, range = "" }) => `${path} ${range}`.trim());
    this.asked.length = 0;
    return found;
  }

  #answer(request: IncomingMessage, response: ServerResponse): unknown {
    const url = new URL(request.url!, this.url);
    const path = decodeURIComponent(url.pathname);
    const { range, authorization } = request.headers;
    this.asked.push({ path, range, authorization, origin: "hub" });
    const page = this.pages.get(path);
    if (page) return this.#send(request, response, path, Buffer.from(page.body), page.headers);
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/(.+)$/.exec(path);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path);
    const [, name = "", kind = "resolve", revision = file?.[2] ?? ""] = api ?? [path, file?.[1]];
    if (!api && !file) return fail(response, 404, "", "Sorry, we can't find the page you are looking for.");
    if (this.#misbehaves(api ? "api" : file![3]!, response)) return;
    const token = authorization?.replace(/^Bearer /, "");
    if (token === "hf_expired") return fail(response, 401, "", "Invalid credentials in Authorization header");
    const repository = this.repositories.get(name);
    if (repository === undefined || (repository.token !== undefined && repository.token !== token)) {
      if (token === undefined) return fail(response, 401, "RepoNotFound", "Invalid username or password.");
      return fail(response, 404, "RepoNotFound", "Repository not found");
    }
    const revisions: Readonly<Record<string, Files>> = { main: repository.files, ...repository.revisions };
    const known = Object.keys(revisions).find((one) => one === revision || this.commit(name, one) === revision);
    if (known === undefined) return fail(response, 404, "RevisionNotFound", `Invalid rev id: ${revision}`);
    const sha = this.commit(name, known);
    if (kind === "revision") {
      const facts = { _id: "1", id: name, sha, private: false, gated: false, lastModified: "2024-01-01T00:00:00.000Z" };
      return json(response, { ...facts, likes: 0, downloads: 0 });
    }
    if (kind === "tree") {
      this.#list(url, response, [...listed(revisions[known]!), ...(repository.entries ?? [])]);
      return;
    }
    if (repository.gate !== undefined && repository.gate !== token) {
      const words = `Access to model ${name} is restricted.`;
      return fail(response, token === undefined ? 401 : 403, "GatedRepo", words);
    }
    const content = revisions[known]![file![3]!];
    if (content === undefined) return fail(response, 404, "EntryNotFound", "Entry not found");
    this.#resolve(request, response, file![3]!, Buffer.from(content), sha);
  }

  /** Page by page, as the real hub does from 1000 entries on. */
  #list(url: URL, response: ServerResponse, entries: readonly object[]): void {
    const from = Number(url.searchParams.get("cursor") ?? 0);
    if (from + PAGE < entries.length) {
      url.searchParams.set("cursor", String(from + PAGE));
      response.setHeader("link", `<${url.href}>; rel="next"`);
    }
    json(response, entries.slice(from, from + PAGE));
  }

  #resolve(request: IncomingMessage, response: ServerResponse, path: string, bytes: Buffer, sha: string): unknown {
    const { location } = this.faults.get(path) ?? {};
    const etag = bytes.length >= LARGE ? sha256(bytes) : gitBlob(bytes);
    response.setHeader("x-repo-commit", sha);
    if (location === undefined && bytes.length < LARGE) {
      return this.#send(request, response, path, bytes, { etag: `"${etag}"`, "content-type": "text/plain" });
    }
    // A file in Xet: a client that does not speak its protocol follows the redirect.
    response.setHeader("x-xet-hash", sha256(Buffer.from(etag)));
    response.setHeader("link", `<${this.url}/api/models/x/xet-read-token>; rel="xet-auth"`);
    response.setHeader("x-linked-etag", `"${etag}"`).setHeader("x-linked-size", bytes.length);
    this.#stored.set(etag, { path, bytes });
    return response.writeHead(302, { location: location ?? `${this.storage}/${etag}?signature=1` }).end();
  }

  #store(request: IncomingMessage, response: ServerResponse): unknown {
    const { range, authorization } = request.headers;
    const stored = this.#stored.get(request.url!.slice(1).split("?")[0]!);
    this.asked.push({ path: stored?.path ?? request.url!, range, authorization, origin: "storage" });
    // As object stores do: an address is signed, and a second way to sign in is an error.
    if (authorization !== undefined) return fail(response, 400, "", "Only one auth mechanism allowed");
    if (stored === undefined) return fail(response, 404, "", "NoSuchKey");
    if (this.#misbehaves(`stored ${stored.path}`, response)) return;
    this.#send(request, response, stored.path, stored.bytes, { etag: '"storage-etag"' });
  }

  #misbehaves(path: string, response: ServerResponse): boolean {
    const refusals = this.faults.get(path)?.refusals;
    if (refusals === undefined || refusals.times-- <= 0) return false;
    response.writeHead(refusals.status, refusals.headers).end();
    return true;
  }

  #send(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    content: Buffer,
    headers: Readonly<Record<string, string>>,
  ): void {
    const faults = this.faults.get(path) ?? {};
    const bytes = Buffer.from(faults.bytes ?? content);
    const [, first] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    const isSame = request.headers["if-range"] === undefined || request.headers["if-range"] === headers.etag;
    const from = first === undefined || faults.hasNoRanges || !isSame ? 0 : Number(first);
    const isPart = first !== undefined && !faults.hasNoRanges && isSame;
    if (from > 0 && from >= bytes.length) {
      response.writeHead(416).end();
      return;
    }
    const last = /^bytes=\d+-(\d+)$/.exec(request.headers.range ?? "")?.[1];
    const end = isPart && last !== undefined ? Number(last) + 1 : bytes.length;
    const body = bytes.subarray(from, end);
    response.writeHead(isPart ? 206 : 200, {
      ...headers,
      "content-length": body.length,
      ...(isPart && { "content-range": `bytes ${from}-${end - 1}/${bytes.length}` }),
    });
    const { cuts, stallsAfter } = faults;
    if (stallsAfter !== undefined && stallsAfter < body.length) {
      response.write(body.subarray(0, stallsAfter));
      return;
    }
    if (cuts !== undefined && cuts.times-- > 0) {
      response.write(body.subarray(0, cuts.after), () => setTimeout(() => response.destroy(), 20));
      return;
    }
    response.end(body);
  }
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export function gitBlob(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${bytes.byteLength}\0`).update(bytes).digest("hex");
}

/** The entries of a repository's tree, its folders among them. */
export function listed(files: Files): object[] {
  const folders = new Set(Object.keys(files).flatMap((path) => (path.includes("/") ? [path.split("/")[0]!] : [])));
  return [
    ...[...folders].map((path) => ({ type: "directory", oid: gitBlob(Buffer.from(path)), size: 0, path })),
    ...Object.entries(files).map(([path, content]) => {
      const bytes = Buffer.from(content);
      const size = bytes.length;
      if (size < LARGE) return { type: "file", oid: gitBlob(bytes), size, path };
      const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(bytes)}\nsize ${size}\n`;
      const lfs = { oid: sha256(bytes), size, pointerSize: pointer.length };
      return { type: "file", oid: gitBlob(Buffer.from(pointer)), size, lfs, xetHash: sha256(Buffer.from(path)), path };
    }),
  ];
}

function fail(response: ServerResponse, status: number, code: string, message: string): void {
  if (code !== "") response.setHeader("x-error-code", code);
  response.writeHead(status, { "x-error-message": message, "content-type": "application/json" });
  response.end(JSON.stringify({ error: message }));
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}

/**
 * The playground: a page at `GET /` for browsers, and its files. Built into `dist/playground` by the project's build;
 * where that has not been run there is no page, and `/` is left to whoever comes after.
 *
 * The page may load scripts, styles and data from its own origin and from nowhere else, holds no inline script, and may
 * not be framed. Its files carry a hash in their names, so they may be kept for ever; the page itself is asked for each
 * time, and answered with 304 where it has not changed.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { Hono, type MiddlewareHandler } from "hono";
import { packagePath } from "../src/platform/package-files.ts";

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  // What was generated arrives as data (SSE) or as bytes (WebSocket).
  "img-src 'self' data: blob:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join("; ");

const SECURITY = {
  "Content-Security-Policy": POLICY,
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "X-Frame-Options": "DENY",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
};

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
};

interface Page {
  readonly html: Uint8Array<ArrayBuffer>;
  readonly etag: string;
  readonly files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/** Where the build puts it. */
function builtPage(): URL {
  return pathToFileURL(`${packagePath("dist", "playground")}/`);
}

/**
 * `GET /` answers browsers, where the page is built, and leaves others to the next handler; `asset` are the page's files.
 *
 * @param folder the built page; read once, at the first request for it
 */
export function playgroundHandlers(folder: URL = builtPage()): { page: MiddlewareHandler; asset: MiddlewareHandler } {
  let reading: Promise<Page | undefined> | undefined;
  const built = () => (reading ??= readPage(folder));
  return {
    async page(c, next) {
      const page = c.req.header("accept")?.includes("text/html") ? await built() : undefined;
      if (page === undefined) return next();
      const headers = { ...SECURITY, ETag: page.etag, "Cache-Control": "no-cache", Vary: "Accept" };
      if (c.req.header("if-none-match") === page.etag) return new Response(null, { status: 304, headers });
      return new Response(page.html, { headers: { ...headers, "Content-Type": TYPES.html as string } });
    },
    async asset(c, next) {
      const name = c.req.param("file") ?? "";
      const file = (await built())?.files.get(name);
      if (file === undefined) return next();
      return new Response(file, {
        headers: {
          ...SECURITY,
          "Content-Type": TYPES[name.split(".").at(-1) ?? ""] ?? "application/octet-stream",
          "Cache-Control": "public, max-age=31536000, immutable",
        },
      });
    },
  };
}

/** The page alone. */
export function playground(folder?: URL): Hono {
  const { page, asset } = playgroundHandlers(folder);
  return new Hono().get("/", page).get("/playground/:file", asset);
}

async function readPage(folder: URL): Promise<Page | undefined> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch {
    return undefined;
  }
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const name of names) files.set(name, new Uint8Array(await readFile(new URL(name, folder))));
  const html = files.get("index.html");
  if (html === undefined) return undefined;
  files.delete("index.html");
  const etag = `"${createHash("sha256").update(html).digest("base64url").slice(0, 16)}"`;
  return { html, etag, files };
}

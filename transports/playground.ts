/**
 * The playground: a page at `GET /` for browsers, and its files. The project's build writes it into `dist/playground`;
 * without the build there is no page, and the next handler answers `/`.
 *
 * The page may load scripts, styles and data from its own origin and from nowhere else, holds no inline script, and may
 * not be framed. Its files carry a hash in their names, so a browser may keep them for ever; it asks for the page itself
 * each time, and gets 304 if the page has not changed. All of them go out compressed.
 */
import { readdir, readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { Hono, type MiddlewareHandler } from "hono";
import { packagePath } from "../src/platform/package-files.ts";
import { FixedFile } from "./http/fixed-file.ts";

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  // Pictures arrive as data (SSE) or as bytes (WebSocket).
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

/** The content of a file decides its name. */
const KEPT = { "Cache-Control": "public, max-age=31536000, immutable" };

interface Page {
  readonly html: FixedFile;
  readonly files: ReadonlyMap<string, FixedFile>;
}

/** The folder that the build writes. */
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
      if (page !== undefined) return page.html.answer(c);
      await next();
      c.header("Vary", "Accept", { append: true });
    },
    async asset(c, next) {
      const file = (await built())?.files.get(c.req.param("file") ?? "");
      return file === undefined ? next() : file.answer(c);
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
  if (!names.includes("index.html")) return undefined;
  const read = async (name: string, headers: Readonly<Record<string, string>>) =>
    FixedFile.of(new Uint8Array(await readFile(new URL(name, folder))), {
      ...SECURITY,
      "Content-Type": TYPES[name.split(".").at(-1) ?? ""] ?? "application/octet-stream",
      ...headers,
    });
  const assets = names.filter((name) => name !== "index.html");
  const files = await Promise.all(assets.map((name) => read(name, KEPT)));
  const html = await read("index.html", { "Cache-Control": "no-cache", Vary: "Accept" });
  return { html, files: new Map(assets.map((name, index) => [name, files[index]!])) };
}

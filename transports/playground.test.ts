import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http, { type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { Hono } from "hono";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gradientRun } from "../test/gradient-run.ts";
import { createApp } from "./app.ts";
import { type Listening, listen } from "./http/listen.ts";
import { playground } from "./playground.ts";

const HTML = `<!doctype html><title>page</title>${"<p>words of the page</p>".repeat(99)}`;
const SCRIPT = `${"console.log('the same again');\n".repeat(200)}`;

describe("the page's files", () => {
  let folder: string;
  let server: Listening;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "daguerre-files-"));
    await writeFile(join(folder, "index.html"), HTML);
    await writeFile(join(folder, "main-abcdefgh.js"), SCRIPT);
    await writeFile(join(folder, "theme-abcdefgh.js"), "1");
    const app = createApp({ run: gradientRun(), health: () => ({}) });
    server = await listen(
      new Hono().route("/", playground(pathToFileURL(`${folder}/`))).route("/", app),
      0,
      "127.0.0.1",
    );
  });
  afterAll(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  /** As the bytes go over the wire: `fetch` would decompress them. */
  async function get(path: string, headers: Record<string, string>, method = "GET", content = "") {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      http
        .request(new URL(path, server.url), { method, headers: { accept: "text/html", ...headers } }, resolve)
        .on("error", reject)
        .end(content);
    });
    const body = Buffer.concat(await response.toArray());
    return { status: response.statusCode, headers: response.headers, body };
  }
  const decoded = ({ headers, body }: Awaited<ReturnType<typeof get>>) => {
    if (headers["content-encoding"] === "br") return brotliDecompressSync(body).toString();
    return (headers["content-encoding"] === "gzip" ? gunzipSync(body) : body).toString();
  };

  const FILES = [
    ["/", HTML, "text/html; charset=utf-8", "no-cache", "Accept, Accept-Encoding"],
    [
      "/playground/main-abcdefgh.js",
      SCRIPT,
      "text/javascript; charset=utf-8",
      "public, max-age=31536000, immutable",
      "Accept-Encoding",
    ],
  ] as const;

  it.each(FILES)("go out in the encoding that the client accepts (%s)", async (path, content, type, cache, vary) => {
    const tags = new Set<string>();
    for (const [accepted, encoding] of [
      ["gzip, deflate, br, zstd", "br"],
      ["gzip;q=1.0, br;q=0.5", "gzip"],
      ["GZIP", "gzip"],
      ["br;q=0, gzip", "gzip"],
      ["*", "br"],
      ["*;q=0.5, br;q=0", "gzip"],
      ["deflate", undefined],
      ["identity", undefined],
      ["identity;q=1, br;q=0.2", undefined],
      ["", undefined],
    ]) {
      const answer = await get(path, accepted === "" ? {} : { "accept-encoding": accepted! });
      expect(answer.headers["content-encoding"], accepted).toBe(encoding);
      expect(decoded(answer)).toBe(content);
      expect(answer.headers).toMatchObject({ "content-type": type, "cache-control": cache, vary });
      expect(Number(answer.headers["content-length"])).toBe(answer.body.length);
      if (encoding !== undefined) expect(answer.body.length).toBeLessThan(content.length / 3);
      tags.add(`${answer.headers.etag} ${encoding}`);
    }
    // One tag for each encoding.
    expect(tags.size).toBe(3);
    expect(new Set([...tags].map((tag) => tag.split(" ")[0])).size).toBe(3);
  });

  it.each(FILES)(
    "are answered with 304 if the client has them in that encoding (%s)",
    async (path, _, __, cache, vary) => {
      for (const accepted of ["br", "gzip", "identity"]) {
        const { headers } = await get(path, { "accept-encoding": accepted });
        const etag = headers.etag!;
        for (const tags of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
          const again = await get(path, { "accept-encoding": accepted, "if-none-match": tags });
          expect(again.status, tags).toBe(304);
          expect(again.headers).toMatchObject({ etag, vary, "cache-control": cache });
          expect(again.headers["content-encoding"]).toBeUndefined();
          expect(again.body.length).toBe(0);
        }
        expect((await get(path, { "accept-encoding": accepted, "if-none-match": '"other"' })).status).toBe(200);
        const other = accepted === "br" ? "gzip" : "br";
        expect((await get(path, { "accept-encoding": other, "if-none-match": etag })).status).toBe(200);
      }
    },
  );

  it("have the same headers for HEAD, and no body", async () => {
    const whole = await get("/", { "accept-encoding": "br" });
    const head = await get("/", { "accept-encoding": "br" }, "HEAD");
    expect(head.body.length).toBe(0);
    const { date: _, ...headers } = whole.headers;
    expect(head.headers).toMatchObject({ ...headers, connection: head.headers.connection });
  });

  it("stay as they are if they would only grow", async () => {
    const { headers, body } = await get("/playground/theme-abcdefgh.js", { "accept-encoding": "br, gzip" });
    expect(headers["content-encoding"]).toBeUndefined();
    expect(body.toString()).toBe("1");
  });

  it("are all that is compressed: streams, pictures and words for others go out as they are", async () => {
    const accepted = { "accept-encoding": "gzip, br", "content-type": "application/json" };
    for (const path of ["/stream", "/"]) {
      const { status, headers } = await get(path, accepted, "POST", '{"prompt":"a lake","num_inference_steps":2}');
      expect(status).toBe(200);
      expect(headers["content-encoding"], path).toBeUndefined();
    }
    const words = await get("/", { ...accepted, accept: "*/*" });
    expect(words.headers["content-encoding"]).toBeUndefined();
    expect(words.headers.vary).toContain("Accept");
    expect(words.body.toString()).toContain("curl -N");
  });
});

/** Request targets (RFC 9112, 3.2: origin, absolute, authority, asterisk), methods, hosts, upgrades, and no HTTP at all. */
import { METHODS } from "node:http";
import fc from "fast-check";
import type { Attack } from "./attack.ts";
import { exchange, type Part, request } from "./raw-http.ts";
import { upgradeHeaders } from "./realtime-client.ts";

/** Statuses that say no to a request line; `closed` is the end of a connection that was never HTTP. */
const REFUSED = [400, 403, 404, 405, 411, 414, 417, 421, 422, 426, 431, 501, 505];
const ANSWERED = [200, 202, 204, 308, 401, ...REFUSED];

const PATHS = [
  "/",
  "/health",
  "/ready",
  "/docs",
  "/openapi.json",
  "/metrics",
  "/stream",
  "/stream/nobody",
  "/realtime",
  "/jobs/nobody",
  "/queue/x",
  "/queue/x/requests/nobody",
  "/queue/x/requests/nobody/status",
  "/queue/x/requests/nobody/cancel",
  "/auth/token",
  "/v1/images/generations",
  "/v1/images/edits",
  "/sdapi/v1/txt2img",
  "/sdapi/v1/progress",
  "/sdapi/v1/png-info",
  "/playground/",
];

export async function attack(context: Attack): Promise<void> {
  for (const server of [context.open, context.guarded]) {
    const { port } = server;
    const own = `127.0.0.1:${port}`;
    const line = (text: string, host = own): Part[] => [`${text}\r\nHost: ${host}\r\nConnection: close\r\n\r\n`];

    await context.case("asterisk", server, async () => {
      for (const method of ["OPTIONS", "GET", "POST", "HEAD", "DELETE"]) {
        await context.ask(`${method} *`, server, line(`${method} * HTTP/1.1`), [200, 204, ...REFUSED]);
      }
    });
    await context.case("absolute form", server, async () => {
      const addresses = [
        [`http://${own}/health`, [200]],
        [`HTTP://${own}/health`, [200]],
        [`http://${own}`, ANSWERED],
        ["http://any/", ANSWERED],
        ["http://any", ANSWERED],
        [`http://any:${port}/health?x=1#y`, ANSWERED],
        [`http://user:pass@${own}/health`, ANSWERED],
        [`https://${own}/health`, ANSWERED],
        [`ws://${own}/realtime`, ANSWERED],
        ["ftp://any/x", ANSWERED],
        ["http:///x", ANSWERED],
        ["http://[::1]/", ANSWERED],
        ["http://[::1/", ANSWERED],
        ["http://%zz/%zz", ANSWERED],
        ["http://any:99999/", ANSWERED],
        ["http://any\\@x/", ANSWERED],
        ["http:/one-slash", ANSWERED],
        ["http:none", ANSWERED],
        ["mailto:x@y", ANSWERED],
        ["data:text/plain,x", ANSWERED],
        ["javascript:1", ANSWERED],
        ["file:///etc/passwd", ANSWERED],
        [`http://${"a".repeat(8_000)}/`, ANSWERED],
      ] as const;
      for (const [target, allowed] of addresses) {
        await context.ask(`GET ${target.slice(0, 60)}`, server, line(`GET ${target} HTTP/1.1`), allowed);
      }
      // Which host counts where both are given is the target's (RFC 9112, 3.2.2): a rebound page's is not made good by `Host`.
      const body = '{"prompt":"x"}';
      const parts = request(port, { target: "http://rebind.example/", body });
      await context.ask("POST http://rebind.example/", server, parts, [400, 401, 404, 421]);
    });
    await context.case("authority form", server, async () => {
      const closed = [...REFUSED, "closed"];
      for (const target of [own, "any:443", "any", "/", "*", ":", "[::1]:443"]) {
        await context.ask(`CONNECT ${target}`, server, line(`CONNECT ${target} HTTP/1.1`), closed);
      }
      await context.ask("GET authority", server, line(`GET ${own} HTTP/1.1`), closed);
    });
    await context.case("origin form, bent", server, async () => {
      const paths = [
        "//",
        "//any/health",
        "/..",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/./health",
        "/health/",
        "//health",
        "/HEALTH",
        "/%68ealth",
        "/health%00",
        "/%",
        "/%zz",
        "/%ff",
        "/%c0%af",
        "/\\health",
        "/;health",
        "/?",
        "/??x",
        "/#x",
        "/?__proto__=1&constructor[prototype]=2",
        `/stream?${"a=&".repeat(5_000)}`,
        `/stream?prompt=${"%00".repeat(5_000)}`,
        `/queue/${"a/".repeat(7_000)}requests/x`,
        `/jobs/${"%2f".repeat(5_000)}`,
        `/${"a".repeat(15_000)}`,
        `/${"a".repeat(20_000)}`,
        "/é",
      ];
      for (const path of paths) {
        for (const method of ["GET", "POST", "HEAD"]) {
          const allowed = [...ANSWERED, 413, "closed"];
          await context.ask(`${method} ${path.slice(0, 60)}`, server, line(`${method} ${path} HTTP/1.1`), allowed);
        }
      }
    });
    await context.case("methods", server, async () => {
      const methods = [
        ...METHODS.filter((method) => method !== "CONNECT"),
        "get",
        "Get",
        "NONE",
        "X".repeat(500),
        "G\u0000T",
      ];
      for (const path of PATHS) {
        // Every path with every method: as many as one connection after another can do at once.
        const asked = methods.map(async (method) => {
          const parts = line(`${method} ${path} HTTP/1.1`);
          await context.ask(`${method} ${path}`, server, parts, [...ANSWERED, "closed"], { headOnly: true });
        });
        await Promise.all(asked);
      }
    });
    await context.case("hosts", server, async () => {
      const ask = async (what: string, head: string, allowed: readonly (number | string)[]) => {
        await context.ask(what, server, [`${head}Connection: close\r\n\r\n`], allowed);
      };
      await ask("no host", "GET /health HTTP/1.1\r\n", [400]);
      await ask("HTTP/1.0 without host", "GET /health HTTP/1.0\r\n", [200, 400]);
      for (const path of ["/health", "/jobs/nobody", "/"]) {
        await ask(`two hosts, ${path}`, `GET ${path} HTTP/1.1\r\nHost: ${own}\r\nHost: any\r\n`, [400]);
      }
      for (const host of [
        "",
        " ",
        "user@any",
        "a b",
        "any/x",
        "any?x",
        "a,b",
        ":80",
        "[::1",
        "any:port",
        "\u00e9",
        "%61",
      ]) {
        await ask(`host '${host}'`, `GET /jobs/nobody HTTP/1.1\r\nHost: ${host}\r\n`, [400, 401, 404, 421]);
      }
    });
    await context.case("upgrades", server, async () => {
      const targets = [
        "/realtime",
        `http://${own}/realtime`,
        "http://any/realtime",
        "*",
        "/",
        "/stream",
        "/jobs/x",
        "//",
        "",
      ];
      for (const target of targets) {
        for (const upgrade of ["websocket", "WebSocket", "h2c", "TLS/1.0", "websocket, h2c", "", "x".repeat(1_000)]) {
          const headers = upgradeHeaders().map((text) => (text.startsWith("Upgrade") ? `Upgrade: ${upgrade}` : text));
          const method = target === "*" ? "OPTIONS" : "GET";
          const parts = request(port, { method, target, headers });
          const allowed = [101, ...ANSWERED, "closed"];
          await context.ask(`upgrade ${upgrade.slice(0, 20)} ${target}`, server, parts, allowed, { headOnly: true });
        }
      }
      const realtime = async (what: string, headers: readonly string[], allowed: readonly (number | string)[]) => {
        await context.ask(what, server, request(port, { target: "/realtime", headers }), allowed, { headOnly: true });
      };
      const foreign = [
        "https://evil.example",
        "null",
        `http://127.0.0.1:${port + 1}`,
        "http://",
        "x",
        `http://${own}.evil`,
      ];
      for (const origin of foreign)
        await realtime(`origin ${origin}`, upgradeHeaders([`Origin: ${origin}`]), [400, 401, 403, 421]);
      const without = (name: string) => upgradeHeaders().filter((text) => !text.startsWith(name));
      for (const key of ["", "x", "A".repeat(1_000), "AAAA====", "\u00e9"]) {
        await realtime(
          `key '${key.slice(0, 10)}'`,
          [...without("Sec-WebSocket-Key"), `Sec-WebSocket-Key: ${key}`],
          [400, 401, 426],
        );
      }
      for (const version of ["", "7", "8", "12", "14", "-1", "x"]) {
        const headers = [...without("Sec-WebSocket-Version"), `Sec-WebSocket-Version: ${version}`];
        // 8 is what browsers spoke before the standard was done; ws takes it.
        await realtime(`version '${version}'`, headers, version === "8" ? [101, 400, 401] : [400, 401, 405, 426]);
      }
      await realtime(
        "permessage-deflate",
        upgradeHeaders(['Sec-WebSocket-Extensions: permessage-deflate; x=""']),
        [101, 400, 401],
      );
      const body = request(port, { method: "POST", target: "/realtime", headers: upgradeHeaders(), body: "{}" });
      await context.ask("an upgrade with a body", server, body, [...REFUSED, 401], { headOnly: true });
    });
    await context.case("smuggling and no HTTP", server, async () => {
      const allowed = [200, 401, ...REFUSED, "closed", "open"];
      const head = `POST /stream HTTP/1.1\r\nHost: ${own}\r\n`;
      const texts = [
        `${head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
        `${head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde`,
        `${head}Content-Length: +2\r\n\r\n{}`,
        `${head}Content-Length: 99999999999999999999\r\n\r\n{}`,
        `${head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
        `${head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n`,
        `${head}Transfer-Encoding: chunked\r\n\r\n-1\r\n`,
        `${head}Content-Length : 2\r\n\r\n{}`,
        `GET /health HTTP/9.9\r\nHost: ${own}\r\n\r\n`,
        `GET  /health  HTTP/1.1\r\nHost: ${own}\r\n\r\n`,
        `GET /health\r\n\r\n`,
        `GET / HTTP/1.1\r\nHost: ${own}\r\n${"X-A: b\r\n".repeat(4_000)}\r\n`,
        `GET / HTTP/1.1\r\nHost: ${own}\r\nX: ${"a".repeat(17_000)}\r\n\r\n`,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "\r\n".repeat(1_000),
        "\u0000".repeat(1_000),
      ];
      for (const text of texts) {
        await context.ask(JSON.stringify(text.slice(0, 80)), server, [text], allowed, { timeoutMs: 500 });
      }
    });
  }

  const { open } = context;
  const token = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}$/);
  const host = fc.oneof(
    fc.domain(),
    fc.ipV4(),
    fc.ipV6().map((text) => `[${text}]`),
    fc.string({ unit: "grapheme-ascii" }),
  );
  const path = fc.oneof(
    fc.constantFrom(...PATHS),
    fc.webPath(),
    fc.string({ unit: "binary-ascii", maxLength: 40 }).map((text) => `/${text}`),
  );
  const target = fc.oneof(
    fc.constant("*"),
    fc.tuple(path, fc.webQueryParameters()).map(([at, query]) => `${at}?${query}`),
    fc
      .tuple(fc.constantFrom("http", "https", "HTTP", "ws", "ftp", "x"), host, path)
      .map(([of, on, at]) => `${of}://${on}${at}`),
    fc.tuple(host, fc.nat(70_000)).map(([on, number]) => `${on}:${number}`),
    fc.string({ unit: "binary", maxLength: 60 }),
  );
  const header = fc.tuple(
    fc.oneof(
      token,
      fc.constantFrom(
        "Host",
        "Origin",
        "Referer",
        "Upgrade",
        "Connection",
        "Expect",
        "Range",
        "X-Forwarded-For",
        "Forwarded",
      ),
      fc.constantFrom(
        "Content-Type",
        "Sec-Fetch-Site",
        "Sec-Fetch-Dest",
        "Last-Event-ID",
        "Idempotency-Key",
        "Authorization",
      ),
      fc.constantFrom("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Transfer-Encoding", "Content-Length"),
    ),
    fc.oneof(
      token,
      fc.string({ maxLength: 40 }),
      fc.constantFrom("upgrade", "websocket", "100-continue", "bytes=0-", "chunked"),
    ),
  );
  const requests = fc.record({
    method: fc.oneof(fc.constantFrom(...METHODS), token),
    target,
    version: fc.constantFrom("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", "X"),
    headers: fc.array(header, { maxLength: 6 }),
    ownHost: fc.boolean(),
  });
  const batch = fc.array(requests, { minLength: 16, maxLength: 16 });
  await context.fuzz("fuzzed request lines", open, { values: batch, rounds: 200 }, async (values) => {
    const asked = values.map(async ({ method, target, version, headers, ownHost }) => {
      const lines = [
        `${method} ${target} ${version}`,
        ...(ownHost ? [`Host: 127.0.0.1:${open.port}`] : []),
        ...headers.map(([name, value]) => `${name}: ${value}`),
      ];
      const { status } = await exchange(open.port, [`${lines.join("\r\n")}\r\n\r\n`], {
        timeoutMs: 300,
        headOnly: true,
      });
      const what = JSON.stringify(lines[0]);
      const fine = typeof status === "string" || status < 500 || [501, 503, 505].includes(status);
      context.expect(what, status, fine ? [status] : ["less than 500"]);
    });
    await Promise.all(asked);
  });
}

/** Under which names the server answers and from which pages it starts something, over real sockets. */
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { afterEach, describe, expect, it } from "vitest";
import WebSocket from "ws";
import { gradientRun } from "../../test/gradient-run.ts";
import { type AppOptions, createApp } from "../app.ts";
import { type Listening, listen } from "../http/listen.ts";
import { createAuthenticator } from "./auth.ts";
import type { GateOptions } from "./gate.ts";

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: string;
}

/** A server, and what it has run. */
async function serving(gate: Partial<GateOptions> = {}, options: Partial<AppOptions> = {}) {
  let runs = 0;
  const run = gradientRun();
  const model = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };
  const app = createApp({
    run: (input, context) => {
      runs++;
      return run({ ...input, num_inference_steps: 1 }, context);
    },
    health: () => ({}),
    model,
    gate,
    ...options,
  });
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  /** Sends the head of a request as it is written here, and the body after it. */
  const raw = async (line: string, fields: readonly string[], body = ""): Promise<Answer> => {
    const length = body === "" ? [] : [`Content-Length: ${body.length}`];
    const socket = net.connect(server.port, "127.0.0.1");
    socket.write([line, ...fields, ...length, "Connection: close", "", body].join("\r\n"));
    const answer = Buffer.concat(await socket.toArray()).toString();
    const [headers = "", ...rest] = answer.split("\r\n\r\n");
    return { status: Number(/^HTTP\/1.1 (\d+)/.exec(answer)?.[1]), headers, text: rest.join("\r\n\r\n") };
  };
  return {
    raw,
    port: server.port,
    url: server.url,
    /** The runs since the last question; a picture that comes without an answer has its time. */
    ran: async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const count = runs;
      runs = 0;
      return count;
    },
    get: (path: string, fields: Readonly<Record<string, string>> = {}) =>
      raw(
        `GET ${path} HTTP/1.1`,
        Object.entries({ host: `127.0.0.1:${server.port}`, ...fields }).map(([name, value]) => `${name}: ${value}`),
      ),
    post: (path: string, fields: Readonly<Record<string, string>> = {}, body = '{"prompt":"x"}') =>
      raw(
        `POST ${path} HTTP/1.1`,
        Object.entries({ host: `127.0.0.1:${server.port}`, ...fields }).map(([name, value]) => `${name}: ${value}`),
        body,
      ),
  };
}

const OWN = { hosts: ["daguerre", "host.docker.internal", "*.example.org", "pictures.example:8443"] };
const keyed = createAuthenticator({ keys: [{ name: "a", key: "k" }] });
const withKey = { authorization: "Bearer k" };

describe("names", () => {
  const ACCEPTED = [
    "127.0.0.1",
    "127.0.0.1:1",
    "192.168.1.5:8080",
    "203.0.113.9",
    "[::1]",
    "[::1]:8080",
    "[FE80::1]:8080",
    "localhost",
    "LOCALHOST:65535",
    "localhost.",
    "a.b.localhost:8080",
    "daguerre",
    "daguerre:8080",
    "Daguerre.:8080",
    "host.docker.internal",
    "a.example.org",
    "a.b.Example.ORG:9",
    "pictures.example:8443",
    "public.example",
    "public.example:8080",
  ];
  const STRANGE = [
    "evil.example",
    "evil.example:8080",
    "example.org",
    "notexample.org",
    "localhost.evil.example",
    "notlocalhost",
    "127.0.0.1.evil.example",
    "127-0-0-1.evil.example",
    "daguerre.evil.example",
    "pictures.example",
    "pictures.example:8080",
    "a.public.example",
    "0x7f.evil",
  ];
  const NONE = ["", " ", "user@localhost", "local host", "localhost:", "localhost:x", "localhost:65536", "localhost/x"];
  const MORE = [
    "[::1",
    "::1",
    "[::g]",
    "localhost,evil.example",
    "l\u00f6calhost",
    "%6cocalhost",
    `${"a".repeat(300)}.x`,
  ];

  it("that are the server's are answered, others are 421, and what is no name is 400", async () => {
    const server = await serving({ ...OWN, publicUrl: "https://public.example/base" });
    const asked = async (host: string) => [
      (await server.get("/jobs/x", { host })).status,
      (await server.post("/v1/images/generations", { host })).status,
      (await server.post("/stream", { host })).status,
      (await server.get("/", { host })).status,
    ];
    for (const host of ACCEPTED) expect(await asked(host), host).toEqual([404, 200, 200, 200]);
    expect(await server.ran()).toBe(2 * ACCEPTED.length);
    for (const host of STRANGE) expect(await asked(host), host).toEqual([421, 421, 421, 421]);
    for (const host of [...NONE, ...MORE]) expect(await asked(host), host).toEqual([400, 400, 400, 400]);
    expect(await server.ran()).toBe(0);
    const { text } = await server.post("/", { host: "evil.example" });
    expect(JSON.parse(text)).toEqual({ detail: expect.stringMatching(/'evil\.example'.*setting hosts.*public_url/) });
    const openai = await server.post("/v1/images/generations", { host: "evil.example" });
    expect(JSON.parse(openai.text)).toMatchObject({ error: { message: expect.stringContaining("hosts") } });
    // The page itself would be the stranger's then.
    expect((await server.get("/", { host: "evil.example", accept: "text/html" })).status).toBe(421);
  });

  it("are sent once", async () => {
    for (const server of [await serving(OWN), await serving(), await serving({ ...OWN, authenticator: keyed })]) {
      for (const hosts of [
        ["Host: localhost", "Host: localhost"],
        ["Host: localhost", "Host: evil.example"],
        ["Host: evil.example", "host: localhost"],
      ]) {
        const twice = await server.raw("POST /stream HTTP/1.1", hosts, '{"prompt":"x"}');
        expect([twice.status, JSON.parse(twice.text)]).toEqual([400, { detail: expect.stringContaining("several") }]);
      }
      for (const version of ["1.0", "1.1"]) {
        expect((await server.raw(`POST /stream HTTP/${version}`, [], '{"prompt":"x"}')).status).toBe(400);
      }
      expect(await server.ran()).toBe(0);
    }
  });

  it("count where they stand in the address, too", async () => {
    const app = createApp({ run: gradientRun(), health: () => ({}), gate: OWN });
    const server = createAdaptorServer({ fetch: app.fetch });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port } = server.address() as AddressInfo;
    for (const [address, host, status] of [
      ["http://evil.example/jobs/x", "localhost", 421],
      ["http://localhost/jobs/x", "evil.example", 421],
      ["http://localhost/jobs/x", "localhost", 404],
    ] as const) {
      const socket = net.connect(port, "127.0.0.1");
      socket.write(`GET ${address} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      const answer = Buffer.concat(await socket.toArray()).toString();
      expect(answer, address).toMatch(new RegExp(`^HTTP/1.1 ${status}`));
    }
    server.close();
  });

  it("do not matter to probes, behind keys, or where nobody has listed any", async () => {
    const server = await serving(OWN);
    for (const path of ["/health", "/ready"]) {
      expect((await server.get(path, { host: "evil.example" })).status).toBe(200);
      expect((await server.get(path, { host: "evil.example", origin: "http://evil.example" })).status).toBe(403);
    }
    const secured = await serving({ ...OWN, authenticator: keyed });
    expect((await secured.post("/stream", { host: "any.example" })).status).toBe(401);
    expect((await secured.post("/stream", { host: "any.example", ...withKey })).status).toBe(200);
    const own = { host: "any.example", origin: "https://any.example", ...withKey };
    expect((await secured.post("/stream", own)).status).toBe(200);
    const embedded = await serving();
    expect((await embedded.post("/stream", { host: "any.example" })).status).toBe(200);
    expect((await embedded.post("/stream", { host: "any.example", origin: "https://any.example" })).status).toBe(200);
    expect((await embedded.post("/stream", { host: "any.example", origin: "https://b.example" })).status).toBe(403);
    expect((await embedded.get("/stream?prompt=x", { host: "any.example" })).status).toBe(200);
  });

  it("are checked before a WebSocket is opened, as its page is", async () => {
    const server = await serving({ ...OWN, corsOrigins: ["https://app.example"] });
    const upgrade = async (headers: Record<string, string>) => {
      const socket = new WebSocket(`ws://127.0.0.1:${server.port}/realtime`, { headers });
      const [first, second] = await Promise.race([
        once(socket, "open").then(() => [undefined, undefined]),
        once(socket, "unexpected-response"),
      ]);
      first?.destroy();
      socket.terminate();
      return second?.statusCode ?? 101;
    };
    expect(await upgrade({})).toBe(101);
    expect(await upgrade({ host: "daguerre:8080", origin: "http://daguerre:8080" })).toBe(101);
    expect(await upgrade({ host: "192.168.1.5" })).toBe(101);
    expect(await upgrade({ origin: "https://app.example" })).toBe(101);
    expect(await upgrade({ "sec-fetch-site": "same-origin", "sec-fetch-dest": "websocket" })).toBe(101);
    expect(await upgrade({ host: "evil.example", origin: "http://evil.example" })).toBe(421);
    expect(await upgrade({ host: "user@localhost" })).toBe(400);
    expect(await upgrade({ origin: "http://evil.example" })).toBe(403);
    expect(await upgrade({ "sec-fetch-site": "cross-site", "sec-fetch-mode": "websocket" })).toBe(403);
    expect(await upgrade({ "sec-fetch-site": "same-site", "sec-fetch-mode": "websocket" })).toBe(403);
  });

  it("that are no names are refused when the app is made", () => {
    const app = (gate: Partial<GateOptions>) => createApp({ run: gradientRun(), health: () => ({}), gate });
    expect(() => app({ hosts: ["https://a.example"] })).toThrow(RangeError);
    expect(() => app({ hosts: [], publicUrl: "a.example" })).toThrow(TypeError);
  });
});

describe("pages", () => {
  it("are the server's own where the browser says so under a name of the server's, or come from the public address", async () => {
    const server = await serving({ ...OWN, publicUrl: "https://public.example/base" });
    const host = "daguerre:8080";
    const site = (value: string) => ({ "sec-fetch-site": value });
    for (const [fields, status] of [
      [{ host, origin: "http://daguerre:8080" }, 200],
      [{ host, origin: "http://DAGUERRE:8080" }, 200],
      [{ host: "daguerre:80", origin: "http://daguerre" }, 200],
      [{ host, origin: "http://daguerre" }, 403],
      [{ host, origin: "https://anything.example", ...site("same-origin") }, 200],
      [{ host, origin: "https://anything.example" }, 403],
      [{ host, origin: "https://public.example" }, 200],
      [{ host, origin: "http://public.example" }, 403],
      [{ host, origin: "https://public.example:8443" }, 403],
      // A proxy that leaves the port out of Host: the browser knows better.
      [{ host: "a.example.org", origin: "https://a.example.org", ...site("same-site") }, 403],
      [{ host, origin: "http://daguerre:8080", ...site("cross-site") }, 403],
      [{ host: "evil.example", origin: "http://evil.example", ...site("same-origin") }, 421],
      [{ host, origin: "null" }, 403],
      [{ host, origin: "null", ...site("cross-site"), "sec-fetch-mode": "navigate", "sec-fetch-user": "?1" }, 403],
      [{ host, ...site("cross-site"), "sec-fetch-mode": "navigate", "sec-fetch-user": "?1" }, 403],
      [{ host, ...site("same-site") }, 403],
    ] as const) {
      expect((await server.post("/stream", fields)).status, JSON.stringify(fields)).toBe(status);
    }
    const refused = await server.post("/stream", { host, origin: "https://anything.example" });
    expect(JSON.parse(refused.text).detail).toMatch(/cors_origins.*public_url/);
  });

  const fetched = (site: string, mode: string, dest: string, more: Record<string, string> = {}) => ({
    "sec-fetch-site": site,
    "sec-fetch-mode": mode,
    "sec-fetch-dest": dest,
    ...more,
  });
  const clicked = { "sec-fetch-user": "?1" };
  const PROMPT = "/stream?prompt=x&detached=true";
  const STARTING: Readonly<Record<string, Record<string, string>>> = {
    "a tool": {},
    "Node's fetch": { "sec-fetch-mode": "cors" },
    "an EventSource of the own page": fetched("same-origin", "cors", "empty"),
    "an EventSource of an allowed origin": fetched("cross-site", "cors", "empty", { origin: "https://app.example" }),
    "a sibling that is allowed": fetched("same-site", "cors", "empty", { origin: "http://127.0.0.1:1" }),
    "a typed address": fetched("none", "navigate", "document", clicked),
    "a bookmark": fetched("none", "navigate", "document"),
    "a clicked link": fetched("cross-site", "navigate", "document", { ...clicked, referer: "https://evil.example/" }),
    "a link on the own page": fetched("same-origin", "navigate", "document"),
  };
  const KINDS = [
    "iframe",
    "frame",
    "image",
    "script",
    "style",
    "audio",
    "video",
    "object",
    "embed",
    "font",
    "manifest",
  ];
  const MORE_KINDS = [
    "track",
    "worker",
    "sharedworker",
    "serviceworker",
    "report",
    "xslt",
    "json",
    "audioworklet",
    "new",
  ];
  const REFUSED: Readonly<Record<string, Record<string, string>>> = {
    ...Object.fromEntries(
      [...KINDS, ...MORE_KINDS].flatMap((kind) =>
        ["cross-site", "same-site", "same-origin", "none"].map((site) => [
          `${kind} ${site}`,
          fetched(site, kind.endsWith("frame") ? "navigate" : "no-cors", kind, clicked),
        ]),
      ),
    ),
    "a picture of an allowed origin": fetched("cross-site", "cors", "image", { origin: "https://app.example" }),
    "fetch without CORS": fetched("cross-site", "no-cors", "empty"),
    "fetch of a sibling without CORS": fetched("same-site", "no-cors", "empty"),
    "a redirect of a page": fetched("cross-site", "navigate", "document"),
    "a redirect of a sibling": fetched("same-site", "navigate", "document"),
    "an EventSource of a foreign page": fetched("cross-site", "cors", "empty", { origin: "https://evil.example" }),
    "a foreign click in a frame": fetched("cross-site", "navigate", "iframe", clicked),
    "a prefetch": fetched("none", "navigate", "document", { "sec-purpose": "prefetch;prerender" }),
    "no document": fetched("none", "no-cors", "empty"),
    "a site of no known kind": fetched("weird", "navigate", "document"),
    "two sites": fetched("same-origin, cross-site", "cors", "empty"),
    "a kind alone": { "sec-fetch-dest": "image" },
    "a referer": { referer: "https://evil.example/page" },
    "a referer that is no address": { referer: "page" },
    "an opaque origin": { origin: "null" },
  };

  it("start something by GET where they are the server's own or allowed, or a person asks", async () => {
    for (const gate of [OWN, { ...OWN, getStream: true }, {}]) {
      const server = await serving({ ...gate, corsOrigins: ["https://app.example", "http://127.0.0.1:1"] });
      for (const path of [PROMPT, PROMPT.replace("s", "%73")]) {
        for (const [name, fields] of Object.entries(STARTING)) {
          expect([(await server.get(path, fields)).status, await server.ran()], name).toEqual([200, 1]);
        }
        for (const [name, fields] of Object.entries(REFUSED)) {
          const { status, text } = await server.get(path, fields);
          expect([status, JSON.parse(text).detail], name).toEqual([
            403,
            expect.stringMatching(/cors_origins|EventSource|prefetch/),
          ]);
        }
        expect(await server.ran()).toBe(0);
      }
    }
  });

  it("start nothing by GET over plain http unless get_stream is set", async () => {
    const away = ["192.168.1.5:8080", "daguerre", "[fe80::1]", "0.0.0.0", "[::ffff:7f00:1]", "a.example.org"];
    const here = ["localhost", "a.localhost:1", "127.9.9.9", "[::1]:80"];
    const cors = { corsOrigins: ["https://app.example"] };
    const careful = await serving({ ...OWN, ...cors });
    for (const host of away) {
      const { status, text } = await careful.get(PROMPT, { host });
      expect([status, await careful.ran()], host).toEqual([403, 0]);
      expect(JSON.parse(text).detail).toContain("get_stream");
      for (const [field, proof] of [
        ["sec-fetch-site", "same-origin"],
        ["origin", "https://app.example"],
      ] as const) {
        const { status } = await careful.get(PROMPT, { host, [field]: proof });
        expect([status, await careful.ran()], host).toEqual([200, 1]);
      }
      expect((await careful.post("/stream", { host })).status).toBe(200);
      expect((await careful.get("/stream/unknown", { host })).status).toBe(404);
      await careful.ran();
    }
    for (const host of here) expect((await careful.get(PROMPT, { host })).status, host).toBe(200);

    const behind = await serving({ ...OWN, publicUrl: "http://public.example" });
    expect((await behind.get(PROMPT)).status).toBe(403);
    const forwarded = await serving({ ...OWN, proxies: 1 });
    expect((await forwarded.get(PROMPT, { "x-forwarded-host": "a.example.org" })).status).toBe(403);
    const generous = await serving({ ...OWN, getStream: true });
    for (const host of away) expect((await generous.get(PROMPT, { host })).status, host).toBe(200);
    const from = async (referer: string) => (await generous.get(PROMPT, { host: "192.168.1.5", referer })).status;
    expect([await from("http://evil.example/"), await from("http://192.168.1.5/x")]).toEqual([403, 200]);
    const secured = await serving({ ...OWN, authenticator: keyed });
    expect((await secured.get(PROMPT, { host: "192.168.1.5", ...withKey })).status).toBe(200);
  });

  it("may follow a job, which starts nothing", async () => {
    const server = await serving(OWN);
    await server.post("/stream", {}, '{"prompt":"x","request_id":"mine"}');
    expect(await server.ran()).toBe(1);
    const link = fetched("cross-site", "navigate", "document");
    const away: Record<string, string> = { host: "192.168.1.5" };
    for (const fields of [{}, link, away]) {
      const { status, text } = await server.get("/stream/mine", fields);
      expect([status, text]).toEqual([200, expect.stringContaining('"type":"result"')]);
    }
    expect(await server.ran()).toBe(0);
  });
});

describe("methods", () => {
  it("that are not those of a route start nothing, however it is written", async () => {
    const server = await serving({ ...OWN, requestsPerMinute: 1_000 });
    const body = '{"prompt":"x"}';
    const methods = ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "get", "head", "post"];
    const paths = [
      "/stream",
      "/%73tream",
      "//stream",
      "/stream/",
      "/",
      "/queue/a/b",
      "/v1/images/generations",
      "/realtime",
    ];
    for (const method of methods) {
      for (const path of paths) {
        const fields = [`Host: 127.0.0.1:${server.port}`];
        const { status } = await server.raw(`${method} ${path}?prompt=x HTTP/1.1`, fields, body);
        expect(status, `${method} ${path}`).toBeLessThan(500);
      }
    }
    for (const path of ["//stream", "/stream/", "/STREAM"]) {
      expect((await server.get(`${path}?prompt=x`)).status, path).toBe(404);
      expect((await server.post(path)).status, path).toBe(404);
    }
    expect(await server.ran()).toBe(0);
  });

  it("start nothing by an upgrade of what is no WebSocket", async () => {
    const server = await serving(OWN);
    const fields = ["Host: localhost", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (const method of ["GET", "POST", "HEAD"]) {
      for (const [path, status] of [
        ["/stream?prompt=x", 400],
        ["/", 200],
        ["/jobs/x", 404],
        ["/nowhere", 404],
      ] as const) {
        expect((await server.raw(`${method} ${path} HTTP/1.1`, [...fields, key])).status, path).toBe(status);
      }
    }
    expect(await server.ran()).toBe(0);
  });

  it("count as work where they start something, and as nothing where they cancel", async () => {
    const server = await serving({ requestsPerMinute: 1_000 });
    const counts = async (method: string, path: string) =>
      /^ratelimit:/im.test((await server.raw(`${method} ${path} HTTP/1.1`, ["Host: localhost"], "{}")).headers);
    for (const path of ["/stream", "/%73tream", "/", "/queue/a/b", "/queue/a/requests/b/cancel/x"]) {
      expect(await counts("POST", path), path).toBe(true);
    }
    for (const [method, path] of [
      ["POST", "/queue/a/b/requests/c/cancel"],
      ["PUT", "/queue/a/b/requests/c/cancel"],
      ["HEAD", "/stream?prompt=x"],
      ["GET", "/stream/mine"],
      ["PUT", "/stream"],
    ] as const) {
      expect(await counts(method, path), `${method} ${path}`).toBe(false);
    }
  });

  it("HEAD and upgrades keep no stream of a job that they were asked about", async () => {
    let ended = false;
    const server = await serving(OWN, {
      run: async function* (_, { signal }) {
        yield { type: "queued", position: 0 };
        await once(signal, "abort");
        ended = true;
      },
    });
    const head = (path: string) => server.raw(`HEAD ${path} HTTP/1.1`, [`Host: 127.0.0.1:${server.port}`]);
    expect((await head("/stream?prompt=x")).headers).toMatch(/^HTTP\/1.1 200.*content-type: text\/event-stream/is);
    const upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    const upgraded = (path: string) =>
      server.raw(`GET ${path} HTTP/1.1`, [
        "Host: localhost",
        ...upgrade,
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
      ]);
    const watch = new AbortController();
    const stream = await fetch(`${server.url}/stream`, {
      method: "POST",
      body: '{"prompt":"x","request_id":"mine"}',
      signal: watch.signal,
    });
    expect(stream.status).toBe(200);
    for (let n = 0; n < 3; n++) {
      const answer = await head("/stream/mine");
      expect([answer.status, answer.text]).toEqual([200, ""]);
      expect((await upgraded("/stream/mine")).status).toBe(200);
    }
    // The last one who watches it leaves, which ends it.
    watch.abort();
    await expect.poll(() => ended).toBe(true);
  });
});

describe("addresses", () => {
  const submitted = async (server: Awaited<ReturnType<typeof serving>>, fields: Record<string, string> = {}) =>
    (JSON.parse((await server.post("/queue/a/b", fields)).text) as { response_url: string }).response_url.replace(
      /[^/]+$/,
      "ID",
    );
  const path = "queue/a/b/requests/ID";

  it("begin with the public one where there is one", async () => {
    const server = await serving({ publicUrl: "https://public.example:8443/base/", proxies: 1 });
    const address = `https://public.example:8443/base/${path}`;
    expect(await submitted(server)).toBe(address);
    expect(await submitted(server, { "x-forwarded-host": "a.example", "x-forwarded-proto": "http" })).toBe(address);
    expect((await server.get("/")).text).toContain("curl -N https://public.example:8443/base/stream ");
  });

  it("are as the outermost of the operator's proxies says, and nobody else", async () => {
    const x = (fields: Record<string, string>) =>
      Object.fromEntries(Object.entries(fields).map(([name, value]) => [`x-forwarded-${name}`, value]));
    const all = x({ proto: "https", host: "a.example", prefix: "/base/" });
    const direct = await serving();
    expect(await submitted(direct, { ...all, forwarded: "host=b.example" })).toBe(`${direct.url}/${path}`);
    const behind = await serving({ proxies: 1 });
    const port = behind.port;
    for (const [fields, base] of [
      [{}, `http://127.0.0.1:${port}`],
      [all, "https://a.example/base"],
      [x({ proto: "https" }), `https://127.0.0.1:${port}`],
      [x({ proto: "HTTPS", host: "a.example:8443" }), "https://a.example:8443"],
      [x({ proto: "https", host: "a.example", port: "443" }), "https://a.example"],
      [x({ host: "a.example", port: "8081" }), "http://a.example:8081"],
      [{ host: "a.example", ...x({ proto: "https", port: "8443" }) }, "https://a.example:8443"],
      [x({ proto: "ftp", prefix: "base", port: "x" }), `http://127.0.0.1:${port}`],
      [x({ host: "client.example, proxy.example" }), "http://proxy.example"],
      [{ forwarded: "for=1.2.3.4;proto=https;host=a.example" }, "https://a.example"],
      [{ forwarded: 'for="[::1]:1,;";Host="a.example:8443" ; Proto=https' }, "https://a.example:8443"],
      [{ forwarded: 'host=client.example, host="proxy.example"', ...all }, "https://proxy.example/base"],
      [{ forwarded: "for=1.2.3.4", ...all }, "https://a.example/base"],
      [{ forwarded: `host=${"a".repeat(2_000)}.example`, ...all }, "https://a.example/base"],
    ] as const) {
      expect(await submitted(behind, fields), JSON.stringify(fields)).toBe(`${base}/${path}`);
    }
    expect((await behind.get("/", all)).text).toContain("curl -N https://a.example/base/stream ");
    const two = await serving({ proxies: 2 });
    expect(await submitted(two, x({ host: "client.example, outer.example, inner" }))).toBe(
      `http://outer.example/${path}`,
    );
    expect(await submitted(two, x({ host: "outer.example" }))).toBe(`http://outer.example/${path}`);
  });

  it("say which page is the server's own: the host that the proxy has seen, with its port", async () => {
    const x = (fields: Record<string, string>) =>
      Object.fromEntries(Object.entries(fields).map(([name, value]) => [`x-forwarded-${name}`, value]));
    const server = await serving({ ...OWN, proxies: 1 });
    const post = async (origin: string, fields: Record<string, string>) =>
      (await server.post("/stream", { origin, ...fields })).status;
    const host = "daguerre:8080";
    for (const [origin, fields, status] of [
      ["http://a.example.org:8081", { host, ...x({ host: "a.example.org", port: "8081" }) }, 200],
      ["http://a.example.org:8081", { host: "a.example.org", ...x({ port: "8081" }) }, 200],
      ["http://a.example.org:8081", { host: "a.example.org" }, 403],
      ["http://a.example.org:8082", { host, ...x({ host: "a.example.org", port: "8081" }) }, 403],
      ["https://a.example.org", { host, ...x({ host: "a.example.org", port: "443", proto: "https" }) }, 200],
      ["https://a.example.org:8443", { host, ...x({ host: "a.example.org:8443", port: "1" }) }, 200],
      ["http://[2001:db8::1]:8443", { host, forwarded: 'host="[2001:DB8::1]:8443"' }, 200],
      ["http://[2001:db8::1]:8443", { host, forwarded: 'for="[::1]", host="[2001:db8::2]:8443"' }, 403],
      ["https://a.example.org", { host, forwarded: 'proto=https;by=",";host=a.example.org' }, 200],
      // The host by which the proxy knows the server is not the browser's.
      ["http://daguerre:8080", { host, ...x({ host: "a.example.org" }) }, 403],
      ["http://evil.example", { host, ...x({ host: "evil.example" }) }, 421],
      ["http://evil.example", { host, ...x({ host: "a.example.org, evil.example" }) }, 421],
      ["http://evil.example", { host, ...x({ host: "a.example.org/evil.example" }) }, 400],
      ["http://evil.example", { host, ...x({ host: "a.example.org@evil.example" }) }, 400],
      ["http://a.example.org:1", { host, ...x({ host: "a.example.org", port: "1, 65536" }) }, 403],
    ] as const) {
      expect(await post(origin, fields), JSON.stringify([origin, fields])).toBe(status);
    }
  });

  it("let a plain GET start something only where it is known that no page sends it", async () => {
    const get = async (gate: Partial<GateOptions>, fields: Record<string, string> = {}) =>
      (await (await serving({ ...OWN, ...gate })).get("/stream?prompt=x", fields)).status;
    // A proxy that keeps the browser's host to itself makes every request look like one of this machine's.
    expect(await get({})).toBe(200);
    expect(await get({ proxies: 1 })).toBe(403);
    expect(await get({ proxies: 1 }, { "x-forwarded-host": "localhost:8080" })).toBe(200);
    expect(await get({ proxies: 1 }, { "x-forwarded-host": "a.example.org" })).toBe(403);
    // Over https every browser says which page asks.
    const secure = { "x-forwarded-host": "a.example.org", "x-forwarded-proto": "https" };
    expect(await get({ proxies: 1 }, secure)).toBe(200);
    expect(await get({ proxies: 1 }, { ...secure, "sec-fetch-site": "cross-site" })).toBe(403);
    expect(await get({}, secure)).toBe(200);
  });

  it("that are forwarded must be the server's own", async () => {
    const server = await serving({ ...OWN, proxies: 1, publicUrl: "https://public.example" });
    const post = async (fields: Record<string, string>) => (await server.post("/stream", fields)).status;
    expect(await post({ "x-forwarded-host": "public.example" })).toBe(200);
    expect(await post({ "x-forwarded-host": "a.example.org", origin: "http://a.example.org" })).toBe(200);
    expect(await post({ "x-forwarded-host": "evil.example" })).toBe(421);
    expect(await post({ forwarded: "host=evil.example" })).toBe(421);
    expect(await post({ "x-forwarded-host": "user@public.example" })).toBe(400);
    expect(await post({ host: "evil.example", "x-forwarded-host": "localhost" })).toBe(421);
    const direct = await serving(OWN);
    expect((await direct.post("/stream", { "x-forwarded-host": "evil.example" })).status).toBe(200);
  });
});

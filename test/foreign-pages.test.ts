/**
 * Pages of others in a real browser (Debian's Chromium), before a real server: what they make it run without being asked.
 *
 * Skipped where there is no Chromium. The browser resolves every `.example` to this machine, so each page is one of the
 * server's neighbours in all but its name.
 */

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import net, { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { chromium } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createApp } from "../transports/app.ts";
import type { GateOptions } from "../transports/gate/gate.ts";
import { type Listening, listen } from "../transports/http/listen.ts";
import { CHROMIUM, CHROMIUM_FLAGS } from "./chromium.ts";
import { gradientRun, until } from "./gradient-run.ts";

/** A name that is elsewhere first and here later has an address of its own. */
const REBINDING = "127.0.0.2";
const FLAGS = [...CHROMIUM_FLAGS, `--host-resolver-rules=MAP rebind.example ${REBINDING}, MAP *.example 127.0.0.1`];
/** Milliseconds in which a request that was to come has come. */
const QUIET_MS = 700;

if (!existsSync(CHROMIUM)) console.warn(`foreign-pages.test.ts is skipped: there is no ${CHROMIUM}`);

describe.skipIf(!existsSync(CHROMIUM))("pages of others", { timeout: 120_000 }, () => {
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  const open: { close(): unknown }[] = [];
  /** Prompts of what was run. */
  const runs: string[] = [];
  /** The server's requests and its answers: `GET /stream cross-site iframe 403`. */
  const asked: string[] = [];

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  });
  afterAll(() => browser?.close());
  beforeEach(async () => {
    context = await browser.newContext();
    page = await context.newPage();
    runs.length = 0;
    asked.length = 0;
  });
  afterEach(async () => {
    await context.close();
    await Promise.all(open.splice(0).map((server) => server.close()));
  });

  /** The server, with a page of its own at /own. */
  async function serving(gate: Partial<GateOptions> = {}): Promise<Listening> {
    const run = gradientRun();
    const app = new Hono();
    app.use(async (c, next) => {
      await next();
      // The browser's own wish, for each page that it shows.
      if (c.req.path === "/favicon.ico") return;
      const said = ["sec-fetch-site", "sec-fetch-dest"].map((name) => c.req.header(name) ?? "-");
      asked.push([c.req.method, c.req.path, ...said, c.res.status].join(" "));
    });
    app.get("/own", (c) => c.html('<!doctype html><title>own</title><a href="/stream?prompt=link">a picture</a>'));
    const daguerre = createApp({
      run: (input, context) => {
        runs.push(input.prompt);
        return run({ ...input, num_inference_steps: 1 }, context);
      },
      health: () => ({}),
      gate: { hosts: [], ...gate },
    });
    app.route("/", daguerre);
    const server = await listen(app, 0, "127.0.0.1");
    open.push(server);
    return server;
  }

  /** A page of somebody else's; its address has the port alone. */
  async function neighbour(html: string): Promise<number> {
    const server = http.createServer((_, response) => {
      response.writeHead(200, { "Content-Type": "text/html" }).end(`<!doctype html><title>other</title>${html}`);
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    open.push(server.on("close", () => server.closeAllConnections()));
    return (server.address() as AddressInfo).port;
  }

  /** Every way in which a page makes a browser send a GET, or anything else, without asking the server. */
  const attack = (target: string): string => {
    const stream = (name: string) => `${target}/stream?prompt=${name}&detached=true`;
    return `
      <meta name="referrer" content="no-referrer">
      <iframe hidden src="${stream("iframe")}"></iframe>
      <iframe hidden sandbox="allow-scripts" srcdoc="<script>new EventSource('${stream("sandboxed")}')</script>"></iframe>
      <img hidden src="${stream("img")}"><img hidden crossorigin src="${stream("img-cors")}">
      <script src="${stream("script")}"></script><script type="module" src="${stream("module")}"></script>
      <link rel="stylesheet" href="${stream("style")}"><link rel="prefetch" href="${stream("prefetch")}">
      <link rel="icon" href="${stream("icon")}"><link rel="manifest" href="${stream("manifest")}">
      <link rel="preload" as="image" href="${stream("preload")}"><link rel="modulepreload" href="${stream("modules")}">
      <audio hidden autoplay src="${stream("audio")}"></audio><video hidden autoplay src="${stream("video")}"></video>
      <object data="${stream("object")}"></object><embed src="${stream("embed")}">
      <style>@font-face { font-family: f; src: url("${stream("font")}") } b { font-family: f; cursor: url("${stream("cursor")}"), auto }</style><b>f</b>
      <script type="speculationrules">{"prefetch": [{"source": "list", "urls": ["${stream("speculation")}"]}]}</script>
      <iframe hidden name="form"></iframe>
      <form id="get" target="form" action="${target}/stream"><input name="prompt" value="form-get"></form>
      <form id="post" target="form" method="post" enctype="text/plain" action="${target}/stream">
        <input name='{"prompt":"form-post","negative_prompt":"' value='"}'></form>
      <script>
        new EventSource("${stream("eventsource")}");
        new WebSocket("${target.replace("http", "ws")}/realtime");
        fetch("${stream("fetch")}").catch(() => {});
        fetch("${stream("no-cors")}", { mode: "no-cors" }).catch(() => {});
        fetch("${target}/", { method: "POST", mode: "no-cors", body: '{"prompt":"post"}' }).catch(() => {});
        fetch("${target}/queue/a/b", { method: "POST", mode: "no-cors", body: '{"prompt":"queue"}' }).catch(() => {});
        navigator.sendBeacon("${target}/stream", '{"prompt":"beacon"}');
        addEventListener("load", () => {
          document.getElementById("post").submit();
          setTimeout(() => document.getElementById("get").submit(), 100);
        });
        window.open("${stream("popup")}");
      </script>`;
  };

  const listened = (address: string) =>
    new Promise<string>((resolve) => {
      const source = new EventSource(address);
      source.onmessage = ({ data }) => {
        if (JSON.parse(data).type !== "result") return;
        source.close();
        resolve("result");
      };
      source.onerror = () => resolve(source.readyState === EventSource.CLOSED ? "refused" : "broken");
    });

  it("start nothing from another site, a sibling, or over plain http", async () => {
    const server = await serving({ hosts: ["pictures.example"] });
    const { port } = server;
    for (const [host, target] of [
      ["evil.example", `http://127.0.0.1:${port}`],
      ["evil.example", `http://localhost:${port}`],
      ["127.0.0.1", `http://127.0.0.1:${port}`],
      ["localhost", `http://localhost:${port}`],
      ["evil.example", `http://pictures.example:${port}`],
      ["pictures.example", `http://pictures.example:${port}`],
    ]) {
      asked.length = 0;
      const at = await neighbour(attack(target!));
      await page.goto(`http://${host}:${at}/`);
      await until(() => asked.length > 15, 20_000);
      await sleep(QUIET_MS);
      expect(runs, `${host} to ${target}`).toEqual([]);
      expect(
        asked.filter((line) => !/ 403$/.test(line)),
        `${host} to ${target}`,
      ).toEqual([]);
      await page.goto("about:blank");
    }
  });

  it("start nothing by going to its address without a click", async () => {
    const { port } = await serving();
    const target = `http://127.0.0.1:${port}/stream?prompt=gone&detached=true`;
    for (const html of [
      `<script>location = "${target}"</script>`,
      `<meta http-equiv="refresh" content="0;url=${target}">`,
      `<form action="http://127.0.0.1:${port}/stream"><input name="prompt" value="x"></form><script>document.forms[0].submit()</script>`,
    ]) {
      asked.length = 0;
      await page.goto(`http://evil.example:${await neighbour(html)}/`).catch(() => {});
      await until(() => asked.length > 0, 20_000);
      expect(asked[0]).toMatch(/^GET \/stream cross-site document 403$/);
    }
    expect(runs).toEqual([]);
  });

  it("start nothing when their name comes to point here", async () => {
    const { port } = await serving();
    let rebound = 0;
    /** The page's own server at first; after it has been loaded, its name leads to ours. */
    const front = net.createServer((socket) => {
      socket.on("error", () => {});
      if (rebound++ > 0) {
        const here = net.connect(port, "127.0.0.1").on("error", () => socket.destroy());
        socket.pipe(here).pipe(socket);
        return;
      }
      const html = "<!doctype html><title>rebound</title>";
      socket.once("data", () =>
        socket.end(
          `HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: ${html.length}\r\nConnection: close\r\n\r\n${html}`,
        ),
      );
    });
    await once(front.listen(port, REBINDING), "listening");
    open.push(front);
    await page.goto(`http://rebind.example:${port}/`);
    expect(await page.title()).toBe("rebound");
    const answers = await page.evaluate(async () => {
      const body = '{"prompt":"rebound"}';
      const status = (path: string, options?: RequestInit) => fetch(path, options).then((answer) => answer.status);
      const socket = new WebSocket("/realtime");
      const opened = new Promise((resolve) => {
        socket.onopen = () => resolve("open");
        socket.onerror = () => resolve("refused");
      });
      return [
        await status("/stream", { method: "POST", body }),
        await status("/", { method: "POST", body }),
        await status("/queue/a/b", { method: "POST", body }),
        await status("/stream?prompt=rebound&detached=true"),
        await status("/jobs/x"),
        await status("/health"),
        await opened,
      ];
    });
    expect(answers).toEqual([421, 421, 421, 421, 421, 200, "refused"]);
    expect(asked).toContain("GET /realtime - - 421");
    expect(runs).toEqual([]);
    // Had it not been for the name, the browser would have held the page for the server's own.
    await page.goto(`http://127.0.0.1:${port}/own`);
    const own = () => fetch("/stream", { method: "POST", body: '{"prompt":"own"}' }).then((answer) => answer.status);
    expect(await page.evaluate(own)).toBe(200);
    expect(runs).toEqual(["own"]);
  });

  it("are not the server's own behind a proxy with TLS, whether it passes the name on or not", async () => {
    const folder = await mkdtemp(join(tmpdir(), "daguerre-tls-"));
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const subject = ["-subj", "/CN=pictures.example", "-nodes", "-days", "2", "-keyout", key, "-out", cert];
    execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", ...subject], {
      stdio: "ignore",
    });
    for (const passed of [true, false]) {
      const { port } = await serving({ hosts: passed ? ["pictures.example"] : [] });
      const proxy = https.createServer({ key: await readFile(key), cert: await readFile(cert) }, (asked, answer) => {
        const headers = { ...asked.headers, host: passed ? asked.headers.host : `127.0.0.1:${port}` };
        const onward = http.request({ port, path: asked.url, method: asked.method, headers }, (got) => {
          answer.writeHead(got.statusCode ?? 502, got.headers);
          got.pipe(answer);
        });
        onward.on("error", () => answer.destroy());
        asked.pipe(onward);
      });
      await once(proxy.listen(0, "127.0.0.1"), "listening");
      open.push(proxy.on("close", () => proxy.closeAllConnections()));
      const target = `https://pictures.example:${(proxy.address() as AddressInfo).port}`;

      const foreign = await context.browser()!.newContext({ ignoreHTTPSErrors: true });
      const other = await foreign.newPage();
      asked.length = 0;
      await other.goto(`http://evil.example:${await neighbour(attack(target))}/`);
      await until(() => asked.length > 12, 20_000);
      await sleep(QUIET_MS);
      expect([runs, asked.filter((line) => !/ 403$/.test(line))]).toEqual([[], []]);

      await other.goto(`${target}/own`);
      expect(await other.evaluate(listened, "/stream?prompt=own")).toBe("result");
      const post = () => fetch("/stream", { method: "POST", body: '{"prompt":"posted"}' }).then(({ status }) => status);
      expect(await other.evaluate(post)).toBe(200);
      expect(runs.splice(0)).toEqual(["own", "posted"]);
      await foreign.close();
    }
    await rm(folder, { recursive: true });
  });

  it("are let in where they are configured, and no others", async () => {
    const at = await neighbour("");
    const { port } = await serving({ corsOrigins: [`http://app.example:${at}`], hosts: ["pictures.example"] });
    const stream = (host: string) => `http://${host}:${port}/stream?prompt=${host}`;
    await page.goto(`http://app.example:${at}/`);
    expect(await page.evaluate(listened, stream("127.0.0.1"))).toBe("result");
    expect(await page.evaluate(listened, stream("pictures.example"))).toBe("result");
    expect(runs).toEqual(["127.0.0.1", "pictures.example"]);
    await page.goto(`http://other.example:${at}/`);
    expect(await page.evaluate(listened, stream("127.0.0.1"))).toBe("refused");
    expect(runs).toHaveLength(2);
  });

  it("are not the server's own page, an address that is typed, or a link that is clicked", async () => {
    const { port, url } = await serving({ hosts: ["pictures.example"] });
    await page.goto(`${url}/own`);
    expect(await page.evaluate(listened, "/stream?prompt=own")).toBe("result");
    expect(runs).toEqual(["own"]);

    const streams = async (go: () => Promise<unknown>, prompt: string) => {
      // The page shows it as long as the stream goes on.
      await go();
      await until(() => runs.includes(prompt), 20_000);
    };
    await streams(() => page.goto(`${url}/stream?prompt=typed`, { waitUntil: "commit" }), "typed");
    await page.goto(`${url}/own`);
    await streams(() => page.click("a"), "link");
    const at = await neighbour(`<a href="${url}/stream?prompt=clicked">a picture</a>`);
    await page.goto(`http://other.example:${at}/`);
    await streams(() => page.click("a"), "clicked");
    expect(runs).toEqual(["own", "typed", "link", "clicked"]);

    // Over plain http the browser does not say that it is the page's own; what it posts has an Origin.
    await page.goto(`http://pictures.example:${port}/own`);
    expect(await page.evaluate(listened, "/stream?prompt=plain")).toBe("refused");
    const post = () => fetch("/stream", { method: "POST", body: '{"prompt":"posted"}' }).then(({ status }) => status);
    expect(await page.evaluate(post)).toBe(200);
    expect(runs.slice(4)).toEqual(["posted"]);
    const generous = await serving({ hosts: ["pictures.example"], getStream: true });
    await page.goto(`http://pictures.example:${generous.port}/own`);
    expect(await page.evaluate(listened, "/stream?prompt=generous")).toBe("result");
  });
});

/**
 * Pages that are not the server's: foreign, sibling (another port of its host), rebound (a name that has come to mean this
 * machine), framed. In Chromium, and as the headers that browsers send. A page is refused where it starts no work: each
 * request has an id of its own, and afterwards there must be no job of that id.
 */
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { type Browser, chromium } from "playwright-core";
import { CHROMIUM, CHROMIUM_FLAGS } from "../chromium.ts";
import { type Attack, SMALL } from "./attack.ts";
import { ATTACKER, exchange, HONEST, request } from "./raw-http.ts";
import { RealtimeClient } from "./realtime-client.ts";

const FLAGS = [
  ...CHROMIUM_FLAGS,
  "--host-resolver-rules=MAP rebind.example 127.0.0.1,MAP evil.example 127.0.0.1,MAP *.evil.example 127.0.0.1",
];
/** The time that a page's requests take to arrive. */
const ARRIVED_MS = 1_500;
const REFUSED = [400, 403, 404, 405, 415, 421, 422];

/** A query that starts a job which goes on without its client. */
function query(id: string): string {
  return `prompt=x&width=64&height=64&num_inference_steps=1&detached=true&request_id=${id}`;
}

export async function attack(context: Attack): Promise<void> {
  const { open } = context;
  const { port } = open;
  const own = `127.0.0.1:${port}`;
  const started = async (id: string) => {
    const { status } = await exchange(port, request(port, { target: `/jobs/${id}` }), { from: HONEST });
    return status === 200;
  };
  let made = 0;
  const fresh = () => `page-${context.seed}-${made++}`;

  await context.case("hosts", open, async () => {
    const right = [
      "127.0.0.1",
      own,
      "localhost",
      "LOCALHOST.",
      "x.localhost",
      "[::1]",
      `[::1]:${port}`,
      "192.168.1.7:80",
      "10.0.0.1",
    ];
    const wrong = [
      "rebind.example",
      `rebind.example:${port}`,
      "127.0.0.1.nip.io",
      "localhost.evil.example",
      "evil.example.",
      "xlocalhost",
      "localhost.localdomain",
      "0x7f.1.evil.example",
      "intranet",
    ];
    for (const host of [...right, ...wrong]) {
      const foreign = wrong.includes(host);
      for (const target of [
        "/",
        "/metrics",
        "/jobs/nobody",
        "/openapi.json",
        "/queue/x/requests/nobody",
        "/realtime",
        "/stream/nobody",
      ]) {
        const parts = request(port, { target, headers: [`Host: ${host}`] });
        await context.ask(`${target} at ${host}`, open, parts, foreign ? [421] : [200, 404, 410, 426]);
      }
      for (const target of ["/health", "/ready"]) {
        await context.ask(`${target} at ${host}`, open, request(port, { target, headers: [`Host: ${host}`] }), [200]);
      }
      const id = fresh();
      const body = JSON.stringify({ ...SMALL, request_id: id });
      const parts = request(port, { target: "/", body, headers: [`Host: ${host}`, `Origin: http://${host}`] });
      if (foreign) {
        await context.ask(`POST / at ${host}`, open, parts, [421]);
        const client = await RealtimeClient.open(port, { headers: { Host: host, Origin: `http://${host}` } });
        context.expect(`a session at ${host}`, client.told[0] ?? "open", ["refused 421"]);
        await client.close();
      }
    }
    await context.ask(
      "its own page",
      open,
      request(port, { target: "/", body: JSON.stringify(SMALL), headers: [`Origin: http://${own}`] }),
      [200],
    );
  });

  await context.case("what browsers say of where a request comes from", open, async () => {
    const SITES = ["cross-site", "same-site"];
    const DESTS = [
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
      "track",
      "worker",
      "manifest",
      "empty",
      "document",
      "report",
      "serviceworker",
      "xslt",
    ];
    const MODES = ["navigate", "no-cors", "cors", "nested-navigate", "websocket"];
    for (const site of SITES) {
      for (const dest of DESTS) {
        for (const mode of context.share < 1 ? [MODES[(dest.length + site.length) % MODES.length]!] : MODES) {
          const id = fresh();
          const headers = [`Sec-Fetch-Site: ${site}`, `Sec-Fetch-Mode: ${mode}`, `Sec-Fetch-Dest: ${dest}`];
          const parts = request(port, { target: `/stream?${query(id)}`, headers });
          await context.ask(`GET of a ${site} ${dest}, ${mode}`, open, parts, REFUSED, { headOnly: true });
          if (await started(id)) context.breach(`a ${site} ${dest} (${mode}) started a job`);
        }
      }
    }
    // Framed or shown, even by a page of one's own: nobody watches a stream so.
    for (const dest of ["iframe", "image", "script", "style", "object", "embed", "audio", "video"]) {
      for (const site of ["same-origin", "none"]) {
        const headers = [`Sec-Fetch-Site: ${site}`, "Sec-Fetch-Mode: no-cors", `Sec-Fetch-Dest: ${dest}`];
        const parts = request(port, { target: `/stream?${query(fresh())}`, headers });
        await context.ask(`GET of a ${site} ${dest}`, open, parts, REFUSED, { headOnly: true });
      }
    }
    const others: Record<string, readonly string[]> = {
      "a foreign Referer": ["Referer: https://evil.example/page"],
      "a foreign Origin": ["Origin: https://evil.example"],
      "the origin null": ["Origin: null"],
      "another port's Origin": [`Origin: http://127.0.0.1:${port + 1}`],
    };
    for (const [what, headers] of Object.entries(others)) {
      // A browser's POST to another origin says `Origin`; a Referer alone is no browser's.
      for (const body of what.includes("Referer") ? [undefined] : [undefined, JSON.stringify(SMALL)]) {
        const target = body === undefined ? `/stream?${query(fresh())}` : "/";
        await context.ask(
          `${body === undefined ? "GET" : "POST"} with ${what}`,
          open,
          request(port, { target, body, headers }),
          REFUSED,
          { headOnly: true },
        );
      }
    }
    const lan = request(port, { target: `/stream?${query(fresh())}`, headers: ["Host: 192.168.1.7:8080"] });
    await context.ask("GET /stream at a LAN address, without Sec-Fetch", open, lan, [403], { headOnly: true });
    const head = fresh();
    await exchange(port, request(port, { method: "HEAD", target: `/stream?${query(head)}` }));
    if (await started(head)) context.breach("HEAD /stream started a job");
    const tool = fresh();
    await context.ask("GET /stream by a tool", open, request(port, { target: `/stream?${query(tool)}` }), [200], {
      headOnly: true,
    });
    const typed = [
      "Sec-Fetch-Site: none",
      "Sec-Fetch-Mode: navigate",
      "Sec-Fetch-Dest: document",
      "Sec-Fetch-User: ?1",
    ];
    await context.ask(
      "GET /stream by a typed address",
      open,
      request(port, { target: `/stream?${query(fresh())}`, headers: typed }),
      [200],
      { headOnly: true },
    );
    const page = ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"];
    await context.ask(
      "GET /stream by its own page",
      open,
      request(port, { target: `/stream?${query(fresh())}`, headers: page }),
      [200],
      { headOnly: true },
    );
  });

  if (!existsSync(CHROMIUM)) context.skip("pages in a browser", `there is no ${CHROMIUM}`);
  else {
    await context.case("in Chromium", open, async () => {
      // A browser with several pages takes both cores of a small machine, which says nothing of the server.
      await context.unmeasured(async () => {
        const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
        try {
          await inBrowser(context, browser, fresh, started);
        } finally {
          await browser.close();
        }
      });
    });
  }

  const header = fc.record({
    site: fc.constantFrom("cross-site", "same-site", "Cross-Site", "x"),
    mode: fc.constantFrom(undefined, "navigate", "cors", "no-cors", "websocket"),
    dest: fc.constantFrom(undefined, "iframe", "image", "empty", "script", "document", "Iframe"),
    origin: fc.constantFrom(undefined, "null", "https://evil.example", `http://127.0.0.1:${port + 1}`),
    referer: fc.constantFrom(undefined, "https://evil.example/", "about:blank", "x"),
    method: fc.constantFrom("GET", "POST", "HEAD", "PUT", "get"),
    path: fc.constantFrom(
      "/stream",
      "//stream",
      "/stream/",
      "/%73tream",
      "/Stream",
      "/stream;x",
      "/./stream",
      "/queue/x",
      "/",
    ),
  });
  await context.fuzz(
    "fuzzed origins",
    open,
    { values: fc.array(header, { minLength: 8, maxLength: 8 }), rounds: 100 },
    async (values) => {
      await Promise.all(
        values.map(async ({ site, mode, dest, origin, referer, method, path }) => {
          const id = fresh();
          const headers = [
            `Sec-Fetch-Site: ${site}`,
            ...(mode === undefined ? [] : [`Sec-Fetch-Mode: ${mode}`]),
            ...(dest === undefined ? [] : [`Sec-Fetch-Dest: ${dest}`]),
            ...(origin === undefined ? [] : [`Origin: ${origin}`]),
            ...(referer === undefined ? [] : [`Referer: ${referer}`]),
          ];
          const body = method === "POST" ? JSON.stringify({ ...SMALL, request_id: id }) : undefined;
          const parts = request(port, { method, target: `${path}?${query(id)}`, headers, body });
          const { status } = await exchange(port, parts, { from: ATTACKER, headOnly: true });
          context.expect(`${method} ${path} ${headers.join(", ")}`, status, [status]);
          if (await started(id)) throw new Error(`${method} ${path} started a job: ${headers.join(", ")}`);
        }),
      );
    },
  );
}

async function inBrowser(
  context: Attack,
  browser: Browser,
  fresh: () => string,
  started: (id: string) => Promise<boolean>,
): Promise<void> {
  const { port } = context.open;
  const server = `http://127.0.0.1:${port}`;
  // The attacker's own server: what evil.example and another port of this machine answer.
  const site = createServer((_, response) =>
    response.setHeader("Content-Type", "text/html").end("<!doctype html><p>page"),
  );
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  const sitePort = (site.address() as AddressInfo).port;
  try {
    const places: Record<string, { page: string; target: string }> = {
      foreign: { page: `http://evil.example:${sitePort}/`, target: server },
      sibling: { page: `http://127.0.0.1:${sitePort}/`, target: server },
      "sibling by name": { page: `http://localhost:${sitePort}/`, target: `http://localhost:${port}` },
      rebound: { page: `http://rebind.example:${port}/page.html`, target: `http://rebind.example:${port}` },
      "foreign to a rebound name": {
        page: `http://evil.example:${sitePort}/`,
        target: `http://rebind.example:${port}`,
      },
    };
    const few = context.share < 1 ? ["foreign", "sibling", "rebound"] : Object.keys(places);
    const chosen = Object.entries(places).filter(([place]) => few.includes(place));
    const visits = chosen.map(async ([place, { page: address, target }]) => {
      const ids: Record<string, string> = Object.fromEntries(WAYS.map((way) => [way, fresh()]));
      const page = await (await browser.newContext()).newPage();
      // tsx marks functions with the names they had, by a function of its own.
      await page.addInitScript("globalThis.__name = (marked) => marked;");
      // The page itself came while the name still meant its own server.
      await page.route("**/page.html", (route) =>
        route.fulfill({ contentType: "text/html", body: "<!doctype html><p>page" }),
      );
      await page.goto(address);
      const given = { target, ids, body: JSON.stringify({ ...SMALL, request_id: "ID" }) };
      const opened = await page.evaluate(attackFromPage, given);
      await sleep(ARRIVED_MS);
      context.expect(`a session of a ${place} page`, opened.join(", ") || "none", ["none"]);
      for (const [way, id] of Object.entries(ids)) {
        context.expect(`${way} of a ${place} page`, (await started(id)) ? "a job" : "no job", ["no job"]);
      }
      await page.context().close();
    });
    await Promise.all(visits);
    // A person's own requests go on.
    const page = await browser.newPage();
    await page.goto(server);
    const body = JSON.stringify(JSON.stringify(SMALL));
    const status = await page.evaluate<number>(
      `fetch("/", { method: "POST", body: ${body} }).then((answer) => answer.status)`,
    );
    context.expect("POST / of its own page", status, [200]);
    const typed = fresh();
    // An answer that goes on is shown or saved; neither is a page that has loaded.
    await page.goto(`${server}/stream?${query(typed)}`, { timeout: 5_000, waitUntil: "commit" }).catch(() => {});
    await sleep(500);
    context.expect("a typed address", (await started(typed)) ? "a job" : "no job", ["a job"]);
    const framed = await browser.newPage();
    await framed.goto(`http://evil.example:${sitePort}/`);
    const shown = await framed.evaluate<string>(`new Promise((resolve) => {
      const frame = document.createElement("iframe");
      frame.src = ${JSON.stringify(server)};
      frame.onload = () => resolve(frame.contentDocument === null ? "of another origin" : "readable");
      document.body.append(frame);
    })`);
    context.expect("its page in a foreign frame", shown, ["of another origin"]);
    const inside = framed.frames().find((frame) => frame !== framed.mainFrame());
    // Chromium's own page for what may not be framed.
    context.expect("what is shown there", inside?.url() ?? "nothing", ["chrome-error://chromewebdata/", ""]);
  } finally {
    site.closeAllConnections();
    site.close();
  }
}

/** How a page asks, by name; each has a request_id of its own. */
const WAYS = [
  "iframe",
  "sandboxed iframe",
  "img",
  "script",
  "module",
  "stylesheet",
  "prefetch",
  "preload",
  "audio",
  "video",
  "object",
  "embed",
  "background",
  "font",
  "EventSource",
  "fetch",
  "fetch no-cors",
  "fetch POST text",
  "fetch POST JSON",
  "fetch POST no-cors",
  "fetch POST queue",
  "beacon",
  "form GET",
  "form POST",
  "worker",
  "redirected navigation of a frame",
] as const;

interface Given {
  readonly target: string;
  readonly ids: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Runs in the page, so it refers to nothing outside itself. Gives what sessions it could open. */
async function attackFromPage({ target, ids, body }: Given): Promise<string[]> {
  // biome-ignore lint/suspicious/noExplicitAny: the page's world, whose types are not among this project's
  const { document, fetch, EventSource, WebSocket, navigator, Worker, location } = globalThis as any;
  const address = (way: string) =>
    `${target}/stream?prompt=x&width=64&height=64&num_inference_steps=1&detached=true&request_id=${ids[way]}`;
  const bodyOf = (way: string) => body.replace("ID", ids[way]!);
  const add = (name: string, fields: Record<string, unknown>) => {
    const made = Object.assign(document.createElement(name), fields);
    made.style.display = "none";
    document.body.append(made);
    return made;
  };
  const attempt = (work: () => unknown) => {
    try {
      Promise.resolve(work()).catch(() => {});
    } catch {
      // A refusal by the browser itself counts as one.
    }
  };
  attempt(() => add("iframe", { src: address("iframe") }));
  attempt(() => add("iframe", { sandbox: "allow-scripts", src: address("sandboxed iframe") }));
  attempt(() => add("img", { src: address("img") }));
  attempt(() => add("script", { src: address("script") }));
  attempt(() => add("script", { type: "module", src: address("module") }));
  attempt(() => add("link", { rel: "stylesheet", href: address("stylesheet") }));
  attempt(() => add("link", { rel: "prefetch", href: address("prefetch") }));
  attempt(() => add("link", { rel: "preload", as: "image", href: address("preload") }));
  attempt(() => add("audio", { src: address("audio"), preload: "auto" }));
  attempt(() => add("video", { src: address("video"), preload: "auto" }));
  // Objects that are not shown are not loaded.
  attempt(() => (add("object", { data: address("object") }).style.display = "block"));
  attempt(() => (add("embed", { src: address("embed") }).style.display = "block"));
  attempt(() => (add("div", {}).style.cssText = `background:url("${address("background")}");width:1px;height:1px`));
  attempt(() =>
    add("style", { textContent: `@font-face{font-family:f;src:url("${address("font")}")}body{font-family:f}` }),
  );
  attempt(() => new EventSource(address("EventSource")));
  attempt(() => fetch(address("fetch")));
  attempt(() => fetch(address("fetch no-cors"), { mode: "no-cors" }));
  attempt(() => fetch(`${target}/stream?detached=true`, { method: "POST", body: bodyOf("fetch POST text") }));
  attempt(() =>
    fetch(`${target}/stream?detached=true`, {
      method: "POST",
      body: bodyOf("fetch POST JSON"),
      headers: { "Content-Type": "application/json" },
    }),
  );
  attempt(() =>
    fetch(`${target}/stream?detached=true`, { method: "POST", mode: "no-cors", body: bodyOf("fetch POST no-cors") }),
  );
  attempt(() => fetch(`${target}/queue/x`, { method: "POST", mode: "no-cors", body: bodyOf("fetch POST queue") }));
  attempt(() => navigator.sendBeacon(`${target}/queue/x`, bodyOf("beacon")));
  attempt(() => new Worker(address("worker")));
  const frame = (name: string) => add("iframe", { name });
  attempt(() => {
    frame("a");
    const form = add("form", { action: `${target}/stream`, method: "GET", target: "a" });
    for (const [name, value] of new URL(address("form GET")).searchParams) {
      const field = document.createElement("input");
      Object.assign(field, { type: "hidden", name, value });
      form.append(field);
    }
    form.submit();
  });
  attempt(() => {
    frame("b");
    // The classic: a form of plain text that reads as JSON.
    const form = add("form", { action: `${target}/queue/x`, method: "POST", enctype: "text/plain", target: "b" });
    const field = document.createElement("input");
    Object.assign(field, { type: "hidden", name: `${bodyOf("form POST").slice(0, -1)},"x":"`, value: '"}' });
    form.append(field);
    form.submit();
  });
  attempt(() => {
    const way = "redirected navigation of a frame";
    add("iframe", { srcdoc: `<meta http-equiv="refresh" content="0;url=${address(way).replaceAll("&", "&amp;")}">` });
  });
  const opened: string[] = [];
  await new Promise<void>((resolve) => {
    attempt(() => {
      const socket = new WebSocket(`${target.replace("http", "ws")}/realtime`);
      socket.onopen = () => opened.push(`a WebSocket from ${location.origin}`);
    });
    setTimeout(resolve, 1_500);
  });
  return opened;
}

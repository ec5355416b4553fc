/** Every request is answered or closed, even if something throws meanwhile, and the server goes on. */
import type http from "node:http";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { WebSocket } from "ws";
import { gradientRun, until } from "../../test/gradient-run.ts";
import { type AppOptions, createApp } from "../app.ts";
import { type Listening, listen } from "../http/listen.ts";

const open: Listening[] = [];
const uncaught: unknown[] = [];
const note = (error: unknown) => uncaught.push(error);
beforeEach(() => {
  process.on("uncaughtException", note);
  process.on("unhandledRejection", note);
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
  await sleep(10);
  process.off("uncaughtException", note);
  process.off("unhandledRejection", note);
  expect(uncaught.splice(0)).toEqual([]);
});

const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 4, countTokens: () => 3 };

async function serving(options: Partial<AppOptions> = {}, errors: unknown[] = []): Promise<Listening> {
  const app = createApp({ run: gradientRun(), health: () => ({}), model: MODEL, ...options });
  const server = await listen(app, 0, "127.0.0.1", { onError: (error) => errors.push(error) });
  open.push(server);
  return server;
}

/** All that comes back for `bytes`, until the connection is closed. */
function exchange({ port }: Listening, bytes: string, withinMs = 3_000): Promise<string> {
  return new Promise((resolve) => {
    let got = "";
    const socket = net.connect(port, "127.0.0.1", () => socket.write(bytes));
    const timer = setTimeout(() => {
      got += " (still open)";
      socket.destroy();
    }, withinMs);
    socket.on("data", (data) => {
      got += data;
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(got);
    });
  });
}

const works = async ({ url }: Listening) =>
  expect((await fetch(url, { method: "POST", body: '{"prompt":"x","num_inference_steps":1}' })).status).toBe(200);

it("every form of a request's target is answered", async () => {
  const server = await serving();
  const own = `127.0.0.1:${server.port}`;
  const cases: [line: string, status: string][] = [
    ["GET /health", "200"],
    [`GET http://${own}/health`, "200"],
    [`GET HTTP://${own}/health?x=1`, "200"],
    [`GET http://${own}`, "200"],
    ["GET http://any/health", "200"],
    ["GET https://any:1/health", "200"],
    ["OPTIONS *", "400"],
    ["GET *", "400"],
    [`OPTIONS http://${own}/health`, "404|204|200"],
    ["GET ftp://any/health", "400"],
    ["GET http://", "400"],
    ["GET http://[/health", "400"],
    ["GET http:///health", "400|404|200"],
    [`CONNECT ${own}`, "405"],
    ["CONNECT /health", "400|405"],
    ["GET //health", "200|404"],
    ["GET /%", "200|400|404"],
    ["GET /%00", "400|404"],
    ["GET /\\health", "400|404|200"],
    ["GET health", "400"],
    [`GET ${own}`, "400"],
    ["GET ?x", "400"],
    ["GET /?%zz=%", "200"],
    ["BREW /health", "400"],
    ["PROPFIND *", "400"],
  ];
  for (const [line, status] of cases) {
    for (const host of ["Host: x\r\n", "Host: \r\n", "Host: a b\r\n", ""]) {
      for (const more of [
        "",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
      ]) {
        const answer = await exchange(server, `${line} HTTP/1.1\r\n${host}${more}Connection: close\r\n\r\n`);
        expect(answer, `${line} ${host} ${more}`).toMatch(/^HTTP\/1\.1 [1-4]\d\d/);
        expect(answer).not.toContain("still open");
        if (host === "Host: x\r\n" && more === "") expect(answer, line).toMatch(new RegExp(`^HTTP/1\\.1 (${status}) `));
      }
    }
  }
  await works(server);
});

it("an absolute address takes the place of Host", async () => {
  const server = await serving();
  const answer = await exchange(
    server,
    "GET http://named.example:81/ HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n",
  );
  expect(answer).toContain("curl -N http://named.example:81/stream");
});

it("what throws in the app, its routes, its metrics or its log is answered with 500, and told", async () => {
  const warnings = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
  const fail = (what: string) => () => {
    throw new Error(what);
  };
  const routed: unknown[] = [];
  const places: Record<string, Partial<AppOptions>> = {
    health: { health: fail("health") },
    unready: { unready: fail("unready") },
    log: { onRequest: fail("log") },
    "log of errors": { run: fail("run") as never, onError: fail("log of errors") },
    observer: {
      metrics: {
        observe: fail("observe"),
        jobs() {},
        account() {},
        requests: fail("requests") as never,
        route: fail("route"),
        watch() {},
      },
    },
    tokens: { model: { ...MODEL, countTokens: fail("tokens") } },
    gate: { gate: { draining: fail("draining") } },
  };
  for (const [place, options] of Object.entries(places)) {
    const server = await serving(options, routed);
    for (const path of ["/health", "/ready", "/", "/metrics", "/docs"]) {
      const response = await fetch(server.url + path);
      expect(await response.text(), `${place} ${path}`).not.toMatch(/\.ts:|\n +at /);
    }
    for (const path of ["/", "/stream", "/v1/images/generations", "/queue/a/b", "/sdapi/v1/txt2img"]) {
      const response = await fetch(server.url + path, {
        method: "POST",
        body: '{"prompt":"x","num_inference_steps":1}',
      });
      const text = await response.text().catch(() => "broken off");
      expect(text.replace(/"(url|b64_json|images)":\[?"[^"]*"/g, ""), `${place} ${path}`).not.toMatch(/\.ts:|\n +at /);
    }
    const socket = new WebSocket(`${server.url.replace("http", "ws")}/realtime`);
    socket.on("error", () => {});
    socket.on("open", () => socket.send('{"prompt":"x","num_inference_steps":1}'));
    await new Promise((resolve) => {
      socket.once("close", resolve);
      setTimeout(resolve, 300);
    });
    socket.terminate();
  }
  warnings.mockRestore();
});

it("what throws outside the app is answered with 500 or closed, and told", async () => {
  const errors: unknown[] = [];
  const broken = {
    fetch(request: Request) {
      const { pathname } = new URL(request.url);
      if (pathname === "/throws") throw new Error("thrown");
      if (pathname === "/rejects") return Promise.reject(new Error("rejected"));
      if (pathname === "/nothing") return Promise.reject(undefined);
      if (pathname === "/header") return new Response("x", { headers: { "x-a": "b" } });
      if (pathname === "/body") {
        return new Response(
          new ReadableStream({
            pull(controller) {
              controller.error(new Error("in the middle"));
            },
          }),
        );
      }
      return undefined as never;
    },
  } as unknown as Hono;
  const server = await listen(broken, 0, "127.0.0.1", {
    onError: (error) => {
      errors.push(error);
      throw new Error("the log fails too");
    },
  });
  open.push(server);
  const warnings = vi.spyOn(process, "emitWarning").mockImplementation(() => {});
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  for (const path of ["/throws", "/rejects", "/nothing", "/undefined", "/body"]) {
    const head = `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: `;
    expect(await exchange(server, `${head}close\r\n\r\n`), path).toMatch(/^$|^HTTP\/1\.1 (200|500)/);
    const upgrade = `${head}Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`;
    expect(await exchange(server, upgrade), path).toMatch(/^$|^HTTP\/1\.1 [245]00/);
  }
  expect(await exchange(server, "GET /header HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).toContain("200 OK");
  expect(errors.length).toBeGreaterThanOrEqual(3);
  warnings.mockRestore();
  printed.mockRestore();
});

/** Connections that the server has. */
const connections = (server: http.Server) =>
  new Promise<number>((resolve, reject) => server.getConnections((error, n) => (error ? reject(error) : resolve(n))));

it("a refused upgrade is closed, though its client keeps its half open", async () => {
  let node: http.Server | undefined;
  const app = createApp({ run: gradientRun(), health: () => ({}) });
  const server = await listen(app, 0, "127.0.0.1", {
    onServer: (server) => {
      node = server;
    },
  });
  open.push(server);
  for (const path of ["/nowhere", "/realtime", "*"]) {
    const socket = net.connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
    socket.on("error", () => {});
    socket.resume();
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: x\r\nOrigin: http://foreign\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    );
    await new Promise((resolve) => socket.once("end", resolve));
  }
  await until(async () => (await connections(node!)) === 0, 4_000);
});

it("requests that come without waiting are answered one at a time, in order, and their number is bounded", async () => {
  let running = 0;
  let most = 0;
  const app = new Hono();
  app.get("/:n", async (c) => {
    most = Math.max(most, ++running);
    await sleep(1);
    running--;
    return c.text(`<${c.req.param("n")}>`);
  });
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  const requests = (count: number) =>
    Array.from({ length: count }, (_, n) => `GET /${n} HTTP/1.1\r\nHost: x\r\n\r\n`).join("");
  const answers = await exchange(server, `${requests(300)}GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  expect(answers.match(/<\w+>/g)).toEqual([...Array.from({ length: 300 }, (_, n) => `<${n}>`), "<last>"]);
  expect(most).toBe(1);
  expect(await exchange(server, requests(20_000), 20_000)).not.toContain("still open");
  expect((await fetch(`${server.url}/again`)).status).toBe(200);
});

it("a client that takes nothing of its answer is cut off", async () => {
  const app = new Hono();
  app.get("/", (c) => c.body(new Uint8Array(30e6)));
  let node: http.Server | undefined;
  const server = await listen(app, 0, "127.0.0.1", {
    unreadMs: 400,
    onServer: (server) => {
      node = server;
    },
  });
  open.push(server);
  const socket = net.connect(server.port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  socket.on("error", () => {});
  socket.pause();
  await until(async () => (await connections(node!)) === 1);
  await until(async () => (await connections(node!)) === 0, 3_000);
  socket.destroy();
});

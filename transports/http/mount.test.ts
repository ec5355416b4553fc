/** The whole app in services that exist already: each framework as its users have it, with routes and sockets of its own. */
import http from "node:http";
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import { decode } from "@msgpack/msgpack";
import express from "express";
import Fastify from "fastify";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { gradientRun, type RunRecord, until } from "../../test/gradient-run.ts";
import { type App, createApp } from "../app.ts";
import { type Mounted, mount } from "./mount.ts";

interface Service {
  readonly server: http.Server;
  readonly end: () => Promise<unknown>;
}

const listening = (server: http.Server) =>
  new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
const ended = (server: http.Server) => {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
};

/** Services that say "mine" at / and echo what is posted to /echo. */
const SERVICES: Record<string, (daguerre: Mounted, app: App) => Promise<Service>> = {
  "node:http": async (daguerre) => {
    const server = http.createServer(async (request, response) => {
      if (daguerre.request(request, response)) return;
      if (request.method === "POST") response.end((await request.toArray()).join(""));
      else response.end("mine");
    });
    server.on("upgrade", daguerre.upgrade);
    await listening(server);
    return { server, end: () => ended(server) };
  },

  Express: async (daguerre) => {
    const service = express();
    service.use("/pictures", daguerre.request);
    service.use(express.json());
    service.get("/", (_, response) => void response.send("mine"));
    service.post("/echo", (request, response) => void response.json(request.body));
    const server = service.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    server.on("upgrade", daguerre.upgrade);
    return { server, end: () => ended(server) };
  },

  "Express, behind its parser of bodies": async (daguerre) => {
    const service = express();
    service.use(express.json({ limit: "30mb" }));
    service.get("/", (_, response) => void response.send("mine"));
    service.post("/echo", (request, response) => void response.json(request.body));
    service.use(daguerre.request);
    const server = service.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    server.on("upgrade", daguerre.upgrade);
    return { server, end: () => ended(server) };
  },

  Fastify: async (daguerre) => {
    const service = Fastify();
    // Before anything reads the body.
    service.addHook("onRequest", async (request, reply) => {
      if (daguerre.request(request.raw, reply.raw)) reply.hijack();
    });
    service.get("/", async () => "mine");
    service.post("/echo", async (request) => request.body);
    service.server.on("upgrade", daguerre.upgrade);
    await service.listen({ port: 0, host: "127.0.0.1" });
    return {
      server: service.server,
      end: () => {
        service.server.closeAllConnections();
        return service.close();
      },
    };
  },

  Hono: async (_, app) => {
    const service = new Hono();
    service.get("/", (c) => c.text("mine"));
    service.post("/echo", async (c) => c.json(await c.req.json()));
    service.get("/pictures", (c) => c.redirect("/pictures/", 308));
    service.mount("/pictures", app.fetch);
    const sockets = new WebSocketServer({ noServer: true });
    const server = serve({
      fetch: service.fetch,
      port: 0,
      hostname: "127.0.0.1",
      websocket: { server: sockets },
    }) as http.Server;
    await new Promise((resolve) => server.once("listening", resolve));
    return {
      server,
      end: () => {
        for (const socket of sockets.clients) socket.terminate();
        return ended(server);
      },
    };
  },
};

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

describe.each(Object.entries(SERVICES))("in %s", (name, start) => {
  async function started() {
    const record: RunRecord = { steps: 0, ended: false, aborted: false };
    const app = createApp({ run: gradientRun(record), health: () => ({ model: "gradient" }) });
    const daguerre = mount(app, "/pictures");
    const { server, end } = await start(daguerre, app);
    closing.push(() => daguerre.close(), end);
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { url, record, app, daguerre, server };
  }
  const json = { "content-type": "application/json" };
  const post = (url: string, body: object) => fetch(url, { method: "POST", headers: json, body: JSON.stringify(body) });

  it("answers below its path, and leaves the rest of the service as it was", async () => {
    const { url } = await started();
    expect(await (await fetch(url)).text()).toBe("mine");
    expect(await (await post(`${url}/echo`, { n: 1 })).json()).toEqual({ n: 1 });
    expect(await (await fetch(`${url}/pictures/health`)).json()).toMatchObject({ status: "ok", model: "gradient" });
    expect(await (await fetch(`${url}/pictures`)).text()).toContain(`${url}/pictures/stream`);
    expect((await fetch(`${url}/picturesque`)).headers.get("x-frame-options")).toBeNull();
    expect((await fetch(`${url}/pictures/nowhere`)).status).toBe(404);

    const result = (await (await post(`${url}/pictures/`, { prompt: "a hill", request_id: "one" })).json()) as object;
    expect(result).toMatchObject({ prompt: "a hill", request_id: "one", image: { content_type: "image/jpeg" } });
    const stream = await post(`${url}/pictures/stream`, { prompt: "灯台" });
    expect(stream.headers.get("content-type")).toBe("text/event-stream");
    expect(await stream.text()).toContain('"type":"result"');
    expect((await post(`${url}/pictures/stream`, {})).status).toBe(422);
    const openapi = (await (await fetch(`${url}/pictures/openapi.json`)).json()) as object;
    expect(openapi).toMatchObject({ openapi: "3.1.0" });
  });

  it("tells addresses that lead back to it", async () => {
    const { url } = await started();
    const submitted = (await (await post(`${url}/pictures/queue/a/b?x=1`, { prompt: "x" })).json()) as {
      status_url: string;
      response_url: string;
    };
    expect(submitted.status_url).toMatch(new RegExp(`^${url}/pictures/queue/a/b/requests/[^/]+/status$`));
    await until(async () => (await fetch(submitted.status_url)).status === 200);
    expect(await (await fetch(submitted.response_url)).json()).toMatchObject({ seed: 7 });
  });

  it("takes up sessions, and ends them with 1012", async () => {
    const { url, daguerre } = await started();
    const socket = new WebSocket(`${url.replace("http", "ws")}/pictures/realtime`);
    const results: unknown[] = [];
    socket.on("message", (data: Buffer, binary) => {
      const event = binary ? (decode(data) as { type: string }) : { type: "" };
      if (event.type === "result") results.push(event);
    });
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    socket.send(JSON.stringify({ prompt: "x" }));
    await until(() => results.length === 1);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    if (name === "Hono") socket.terminate();
    else await daguerre.close();
    expect(await closed).toBe(name === "Hono" ? 1006 : 1012);
  });

  it("stops a run whose client leaves", async () => {
    const { url, record } = await started();
    const client = new AbortController();
    const answer = await fetch(`${url}/pictures/stream`, {
      method: "POST",
      headers: json,
      body: '{"prompt":"x","num_inference_steps":200}',
      signal: client.signal,
    });
    await until(() => record.steps > 2);
    client.abort();
    await answer.text().catch(() => {});
    await until(() => record.ended);
    expect(record.aborted).toBe(true);
  });
});

it("leaves the service's own sockets alone", async () => {
  const daguerre = mount(createApp({ run: gradientRun(), health: () => ({}) }), "/pictures");
  const server = http.createServer(daguerre.request);
  const own = new WebSocketServer({ noServer: true });
  server.on("upgrade", daguerre.upgrade);
  server.on("upgrade", (request, socket, head) => {
    if (request.url === "/own") own.handleUpgrade(request, socket, head, (opened) => opened.close(4000));
  });
  await listening(server);
  closing.push(() => ended(server));
  const { port } = server.address() as AddressInfo;
  const code = (path: string) =>
    new Promise((resolve) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
      socket.once("close", resolve);
      socket.once("unexpected-response", (_, response) => resolve(response.statusCode));
      socket.on("error", () => {});
    });
  expect(await code("/own")).toBe(4000);
  expect(await code("/pictures/nowhere")).toBe(404);
});

it.each(["pictures", "/pictures/", "/a//b", "/a?b"])("refuses '%s' as a path", (base) => {
  expect(() => mount(new Hono(), base)).toThrow(TypeError);
});

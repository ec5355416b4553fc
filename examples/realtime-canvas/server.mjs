// A page to draw on, beside Daguerre's routes. The WebSocket needs a server that can upgrade connections.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { serve } from "@hono/node-server";
import { createApp, createRuntime } from "daguerre";
import { Hono } from "hono";
import { WebSocketServer } from "ws";

const runtime = await createRuntime();
const page = await readFile(new URL("page.html", import.meta.url), "utf8");
const msgpack = await readFile(createRequire(import.meta.url).resolve("@msgpack/msgpack/dist.umd/msgpack.min.js"));

const daguerre = createApp({
  run: ({ image, ...input }, context) =>
    image === undefined ? runtime.textToImage(input, context) : runtime.imageToImage({ ...input, image }, context),
  health: () => ({ model: runtime.model.name }),
  onError: console.error,
});

const app = new Hono()
  .get("/", (c) => c.html(page))
  .get("/msgpack.js", (c) => c.body(msgpack, 200, { "content-type": "text/javascript" }))
  .route("/", daguerre);

const sockets = new WebSocketServer({ noServer: true, maxPayload: 4 * 1024 * 1024 });
const server = serve(
  { fetch: app.fetch, port: Number(process.env.PORT ?? 8094), hostname: "127.0.0.1", websocket: { server: sockets } },
  ({ port }) => console.log(`http://127.0.0.1:${port}`),
);
process.once("SIGTERM", async () => {
  server.close();
  server.closeAllConnections();
  for (const socket of sockets.clients) socket.terminate();
  await runtime.close();
});

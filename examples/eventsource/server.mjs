// A page of one's own beside Daguerre's routes.
import { readFile } from "node:fs/promises";
import { serve } from "@hono/node-server";
import { createApp, createRuntime } from "daguerre";
import { Hono } from "hono";

const runtime = await createRuntime();
const page = await readFile(new URL("page.html", import.meta.url), "utf8");
const daguerre = createApp({
  run: (input, context) => runtime.textToImage(input, context),
  health: () => ({ model: runtime.model.name }),
  onError: console.error,
});

const app = new Hono().get("/", (c) => c.html(page)).mount("/", daguerre.fetch);
const server = serve(
  { fetch: app.fetch, port: Number(process.env.PORT ?? 8093), hostname: "127.0.0.1" },
  ({ port }) => {
    console.log(`http://127.0.0.1:${port}`);
  },
);
process.once("SIGTERM", async () => {
  server.close();
  server.closeAllConnections();
  await runtime.close();
});

// Daguerre in somebody else's Hono app.
import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { WebSocketServer } from "ws";
import { pictures } from "./pictures.mjs";

const { app: daguerre, close } = await pictures();

const app = new Hono()
  .get("/", (c) => c.text("The service that was here before.\n"))
  .get("/pictures", (c) => c.redirect("/pictures/", 308))
  .mount("/pictures", daguerre.fetch);

const server = serve(
  {
    fetch: app.fetch,
    port: Number(process.env.PORT ?? 8092),
    hostname: "127.0.0.1",
    websocket: { server: new WebSocketServer({ noServer: true }) }, // for /pictures/realtime
  },
  ({ port }) => {
    console.log(`http://127.0.0.1:${port}`);
  },
);
process.once("SIGTERM", async () => {
  server.close();
  server.closeAllConnections();
  await close();
});

// Daguerre in an Express app. Before `express.json()`, or after it: both work.
import { mount } from "daguerre";
import express from "express";
import { pictures } from "./pictures.mjs";

const { app: routes, close } = await pictures();
const daguerre = mount(routes, "/pictures");

const app = express();
app.use(daguerre.request);
app.use(express.json());
app.get("/", (_, response) => {
  response.type("text").send("The service that was here before.\n");
});

const server = app.listen(Number(process.env.PORT ?? 8092), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
server.on("upgrade", daguerre.upgrade);
process.once("SIGTERM", async () => {
  await routes.drain(5_000);
  await daguerre.close();
  server.close();
  server.closeAllConnections();
  await close();
});

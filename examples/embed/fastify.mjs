// Daguerre in a Fastify app, before anything reads the body.
import { mount } from "daguerre";
import Fastify from "fastify";
import { pictures } from "./pictures.mjs";

const { app: routes, close } = await pictures();
const daguerre = mount(routes, "/pictures");

const app = Fastify();
app.addHook("onRequest", async (request, reply) => {
  if (daguerre.request(request.raw, reply.raw)) reply.hijack();
});
app.get("/", async () => "The service that was here before.\n");
app.server.on("upgrade", daguerre.upgrade);

console.log(await app.listen({ port: Number(process.env.PORT ?? 8092), host: "127.0.0.1" }));
process.once("SIGTERM", async () => {
  await routes.drain(5_000);
  await daguerre.close();
  app.server.closeAllConnections();
  await app.close();
  await close();
});

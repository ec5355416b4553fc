// Daguerre in a server of plain node:http.
import http from "node:http";
import { mount } from "daguerre";
import { pictures } from "./pictures.mjs";

const { app, close } = await pictures();
const daguerre = mount(app, "/pictures");

const server = http.createServer((request, response) => {
  if (daguerre.request(request, response)) return;
  response.writeHead(200, { "content-type": "text/plain" }).end("The service that was here before.\n");
});
server.on("upgrade", daguerre.upgrade);

server.listen(Number(process.env.PORT ?? 8092), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
process.once("SIGTERM", async () => {
  await app.drain(5_000);
  await daguerre.close();
  server.close();
  server.closeAllConnections();
  await close();
});

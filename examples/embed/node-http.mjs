// Daguerre in a server of plain node:http.
import http from "node:http";
import { getRequestListener } from "@hono/node-server";
import { pictures } from "./pictures.mjs";

const { app, close } = await pictures();
const daguerre = getRequestListener(app.fetch);

const server = http.createServer((request, response) => {
  if (request.url === "/pictures") {
    response.writeHead(308, { location: "/pictures/" }).end();
  } else if (request.url.startsWith("/pictures/")) {
    request.url = request.url.slice("/pictures".length);
    daguerre(request, response);
  } else {
    response.writeHead(200, { "content-type": "text/plain" }).end("The service that was here before.\n");
  }
});

server.listen(Number(process.env.PORT ?? 8092), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
process.once("SIGTERM", async () => {
  server.close();
  server.closeAllConnections();
  await close();
});

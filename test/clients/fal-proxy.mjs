// fal's client in a page, through fal's own proxy in Express, to SERVER_URL. Prints one line of JSON.
import { createFalClient } from "@fal-ai/client";
import { createHandler } from "@fal-ai/server-proxy/express";
import express from "express";

const { host, origin } = new URL(process.env.SERVER_URL);
const handler = createHandler({
  allowedUrlPatterns: [`${host}/**`],
  allowUnauthorizedRequests: true,
  resolveFalAuth: async () => "Key none",
});
const app = express();
app.all("/api/fal/proxy", express.json(), handler);
const server = app.listen(0, "127.0.0.1", async () => {
  const fal = createFalClient({
    proxyUrl: { url: `http://127.0.0.1:${server.address().port}/api/fal/proxy`, when: "always" },
    requestMiddleware: async (request) => ({
      ...request,
      url: request.url.replace("https://queue.fal.run", `${origin}/queue`),
    }),
  });
  const stream = await fal.stream("owner/app", { url: `${origin}/stream`, input: { prompt: "a hill" } });
  const types = [];
  const times = [];
  for await (const event of stream) {
    types.push(event.type);
    times.push(performance.now());
  }
  const result = await stream.done();
  const submitted = await fal.queue.submit("owner/app", { input: { prompt: "a hill" } });
  const status = await fal.queue.subscribeToStatus("owner/app", { requestId: submitted.request_id, pollInterval: 50 });
  const queued = await fal.queue.result("owner/app", { requestId: submitted.request_id });
  console.log(
    JSON.stringify({
      types: [...new Set(types)],
      spread: times.at(-1) - times[0],
      result: result.type,
      status: status.status,
      queued: queued.data.images.length,
    }),
  );
  server.close();
  process.exit();
});

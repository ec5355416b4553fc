/** A browser's own `EventSource`, whose connection breaks: it comes back by itself, misses nothing, and ends in peace. */
import { existsSync } from "node:fs";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import { chromium } from "playwright-core";
import { expect, it } from "vitest";
import { until } from "../../test/gradient-run.ts";
import { listen } from "../http/listen.ts";
import { sse } from "./sse.ts";

const CHROMIUM = "/usr/bin/chromium";
const EVENTS = 30;

/** In the page: what came, and what became of the source. */
const PAGE = `<!doctype html><script>
  const seen = [];
  const source = new EventSource("stream?request_id=mine");
  source.onmessage = ({ data, lastEventId }) => {
    const { type, n, text } = JSON.parse(data);
    seen.push([Number(lastEventId.split(":").at(-1)), type, n, text]);
  };
</script>`;

it.skipIf(!existsSync(CHROMIUM))(
  "EventSource goes on where its connection broke, and stays away at the end",
  async () => {
    let go = () => {};
    const cut = new Promise<void>((resolve) => {
      go = resolve;
    });
    let asked = 0;
    const app = new Hono();
    app.get("/", (c) => c.html(PAGE));
    app.use("/stream", (_, next) => {
      asked++;
      return next();
    });
    app.get(
      "/stream",
      sse(async function* () {
        for (let n = 1; n <= EVENTS; n++) {
          // The second half is not there before the connection has broken.
          if (n === EVENTS / 2) await cut;
          await sleep(2);
          yield { type: "item", n, text: "é灯".repeat(n) };
        }
        yield { type: "result" };
      }),
    );
    const sockets = new Set<Socket>();
    const server = await listen(app, 0, "127.0.0.1", {
      onServer: (server) => server.on("connection", (socket: Socket) => sockets.add(socket)),
    });
    const browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    });
    try {
      const page = await browser.newPage();
      await page.goto(server.url);
      const seen = () => page.evaluate<[number, string, number, string][]>("seen");
      await until(async () => (await seen()).length === EVENTS / 2 - 1, 30_000);
      for (const socket of sockets) socket.destroy();
      go();
      // Chromium waits some seconds before it comes back; at the end it is told 204, which closes it.
      await until(async () => (await page.evaluate("source.readyState")) === 2, 60_000);
      const events = await seen();
      expect(events.map(([id]) => id)).toEqual(Array.from({ length: EVENTS + 1 }, (_, index) => index + 1));
      expect(events.slice(0, -1)).toEqual(
        Array.from({ length: EVENTS }, (_, index) => [index + 1, "item", index + 1, "é灯".repeat(index + 1)]),
      );
      expect(events.at(-1)![1]).toBe("result");
      // The stream, the rest of it, and the news that there is no more.
      expect(asked).toBe(3);
    } finally {
      await browser.close();
      await server.close();
    }
  },
);

/**
 * The server behind real proxies, with the configurations of `docs/behind-a-proxy.md` as they stand there: what a page, a
 * stream, a session and an address need. A proxy that is not installed is skipped by name; in CI it is a failure.
 */
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { createApp } from "../../transports/app.ts";
import type { GateOptions } from "../../transports/gate/gate.ts";
import { type Listening, listen } from "../../transports/http/listen.ts";
import { eventNumber, gradientRun, type RunRecord, until } from "../gradient-run.ts";
import { CONFIGURATIONS, freePort, missingProgram, type RunningProxy, startProxy } from "./proxy.ts";
import { Visitor } from "./visitor.ts";

interface Case {
  readonly title: string;
  /** The path that the proxy takes away. */
  readonly prefix?: string;
  readonly tls?: boolean;
  /** It passes no upgrade on. */
  readonly noWebSocket?: boolean;
  /** It keeps the browser's host to itself, so that nothing but the setting says it. */
  readonly hidesHost?: boolean;
}

const CASES: readonly Case[] = [
  { title: "nginx" },
  { title: "nginx, Host without its port", noWebSocket: true },
  { title: "nginx, TLS, below a path", tls: true, prefix: "/base" },
  { title: "nginx, proxy_pass alone", noWebSocket: true, hidesHost: true },
  { title: "haproxy" },
  { title: "haproxy, TLS, below a path", tls: true, prefix: "/base" },
  { title: "Caddy" },
  { title: "Caddy, TLS, below a path", tls: true, prefix: "/base" },
  { title: "Apache" },
  { title: "Apache, TLS, below a path", tls: true, prefix: "/base" },
  { title: "Apache, ProxyPass alone", noWebSocket: true, hidesHost: true },
];

it("runs every configuration of the page", () => {
  expect(CASES.map(({ title }) => title)).toEqual([...CONFIGURATIONS.keys()]);
});

const required = process.env.DAGUERRE_TEST_PROXIES === "required";

for (const { title, prefix = "", tls = false, noWebSocket = false, hidesHost = false } of CASES) {
  const missing = missingProgram(title);
  if (missing !== undefined && !required) console.warn(`${title} is skipped: there is no ${missing}`);

  describe.skipIf(missing !== undefined && !required)(title, () => {
    let port: number;
    let visitor: Visitor;
    let proxy: RunningProxy | undefined;
    let server: Listening;
    /** The runs of the server behind the proxy. */
    let runs: RunRecord[] = [];

    /** The server behind the proxy, with these settings from now on. */
    async function serve(gate: Partial<GateOptions>): Promise<void> {
      const at = server?.port ?? 0;
      await server?.close();
      // The rest of the last one is not counted.
      const own: RunRecord[] = [];
      runs = own;
      const app = createApp({
        run: (input, context) => {
          const record: RunRecord = { steps: 0, ended: false, aborted: false };
          own.push(record);
          return gradientRun(record)({ ...input, step_ms: 15 }, context);
        },
        health: () => ({}),
        gate,
      });
      server = await listen(app, at, "127.0.0.1");
      if (proxy === undefined) return;
      // The proxy may not have noticed yet that its connections to the last one are closed.
      await vi.waitFor(async () => expect((await visitor.text(`${prefix}/health`)).status).toBe(200), 5_000);
    }

    const base = () => `${visitor.origin}${prefix}`;
    const byHost = () => serve({ hosts: ["pictures.example"], proxies: 1 });
    const byUrl = () => serve({ hosts: [], publicUrl: base() });

    beforeAll(async () => {
      port = await freePort();
      visitor = new Visitor(port, tls);
      await serve({ hosts: [] });
      proxy = await startProxy(title, port, server.port);
    });
    afterAll(async () => {
      await proxy?.close();
      await server?.close();
    });

    const SETTINGS: [string, () => Promise<void>][] = [["public_url", byUrl]];
    if (!hidesHost) SETTINGS.push(["hosts and proxies", byHost]);

    const stream = (fields: object, headers: Record<string, string> = {}, query = "") =>
      visitor.ask(`${prefix}/stream${query}`, {
        method: "POST",
        headers: { origin: visitor.origin, ...headers },
        body: JSON.stringify({ prompt: "x", num_inference_steps: 40, ...fields }),
      });

    it.each(SETTINGS)("with %s lets in the server's own page and no other", async (_, settings) => {
      await settings();
      const post = async (headers: Record<string, string>, who = visitor) =>
        (await who.text(`${prefix}/`, { method: "POST", headers, body: '{"prompt":"x","num_inference_steps":1}' }))
          .status;
      expect(await post({ origin: visitor.origin })).toBe(200);
      expect(await post({ origin: visitor.origin, "sec-fetch-site": "same-origin" })).toBe(200);
      expect(await post({})).toBe(200);
      expect(runs).toHaveLength(3);
      for (const origin of ["https://evil.example", `http://pictures.example:${port + 1}`, "null"]) {
        expect(await post({ origin }), origin).toBe(403);
      }
      // A name that has come to point here: the browser holds the page for this server's own.
      const evil = new Visitor(port, tls, "evil.example");
      // Some proxies refuse it themselves.
      await post({ origin: evil.origin }, evil).catch(() => {});
      if (!tls) await evil.text(`${prefix}/stream?prompt=x&detached=true`);
      expect(runs).toHaveLength(3);
    });

    it.each(SETTINGS)("with %s gives right addresses, whatever a client sends", async (_, settings) => {
      await settings();
      const forged: Record<string, string> = {
        forwarded: "for=1.2.3.4;host=evil.example;proto=ftp",
        "x-forwarded-host": "evil.example",
        "x-forwarded-prefix": "/evil",
        "x-forwarded-port": "1",
        "x-forwarded-proto": "gopher",
      };
      for (const headers of [{}, forged]) {
        const submitted = await visitor.text(`${prefix}/queue/a/b`, {
          method: "POST",
          headers,
          body: '{"prompt":"x"}',
        });
        const { request_id, response_url, status_url, cancel_url } = JSON.parse(submitted.text);
        const address = `${base()}/queue/a/b/requests/${request_id}`;
        expect([response_url, status_url, cancel_url]).toEqual([address, `${address}/status`, `${address}/cancel`]);
        const { pathname } = new URL(status_url);
        expect(JSON.parse((await visitor.text(pathname)).text)).toMatchObject({ request_id, status_url });
        expect((await visitor.text(`${prefix}/`, { headers })).text).toContain(`curl -N ${base()}/stream `);
        const document = JSON.parse((await visitor.text(`${prefix}/openapi.json`, { headers })).text);
        expect(document.servers).toEqual([{ url: base() }]);
      }
    });

    it("passes events on as they come, and cancels when the client leaves", async () => {
      await byUrl();
      const { status, body, cut } = await stream({});
      expect(status).toBe(200);
      const seen: number[] = [];
      for await (const _ of body) {
        seen.push(runs[0]!.steps);
        if (seen.length > 5) break;
      }
      expect(Math.max(...seen)).toBeLessThan(40);
      expect(new Set(seen).size).toBeGreaterThan(2);
      cut();
      await until(() => runs[0]!.ended, 10_000);
      expect(runs[0]!.aborted).toBe(true);
    });

    it("lets a stream that broke go on", async () => {
      await byUrl();
      const { body, cut } = await stream({ request_id: "mine" }, {}, "?resume_grace_s=30");
      let first = "";
      for await (const part of body) {
        first += part;
        if (/^id: mine:4$/m.test(first)) break;
      }
      cut();
      const idsOf = (text: string) => [...text.matchAll(/^id: (\S+)$/gm)].map(([, id]) => id);
      const last = idsOf(first).at(-1)!;
      const { text } = await visitor.text(`${prefix}/stream/mine`, { headers: { "last-event-id": last } });
      expect(eventNumber(idsOf(text)[0])).toBeGreaterThan(eventNumber(last));
      expect(text).toContain('"type":"result"');
      expect(runs).toHaveLength(1);
      expect(runs[0]!.aborted).toBe(false);
    });

    it.skipIf(noWebSocket)("opens a session for the own page alone", async () => {
      await byUrl();
      const socket = visitor.socket(`${prefix}/realtime`, { origin: visitor.origin });
      const frames: Buffer[] = [];
      socket.on("message", (data: Buffer, binary) => binary && frames.push(data));
      await once(socket, "open");
      socket.send(JSON.stringify({ prompt: "x", num_inference_steps: 3 }));
      await until(() => frames.some((frame) => frame.includes("result")), 10_000);
      socket.close();
      const foreign = visitor.socket(`${prefix}/realtime`, { origin: "https://evil.example" });
      await expect(once(foreign, "open")).rejects.toThrow("403");
    });

    it.runIf(hidesHost)("says which setting is missing", async () => {
      await serve({ hosts: [] });
      const { status, body } = await stream({});
      expect([status, Buffer.concat(await body.toArray()).toString()]).toEqual([
        403,
        expect.stringContaining("public_url"),
      ]);
      expect(runs).toHaveLength(0);
    });
  });
}

/** Much of what each alone is allowed: cheap pages, sessions, jobs, cancels; and whether others are served meanwhile. */
import { setTimeout as sleep } from "node:timers/promises";
import { encode } from "@msgpack/msgpack";
import { type Attack, drawPicture, metric, SMALL } from "./attack.ts";
import { ATTACKER, deafSocket, exchange, request, send } from "./raw-http.ts";
import { RealtimeClient } from "./realtime-client.ts";
import { KEYS } from "./suite.ts";

const BUSY = [429, 503];
/** The guarded server's; see `suite.ts`. */
const REQUESTS_PER_MINUTE = 600;

export async function attack(context: Attack): Promise<void> {
  const { open, guarded } = context;
  const { port } = open;
  const get = (target: string) => `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;

  for (const [target, count] of [
    ["/docs", 500],
    ["/docs", 4_000],
    ["/openapi.json", 4_000],
    ["/", 4_000],
    ["/nowhere", 4_000],
    ["/metrics", 200],
  ] as const) {
    await context.case(`${count} pipelined GETs of ${target}`, open, async () => {
      const asked = context.scaled(count);
      const last = `GET /ready HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`;
      await context.ask(target, open, [get(target).repeat(asked), last], [200, 404, "closed"], { timeoutMs: 30_000 });
    });
  }
  await context.case("200 connections with 20 pipelined GETs each", open, async () => {
    const last = `GET /ready HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`;
    const asked = Array.from({ length: context.scaled(200) }, () => exchange(port, [get("/docs").repeat(20), last]));
    for (const { status } of await Promise.all(asked)) context.expect("GET /docs", status, [200, "closed"]);
  });
  await context.case("connections opened and closed", open, async () => {
    for (let round = 0; round < context.scaled(40); round++) {
      const sockets = Array.from({ length: 100 }, () => deafSocket(port));
      await sleep(20);
      for (const socket of sockets) socket.resetAndDestroy();
    }
    context.expect("connections", "closed", ["closed"]);
  });
  await context.case("sessions beyond limits.sessions", open, async () => {
    const clients = await Promise.all(Array.from({ length: 40 }, () => RealtimeClient.open(port)));
    const refused = clients.filter((client) => client.told.includes("refused 429")).length;
    context.expect("sessions refused", refused, [8]);
    await Promise.all(clients.map((client) => client.close()));
  });
  await context.case("sessions broken off with defaults of 10 MiB", open, async () => {
    // A session whose client broke off waits for it: it counts against the same limit, and the oldest makes room. Pictures
    // are kept, other fields are not.
    const frame = encode({ type: "defaults", image: new Uint8Array(10 * 2 ** 20) });
    const before = await open.watch("collect");
    for (let round = 0; round < 60 && !context.isOver(open); round++) {
      const client = await RealtimeClient.open(port);
      if (!client.open) continue;
      client.send(frame);
      // It has been taken when the answer to what follows it is there.
      await client.ask(encode({ prompt: 7 }), 5_000);
      client.raw.resetAndDestroy();
    }
    const held = await metric(open, 'daguerre_held_bytes{kind="sessions"}');
    context.expect("bytes on the account", (held ?? Number.NaN) < 130 * 2 ** 20 ? "within" : `${held} bytes`, [
      "within",
    ]);
    const { externalBytes } = await open.watch("collect");
    const more = externalBytes - before.externalBytes;
    context.expect("bytes held", more < 150 * 2 ** 20 ? "few" : `${more} bytes`, ["few"]);
    // They are given up after limits.session_resume_seconds.
    await sleep(context.share < 1 ? 1_000 : 16_000);
  });
  await context.case("jobs of one address fill the queue while another asks", open, async () => {
    const ids: string[] = [];
    for (let at = 0; at < 90; at++) {
      const id = `flood-${context.seed}-${at}`;
      const body = JSON.stringify({ ...SMALL, num_inference_steps: 50, request_id: id });
      const { status } = await exchange(port, request(port, { target: "/queue/x", body }));
      context.expect("a detached job", status, [200, ...BUSY]);
      if (status === 200) ids.push(id);
    }
    await fairly(context);
    for (const id of ids)
      await exchange(port, request(port, { method: "PUT", target: `/queue/x/requests/${id}/cancel` }));
  });
  await context.case("detached streams of one address while another asks", open, async () => {
    const ids: string[] = [];
    for (let at = 0; at < 90; at++) {
      const id = `detached-${context.seed}-${at}`;
      const body = JSON.stringify({ ...SMALL, num_inference_steps: 50, request_id: id });
      const parts = request(port, { target: "/stream?detached=true", body });
      const { status } = await exchange(port, parts, { headOnly: true });
      context.expect("a detached stream", status, [200, ...BUSY]);
      ids.push(id);
    }
    await fairly(context);
    for (const id of ids) await exchange(port, request(port, { method: "DELETE", target: `/jobs/${id}` }));
  });
  await context.case("sessions of one address in queue mode while another asks", open, async () => {
    const clients = await Promise.all(
      Array.from({ length: 8 }, () => RealtimeClient.open(port, { query: "?mode=queue&max_buffering=60" })),
    );
    for (const client of clients) {
      for (let at = 0; at < 30; at++) client.send(encode({ ...SMALL, mode: "queue", num_inference_steps: 50 }));
    }
    await sleep(500);
    await fairly(context);
    for (const client of clients) client.send(encode({ type: "cancel" }));
    await Promise.all(clients.map((client) => client.close()));
  });
  await context.case("jobs of one key fill the queue while another asks", guarded, async () => {
    const key = (name: keyof typeof KEYS) => [`Authorization: Bearer ${KEYS[name]}`];
    const ids: string[] = [];
    for (let at = 0; at < 70; at++) {
      const id = `key-${context.seed}-${at}`;
      const body = JSON.stringify({ ...SMALL, num_inference_steps: 50, request_id: id });
      const parts = request(guarded.port, { target: "/queue/x", body, headers: key("a") });
      const { status } = await exchange(guarded.port, parts);
      context.expect("a job of a", status, [200, ...BUSY]);
      if (status === 200) ids.push(id);
    }
    const body = JSON.stringify(SMALL);
    const begun = performance.now();
    // From the same address, since it is the key that counts.
    const asked = request(guarded.port, { target: "/", body, headers: key("b") });
    await context.ask("key b", guarded, asked, [200], { timeoutMs: 50_000 });
    const seconds = (performance.now() - begun) / 1000;
    if (seconds > FAIR_S) context.breach(`key b waited for ${seconds.toFixed(0)} s`);
    for (const id of ids) {
      await exchange(
        guarded.port,
        request(guarded.port, { method: "DELETE", target: `/jobs/${id}`, headers: key("a") }),
      );
    }
  });
  await context.case("requests of one session beyond requests_per_minute", guarded, async () => {
    const client = await RealtimeClient.open(guarded.port, { headers: { Authorization: `Bearer ${KEYS.narrow}` } });
    context.expect("a key without the scope", client.told[0] ?? "open", ["refused 403"]);
    const allowed = await RealtimeClient.open(guarded.port, { headers: { Authorization: `Bearer ${KEYS.hasty}` } });
    const sent = REQUESTS_PER_MINUTE + 200;
    // The newest supersedes the one that waits, so few are drawn; each is a request all the same.
    for (let at = 0; at < sent; at++) allowed.send(encode({ ...SMALL, request_id: `r${at}` }));
    await allowed.until((word) => word === "HTTP_429", 20_000);
    const told = () =>
      new Set(allowed.messages.filter(({ error }) => error === "HTTP_429").map((message) => message.request_id)).size;
    // Messages are taken in turns of the loop.
    for (let waited = 0; waited < 10_000 && told() < 190; waited += 100) await sleep(100);
    const refused = told();
    context.expect("requests refused", refused >= 190 ? "enough" : `${refused} of ${sent}`, ["enough"]);
    await allowed.close();
  });
  await context.case("bad requests, 2,000", open, async () => {
    const bodies = ["{", "{}", "[]", '{"prompt":7}', '{"prompt":"x","width":1}', '{"prompt":"x","steps":3}'];
    for (let round = 0; round < context.scaled(40); round++) {
      const asked = Array.from({ length: 50 }, (_, at) =>
        exchange(port, request(port, { target: "/", body: bodies[at % bodies.length] })),
      );
      for (const { status } of await Promise.all(asked)) context.expect("a bad request", status, [400, 422, ...BUSY]);
    }
  });
  await context.case("jobs that are broken off at once", open, async () => {
    const text = JSON.stringify({ ...SMALL, num_inference_steps: 200 });
    for (let round = 0; round < context.scaled(200); round++) {
      const socket = deafSocket(port, ATTACKER);
      await send(socket, [
        `POST /stream HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
        10,
      ]);
      socket.destroy();
    }
    await fairly(context);
    context.expect("broken off", "closed", ["closed"]);
  });
}

/** Seconds that somebody else may wait for a small picture: the one under way, one of each other client, and their own. */
const FAIR_S = 30;

async function fairly(context: Attack): Promise<void> {
  const waiting = await metric(context.open, "daguerre_queue_depth");
  const begun = performance.now();
  try {
    await drawPicture(context.open);
  } catch (error) {
    context.breach(`while ${waiting} wait, somebody else gets ${(error as Error).message}`);
    return;
  }
  const seconds = (performance.now() - begun) / 1000;
  context.expect(
    "a picture for somebody else",
    seconds < FAIR_S ? "picture" : `picture after ${seconds.toFixed(0)} s`,
    ["picture"],
  );
}

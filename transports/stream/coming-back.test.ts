/**
 * One logical stream is one job, whatever a client does to come back: over GET or POST, with the id of its last event in a
 * header or in the query, with a name of its own for the request or without. `test/clients` does it with real clients.
 */
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { createParser } from "eventsource-parser";
import { afterEach, describe, expect, it } from "vitest";
import { eventNumber, gradientRun, until } from "../../test/gradient-run.ts";
import { seenJobs } from "../../test/seen-jobs.ts";
import { createApp } from "../app.ts";
import { createAuthenticator } from "../gate/auth.ts";
import { type Listening, listen } from "../http/listen.ts";

const open: Listening[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

async function serving(
  options: { keys?: string[]; stepMs?: number; silent?: Promise<void>; requestsPerMinute?: number } = {},
) {
  const { metrics, jobs } = seenJobs();
  const { keys = [], stepMs = 15, silent, requestsPerMinute } = options;
  const app = createApp({
    async *run(input, context) {
      await silent;
      yield* gradientRun()({ ...input, step_ms: stepMs, preview_every: 0 }, context);
    },
    health: () => ({}),
    jobs: { concurrency: 20 },
    metrics,
    gate: { authenticator: createAuthenticator({ keys: keys.map((key) => ({ name: key, key })) }), requestsPerMinute },
  });
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  return { url: server.url, jobs, app };
}

const INPUT = { prompt: "a hill", num_inference_steps: 30 };
const QUERY = "prompt=a%20hill&num_inference_steps=30";

interface Ask {
  readonly path?: string;
  readonly body?: object;
  readonly headers?: Record<string, string>;
  /** It breaks the connection off after so many events. */
  readonly leaveAfter?: number;
}

interface Heard {
  readonly status: number;
  readonly ids: string[];
  readonly types: string[];
  readonly text: string;
}

/** Asks as `node:http` does, which adds no header of its own. */
function ask(url: string, { path = "/stream", body, headers = {}, leaveAfter = Number.POSITIVE_INFINITY }: Ask) {
  return new Promise<Heard>((resolve, reject) => {
    const heard = { status: 0, ids: [] as string[], types: [] as string[], text: "" };
    const request = http.request(url + path, { method: body === undefined ? "GET" : "POST", agent: false, headers });
    request.on("error", reject);
    request.on("response", (response) => {
      heard.status = response.statusCode!;
      const parser = createParser({
        onEvent({ id, data }) {
          if (heard.ids.length >= leaveAfter) return;
          heard.ids.push(id!);
          heard.types.push(JSON.parse(data).type);
          if (heard.ids.length === leaveAfter) request.destroy();
        },
      });
      response.setEncoding("utf8");
      response.on("data", (text: string) => {
        heard.text += text;
        parser.feed(text);
      });
      response.on("error", () => {});
      response.on("close", () => resolve(heard));
    });
    request.end(body && JSON.stringify(body));
  });
}

const numbers = ({ ids }: Heard) => ids.map(eventNumber);
/** All numbers from the one after `first` to `last`. */
const upFrom = (first: number, last: number) => Array.from({ length: last - first }, (_, index) => first + 1 + index);
/** 30 steps between `queued` and the result. */
const LAST = 32;
const EVENT_SOURCE = { accept: "text/event-stream" };

describe("the id of an event", () => {
  it("names its job and its number", async () => {
    const { url, jobs } = await serving({ stepMs: 1 });
    const heard = await ask(url, { body: INPUT });
    expect(heard.ids).toEqual(upFrom(0, LAST).map((n) => `${jobs[0]!.id}:${n}`));
    const named = await ask(url, { body: { ...INPUT, request_id: "a:b.c-1" } });
    expect(named.ids.at(-1)).toBe(`a:b.c-1:${LAST}`);
  });
});

describe("a client that comes back", () => {
  const RETURNS: [string, (id: string) => Ask][] = [
    ["over POST, with the header", (id) => ({ body: INPUT, headers: { "last-event-id": id } })],
    ["over GET, with the header", (id) => ({ path: `/stream?${QUERY}`, headers: { "last-event-id": id } })],
    [
      "to the job, with the header",
      (id) => ({ path: `/stream/${id.split(":")[0]}`, headers: { "last-event-id": id } }),
    ],
    ...["lastEventId", "last_event_id", "last-event-id", "Last-Event-ID", "lastEventID", "evs_last_event_id"].flatMap(
      (name): [string, (id: string) => Ask][] => [
        [`over GET, with ?${name}=`, (id) => ({ path: `/stream?${QUERY}&${name}=${encodeURIComponent(id)}` })],
        [`over POST, with ?${name}=`, (id) => ({ path: `/stream?${name}=${encodeURIComponent(id)}`, body: INPUT })],
      ],
    ),
    [
      "with the newer id in the header",
      (id) => ({ path: `/stream?${QUERY}&lastEventId=${id.split(":")[0]}:1`, headers: { "last-event-id": id } }),
    ],
  ];

  it.each(RETURNS)("%s, goes on in its job, while it runs and after its end", async (_, comeBack) => {
    const { url, jobs } = await serving();
    const broken = await ask(url, { path: `/stream?${QUERY}`, headers: EVENT_SOURCE, leaveAfter: 4 });
    expect(numbers(broken)).toEqual([1, 2, 3, 4]);
    const rest = await ask(url, comeBack(broken.ids.at(-1)!));
    expect(numbers(rest)).toEqual(upFrom(4, LAST));
    expect(rest.types.at(-1)).toBe("result");
    expect(numbers(await ask(url, comeBack(rest.ids.at(-3)!)))).toEqual([LAST - 1, LAST]);
    // All was seen: 204 stops every EventSource.
    expect(await ask(url, comeBack(rest.ids.at(-1)!))).toMatchObject({ status: 204, text: "" });
    expect(jobs).toHaveLength(1);
  });

  it("without the id of an event goes on in the job that its name says", async () => {
    const { url, jobs } = await serving();
    const key = { "idempotency-key": "k" };
    const first = await ask(url, { body: INPUT, headers: key, leaveAfter: 4 });
    const second = await ask(url, { body: INPUT, headers: { ...key, "last-event-id": "4" }, leaveAfter: 4 });
    expect(numbers(second)).toEqual([5, 6, 7, 8]);
    expect(numbers(await ask(url, { body: INPUT, headers: { ...key, "last-event-id": "8" } }))).toEqual(
      upFrom(8, LAST),
    );
    const input = { ...INPUT, request_id: "mine" };
    const path = "/stream?resume_grace_s=5";
    await ask(url, { path, body: input, leaveAfter: 4 });
    const named = await ask(url, { path, body: input, headers: { "last-event-id": "4" }, leaveAfter: 4 });
    expect(numbers(named)).toEqual([5, 6, 7, 8]);
    // Nothing was seen: from the beginning.
    expect(numbers(await ask(url, { body: input }))).toEqual(upFrom(0, LAST));
    expect(numbers(await ask(url, { body: input, headers: { "last-event-id": "9" } }))).toEqual(upFrom(9, LAST));
    expect(await ask(url, { body: input, headers: { "last-event-id": `${LAST}` } })).toMatchObject({ status: 204 });
    expect(jobs.map(({ id }) => id)).toEqual([first.ids[0]!.split(":")[0], "mine"]);
  });

  const SILENT: [string, Ask][] = [
    ["GET", { path: `/stream?${QUERY}` }],
    ["POST", { body: INPUT }],
  ];

  it.each(SILENT)(
    "before the first event, as an EventSource may over %s, takes its job up again",
    async (method, how) => {
      let speak = () => {};
      const silent = new Promise<void>((resolve) => {
        speak = resolve;
      });
      const { url, jobs } = await serving({ stepMs: 1, silent });
      for (let times = 0; times < 3; times++) {
        const client = http.request(url + (how.path ?? "/stream"), { method, headers: EVENT_SOURCE, agent: false });
        client.on("error", () => {}).end(how.body && JSON.stringify(how.body));
        await until(() => jobs[0]?.log.readers === 1);
        client.destroy();
        await until(() => jobs[0]!.log.readers === 0);
      }
      const heard = ask(url, { ...how, headers: EVENT_SOURCE });
      await until(() => jobs[0]!.log.readers === 1);
      speak();
      expect(numbers(await heard)).toEqual(upFrom(0, LAST));
      expect(jobs).toHaveLength(1);
    },
  );

  it("counts against no rate, and comes back to a server that is about to end", async () => {
    const { url, jobs, app } = await serving({ requestsPerMinute: 1 });
    const heard = await ask(url, { body: INPUT, headers: EVENT_SOURCE, leaveAfter: 3 });
    expect((await ask(url, { body: INPUT, headers: EVENT_SOURCE })).status).toBe(429);
    const ended = app.drain(20_000);
    for (const how of [{ body: INPUT }, { path: `/stream?${QUERY}` }]) {
      const again = await ask(url, {
        ...how,
        headers: { ...EVENT_SOURCE, "last-event-id": heard.ids[2]! },
        leaveAfter: 2,
      });
      expect(numbers(again)).toEqual([4, 5]);
    }
    const rest = await ask(url, { path: `/stream?${QUERY}&lastEventId=${heard.ids[2]}` });
    expect(numbers(rest)).toEqual(upFrom(3, LAST));
    await ended;
    expect(jobs).toHaveLength(1);
  });

  it("with another input is refused", async () => {
    const { url, jobs } = await serving();
    const heard = await ask(url, { body: INPUT, headers: { "idempotency-key": "k" } });
    const lastEventId = { "last-event-id": heard.ids[3]! };
    const other = { ...INPUT, prompt: "a lake" };
    expect(await ask(url, { body: other, headers: lastEventId })).toMatchObject({
      status: 409,
      text: '{"detail":"The job of this id was asked for with another input"}',
    });
    expect((await ask(url, { path: "/stream?prompt=a%20lake", headers: lastEventId })).status).toBe(409);
    const key = { "idempotency-key": "k", "last-event-id": "4" };
    expect((await ask(url, { body: other, headers: key })).status).toBe(422);
    expect((await ask(url, { body: { num_inference_steps: 3 }, headers: lastEventId })).status).toBe(422);
    expect(jobs).toHaveLength(1);
  });

  it("to a job that is not there is told to stay away, and begins none", async () => {
    const { url, jobs } = await serving({ keys: ["mine", "yours"] });
    const mine = { authorization: "Bearer mine" };
    const yours = { authorization: "Bearer yours" };
    const { ids } = await ask(url, {
      body: { ...INPUT, request_id: "a" },
      headers: { ...mine, "idempotency-key": "k" },
    });
    expect(jobs).toHaveLength(1);
    for (const headers of [
      { ...yours, "last-event-id": ids[3]! },
      { ...yours, "last-event-id": "3", "idempotency-key": "k" },
      { ...mine, "last-event-id": "gone:3" },
      { ...mine, "last-event-id": "3" },
      // The key of a job, and the id of another.
      { ...mine, "last-event-id": "gone:3", "idempotency-key": "k" },
      { ...mine, "last-event-id": "%E0%A4%A:3" },
    ]) {
      expect(await ask(url, { body: INPUT, headers })).toMatchObject({ status: 204, text: "" });
      expect(
        await ask(url, { path: `/stream?${QUERY}&get`, headers: { ...headers, "idempotency-key": "" } }),
      ).toMatchObject({ status: 204, text: "" });
    }
    expect(jobs).toHaveLength(1);
  });

  it("with an id that is none is refused, and one that has seen nothing begins", async () => {
    const { url, jobs } = await serving({ stepMs: 1 });
    for (const id of ["-1", "abc", "0x1", "1.5", "1e3", "99999999999999999999", "3, 4", "a:", "a:b", "a:-1", ":3"]) {
      const headers = { "last-event-id": id };
      for (const how of [
        { body: INPUT, headers },
        { path: `/stream?${QUERY}`, headers },
      ]) {
        expect([id, (await ask(url, how)).status]).toEqual([id, 400]);
      }
    }
    expect(jobs).toHaveLength(0);
    expect(numbers(await ask(url, { path: `/stream?${QUERY}&lastEventId=` }))).toEqual(upFrom(0, LAST));
    expect(numbers(await ask(url, { body: INPUT, headers: { "last-event-id": "" } }))).toEqual(upFrom(0, LAST));
    expect(numbers(await ask(url, { body: INPUT, headers: { "last-event-id": "0" } }))).toEqual(upFrom(0, LAST));
    expect(jobs).toHaveLength(3);
    expect((await ask(url, { body: INPUT, headers: { "last-event-id": `${jobs[0]!.id}:99` } })).status).toBe(400);
    const mixed = { path: `/stream/${jobs[0]!.id}`, headers: { "last-event-id": `${jobs[1]!.id}:3` } };
    expect((await ask(url, mixed)).status).toBe(400);
  });
});

describe("a client that leaves", () => {
  const STAYS: [string, Ask, boolean][] = [
    ["an EventSource", { path: `/stream?${QUERY}`, headers: EVENT_SOURCE }, true],
    ["one of its kind over POST", { body: INPUT, headers: EVENT_SOURCE }, true],
    ["with an idempotency key", { body: INPUT, headers: { "idempotency-key": "k" } }, true],
    ["a GET that names its job", { path: `/stream?${QUERY}&request_id=a` }, true],
    ["a POST", { body: INPUT }, false],
    ["a POST that names its job", { body: { ...INPUT, request_id: "a" } }, false],
    ["a GET", { path: `/stream?${QUERY}` }, false],
    ["fal's for Node", { body: INPUT, headers: { ...EVENT_SOURCE, "user-agent": "@fal-ai/client/1.10.1" } }, false],
    ["fal's for Python", { body: INPUT, headers: { ...EVENT_SOURCE, "user-agent": "fal-client/0.9 (python)" } }, false],
    ["fal's in a page", { path: "/stream?fal_jwt_token=t", body: INPUT, headers: EVENT_SOURCE }, false],
    ["one that wants no wait", { path: "/stream?resume_grace_s=0", body: INPUT, headers: EVENT_SOURCE }, false],
  ];

  it.each(STAYS)("as %s: the job waits for it or not", async (_, how, waits) => {
    const { url, jobs } = await serving({ stepMs: 20 });
    await ask(url, { ...how, leaveAfter: 3 });
    await until(() => jobs[0]!.log.readers === 0);
    await sleep(60);
    expect(jobs[0]!.endedAt === undefined).toBe(waits);
    if (!waits) expect(jobs[0]!.state).toBe("cancelled");
  });
});

/**
 * Clients of event streams that nobody here wrote, unmodified, against a server in a process of its own: connections are
 * cut, the server stands still, a tab is hidden and shown. One logical stream stays one job, which comes to its result, and
 * no client begins it anew at its end.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSourcePolyfill } from "event-source-polyfill";
import { EventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../gradient-run.ts";
import { type Network, network, type Serving, serve } from "./serving.ts";

const STEPS = 130;
const STEP_MS = 80;
const INPUT = { prompt: "a hill", num_inference_steps: STEPS, preview_every: 20 };
const QUERY = `prompt=a%20hill&num_inference_steps=${STEPS}&preview_every=20`;

/** The events that a client has received. */
class Heard {
  readonly ids: string[] = [];
  readonly types: string[] = [];

  take({ id, data }: { id?: string | undefined; data: string }): void {
    this.ids.push(id!);
    this.types.push(JSON.parse(data).type);
  }

  get finished(): boolean {
    return this.types.at(-1) === "result";
  }
}

/** A client that follows one stream. */
interface Client {
  /** True if it has given up, or was told to stay away; left out where it cannot be told (see `polyfill`). */
  readonly closed?: () => boolean;
  readonly close: () => void;
  /** The page of the client is hidden, or shown. */
  readonly show?: (visible: boolean) => void;
}

type Connect = (url: string, heard: Heard) => Client;

/**
 * It cannot read an answer without a body, so 204 does not stop it: it asks again, ever more seldom, until its page closes
 * it. It begins no run by that.
 */
const polyfill =
  (query: string, lastEventIdQueryParameterName?: string): Connect =>
  (url, heard) => {
    // It comes back if nothing has come for so long.
    const options = {
      heartbeatTimeout: 3_000,
      ...(lastEventIdQueryParameterName && { lastEventIdQueryParameterName }),
    };
    const source = new EventSourcePolyfill(`${url}/stream?${query}`, options);
    source.onmessage = ({ data, lastEventId }) => heard.take({ id: lastEventId, data });
    source.onerror = () => {};
    return { close: () => source.close() };
  };

const eventSource =
  (path: string): Connect =>
  (url, heard) => {
    const source = new EventSource(url + path);
    source.onmessage = ({ data, lastEventId }) => heard.take({ id: lastEventId, data });
    return { closed: () => source.readyState === 2, close: () => source.close() };
  };

const eventSourceClient =
  (path: string, more: object): Connect =>
  (url, heard) => {
    const source = createEventSource({ url: url + path, onMessage: (message) => heard.take(message), ...more });
    return { closed: () => source.readyState === "closed", close: () => source.close() };
  };

/** It is made for pages: here is as much of one as it looks at. */
const page = Object.assign(new EventTarget(), { hidden: false });
Object.assign(globalThis, { document: page, window: globalThis });

const fetchSource: Connect = (url, heard) => {
  const stop = new AbortController();
  let closed = false;
  const options = {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(INPUT),
    signal: stop.signal,
    onmessage: (message: { id: string; data: string }) => heard.take(message),
  };
  void fetchEventSource(`${url}/stream`, options).finally(() => {
    closed = true;
  });
  const show = (visible: boolean) => {
    page.hidden = !visible;
    page.dispatchEvent(new Event("visibilitychange"));
  };
  return { closed: () => closed, close: () => stop.abort(), show };
};

const POST = { method: "POST", body: JSON.stringify(INPUT), headers: { "content-type": "application/json" } };

const CLIENTS: [string, Connect][] = [
  ["eventsource", eventSource(`/stream?${QUERY}`)],
  ["eventsource, of a named job", eventSource(`/stream?${QUERY}&request_id=named`)],
  ["eventsource-client over POST", eventSourceClient("/stream", POST)],
  ["eventsource-client over GET", eventSourceClient(`/stream?${QUERY}`, {})],
  ["event-source-polyfill", polyfill(QUERY)],
  ["event-source-polyfill, of a named job", polyfill(`${QUERY}&request_id=mine`)],
  ["event-source-polyfill with a parameter of its own", polyfill(QUERY, "last_event_id")],
  ["@microsoft/fetch-event-source over POST", fetchSource],
];

describe("one stream of", () => {
  let server: Serving;
  const networks: Network[] = [];
  beforeAll(async () => {
    server = await serve(STEP_MS);
  });
  afterAll(async () => {
    for (const each of networks) await each.close();
    await server.close();
  });

  // Side by side: each waits for seconds until its client comes back.
  it("each client is one job, over two cuts, a server that stands still, and a hidden tab", async () => {
    const runs = await Promise.all(
      CLIENTS.map(async ([name, connect]) => {
        const between = await network(server.url);
        networks.push(between);
        const heard = new Heard();
        const client = connect(between.url, heard);
        return { name, between, heard, client };
      }),
    );
    const allHave = (count: number) => until(() => runs.every(({ heard }) => heard.ids.length >= count), 30_000);
    await allHave(5);
    for (const { between } of runs) between.cut();
    await allHave(12);
    await server.pause(4_500);
    await allHave(15);
    for (const { client } of runs) client.show?.(false);
    await sleep(500);
    for (const { between } of runs) between.cut();
    for (const { client } of runs) client.show?.(true);
    await until(() => runs.every(({ heard }) => heard.finished), 60_000);
    // At its end each comes back by itself, is told that there is no more, and stays away if it can be told.
    const tellable = runs.filter(({ client }) => client.closed !== undefined);
    await until(() => tellable.every(({ client }) => client.closed?.()), 20_000);
    const connections = tellable.map(({ between }) => between.connections);
    await sleep(2_500);
    expect(tellable.map(({ between }) => between.connections)).toEqual(connections);
    for (const { client } of runs) client.close();

    for (const { name, heard, between } of runs) {
      const numbers = heard.ids.map((id) => Number(id.split(":").at(-1)));
      expect([name, new Set(heard.ids.map((id) => id.split(":")[0])).size]).toEqual([name, 1]);
      expect([name, numbers]).toEqual([name, [...new Set(numbers)].sort((one, other) => one - other)]);
      expect([name, heard.types.filter((type) => type === "result").length]).toEqual([name, 1]);
      expect(between.connections, name).toBeGreaterThanOrEqual(3);
    }
    expect(await server.jobs()).toBe(CLIENTS.length);
    expect(await server.busy()).toBe(0);
  });
});

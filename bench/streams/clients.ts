/**
 * A process of clients, so that their work is not the server's: `clients.ts URL SSE WEBSOCKET [stopped]`. Each reads to
 * the result and says whether its events had every number from 1 on; stopped ones read nothing at all.
 */
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { decode } from "@msgpack/msgpack";
import { createParser } from "eventsource-parser";
import { WebSocket } from "ws";

/** The events that a client has received. */
export interface StreamResult {
  readonly events: number;
  /** The first number that was missing; 0: none. */
  readonly gapAt: number;
  readonly result: boolean;
}

const [, , url = "", sse = "0", websocket = "0", how = ""] = process.argv;
/** Milliseconds between two clients' coming. */
const APART_MS = 2;

function counter() {
  const got = { events: 0, gapAt: 0, result: false };
  return {
    got: got as StreamResult,
    take(id: number, type: string) {
      got.events++;
      if (id !== got.events && got.gapAt === 0) got.gapAt = got.events;
      if (type === "result") got.result = true;
    },
  };
}

function stream(): Promise<StreamResult> {
  return new Promise((resolve, reject) => {
    const { got, take } = counter();
    const parser = createParser({
      onEvent: ({ id, data }) =>
        take(Number(id?.split(":").at(-1)), data.startsWith('{"type":"result"') ? "result" : ""),
    });
    const request = http.get(`${url}/stream/job`, { agent: false }, (response) => {
      response.on("error", () => resolve(got));
      if (how === "stopped") return void response.pause();
      response.setEncoding("latin1");
      response.on("data", (text: string) => parser.feed(text));
      response.on("end", () => resolve(got));
    });
    request.on("error", how === "stopped" ? () => {} : reject);
  });
}

function session(): Promise<StreamResult> {
  return new Promise((resolve, reject) => {
    const { got, take } = counter();
    const socket = new WebSocket(`${url.replace("http", "ws")}/realtime`);
    socket.on("open", () => {
      socket.send("{}");
      if (how === "stopped") socket.pause();
    });
    socket.on("message", (data: Buffer, binary) => {
      if (!binary) return;
      const { event_id, type } = decode(data) as { event_id: number; type: string };
      take(event_id, type);
      if (type === "result") socket.close();
    });
    socket.on("close", () => resolve(got));
    socket.on("error", reject);
  });
}

async function all(count: number, one: () => Promise<StreamResult>): Promise<StreamResult[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => sleep(index * APART_MS).then(one)));
}

const [streams, sessions] = await Promise.all([all(Number(sse), stream), all(Number(websocket), session)]);
process.send?.({ streams, sessions });
process.disconnect?.();

/** Clients that ask and do not read: answers in JSON, streams, sessions, many requests on one connection. */
import type net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { encode } from "@msgpack/msgpack";
import { type Attack, drawPicture, mib, SMALL } from "./attack.ts";
import { deafSocket, exchange, HONEST, request, send } from "./raw-http.ts";
import { RealtimeClient } from "./realtime-client.ts";

/** Pictures that do not shrink, so that an answer is large: noise is what one step leaves. */
const LARGE = {
  prompt: "x",
  width: 512,
  height: 512,
  num_inference_steps: 1,
  num_images: 2,
  output_format: "png",
} as const;
/**
 * The bytes that unread answers may make the server hold, besides the socket's buffers. A result of 300 is 0.6 MiB
 * each.
 */
const HELD_BYTES = 96 * 2 ** 20;
/** A reader that takes nothing is ended after two minutes; somewhat later is in time. */
const UNREAD_MS = 150_000;

export async function attack(context: Attack): Promise<void> {
  const { open } = context;
  const { port } = open;
  const head = (target: string) => `GET ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;
  const post = (target: string, body: object) => {
    const text = JSON.stringify(body);
    return `POST ${target} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
  };
  const result = `result-${context.seed}`;
  /** Whose answers are still unread at the end. */
  const unread: net.Socket[] = [];

  /** The memory in use while nobody reads, after collection. */
  const holdsLittle = async (before: number) => {
    const { heapBytes, externalBytes } = await open.watch("collect");
    const rise = heapBytes + externalBytes - before;
    if (rise > HELD_BYTES) context.breach(`unread answers hold ${mib(rise)} MiB`);
  };
  const holding = async () => {
    const { heapBytes, externalBytes } = await open.watch("collect");
    return heapBytes + externalBytes;
  };

  // The others ask for it; it is no attack itself.
  const asked = context.share < 1 ? { ...LARGE, width: 256, height: 256 } : LARGE;
  await exchange(port, request(port, { target: "/queue/x", body: JSON.stringify({ ...asked, request_id: result }) }), {
    from: HONEST,
  });
  for (let round = 0; round < 100; round++) {
    const answer = await exchange(port, request(port, { target: `/queue/x/requests/${result}` }), { from: HONEST });
    if (answer.status === 200) break;
    await sleep(250);
  }
  await context.begin(open);

  await context.case("300 pipelined GETs of one result", open, async () => {
    const before = await holding();
    const socket = deafSocket(port);
    await send(socket, [head(`/queue/x/requests/${result}`).repeat(300)]);
    await sleep(1_500);
    context.expect("unread", socket.destroyed ? "closed" : "open", ["open", "closed"]);
    await holdsLittle(before);
    socket.destroy();
  });
  for (const target of [`/stream/${result}`, `/jobs/${result}`, "/metrics", "/openapi.json", "/docs", "/", "/health"]) {
    await context.case(`500 pipelined GETs of ${target.replace(result, "JOB")}`, open, async () => {
      const before = await holding();
      const socket = deafSocket(port);
      await send(socket, [head(target).repeat(500)]);
      await sleep(1_000);
      context.expect("unread", socket.destroyed ? "closed" : "open", ["open", "closed"]);
      await holdsLittle(before);
      socket.destroy();
    });
  }
  await context.case("answers in JSON, unread", open, async () => {
    const before = await holding();
    for (let at = 0; at < 5; at++) {
      const socket = deafSocket(port);
      unread.push(socket);
      await send(socket, [head(`/queue/x/requests/${result}`).repeat(3)]);
    }
    await sleep(500);
    await holdsLittle(before);
  });
  await context.case("pictures asked for, unread", open, async () => {
    const before = await holding();
    const sockets = Array.from({ length: context.scaled(20) }, () => deafSocket(port));
    for (const socket of sockets) await send(socket, [post("/", { ...SMALL, output_format: "png" })]);
    await sleep(2_000);
    await drawPicture(open);
    await holdsLittle(before);
    for (const socket of sockets) socket.destroy();
  });
  await context.case("streams with previews, unread", open, async () => {
    const before = await holding();
    const asked = { ...SMALL, num_inference_steps: 20, preview_every: 1, preview_format: "png" };
    const sockets = Array.from({ length: context.scaled(40) }, () => deafSocket(port));
    for (const socket of sockets) await send(socket, [post("/stream", asked)]);
    await sleep(2_000);
    await holdsLittle(before);
    for (const socket of sockets) socket.destroy();
    await drawPicture(open);
  });
  await context.case("400 watchers of one job, deaf", open, async () => {
    const before = await holding();
    const sockets = Array.from({ length: context.scaled(400) }, () => deafSocket(port));
    for (const socket of sockets) await send(socket, [head(`/stream/${result}`)]);
    await sleep(1_500);
    await holdsLittle(before);
    for (const socket of sockets) socket.destroy();
  });
  await context.case("sessions with previews, unread", open, async () => {
    const before = await holding();
    const clients = await Promise.all(Array.from({ length: context.scaled(30) }, () => RealtimeClient.open(port)));
    for (const client of clients) {
      client.raw.pause();
      client.send(encode({ ...SMALL, num_inference_steps: 10, preview_every: 1, preview_format: "png" }));
    }
    await sleep(3_000);
    await holdsLittle(before);
    for (const client of clients) client.socket.terminate();
    await drawPicture(open);
  });
  for (const [what, frame] of Object.entries(ANSWERED_FRAMES)) {
    await context.case(`answers to ${what}, unread`, open, async () => {
      const before = await holding();
      const clients = await Promise.all(Array.from({ length: 4 }, () => RealtimeClient.open(port)));
      const bytes = frame();
      for (const client of clients) {
        if (!client.open) continue;
        client.raw.pause();
        for (let round = 0; round < Math.max(1, Math.round(2e7 / bytes.length / 200)); round++) {
          if (client.socket.bufferedAmount > 64 * 2 ** 20) break;
          client.send(bytes);
        }
      }
      await sleep(1_500);
      await holdsLittle(before);
      for (const client of clients) client.socket.terminate();
    });
  }
  await context.case("pings, unread", open, async () => {
    const client = await RealtimeClient.open(port);
    client.raw.pause();
    const ping = Buffer.concat([Buffer.from([0x89, 0xfd, 0, 0, 0, 0]), Buffer.alloc(125)]);
    const many = Buffer.concat(Array.from({ length: 1_000 }, () => ping));
    for (let round = 0; round < context.scaled(400) && !client.raw.destroyed; round++) {
      await Promise.race([send(client.raw, [many]), sleep(200)]);
    }
    context.expect("pings", client.open ? "open" : "closed", ["open", "closed"]);
    client.socket.terminate();
  });
  if (context.left < UNREAD_MS) {
    context.skip("that unread answers are ended after two minutes", `it takes ${UNREAD_MS / 1000} s`);
  } else {
    await context.case(
      "unread answers are ended",
      open,
      async () => {
        // Nothing is read until the end is looked for: it is told by the kernel once what came before it is taken.
        await sleep(UNREAD_MS);
        await Promise.all(
          unread.map(async (socket) => {
            const closed = new Promise((resolve) => socket.once("close", resolve));
            socket.resume();
            const still = sleep(5_000, "still open");
            context.expect(
              "an unread answer",
              socket.destroyed ? "closed" : await Promise.race([closed.then(() => "closed"), still]),
              ["closed"],
            );
          }),
        );
      },
      UNREAD_MS + 30_000,
    );
  }
  for (const socket of unread) socket.destroy();
}

/** Frames that are each answered at once. */
const ANSWERED_FRAMES: Record<string, () => Uint8Array> = {
  "cancels of an id of 20 MiB": () => encode({ type: "cancel", request_id: "\u0000".repeat(20 * 2 ** 20) }),
  "cancels of a short id": () => encode({ type: "cancel", request_id: "nobody" }),
  "updates of nobody": () => encode({ type: "update", request_id: "nobody", prompt: "x" }),
  "bad requests": () => encode({ request_id: "x".repeat(128), prompt: 7, width: 1, height: 1, steps: 1 }),
  "requests that supersede each other": () => encode({ ...SMALL, request_id: undefined }, { ignoreUndefined: true }),
};

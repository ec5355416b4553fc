/** Requests, bodies and frames that come slowly, or by half: what a server holds for them, and who is served meanwhile. */
import type net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { type Attack, drawPicture, mib } from "./attack.ts";
import { ATTACKER, deafSocket, exchange, request, send } from "./raw-http.ts";
import { frameHead, RealtimeClient, upgradeHeaders } from "./realtime-client.ts";

const BODY = 26 * 2 ** 20;
const CHUNK = Buffer.alloc(64 * 1024, "a");
/** Milliseconds for which halves are held before somebody looks. */
const HELD_MS = 2_000;
/** The answer to a request that was ended for its slowness; or its connection is closed. */
const ENDED = [400, 408, 413, 429, 503, "closed", "open"];
/** How many of a crowd write at a time: what a client's machine can do, not what the server must bear. */
const WRITERS = 50;

export async function attack(context: Attack): Promise<void> {
  const { open } = context;
  const { port } = open;

  await context.case("half-sent bodies of 26 MiB", open, async () => {
    const count = context.scaled(1_000);
    const head = (index: number) =>
      `POST ${["/", "/stream", "/queue/x", "/v1/images/generations"][index % 4]} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: ${BODY}\r\n\r\n{"prompt":"`;
    await crowd(context, count, head, BODY / 2);
  });
  await context.case("half-sent bodies, chunked", open, async () => {
    const size = CHUNK.length.toString(16);
    const head = () =>
      `POST / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nTransfer-Encoding: chunked\r\n\r\n${(BODY / 2).toString(16)}\r\n`;
    context.expect("a chunk", size, ["10000"]);
    await crowd(context, context.scaled(200), head, BODY / 2);
  });
  await context.case("half-sent forms", open, async () => {
    const head = () =>
      `POST /v1/images/edits HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: ${BODY}\r\n\r\n--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n`;
    await crowd(context, context.scaled(200), head, BODY / 2);
  });
  await context.case("half-sent frames", open, async () => {
    // 32 sessions of an address: several addresses.
    const count = context.scaled(320);
    const sockets: net.Socket[] = [];
    try {
      await inTurns(count, async (index) => {
        const socket = deafSocket(port, `127.0.0.${10 + (index % 10)}`);
        sockets.push(socket);
        const upgrade = request(port, { target: "/realtime", headers: upgradeHeaders() });
        socket.resume();
        await send(socket, upgrade);
        await sleep(50);
        await push(context, socket, frameHead(2, BODY), BODY / 2);
      });
      await served(context);
    } finally {
      end(sockets);
    }
  });
  await context.case("frames in fragments without end", open, async () => {
    const clients = await Promise.all(Array.from({ length: context.scaled(20) }, () => RealtimeClient.open(port)));
    await Promise.all(
      clients.map(async (client, at) => {
        const socket = client.raw;
        await send(socket, [frameHead(2, 1, false), "a"]);
        // Fragments of a byte, which cost more to keep than they say.
        const few = Buffer.concat(
          Array.from({ length: 1_000 }, () => Buffer.concat([frameHead(0, 1, false), Buffer.from("a")])),
        );
        for (let round = 0; round < 200 && !socket.destroyed && !context.isOver(open); round++)
          await send(socket, [few]);
        context.expect(`client ${at}`, client.open ? "open" : "closed", ["open", "closed"]);
      }),
    );
    await served(context);
    for (const client of clients) client.socket.terminate();
  });
  await context.case("headers, a byte at a time", open, async () => {
    const head = request(port, { target: "/health" })[0] as string;
    const asked = Array.from({ length: context.scaled(200) }, () =>
      exchange(
        port,
        [...head.slice(0, -2)].flatMap((byte) => [byte, 150]),
        { timeoutMs: HELD_MS + 1_000 },
      ),
    );
    await sleep(HELD_MS);
    await served(context);
    for (const { status } of await Promise.all(asked)) context.expect("headers that do not end", status, ENDED);
  });
  await context.case("bodies, a byte at a time", open, async () => {
    const parts = [`POST / HTTP/1.1\r\nHost: x.localhost\r\nContent-Length: 100000\r\n\r\n`];
    const asked = Array.from({ length: context.scaled(200) }, () =>
      exchange(port, [...parts, ...Array.from({ length: 60 }, () => ["a", 100]).flat()], {
        timeoutMs: HELD_MS + 1_000,
      }),
    );
    await sleep(HELD_MS);
    await served(context);
    for (const { status } of await Promise.all(asked)) context.expect("a body that does not end", status, ENDED);
  });
  await context.case("bodies in a million chunks of a byte", open, async () => {
    const body = Buffer.alloc(6 * 500_000, "1\r\na\r\n");
    const head = `POST / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n`;
    await context.ask("chunks", open, [head, body, body, "0\r\n\r\n"], [400, 413, 422, "closed"]);
  });
  await context.case("clients that break off within a body", open, async () => {
    // That is no error of the server's: nothing of it is logged as one.
    for (let round = 0; round < 20; round++) {
      const socket = deafSocket(port);
      await send(socket, [`POST / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: 1000\r\n\r\n{"prompt":`, 10]);
      if (round % 2 === 0) socket.resetAndDestroy();
      else socket.destroy();
    }
    await sleep(300);
    context.expect("broken off", "closed", ["closed"]);
  });
  await context.case("connections that say nothing", open, async () => {
    const sockets = Array.from({ length: context.scaled(2_000) }, () => deafSocket(port));
    await sleep(500);
    await served(context);
    end(sockets);
    await sleep(500);
  });
  if (context.left < 90_000) context.skip("that halves are ended within limits.request_seconds", "it takes 75 s");
  else {
    await context.case(
      "halves are ended in time",
      open,
      async () => {
        const texts = ["GET /health HT", `POST / HTTP/1.1\r\nHost: x.localhost\r\nContent-Length: 9\r\n\r\n{`, ""];
        const asked = texts.map((text) => exchange(port, text === "" ? [] : [text], { timeoutMs: 75_000 }));
        for (const { status } of await Promise.all(asked)) context.expect("a half", status, [400, 408, "closed"]);
      },
      90_000,
    );
  }
}

/** Connections that each send a head and then `bytes` of a body, and hold on; the honest client is served meanwhile. */
async function crowd(context: Attack, count: number, head: (index: number) => string, bytes: number): Promise<void> {
  const sockets: net.Socket[] = [];
  try {
    await inTurns(count, async (index) => {
      if (context.isOver(context.open)) return;
      const socket = deafSocket(context.open.port, ATTACKER);
      sockets.push(socket);
      let said = "";
      socket.on("data", (data) => {
        said += data.toString("latin1").slice(0, 100);
      });
      socket.once("close", () => {
        const status = /^HTTP\/1.1 (\d{3})/.exec(said)?.[1];
        context.expect("a half-sent body", status === undefined ? "closed" : Number(status), ENDED);
      });
      await push(context, socket, head(index), bytes);
    });
    await served(context);
  } finally {
    end(sockets);
    // Their ends are counted.
    await sleep(200);
  }
}

/** Writes until `bytes` have gone, the server takes no more for a second, or it holds too much. */
async function push(context: Attack, socket: net.Socket, head: string | Uint8Array, bytes: number): Promise<void> {
  socket.resume();
  const stuck = sleep(2_000);
  const pushing = (async () => {
    await send(socket, [head]);
    for (let sent = 0; sent < bytes && !socket.destroyed && !context.isOver(context.open); sent += CHUNK.length) {
      await send(socket, [CHUNK]);
    }
  })();
  await Promise.race([pushing, stuck]);
}

async function inTurns(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(WRITERS, count) }, worker));
}

/** The honest client gets a picture while all this is held. */
async function served(context: Attack): Promise<void> {
  await sleep(500);
  if (context.isOver(context.open)) context.breach(`the process holds ${mib(context.open.memory().rss)} MiB`);
  const begun = performance.now();
  await drawPicture(context.open);
  const took = performance.now() - begun;
  context.expect("a picture meanwhile", took < 30_000 ? "picture" : `picture after ${took.toFixed(0)} ms`, ["picture"]);
}

function end(sockets: readonly net.Socket[]): void {
  for (const socket of sockets) socket.destroy();
}

/**
 * One answer at a time on a connection.
 *
 * A client may send requests without waiting for answers (RFC 9112, section 9.3.2), and Node hands them all over at once:
 * three hundred requests for one large result would be three hundred results in memory, of which one can be sent. So a
 * request waits here until the one before it has been answered.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Account, Hold } from "../../src/jobs/account.ts";
import { beginning } from "../../src/platform/turns.ts";

/** Requests that may wait on a connection; one that sends more is closed. */
const MAX_WAITING = 4_096;

/** Bytes of a request that waits, its headers parsed. */
const REQUEST_BYTES = 4 * 1024;

interface Connection {
  /** An answer is under way. */
  busy: boolean;
  readonly waiting: (() => void)[];
  readonly hold: Hold;
}

const connections = new WeakMap<Socket, Connection>();

/** Calls `answer` now, or when the answers before it on this connection have ended. */
export function inTurn(request: IncomingMessage, response: ServerResponse, account: Account, answer: () => void): void {
  // Over HTTP/2 requests are streams of their own, with flow control of their own.
  if (request.httpVersionMajor !== 1) {
    begin(answer);
    return;
  }
  const { socket } = request;
  const connection = connections.get(socket) ?? open(socket, account);
  const { waiting, hold } = connection;
  response.once("close", () => {
    const next = waiting.shift();
    hold.resize(waiting.length * REQUEST_BYTES);
    if (next === undefined) connection.busy = false;
    else next();
  });
  if (!connection.busy) {
    connection.busy = true;
    begin(answer);
    return;
  }
  // A client that has gone meanwhile wants nothing any more.
  waiting.push(() => begin(() => !socket.destroyed && answer()));
  if (waiting.length > MAX_WAITING || !hold.resize(waiting.length * REQUEST_BYTES)) socket.destroy();
}

/** However many requests come at once, so many begin in a turn of the event loop. */
export function begin(answer: () => void): void {
  const turn = beginning();
  if (turn === undefined) answer();
  else void turn.then(answer);
}

function open(socket: Socket, account: Account): Connection {
  const hold = account.open("bodies", `address:${socket.remoteAddress}`, () => socket.destroy());
  const connection: Connection = { busy: false, waiting: [], hold };
  connections.set(socket, connection);
  socket.once("close", () => hold.release());
  return connection;
}

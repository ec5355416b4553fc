/**
 * One answer at a time on a connection.
 *
 * A client may send requests without waiting for answers (RFC 9112, section 9.3.2), and Node hands them all over at once:
 * three hundred requests for one large result would be three hundred results in memory, of which one can be sent. So a
 * request waits here until the one before it has been answered.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Requests that may wait on a connection; one that sends more is closed. */
const MAX_WAITING = 4_096;

interface Connection {
  readonly waiting: (() => void)[];
}

const connections = new WeakMap<Socket, Connection>();

/** Calls `answer` now, or when the answers before it on this connection have ended. */
export function inTurn(request: IncomingMessage, response: ServerResponse, answer: () => void): void {
  // Over HTTP/2 requests are streams of their own, with flow control of their own.
  if (request.httpVersionMajor !== 1) {
    answer();
    return;
  }
  const { socket } = request;
  const before = connections.get(socket);
  const connection = before ?? { waiting: [] };
  response.once("close", () => {
    const next = connection.waiting.shift();
    if (next === undefined) connections.delete(socket);
    else next();
  });
  if (before === undefined) {
    connections.set(socket, connection);
    answer();
    return;
  }
  if (connection.waiting.length >= MAX_WAITING) {
    socket.destroy();
    return;
  }
  connection.waiting.push(() => {
    // Who has gone meanwhile wants nothing any more.
    if (!socket.destroyed) answer();
  });
}

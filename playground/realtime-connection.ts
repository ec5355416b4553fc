/**
 * Runs over one WebSocket that stays open, in msgpack: the server answers the newest request and drops what it had
 * waiting for this page. Pictures come and go as bytes.
 */
import { decode, encode } from "@msgpack/msgpack";
import { type Connection, freshId, type Input, type RunListener } from "./connection.ts";
import { failureIn, runEvent } from "./wire-events.ts";

/** Close codes after which another attempt makes no sense (RFC 6455, section 7.4.1): refused, too large. */
const FINAL_CODES = new Set([1008, 1009]);

export function realtimeConnection(address: URL): Connection {
  const url = new URL(address);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const listeners = new Map<string, RunListener>();
  let socket: WebSocket | undefined;
  /** Sent once the socket is open. */
  let unsent: (() => void)[] = [];
  let closed = false;

  function open(): WebSocket {
    if (socket !== undefined && socket.readyState <= WebSocket.OPEN) return socket;
    const opening = new WebSocket(url);
    opening.binaryType = "arraybuffer";
    socket = opening;
    opening.addEventListener("open", () => {
      for (const send of unsent.splice(0)) send();
    });
    opening.addEventListener("message", ({ data }) => {
      if (data instanceof ArrayBuffer) hear(decode(data) as Record<string, unknown>);
    });
    opening.addEventListener("close", ({ code, reason }) => {
      if (socket === opening) socket = undefined;
      unsent = [];
      const failure = FINAL_CODES.has(code)
        ? { status: code === 1009 ? 413 : 403, detail: reason }
        : { status: code === 1013 ? 503 : 0, detail: "broken" };
      const broken = [...listeners.values()];
      listeners.clear();
      if (!closed) for (const listener of broken) listener.failed(failure);
    });
    return opening;
  }

  function hear(wire: Record<string, unknown>): void {
    const id = String(wire.request_id);
    const listener = listeners.get(id);
    if (listener === undefined) return;
    if (wire.type === "error") {
      listeners.delete(id);
      const failure = failureIn(wire);
      // 499 without our having called it off: a newer request took its place.
      if (failure.status === 499) listener.superseded();
      else listener.failed(failure);
      return;
    }
    const event = runEvent(wire);
    if (event === undefined) return;
    if (event.type === "result") listeners.delete(id);
    listener.event(event);
  }

  function send(message: Record<string, unknown>): void {
    const opening = open();
    const go = () => opening.send(encode(message, { ignoreUndefined: true }));
    if (opening.readyState === WebSocket.OPEN) go();
    else unsent.push(go);
  }

  open();
  return {
    run(input: Input, listener, { replace }) {
      const request_id = freshId();
      listeners.set(request_id, listener);
      send({ ...input, request_id, interrupt: replace === "interrupt" });
      return () => {
        if (listeners.delete(request_id)) send({ type: "cancel", request_id });
      };
    },
    close() {
      closed = true;
      socket?.close(1000);
    },
  };
}

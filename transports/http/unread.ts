/**
 * Clients that ask and do not read. Bytes that were written to a connection stay in memory until they are taken, so a
 * connection of which nothing is taken for long is closed, whatever kind of answer it is.
 */
import type { ServerResponse } from "node:http";

/** Parts of the time limit after which all are looked at again. */
const LOOKS = 8;

interface Progress {
  /** Bytes that the client's machine has taken. */
  accepted: number;
  since: number;
}

/** @param limitMs milliseconds without a byte taken */
export function watchReaders(limitMs: number): { watch(response: ServerResponse): void } {
  const answers = new Map<ServerResponse, Progress>();
  let timer: NodeJS.Timeout | undefined;

  function look(): void {
    const now = performance.now();
    for (const [response, progress] of answers) {
      const { socket } = response;
      // It waits for the answer before it.
      if (socket === null) continue;
      const waiting = socket.writableLength;
      const accepted = socket.bytesWritten - waiting;
      if (waiting === 0 || accepted !== progress.accepted) Object.assign(progress, { accepted, since: now });
      else if (now - progress.since > limitMs) response.destroy();
    }
  }

  return {
    watch(response) {
      answers.set(response, { accepted: 0, since: performance.now() });
      timer ??= setInterval(look, limitMs / LOOKS).unref();
      response.once("close", () => {
        answers.delete(response);
        if (answers.size > 0) return;
        clearInterval(timer);
        timer = undefined;
      });
    },
  };
}

/** The two sockets between a host and its child process. */
import type { Socket } from "node:net";
import { encodeFrame } from "./frames.ts";

/** File descriptors of the child. */
export const FRAMES_FD = 3;
export const BEATS_FD = 4;

/** Milliseconds between two beats: a tenth of the shortest silence that means anything. */
export const BEAT_MS = 200;

/**
 * Resolves when the value's memory is needed no more, or will never be.
 * @throws TypeError for a value that cannot be copied
 */
export function writeFrame(socket: Socket, value: unknown): Promise<void> {
  const pieces = encodeFrame(value);
  return new Promise((resolve) => {
    socket.cork();
    for (const piece of pieces.slice(0, -1)) socket.write(piece);
    // A socket that is broken closes, and everybody hears of it there.
    socket.write(pieces.at(-1)!, () => resolve());
    socket.uncork();
  });
}

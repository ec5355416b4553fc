/** The memory that clients can make a server hold, as its settings bound it. */
import { HOLD_KINDS, MEMORY_BOUNDS, type MemoryBounds } from "../engine/account.ts";
import type { Config } from "./config.ts";

/**
 * Bytes of one connection that are on nobody's account: 64 KiB of a body and of an answer each, what was read of the next
 * request, its headers, and the objects of its socket.
 */
const CONNECTION_BYTES = 208 * 1024;
/**
 * Bytes of what is being worked on, whoever sent it: a picture of 4096 × 4096 that is decoded (once as it comes out of the
 * codec, once resized), the pictures of a result that are encoded, and messages that are taken apart.
 */
const WORKING_BYTES = 256 * 2 ** 20;

/** The bound of each kind; see `account.ts`. */
export function memoryBounds({ limits }: Pick<Config, "limits">): MemoryBounds {
  return {
    bodies: limits.bodies_bytes,
    answers: limits.answers_bytes,
    sessions: limits.sessions_bytes,
    // One more runs, whose input counts as well.
    waiting: limits.waiting_bytes + limits.body_bytes,
    // One job runs; the others have ended, or have said no more than that they wait.
    logs: limits.retained_bytes + limits.log_bytes,
    encoded: MEMORY_BOUNDS.encoded,
  };
}

/** Bytes over what the server takes by itself, at most, whatever its clients do. */
export function memoryBound(config: Pick<Config, "limits">): number {
  const bounds = memoryBounds(config);
  const held = HOLD_KINDS.reduce((sum, kind) => sum + bounds[kind], 0);
  return held + config.limits.connections * CONNECTION_BYTES + WORKING_BYTES;
}

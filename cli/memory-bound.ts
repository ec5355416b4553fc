/** The memory that clients can make a server hold, as its settings bound it. */
import { HOLD_KINDS, type HoldKind, MEMORY_BOUNDS, type MemoryBounds } from "../src/jobs/account.ts";
import type { Config } from "./config-schema.ts";

/**
 * Bytes of one connection that are on nobody's account: 64 KiB of a body and of an answer each, what was read of the next
 * request, its headers, and the objects of its socket.
 */
const CONNECTION_BYTES = 208 * 1024;
/** Bytes of a picture that is decoded, in the codec and as it comes out of it. */
const DECODING_BYTES = 160 * 2 ** 20;
/** Bytes of requests that are drawn at once: their pictures, and those of their results, which are encoded. */
export const DRAWING_BYTES = 320 * 2 ** 20;

/** The bound of each kind; see `account.ts`. */
export function memoryBounds({ limits }: Pick<Config, "limits">): MemoryBounds {
  return {
    bodies: limits.bodies_bytes,
    answers: limits.answers_bytes,
    sessions: limits.sessions_bytes,
    // Those that run count as well; a single one may be larger than all may be together.
    waiting: limits.waiting_bytes + Math.max(limits.body_bytes, DRAWING_BYTES),
    // Some jobs run; the others have ended, or have said no more than that they wait.
    logs: limits.retained_bytes + limits.running * limits.log_bytes,
    encoded: MEMORY_BOUNDS.encoded,
  };
}

/** The consequence at the bound of each kind, in the words of `docs/security.md`. */
const AT_THE_BOUND: Readonly<Record<HoldKind, readonly [what: string, setting: string, then: string]>> = {
  bodies: [
    "bodies and frames that arrive, beyond 64 KiB of each",
    "`limits.bodies_bytes`",
    "the slowest of the client that has the most is ended: 408, or 1013",
  ],
  answers: [
    "answers, events and webhooks that wait to be taken, beyond 64 KiB of each",
    "`limits.answers_bytes`",
    "the slowest of the client that has the most is cut off",
  ],
  sessions: [
    "WebSocket sessions: their defaults, and requests that wait in them",
    "`limits.sessions_bytes`",
    "503; a client may have as much as is left free",
  ],
  waiting: [
    "inputs of jobs that wait; of those that run, their pictures too (320 MiB together; a larger job runs alone)",
    "`limits.waiting_bytes`",
    "503; a client may have as much as is left free",
  ],
  logs: [
    "events and inputs of jobs that have ended, and events of those that run",
    "`limits.retained_bytes`; `limits.log_bytes` for each of `limits.running`",
    "the oldest of the client that has the most are forgotten",
  ],
  encoded: [
    "events that several clients read, as they are sent",
    "",
    "those that were not asked for longest are made anew",
  ],
};

const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;

/** The table of `docs/security.md`: each bound, what happens at it, and their sum. */
export function memoryTable(config: Pick<Config, "limits">): string {
  const bounds = memoryBounds(config);
  const rows = HOLD_KINDS.map((kind) => {
    const [what, setting, then] = AT_THE_BOUND[kind];
    return `| ${kind} | ${what} | ${setting} | ${mib(bounds[kind])} | ${then} |`;
  });
  const connections = config.limits.connections * CONNECTION_BYTES;
  return [
    "| kind | what is held | setting | default | at the bound |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    `| | 208 KiB of each connection: 64 of a body, 64 of an answer, the rest headers and sockets | \`limits.connections\` | ${mib(connections)} | more connections are closed at once |`,
    `| | a picture that is decoded | | ${mib(DECODING_BYTES)} | one at a time |`,
    `| **sum** | | | **${mib(memoryBound(config))}** | |`,
  ].join("\n");
}

/** Bytes over what the server takes by itself, at most, whatever its clients do. */
export function memoryBound(config: Pick<Config, "limits">): number {
  const bounds = memoryBounds(config);
  const holdBytes = HOLD_KINDS.reduce((sum, kind) => sum + bounds[kind], 0);
  return holdBytes + config.limits.connections * CONNECTION_BYTES + DECODING_BYTES;
}

/** The entries of a job's log as bytes, made once for all clients that ask for the same encoding at about the same time. */
import { LRUCache } from "lru-cache";
import { MEMORY_BOUNDS } from "../../src/jobs/account.ts";
import type { LogEntry } from "../../src/jobs/job-log.ts";
import type { Job } from "../../src/jobs/jobs.ts";
import { failureOf, type InputSource, isServerFault } from "../failure.ts";
import { type Envelope, errorEvent } from "../wire/wire.ts";
import type { Chunks } from "./outflow.ts";
import type { StreamFormat } from "./stream-format.ts";

export interface Frame {
  /** Undefined: nothing can be said, the connection just breaks off. */
  readonly chunks: Chunks | undefined;
  readonly failed: boolean;
}

/** Encodings of one entry that are shared. */
const MAX_ENCODINGS = 4;
/** Milliseconds for which an encoding without readers stays: the readers of a live job ask at about the same time. */
const ENCODING_MS = 2_000;
/** The encodings of each entry. */
const frames = new WeakMap<object, Map<string, Promise<Frame>>>();
/** The encodings that are shared, by when they were last asked for, each with the function that forgets it. */
const encodings = new LRUCache<Frame, () => void>({
  maxSize: MEMORY_BOUNDS.encoded,
  sizeCalculation: (_, { chunks }) => Math.max(chunks?.heldBytes ?? 0, 1),
  dispose: (forget) => forget(),
  ttl: ENCODING_MS,
  updateAgeOnGet: true,
  ttlAutopurge: true,
});

/** Bytes of events in the encodings in which several clients read them. */
export function encodedBytes(): number {
  return encodings.calculatedSize;
}

export interface FramesOptions {
  readonly contentType: string;
  readonly format: StreamFormat;
  readonly envelope: Envelope;
  readonly source: InputSource;
  readonly onError?: (error: unknown, requestId: string) => void;
}

/** The entries of one job in the encoding that one client has asked for. */
export class Frames<Input, Event> {
  readonly #job: Job<Input, Event>;
  readonly #options: FramesOptions;
  /** The encoding by name; clients with the same one share what is made. */
  readonly #encoding: string;

  constructor(job: Job<Input, Event>, options: FramesOptions) {
    const { contentType, envelope, source } = options;
    this.#job = job;
    this.#options = options;
    this.#encoding = JSON.stringify([contentType, envelope, source]);
  }

  async of(entry: LogEntry<Event>): Promise<Frame> {
    const shared = frames.get(entry) ?? new Map<string, Promise<Frame>>();
    const known = shared.get(this.#encoding);
    const making = known ?? this.#make(entry);
    // If nobody else follows the job it is not shared.
    const keep = known === undefined && this.#job.log.readers > 1 && shared.size < MAX_ENCODINGS;
    if (keep) frames.set(entry, shared.set(this.#encoding, making));
    const frame = await making;
    if (keep) encodings.set(frame, () => shared.delete(this.#encoding));
    else encodings.get(frame);
    return frame;
  }

  /** A picture that cannot be encoded fails the run like any other error. */
  async #make(entry: LogEntry<Event>): Promise<Frame> {
    const { format, envelope, source, onError } = this.#options;
    let fault: unknown;
    if ("error" in entry) fault = entry.error;
    else {
      try {
        return { chunks: await format.event(entry.id, entry.event, envelope), failed: false };
      } catch (error) {
        fault = error;
        this.#job.cancel(error);
      }
    }
    if (isServerFault(fault)) onError?.(fault, this.#job.id);
    return { chunks: format.error(entry.id, errorEvent(failureOf(fault, source), envelope)), failed: true };
  }
}

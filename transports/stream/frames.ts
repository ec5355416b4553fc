/** The entries of a job's log as bytes, made once for all who ask for them in the same form at about the same time. */
import { LRUCache } from "lru-cache";
import { MEMORY_BOUNDS } from "../../src/jobs/account.ts";
import type { LogEntry } from "../../src/jobs/job-log.ts";
import type { Job } from "../../src/jobs/jobs.ts";
import { failureOf, type InputSource, isServerFault } from "../failure.ts";
import { type Envelope, errorEvent } from "../wire/wire.ts";
import type { Said } from "./outflow.ts";
import type { StreamFormat } from "./stream-format.ts";

export interface Frame {
  /** Undefined: nothing can be said, the connection just breaks off. */
  readonly said: Said | undefined;
  readonly failed: boolean;
}

/** Forms of one entry that are shared. */
const MAX_FORMS = 4;
/** Milliseconds for which a form is shared that nobody asks for: those who follow a job live ask at about the same time. */
const FORM_MS = 2_000;
/** The forms of each entry. */
const frames = new WeakMap<object, Map<string, Promise<Frame>>>();
/** The forms that are shared, by when they were last asked for, each with the function that forgets it. */
const forms = new LRUCache<Frame, () => void>({
  maxSize: MEMORY_BOUNDS.encoded,
  sizeCalculation: (_, { said }) => Math.max(said?.heldBytes ?? 0, 1),
  dispose: (forget) => forget(),
  ttl: FORM_MS,
  updateAgeOnGet: true,
  ttlAutopurge: true,
});

/** Bytes of events in the forms in which several clients read them. */
export function encodedBytes(): number {
  return forms.calculatedSize;
}

export interface FramesOptions {
  readonly contentType: string;
  readonly format: StreamFormat;
  readonly envelope: Envelope;
  readonly source: InputSource;
  readonly onError?: (error: unknown, requestId: string) => void;
}

/** The entries of one job in the form that one client has asked for. */
export class Frames<Input, Event> {
  readonly #job: Job<Input, Event>;
  readonly #options: FramesOptions;
  /** The form by name; clients with the same one share what is made. */
  readonly #form: string;

  constructor(job: Job<Input, Event>, options: FramesOptions) {
    const { contentType, envelope, source } = options;
    this.#job = job;
    this.#options = options;
    this.#form = JSON.stringify([contentType, envelope, source]);
  }

  async of(entry: LogEntry<Event>): Promise<Frame> {
    const shared = frames.get(entry) ?? new Map<string, Promise<Frame>>();
    const known = shared.get(this.#form);
    const making = known ?? this.#make(entry);
    // If nobody else follows the job it is not shared.
    const keep = known === undefined && this.#job.log.readers > 1 && shared.size < MAX_FORMS;
    if (keep) frames.set(entry, shared.set(this.#form, making));
    const frame = await making;
    if (keep) forms.set(frame, () => shared.delete(this.#form));
    else forms.get(frame);
    return frame;
  }

  /** A picture that cannot be encoded fails the run like any other error. */
  async #make(entry: LogEntry<Event>): Promise<Frame> {
    const { format, envelope, source, onError } = this.#options;
    let fault: unknown;
    if ("error" in entry) fault = entry.error;
    else {
      try {
        return { said: await format.event(entry.id, entry.event, envelope), failed: false };
      } catch (error) {
        fault = error;
        this.#job.cancel(error);
      }
    }
    if (isServerFault(fault)) onError?.(fault, this.#job.id);
    return { said: format.error(entry.id, errorEvent(failureOf(fault, source), envelope)), failed: true };
  }
}

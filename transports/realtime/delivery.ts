/** A request of a session whose job was submitted, and how its outputs come to a line. */
import type { EncodedPicture } from "../../src/image/encode.ts";
import type { LogEntry, LogReader } from "../../src/jobs/job-log.ts";
import type { Job } from "../../src/jobs/jobs.ts";
import { CANCELLED, type Failure, failureOf, isServerFault } from "../failure.ts";
import { type PreviewPace, previewPace } from "../stream/preview-pace.ts";
import { pack } from "../wire/msgpack.ts";
import { type EncodeTracing, type Envelope, envelopeOfJob, errorEvent, wireEvent } from "../wire/wire.ts";
import type { Line } from "./line.ts";

export interface DeliveryOptions {
  /** Milliseconds for which the job goes on without a line. */
  readonly graceMs: number;
  readonly tracing?: EncodeTracing;
  readonly onError?: (error: unknown, requestId: string) => void;
  /** The job's outputs are no longer held. */
  readonly onLost: (requestId: string, error: unknown) => void;
  /** An error was sent; fal's client wants it a second time, in words of its own. */
  readonly failed: (requestId: string, failure: Failure) => void;
  /** Nothing more is sent for now: the job has ended, or the line is gone. */
  readonly paused: () => void;
}

const FOREVER = 2 ** 31 - 1;

export class Delivery<Input, Event> {
  readonly requestId: string;
  readonly job: Job<Input, Event>;
  /** Stopped in favour of a newer one, which is no error. */
  superseded = false;
  readonly #options: DeliveryOptions;
  readonly #envelope: Envelope;
  readonly #pace: PreviewPace;
  #line: Line | undefined;
  #reader: LogReader<Event> | undefined;
  /** The last event that was handed to a line. */
  #sent = 0;

  constructor(requestId: string, job: Job<Input, Event>, options: DeliveryOptions) {
    this.requestId = requestId;
    this.job = job;
    this.#options = options;
    this.#envelope = { ...envelopeOfJob(job, options.tracing), requestId };
    this.#pace = previewPace(this.#envelope.previews.maxFps);
  }

  /** True if its job waits or runs. */
  get running(): boolean {
    return this.job.endedAt === undefined;
  }

  /** True if a line takes its outputs. */
  get following(): boolean {
    return this.#reader !== undefined;
  }

  /**
   * Hands what the job says to `line`, until it has ended or the line is another.
   *
   * @param after the last event that the client has; left out: the last one that was handed to a line
   */
  async follow(line: Line, after: number = this.#sent): Promise<void> {
    const { graceMs, onLost: lost, paused } = this.#options;
    this.#sent = after;
    if (after >= this.job.log.lastId && this.job.log.ended) return;
    let reader: LogReader<Event>;
    try {
      const holdMs = (slot: string) => (line.clear ? this.#pace.holdMs(slot) : Number.POSITIVE_INFINITY);
      reader = this.job.watch({ after, graceMs, holdMs });
    } catch (error) {
      lost(this.requestId, error);
      return;
    }
    this.#line = line;
    this.#reader = reader;
    try {
      for (;;) {
        const read = await reader.next(FOREVER);
        if (read === "quiet") continue;
        if (read === "ended" || read === "lost" || this.#line !== line) break;
        await this.#deliver(read, line);
      }
    } catch {
      // The line broke while something was being sent; `#sent` says how far it came.
    } finally {
      reader.close();
      if (this.#reader === reader) this.#reader = undefined;
      paused();
    }
  }

  /** Nobody follows it yet: its job waits for a line, for a while. */
  wait(): void {
    this.job.watch({ graceMs: this.#options.graceMs }).close();
  }

  /** The line is broken. */
  detach(): void {
    this.#line = undefined;
    this.#reader?.close();
  }

  /** Looks again at what was held back. */
  wake(): void {
    this.#reader?.wake();
  }

  /** Sends nothing more, and cancels the job. */
  end(): void {
    this.detach();
    this.job.cancel();
  }

  async #deliver(read: LogEntry<Event>, line: Line): Promise<void> {
    if ("error" in read && this.superseded) {
      this.#sent = read.id;
      line.control({ type: "x-fal-message", action: "superseded", request_id: this.requestId });
      return;
    }
    const { message, failure } = await this.#messageOf(read);
    // The line may have been replaced while the picture was encoded.
    if (this.#line !== line) return;
    const frame = pack({ ...message, event_id: read.id });
    if (read.slot !== undefined) this.#pace.sent(read.slot);
    if (read.slot === "preview") line.previewSent();
    await line.send(frame);
    this.#sent = read.id;
    // Cancelling is what the client asked for: nothing for its error handler.
    if (failure !== undefined && failure.status !== CANCELLED) this.#options.failed(this.requestId, failure);
  }

  async #messageOf(read: LogEntry<Event>): Promise<{ message: Record<string, unknown>; failure?: Failure }> {
    if ("error" in read) return this.#failed(read.error);
    try {
      return { message: await wireEvent(read.event, this.#envelope, asBytes) };
    } catch (error) {
      this.job.cancel(error);
      return this.#failed(error);
    }
  }

  #failed(error: unknown) {
    const failure = failureOf(error);
    if (isServerFault(error)) this.#options.onError?.(error, this.requestId);
    return { message: errorEvent(failure, this.#envelope), failure };
  }
}

function asBytes({ bytes, content_type, width, height }: EncodedPicture) {
  return { content: bytes, content_type, width, height };
}

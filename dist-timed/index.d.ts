import { Context, Handler, Hono, MiddlewareHandler } from "hono";
import { IncomingMessage, Server, ServerResponse } from "node:http";
import { WebSocketServer } from "ws";
import { z } from "zod";
import { Duplex } from "node:stream";

//#region src/engine/events.d.ts
/**
 * What a run says while it runs.
 *
 * A run is one async generator. It yields `queued` and `progress` events, a `preview` every few steps, and one `result`
 * last; it throws when it cannot go on. There is no `error` event here: an error is a thrown error until a transport
 * writes it down for somebody on the other side of a wire (`transports/wire.ts`). Pictures are raw pixels for the same
 * reason: whoever holds the event decides whether it becomes a JPEG, a file, or a texture.
 */
/** A picture in memory: row by row from the top left, four bytes a pixel, never changed once it has been yielded. */
interface Picture {
  /** Pixels across. */
  readonly width: number;
  /** Pixels down. */
  readonly height: number;
  /** RGBA8, not premultiplied, `width * height * 4` bytes. */
  readonly rgba: Uint8Array;
}
/**
 * How latents became pixels: a 3-column matrix, the tiny autoencoder, or the model's own decoder.
 * The first is nearly free and blurry, the last is the truth.
 */
type PreviewDecoder = "linear" | "tiny" | "full";
/** Waiting for its turn; `position` is how many runs are ahead (0: next). */
interface QueuedEvent {
  readonly type: "queued";
  readonly position: number;
}
/** One denoising step is done. `step` counts from 1 to `steps`; `progress` is 0..1. */
interface ProgressEvent {
  readonly type: "progress";
  readonly step: number;
  readonly steps: number;
  readonly progress: number;
  /** Milliseconds since the run was admitted. */
  readonly elapsed_ms: number;
}
/** The picture as it stands after `step`. */
interface PreviewEvent {
  readonly type: "preview";
  readonly picture: Picture;
  readonly step: number;
  readonly steps: number;
  readonly progress: number;
  readonly decoder: PreviewDecoder;
}
/** The last event of a good run. */
interface ResultEvent {
  readonly type: "result";
  readonly pictures: readonly Picture[];
  /** The seed that was used, chosen or given; a bigint only where it is too large for a number. */
  readonly seed: number | bigint;
  readonly prompt: string;
  /** Milliseconds, by phase. */
  readonly timings: Readonly<Record<string, number>>;
  /** What the caller should know, such as words that did not fit into the text encoder. */
  readonly warnings?: readonly string[];
}
type RunEvent = QueuedEvent | ProgressEvent | PreviewEvent | ResultEvent;
//#endregion
//#region src/engine/job-errors.d.ts
/** Why a job was not taken, or is not there: errors that carry the HTTP status by which a transport tells them. */
type JobErrorCode = /** As many jobs wait as may: 503, with `retryAfter`. */"queue-full" /** The server takes no more jobs because it is stopping: 503, with `retryAfter`. */ | "draining" /** A job of this id is running: 409. */ | "id-in-use" /** The idempotency key was used with another input: 422. */ | "key-reused" /** No job has this id: 404. */ | "not-found" /** The job's log, or the part of it that was asked for, is gone: 410. */ | "log-gone" /** The place to resume from lies beyond the job's last event: 400. */ | "beyond-log" /** The job has ended and cannot be cancelled or changed any more: 400. */ | "already-completed";
/** Its message may be shown to a client. */
declare class JobError extends Error {
  readonly name = "JobError";
  readonly code: JobErrorCode;
  /** HTTP status. */
  readonly status: number;
  /** Seconds after which the same request may succeed. */
  readonly retryAfter: number | undefined;
  constructor(code: JobErrorCode, message: string, retryAfter?: number);
}
//#endregion
//#region src/engine/job-log.d.ts
type LogEntry<Event> = {
  /** From 1, without gaps at the time of appending. */readonly id: number; /** Entries of a slot replace each other; undefined: not droppable. */
  readonly slot: string | undefined; /** Its number among the entries of its slot, from 1; 0 without a slot. */
  readonly nth: number; /** What it counts for, in bytes. */
  readonly bytes: number;
} & ({
  readonly event: Event;
} | {
  readonly error: unknown;
});
/** What a reader gets: an entry; "quiet" when none came in time; "ended" after the last; "lost" when it fell too far behind. */
type LogRead<Event> = LogEntry<Event> | "quiet" | "ended" | "lost";
interface LogReader<Event> {
  /** The id of the last entry read. */
  readonly position: number;
  /** The next entry, waiting `withinMs` at most. One call at a time. */
  next(withinMs: number): Promise<LogRead<Event>>;
  /** Looks again whether an entry that was held back may go. */
  wake(): void;
  /** Gives up the place. Harmless when repeated. */
  close(): void;
}
interface ReaderOptions {
  /** The id of the last entry that is already known; 0: none. */
  readonly after?: number;
  /**
   * Milliseconds until an entry of this slot may be handed out; 0: now; Infinity: not before `wake`. While it is held, a
   * newer entry of any kind takes its place.
   */
  readonly holdMs?: (slot: string) => number;
  /** Told how many entries of a slot this reader was not given because newer ones came, or because it left. */
  readonly onDropped?: (slot: string, count: number) => void;
}
interface JobLog<Event> {
  readonly lastId: number;
  /** Bytes held. */
  readonly bytes: number;
  readonly ended: boolean;
  readonly readers: number;
  /** The entries still held, oldest first. */
  readonly entries: readonly LogEntry<Event>[];
  append(event: Event, options?: {
    slot?: string;
    keep?: boolean;
  }): LogEntry<Event>;
  /** Ends the log; with an error, which becomes the last entry, if one is given. */
  end(failure?: {
    readonly error: unknown;
  }): void;
  /** Whether the entry after `after` can still be had; says why not as the error that `read` would throw. */
  gone(after: number): JobError | undefined;
  /** @throws JobError `log-gone` or `beyond-log` */
  read(options?: ReaderOptions): LogReader<Event>;
  /** Settles when the producer may append more: when the fastest reader is near enough. */
  room(): Promise<void>;
  /** From now on `room` never waits: nobody is owed the entries. */
  runFree(): void;
  /** Forgets everything; readers are lost. */
  clear(): void;
}
interface LogLimits {
  /** Bytes held, at most; a single entry may be larger. */
  readonly bytes: number;
  /** Entries held, at most. */
  readonly entries: number;
  /** Entries without a slot by which the producer may be ahead of the fastest reader. */
  readonly ahead: number;
}
//#endregion
//#region src/engine/run.d.ts
/**
 * The one contract between what runs and whoever wants its events.
 *
 * A run is a function from an input to events: an async generator, a generator, an array, a `ReadableStream`, anything
 * that `for await` reads. The diffusion pipeline is one; a program's own (a transcription, a map over chunks) is served
 * the same way. A run is told to stop through its signal and ends by returning; it fails by throwing.
 */
interface RunContext {
  /** Aborts when the run is cancelled, is past its deadline, or nobody is there any more to read its events. */
  readonly signal: AbortSignal;
  /** The job's id, as the client sees it. */
  readonly requestId: string;
  /**
   * What was changed since this was last called, the changes laid over each other; undefined where nothing was.
   * A run that can take changes while it runs calls it before each step; others leave it alone.
   */
  readonly takeUpdate?: () => Readonly<Record<string, unknown>> | undefined;
}
type Run<Input, Event> = (input: Input, context: RunContext) => AsyncIterable<Event>;
/** All that is taken for a run: what it gives may also come at once (a generator, an array), or be promised. */
type AnyRun<Input, Event> = (input: Input, context: RunContext) => AsyncIterable<Event> | Iterable<Event> | Promise<AsyncIterable<Event> | Iterable<Event>>;
//#endregion
//#region src/engine/jobs.d.ts
type JobState = "queued" | "running" | "completed" | "failed" | "cancelled";
interface Job<Input, Event> {
  readonly id: string;
  /** Whose it is, as `submit` was told; undefined: nobody's in particular. */
  readonly owner: string | undefined;
  readonly input: Input;
  readonly state: JobState;
  /** Jobs ahead of it in the line; 0 once it runs. */
  readonly position: number;
  /** Milliseconds since the epoch; undefined until it has happened. */
  readonly submittedAt: number;
  readonly startedAt: number | undefined;
  readonly endedAt: number | undefined;
  /** What it failed with; undefined unless `failed` or `cancelled`. */
  readonly error: unknown;
  readonly detached: boolean;
  /** Everything it said, as long as it is held. */
  readonly log: JobLog<Event>;
  /** Settles at the end, whichever it is. Never rejects. */
  readonly ended: Promise<void>;
  /**
   * Follows the job from the beginning, or from after an event id. Close the reader when done: the last one to leave a
   * job that is not detached starts its grace period.
   * @throws JobError `log-gone`, `beyond-log`
   */
  watch(options?: Omit<ReaderOptions, "onDropped"> & {
    readonly graceMs?: number;
  }): LogReader<Event>;
  /** Stops it before its next step; false when it has ended already. `reason` is what watchers are told. */
  cancel(reason?: unknown): boolean;
  /** Lays changes over the input from the run's next step on; false when it has ended. */
  update(change: Readonly<Record<string, unknown>>): boolean;
}
interface SubmitOptions {
  /** The job's id; left out: a fresh UUID. A job that has ended gives its id up. */
  readonly id?: string;
  readonly owner?: string;
  /**
   * A second submission with the same key (and owner) gives the first one's job, as long as its log is held, unless that
   * failed or was cancelled.
   */
  readonly idempotencyKey?: string;
  /** Milliseconds from now until it is stopped with a `TimeoutError`; the store's own limit holds as well. */
  readonly deadlineMs?: number;
  /** It runs on when nobody watches. */
  readonly detached?: boolean;
  /** Milliseconds that the last watcher has to come back; overrides the store's. */
  readonly graceMs?: number;
  /** Aborting cancels the job, with the signal's reason. */
  readonly signal?: AbortSignal;
}
/**
 * What happens to a job, for metrics, logs and webhooks: `read` is told for each watcher that takes an event, `dropped`
 * for each that was not given some, because newer ones took their place or because it left.
 */
type JobChange = "submitted" | "started" | "event" | "read" | "dropped" | "ended";
type JobListener<Input, Event> = (job: Job<Input, Event>, change: JobChange, event?: Event, dropped?: {
  readonly slot: string;
  readonly count: number;
}) => void;
interface Jobs<Input, Event> {
  /**
   * Admits an input: the job runs at once or waits in line.
   * @throws JobError `queue-full`, `draining`, `id-in-use`, `key-reused`
   */
  submit(input: Input, options?: SubmitOptions): Job<Input, Event>;
  get(id: string): Job<Input, Event> | undefined;
  /** @throws JobError `not-found`, or `log-gone` for one that was there */
  find(id: string): Job<Input, Event>;
  /** Every job that is waiting, running, or still held after its end; oldest first. */
  list(): Job<Input, Event>[];
  /** Bytes held by all jobs: their inputs and their logs. */
  readonly bytes: number;
  /** Jobs in each state among those held. */
  counts(): Record<JobState, number>;
  /** Calls `listener` at each change, until the function it returns is called. */
  observe(listener: JobListener<Input, Event>): () => void;
  /**
   * Takes no more jobs and settles when none is left. After `graceMs` those left are handed back: they end with a
   * `JobError` `draining`, which tells their clients to ask again, and a run that does not stop is waited for no longer
   * than 2 s.
   */
  drain(graceMs?: number): Promise<void>;
}
interface JobsOptions<Event> {
  /** Jobs that run at once. Default: any number. */
  readonly concurrency?: number;
  /** Jobs that may wait. */
  readonly maxQueued?: number;
  /** Bytes of waiting jobs' inputs, at most; a single input may be larger. */
  readonly maxQueuedBytes?: number;
  /** Milliseconds from submission until a job is stopped. Default: never. */
  readonly deadlineMs?: number;
  /** Milliseconds that the last watcher of a job has to come back before it is cancelled. */
  readonly graceMs?: number;
  /** Milliseconds for which an ended job's log is held. */
  readonly retentionMs?: number;
  /** Bytes of ended jobs, their inputs and logs, at most; the oldest go first. */
  readonly retainedBytes?: number;
  /** Ended jobs held, at most. */
  readonly retainedJobs?: number;
  readonly log?: Partial<LogLimits>;
  /** The slot of a droppable event; see `job-log.ts`. Default: by `type`, `queued`, `progress` and `preview`. */
  readonly slotOf?: (event: Event) => string | undefined;
  /** Makes the event that tells a job that has to wait its place in the line, and again when it changes. Default: none. */
  readonly queuedEvent?: (position: number) => Event;
}
declare function createJobs<Input, Event>(run: AnyRun<Input, Event>, options?: JobsOptions<Event>): Jobs<Input, Event>;
/**
 * A store as a run: each call submits a job and gives what it says, waiting in line included. For a consumer that knows
 * runs alone.
 */
declare function throughJobs<Input, Event>(jobs: Jobs<Input, Event>, options?: SubmitOptions): Run<Input, Event>;
//#endregion
//#region src/engine/errors.d.ts
/**
 * Errors that may be shown to whoever asked.
 *
 * Anything thrown that is not one of these stays inside: a transport answers "internal error" and the log keeps the
 * rest, so that no path, shader label or stack reaches a client. An error is shown when it carries a `field` (the
 * request is wrong there) or a `status` (an HTTP status that says what to do), and only its `message` is shown.
 */
/** One thing wrong with a request: where, what, and which rule in pydantic's vocabulary (`missing`, `int_type`, …). */
interface RequestIssue {
  /** Names and indices from the outside in: `["loras", 0, "scale"]`. Empty: the request as a whole. */
  readonly path: readonly (string | number)[];
  readonly message: string;
  readonly type: string;
}
/** The request cannot be run as it stands; trying again unchanged cannot help. */
declare class RequestError extends Error {
  readonly code: string;
  /** The first field at fault, dotted: `loras.0.scale`. */
  readonly field: string;
  readonly issues: readonly RequestIssue[];
  /**
   * @param field the field at fault, as the caller spells it
   * @param message one sentence that says what the field must be
   * @param issues every fault, when there are several; defaults to the one given
   */
  constructor(field: string, message: string, issues?: readonly RequestIssue[]);
}
//#endregion
//#region src/engine/request.d.ts
declare const fields: z.ZodObject<{
  prompt: z.ZodString;
  negative_prompt: z.ZodDefault<z.ZodString>;
  width: z.ZodOptional<z.ZodInt>;
  height: z.ZodOptional<z.ZodInt>;
  num_inference_steps: z.ZodOptional<z.ZodInt>;
  guidance_scale: z.ZodOptional<z.ZodNumber>;
  seed: z.ZodOptional<z.ZodPipe<z.ZodUnion<readonly [z.ZodInt, z.ZodBigInt, z.ZodString]>, z.ZodTransform<number | bigint, string | number | bigint>>>;
  generator: z.ZodDefault<z.ZodEnum<{
    cpu: "cpu";
    cuda: "cuda";
  }>>;
  num_images: z.ZodDefault<z.ZodInt>;
  scheduler: z.ZodOptional<z.ZodString>;
  preview_every: z.ZodDefault<z.ZodInt>;
  preview_decoder: z.ZodDefault<z.ZodEnum<{
    auto: "auto";
    linear: "linear";
    tiny: "tiny";
    full: "full";
  }>>;
  preview_max_fps: z.ZodOptional<z.ZodNumber>;
  preview_size: z.ZodOptional<z.ZodInt>;
  preview_format: z.ZodOptional<z.ZodEnum<{
    jpeg: "jpeg";
    png: "png";
    webp: "webp";
  }>>;
  preview_quality: z.ZodOptional<z.ZodInt>;
  few_step: z.ZodDefault<z.ZodBoolean>;
  loras: z.ZodDefault<z.ZodArray<z.ZodObject<{
    name: z.ZodOptional<z.ZodString>;
    path: z.ZodOptional<z.ZodString>;
    scale: z.ZodDefault<z.ZodNumber>;
  }, z.core.$strip>>>;
  image: z.ZodOptional<z.ZodPipe<z.ZodUnion<readonly [z.ZodInstanceOf<Uint8Array<ArrayBuffer>>, z.ZodString]>, z.ZodTransform<Uint8Array<ArrayBufferLike>, string | Uint8Array<ArrayBuffer>>>>;
  image_url: z.ZodOptional<z.ZodPipe<z.ZodUnion<readonly [z.ZodInstanceOf<Uint8Array<ArrayBuffer>>, z.ZodString]>, z.ZodTransform<Uint8Array<ArrayBufferLike>, string | Uint8Array<ArrayBuffer>>>>;
  strength: z.ZodDefault<z.ZodNumber>;
  output_format: z.ZodDefault<z.ZodEnum<{
    jpeg: "jpeg";
    png: "png";
    webp: "webp";
  }>>;
  request_id: z.ZodOptional<z.ZodString>;
  input_id: z.ZodOptional<z.ZodString>;
}, z.core.$strip>;
/** The request schema: parsing gives every default its value and leaves what the model decides undefined. */
declare const generationSchema: z.ZodPipe<z.ZodObject<{
  prompt: z.ZodString;
  negative_prompt: z.ZodDefault<z.ZodString>;
  width: z.ZodOptional<z.ZodInt>;
  height: z.ZodOptional<z.ZodInt>;
  num_inference_steps: z.ZodOptional<z.ZodInt>;
  guidance_scale: z.ZodOptional<z.ZodNumber>;
  seed: z.ZodOptional<z.ZodPipe<z.ZodUnion<readonly [z.ZodInt, z.ZodBigInt, z.ZodString]>, z.ZodTransform<number | bigint, string | number | bigint>>>;
  generator: z.ZodDefault<z.ZodEnum<{
    cpu: "cpu";
    cuda: "cuda";
  }>>;
  num_images: z.ZodDefault<z.ZodInt>;
  scheduler: z.ZodOptional<z.ZodString>;
  preview_every: z.ZodDefault<z.ZodInt>;
  preview_decoder: z.ZodDefault<z.ZodEnum<{
    auto: "auto";
    linear: "linear";
    tiny: "tiny";
    full: "full";
  }>>;
  preview_max_fps: z.ZodOptional<z.ZodNumber>;
  preview_size: z.ZodOptional<z.ZodInt>;
  preview_format: z.ZodOptional<z.ZodEnum<{
    jpeg: "jpeg";
    png: "png";
    webp: "webp";
  }>>;
  preview_quality: z.ZodOptional<z.ZodInt>;
  few_step: z.ZodDefault<z.ZodBoolean>;
  loras: z.ZodDefault<z.ZodArray<z.ZodObject<{
    name: z.ZodOptional<z.ZodString>;
    path: z.ZodOptional<z.ZodString>;
    scale: z.ZodDefault<z.ZodNumber>;
  }, z.core.$strip>>>;
  image: z.ZodOptional<z.ZodPipe<z.ZodUnion<readonly [z.ZodInstanceOf<Uint8Array<ArrayBuffer>>, z.ZodString]>, z.ZodTransform<Uint8Array<ArrayBufferLike>, string | Uint8Array<ArrayBuffer>>>>;
  image_url: z.ZodOptional<z.ZodPipe<z.ZodUnion<readonly [z.ZodInstanceOf<Uint8Array<ArrayBuffer>>, z.ZodString]>, z.ZodTransform<Uint8Array<ArrayBufferLike>, string | Uint8Array<ArrayBuffer>>>>;
  strength: z.ZodDefault<z.ZodNumber>;
  output_format: z.ZodDefault<z.ZodEnum<{
    jpeg: "jpeg";
    png: "png";
    webp: "webp";
  }>>;
  request_id: z.ZodOptional<z.ZodString>;
  input_id: z.ZodOptional<z.ZodString>;
}, z.core.$strip>, z.ZodTransform<{
  prompt: string;
  negative_prompt: string;
  generator: "cpu" | "cuda";
  num_images: number;
  preview_every: number;
  preview_decoder: "auto" | "linear" | "tiny" | "full";
  few_step: boolean;
  loras: {
    scale: number;
    name?: string | undefined;
    path?: string | undefined;
  }[];
  strength: number;
  output_format: "jpeg" | "png" | "webp";
  width?: number | undefined;
  height?: number | undefined;
  num_inference_steps?: number | undefined;
  guidance_scale?: number | undefined;
  seed?: number | bigint | undefined;
  scheduler?: string | undefined;
  preview_max_fps?: number | undefined;
  preview_size?: number | undefined;
  preview_format?: "jpeg" | "png" | "webp" | undefined;
  preview_quality?: number | undefined;
  request_id?: string | undefined;
  input_id?: string | undefined;
} | {
  image: Uint8Array<ArrayBufferLike>;
  prompt: string;
  negative_prompt: string;
  generator: "cpu" | "cuda";
  num_images: number;
  preview_every: number;
  preview_decoder: "auto" | "linear" | "tiny" | "full";
  few_step: boolean;
  loras: {
    scale: number;
    name?: string | undefined;
    path?: string | undefined;
  }[];
  strength: number;
  output_format: "jpeg" | "png" | "webp";
  width?: number | undefined;
  height?: number | undefined;
  num_inference_steps?: number | undefined;
  guidance_scale?: number | undefined;
  seed?: number | bigint | undefined;
  scheduler?: string | undefined;
  preview_max_fps?: number | undefined;
  preview_size?: number | undefined;
  preview_format?: "jpeg" | "png" | "webp" | undefined;
  preview_quality?: number | undefined;
  request_id?: string | undefined;
  input_id?: string | undefined;
}, {
  prompt: string;
  negative_prompt: string;
  generator: "cpu" | "cuda";
  num_images: number;
  preview_every: number;
  preview_decoder: "auto" | "linear" | "tiny" | "full";
  few_step: boolean;
  loras: {
    scale: number;
    name?: string | undefined;
    path?: string | undefined;
  }[];
  strength: number;
  output_format: "jpeg" | "png" | "webp";
  width?: number | undefined;
  height?: number | undefined;
  num_inference_steps?: number | undefined;
  guidance_scale?: number | undefined;
  seed?: number | bigint | undefined;
  scheduler?: string | undefined;
  preview_max_fps?: number | undefined;
  preview_size?: number | undefined;
  preview_format?: "jpeg" | "png" | "webp" | undefined;
  preview_quality?: number | undefined;
  image?: Uint8Array<ArrayBufferLike> | undefined;
  image_url?: Uint8Array<ArrayBufferLike> | undefined;
  request_id?: string | undefined;
  input_id?: string | undefined;
}>>;
/** What a caller may write. */
type GenerationInput = z.input<typeof generationSchema>;
/** What the engine works with: checked, with defaults. */
type GenerationRequest = Omit<z.output<typeof fields>, "image_url">;
/** A request with nothing but words. */
type TextToImageInput = Omit<GenerationInput, "image" | "image_url" | "strength">;
/** A request that starts from a picture. */
type ImageToImageInput = Omit<GenerationInput, "image_url" | "image"> & {
  image: Uint8Array | string;
};
/** What may change while a request runs. */
declare const updateSchema: z.ZodObject<{
  prompt: z.ZodOptional<z.ZodString>;
  guidance_scale: z.ZodOptional<z.ZodOptional<z.ZodNumber>>;
  negative_prompt: z.ZodOptional<z.ZodString>;
}, z.core.$strip>;
/** What may be changed while a run is under way, from its next step on. */
type GenerationUpdate = z.output<typeof updateSchema>;
/**
 * Checks a change to a running request. Fields that cannot change any more are refused, unknown ones ignored.
 *
 * @throws RequestError naming every field at fault
 */
declare function parseUpdate(input: unknown): GenerationUpdate;
/**
 * As `parseGeneration`, for a request from another machine: a LoRA is a name in the server's folder, never a path.
 *
 * @throws RequestError naming every field at fault
 */
declare function parseRemoteGeneration(input: unknown): GenerationRequest;
//#endregion
//#region transports/failure.d.ts
/** One fault of a request; `loc` starts with where it was found: `["body", "num_inference_steps"]`. */
interface FaultDetail {
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  readonly type: string;
}
interface Failure {
  readonly status: number;
  readonly detail: string | readonly FaultDetail[];
  /** Seconds after which the same request may succeed. */
  readonly retryAfter?: number;
}
/** Where the input came from. */
type InputSource = "body" | "query";
/** A failure before any event was sent: a JSON answer with its status. */
declare function failureResponse(failure: Failure, headers?: Record<string, string>): Response;
//#endregion
//#region transports/auth.d.ts
/** Routes, in groups that somebody would want to grant apart. */
declare const SCOPES: readonly ["run", "realtime", "openai", "queue", "metrics"];
type Scope = (typeof SCOPES)[number];
/** Who asks. */
interface Principal {
  /** What limits are counted by and logs show: a key's name, a token's subject, or `anonymous`. */
  readonly name: string;
  readonly by: "key" | "token" | "nothing";
  readonly scopes: readonly Scope[];
  /** Names of models; undefined: all. */
  readonly models: readonly string[] | undefined;
}
/** A key as it is configured: the key itself, or its SHA-256 in hexadecimal (`sha256:…`), so that a file need not hold it. */
interface ApiKey {
  readonly name: string;
  readonly key: string;
  readonly scopes?: readonly Scope[];
  readonly models?: readonly string[];
}
interface AuthOptions {
  readonly keys: readonly ApiKey[];
  /** The secret (HS256) that tokens are signed with, 32 bytes or more; undefined: there are no tokens. */
  readonly tokenSecret?: string;
  /** Seconds that a token may live, from `iat` to `exp`. */
  readonly tokenSeconds?: number;
}
interface Authenticator {
  /** Whether anybody at all needs a credential. */
  readonly required: boolean;
  /** The principal of a credential, or why there is none. Never throws. */
  authenticate(credential: Credential | undefined): Promise<Principal | Failure>;
  /** Whether there is a secret to make tokens with. */
  readonly issues: boolean;
  /** A token with a part of `principal`'s rights. @throws Error when there is no token secret */
  issueToken(principal: Principal, wanted: TokenRequest): Promise<{
    token: string;
    expires_in: number;
  }>;
}
interface TokenRequest {
  readonly scopes?: readonly Scope[];
  readonly models?: readonly string[];
  /** Seconds; at most what is configured. */
  readonly seconds?: number;
  readonly subject?: string;
}
interface Credential {
  readonly value: string;
  /** A key is not taken from an address. */
  readonly from: "header" | "query";
}
/** @throws RangeError for a token secret that is too short, or a key that is empty */
declare function createAuthenticator(options: AuthOptions): Authenticator;
/** Who asks; the anonymous principal where no middleware has run. */
declare function principalOf(c: Context): Principal;
/** Whose a job is that this request starts, or may see; undefined where all are anonymous. */
declare function ownerOf$1(c: Context): string | undefined;
/** What a path needs: nothing, some credential whatever its scopes, or one with that scope. */
type Access = "open" | "any" | Scope;
interface GuardOptions {
  readonly authenticator: Authenticator;
  /** What a path needs. What is not known should need something. */
  readonly scopeOf: (path: string, method: string) => Access;
  /** The model that would answer. */
  readonly model: string;
  /** How a refusal is put into words for this path. */
  readonly refuse: (c: Context, failure: Failure) => Response;
}
/** Lets only those pass who may: 401 without a valid credential, 403 without the scope or the model. */
declare function guard({
  authenticator,
  scopeOf,
  model,
  refuse
}: GuardOptions): MiddlewareHandler;
/**
 * `POST /auth/token`: a key gets a token for a browser. A token gets none: it would live for ever.
 *
 * @throws what `readInput` and the schema throw; HTTPException 403, 404
 */
declare function tokenRoute(authenticator: Authenticator): (c: Context) => Promise<Response>;
//#endregion
//#region transports/gate.d.ts
interface GateOptions {
  readonly authenticator: Authenticator;
  /** The model that answers; what a credential may be bound to. */
  readonly model: string;
  /** Origins of web pages that may use this server, besides its own. */
  readonly corsOrigins: readonly string[];
  /** Of one client; undefined: no limit. */
  readonly requestsPerMinute?: number;
  /** Sessions of one client at a time; undefined: no limit. */
  readonly sessions?: number;
  /** Proxies before this server that write `X-Forwarded-For`. */
  readonly proxies: number;
  /** Whether the server is about to end and takes no more work. */
  readonly draining?: () => boolean;
}
declare function gate(options: GateOptions): MiddlewareHandler;
//#endregion
//#region transports/limits.d.ts
/** The edge of one request; what is undefined is left to the schema. */
interface GenerationLimits {
  /** Characters of a prompt, and of a negative one. */
  readonly promptCharacters?: number;
  /** Pixels of one picture. */
  readonly pixels?: number;
  readonly steps?: number;
  readonly images?: number;
}
/** How many proxies stand before this server and write `X-Forwarded-For`; 0: the socket's address is the client's. */
type TrustedProxies = number;
interface RateOptions {
  readonly requestsPerMinute: number;
  readonly proxies: TrustedProxies;
  /** Which requests count. */
  readonly counts: (path: string, method: string) => boolean;
  readonly refuse: (c: Context, failure: Failure) => Response;
}
/**
 * So many requests in a window of a minute that begins with a client's first; more are 429 with `Retry-After`. All
 * answers say what is left, in the fields of draft-ietf-httpapi-ratelimit-headers.
 */
declare function rateLimit({
  requestsPerMinute,
  proxies,
  counts,
  refuse
}: RateOptions): MiddlewareHandler;
interface SessionOptions {
  /** WebSocket sessions of one client at a time. */
  readonly sessions: number;
  readonly proxies: TrustedProxies;
  readonly refuse: (c: Context, failure: Failure) => Response;
}
/** Counts sessions from their upgrade to the end of their socket; one too many is 429 before it is upgraded. */
declare function sessionLimit({
  sessions,
  proxies,
  refuse
}: SessionOptions): MiddlewareHandler;
//#endregion
//#region transports/observed-run.d.ts
type Outcome = "completed" | "cancelled" | "failed";
/** Told of one job, in this order. None of it may throw. */
interface JobObserver<Event> {
  /** @param began when it was asked for, `ms` how long it took */
  event?(event: Event, began: number, ms: number): void;
  ended?(outcome: Outcome, error: unknown): void;
}
/** Both times are of `performance.now()`. */
type Observe<Input, Event> = (input: Input, context: RunContext) => JobObserver<Event>;
//#endregion
//#region transports/metrics.d.ts
/** What is read at the moment when somebody asks. */
interface MetricSources {
  readonly device?: {
    readonly lost: boolean;
    readonly memoryBytes: number;
    readonly peakMemoryBytes: number;
  };
}
interface Metrics {
  /** The times of a run's steps. */
  readonly observe: Observe<unknown, unknown>;
  /** Counts the jobs of a store, their times and their previews. */
  jobs(jobs: Jobs<unknown, unknown>): void;
  /** Counts requests by route and status. */
  readonly requests: MiddlewareHandler;
  /** Counts a server's connections, their bytes, and which of them are WebSocket sessions. */
  watch(server: Pick<Server, "on">, webSockets?: {
    readonly clients: {
      readonly size: number;
    };
  }): void;
  /** `GET /metrics` */
  readonly route: (c: Context) => Promise<Response>;
}
declare function createMetrics({
  device
}?: MetricSources): Metrics;
//#endregion
//#region transports/openai-request.d.ts
/** What mapping needs to know of the model that serves. Pixels and steps. */
interface ServedModel {
  readonly name: string;
  readonly defaultWidth: number;
  readonly defaultHeight: number;
  readonly defaultSteps: number;
}
//#endregion
//#region transports/request-log.d.ts
interface RequestEntry {
  readonly request_id: string | undefined;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** Milliseconds until the answer's headers were ready; a stream goes on after them. */
  readonly ms: number;
  readonly client: string;
  readonly address: string;
}
//#endregion
//#region transports/webhook.d.ts
interface WebhookPolicy {
  /** `hooks.example`, or `*.hooks.example` for everything below it. None: webhooks are refused. */
  readonly hosts: readonly string[];
  /** Lets these hosts have private, loopback and link-local addresses, and speak plain http. */
  readonly allowPrivate: boolean;
}
//#endregion
//#region transports/app.d.ts
interface AppOptions {
  run: Run<GenerationRequest, RunEvent>;
  /** What `GET /health` tells besides `status`: version, adapter, model. */
  health: () => Record<string, unknown>;
  /** The model that answers; without it there are no OpenAI routes, and limits see only what a request says. */
  model?: ServedModel & {
    countTokens: (text: string) => number;
  };
  /** Who may ask, from which pages, how often. Left out: everybody, from the server's own pages, as often as they like. */
  gate?: Partial<Omit<GateOptions, "model">>;
  /** Counts; with it there is `GET /metrics`. */
  metrics?: Metrics;
  /** Why no picture can be made at this moment; undefined when it can. */
  unready?: () => string | undefined;
  /** Told of every request, when its answer begins. */
  onRequest?: (entry: RequestEntry) => void;
  /** What one request may ask for, and the bytes of its body. */
  limits?: GenerationLimits & {
    readonly bodyBytes?: number;
  };
  /** How jobs are admitted and how long they are held; one runs at a time unless it says otherwise. */
  jobs?: JobsOptions<RunEvent>;
  /** How long jobs wait for clients whose connection broke. */
  resume?: {
    /** Seconds that the client of a stream may ask for, at most. */readonly streamSeconds?: number; /** Milliseconds that a realtime session waits. */
    readonly sessionMs?: number;
  };
  /** Where the queue may post results; left out: nowhere. */
  webhooks?: WebhookPolicy;
  /** Told of every error that the client is not to see. */
  onError?: (error: unknown, requestId?: string) => void;
}
/** An app as any of Hono's, and its orderly end. */
type App = Hono & {
  /**
   * Refuses new work from now on, and settles when no job is left or, those left after `graceMs` having been handed back
   * to their clients, shortly after. Answers and sessions stay open; closing the server is the next thing to do.
   */
  drain(graceMs?: number): Promise<void>;
};
declare function createApp(options: AppOptions): App;
//#endregion
//#region transports/input.d.ts
interface InputOptions<Input> {
  /**
   * Checks what the client sent and gives the run's input; throws a `RequestError` or a `ZodError` for 422.
   * Left out, the run gets the JSON value (or the query as an object of strings) as it came.
   */
  parse?: (raw: unknown, source: InputSource) => Input;
  /** Bytes of a body, at most; more is 413. */
  maxBodyBytes?: number;
}
//#endregion
//#region transports/job-routes.d.ts
interface JobRouteOptions {
  /** Whose the requests of this client are; a job of somebody else is not there. */
  ownerOf?: (c: Context) => string | undefined;
}
type Handler$1 = (c: Context) => Promise<Response>;
/** `DELETE /jobs/{job}`: it stops before its next step. 202, or 400 `ALREADY_COMPLETED`. */
declare function cancelJob<Input, Event>(jobs: Jobs<Input, Event>, options?: JobRouteOptions): Handler$1;
/** `PATCH /jobs/{job}`: changes from the next step on. 202, or 400 `ALREADY_COMPLETED`. */
declare function updateJob<Input, Event>(jobs: Jobs<Input, Event>, options: JobRouteOptions & InputOptions<Readonly<Record<string, unknown>>>): Handler$1;
/** `GET /jobs/{job}`: its state and times, without its events. */
declare function jobStatus<Input, Event>(jobs: Jobs<Input, Event>, options?: JobRouteOptions): Handler$1;
//#endregion
//#region transports/source.d.ts
type Source<Input, Event> = Jobs<Input, Event> | AnyRun<Input, Event> | AsyncIterable<Event> | Iterable<Event>;
/** What the transports over HTTP have in common. */
interface JobRequestOptions<Input> extends InputOptions<Input> {
  /** Milliseconds that a job may take, waiting included. */
  deadlineMs?: number;
  /** Whose the requests of this client are; a job is shown to nobody else. */
  ownerOf?: (c: Context) => string | undefined;
  /** Told of every error that the client is not to see (5xx). */
  onError?: (error: unknown, requestId: string) => void;
}
//#endregion
//#region transports/json.d.ts
declare function json<Input, Event>(source: Source<Input, Event>, options?: JobRequestOptions<Input>): (c: Context) => Promise<Response>;
//#endregion
//#region transports/mount.d.ts
interface MountOptions {
  /** Bytes of a WebSocket message; more closes the connection with 1009. */
  readonly frameBytes?: number;
}
interface Mounted {
  /** Answers a request below `base`, and says whether it was one. For others `next` is called, where there is one. */
  readonly request: (request: IncomingMessage, response: ServerResponse, next?: () => void) => boolean;
  /** Takes up a WebSocket below `base`; a listener of the server's `upgrade` event. */
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** The open sessions. */
  readonly sockets: WebSocketServer;
  /** Ends the sessions with 1012: those that are busy when they no longer are, or after `graceMs`. */
  close(graceMs?: number): Promise<void>;
}
/** @param base a path without a slash at its end; empty: the whole server */
declare function mount(app: Pick<Hono, "fetch">, base?: string, {
  frameBytes
}?: MountOptions): Mounted;
//#endregion
//#region transports/listen.d.ts
interface Listening {
  /** `http://127.0.0.1:8080` */
  readonly url: string;
  readonly port: number;
  /**
   * Takes no more requests and waits for those that run; after `graceMs` they are cut off, which cancels them.
   * Settles when every connection is closed.
   */
  close(graceMs?: number): Promise<void>;
}
/** What a connection may cost before there is a request. */
interface ConnectionLimits extends MountOptions {
  /** Open at a time; more are closed at once. */
  readonly connections?: number;
  /** Milliseconds that a request's headers may take to arrive; later is 408 and the end of the connection. */
  readonly headersMs?: number;
  /** Milliseconds that a whole request may take to arrive. Answers may take as long as they like. */
  readonly requestMs?: number;
  /** Given the server before it listens, to count what goes through it. */
  readonly onServer?: (server: Server, webSockets: WebSocketServer) => void;
}
/**
 * @param port 0 takes any free one
 * @throws the system's error (`EADDRINUSE`, `EACCES`) when the port cannot be had
 */
declare function listen(app: Pick<Hono, "fetch">, port: number, hostname: string, {
  connections,
  headersMs,
  requestMs,
  onServer,
  ...options
}?: ConnectionLimits): Promise<Listening>;
//#endregion
//#region transports/openai.d.ts
interface OpenAiOptions {
  model: ServedModel;
  /** Tokens of a prompt, as the model's text encoder counts them. */
  countTokens: (text: string) => number;
  /** Gives back a request that this server allows; throws a RequestError for others. */
  allowed?: (request: GenerationRequest) => GenerationRequest;
  /** Bytes of a body, at most; more is 413. */
  maxBodyBytes?: number;
  /** Told of every error that the client is not to see (5xx). */
  onError?: (error: unknown, requestId: string) => void;
}
type ImageJobs = Jobs<GenerationRequest, RunEvent>;
/** `POST /images/generations` and `POST /images/edits`. */
declare function openaiImages(jobs: ImageJobs, options: OpenAiOptions): Hono;
//#endregion
//#region transports/queue.d.ts
interface QueueOptions {
  /** Checks an input; throws a RequestError for 422. */
  parse: (raw: unknown, source: InputSource) => GenerationRequest;
  maxBodyBytes?: number;
  webhooks?: WebhookPolicy;
  /** Whether `X-Forwarded-Proto` is a proxy's word (and not a client's). */
  trustForwarded?: boolean;
  /** Told of every error that the client is not to see, and of webhooks that failed. */
  onError?: (error: unknown, requestId: string) => void;
}
declare function queue(jobs: Jobs<GenerationRequest, RunEvent>, options: QueueOptions): Hono;
//#endregion
//#region transports/sse.d.ts
interface SseOptions<Input> extends JobRequestOptions<Input> {
  /**
   * What the answer is made of, if not of server-sent events: `application/x-ndjson`, `text/plain`, or any type of bytes;
   * see `stream-format.ts`.
   */
  contentType?: string;
  /** Milliseconds of silence after which a comment is sent; proxies give up after 60 s. */
  heartbeatMs?: number;
  /**
   * Milliseconds the headers may wait for the run's first word. A run that fails within them is answered with a status
   * (422, 429, 503) instead of a stream; a run that has not spoken by then gets its headers anyway.
   */
  headersWithinMs?: number;
  /** Milliseconds without room in the socket after which a client counts as gone. */
  stalledAfterMs?: number;
  /** Seconds that a client may ask its job to wait for it when a stream has broken. */
  maxGraceS?: number;
}
/** `POST /stream` and `GET /stream?prompt=…`: submits a job and follows it from its beginning. */
declare function sse<Input, Event>(source: Source<Input, Event>, options?: SseOptions<Input>): (c: Context) => Promise<Response>;
/** `GET /stream/{job}`: goes on after `Last-Event-ID` (or `?after=`). 204 when all was seen, 410 when the log is gone. */
declare function resume<Input, Event>(jobs: Jobs<Input, Event>, options?: SseOptions<Input>): (c: Context) => Promise<Response>;
//#endregion
//#region transports/realtime-session.d.ts
interface SessionOptions$1<Input> {
  /** Checks a request; throws what `failureOf` understands. */
  readonly parse?: (raw: Readonly<Record<string, unknown>>) => Input;
  /** Checks a change to a running request. */
  readonly parseUpdate?: (raw: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>;
  /** Requests that may wait behind the one that runs; in queue mode, that may be under way in all. */
  readonly maxBuffering?: number;
  readonly queue?: boolean;
  /** Milliseconds for which jobs go on without a line. */
  readonly graceMs: number;
  readonly owner?: string;
  /** Whether a request of so many bytes may wait, besides those of all other sessions. Default: always. */
  readonly hasRoom?: (bytes: number) => boolean;
  readonly onError?: (error: unknown, requestId: string) => void;
}
//#endregion
//#region transports/websocket.d.ts
interface RealtimeOptions<Input> extends Pick<SessionOptions$1<Input>, "parse" | "parseUpdate" | "onError"> {
  ownerOf?: (c: Context) => string | undefined;
  /** Milliseconds that a client has to come back after its connection broke. */
  graceMs?: number;
  /** Milliseconds between pings; a client that has not answered one by the next is gone. */
  pingMs?: number;
  /** Bytes that may be buffered when a droppable frame is added. */
  bufferedBytes?: number;
  /** Sessions that may wait for their client to come back; the oldest is given up for a new one. */
  maxDetached?: number;
}
declare function realtime<Input, Event>(source: Source<Input, Event>, options?: RealtimeOptions<Input>): Handler;
//#endregion
//#region transports/worker.d.ts
interface WorkerOptions {
  /** The export that is the run. */
  readonly name?: string;
  /** Threads kept for later runs. */
  readonly idle?: number;
  /** Milliseconds that a cancelled run has to come to its next event. */
  readonly graceMs?: number;
}
/**
 * @param module a URL (`new URL("./render.js", import.meta.url)` lies beside the caller), a package's name, or a path; a
 * relative one (`./render.js`) is relative to the working folder
 */
declare function worker<Input, Event>(module: string | URL, options?: WorkerOptions): Run<Input, Event>;
//#endregion
//#region src/gpu/software-driver.d.ts
/**
 * Vulkan drivers on Linux: which are installed, and one to bring along where none is.
 *
 * Vocabulary. The *loader* is `libvulkan.so.1`, which an application opens; it reads *ICD* files (installable client
 * drivers: small JSON files naming a shared library) and opens the drivers they name. *lavapipe* (Mesa) and
 * *SwiftShader* (Chromium) are drivers that compute on the CPU. `VK_DRIVER_FILES` lists ICD files to use instead of the
 * installed ones.
 *
 * SwiftShader and a loader come in the optional npm package `@sparticuz/chromium` (Linux x64), as a tar archive that is
 * unpacked once into the user's cache directory. Nothing here talks to a GPU; that is `adapter.ts`. macOS and Windows
 * have their own drivers and need none of this.
 *
 * Search order of ICD files: the Vulkan loader's documentation, "LoaderDriverInterface".
 */
type SoftwareDriver = "lavapipe" | "swiftshader";
//#endregion
//#region src/gpu/adapter.d.ts
type AdapterPreference = "auto" | "hardware" | "software";
interface AdapterChoice {
  /** `auto` (the default) takes a hardware GPU where there is one and a software one where there is none. */
  readonly prefer?: AdapterPreference;
  /** Part of the adapter's name, description, vendor, device or architecture, in any case. */
  readonly name?: string;
  /** Which software driver; only with `software` or `auto`. Without it lavapipe, then SwiftShader. */
  readonly driver?: SoftwareDriver;
}
/** What is known of an adapter: plain data, for logs, `doctor` and `GET /`. */
interface AdapterFacts {
  readonly kind: "hardware" | "software";
  /** The driver's name for the GPU, for people: "NVIDIA H100", "llvmpipe (LLVM 15.0.6, 256 bits)". */
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  /** `vulkan`, `metal`, `d3d12`, … */
  readonly backend: string;
  readonly driver?: SoftwareDriver;
  /** Smallest and largest subgroup (warp, wave, vector register) in lanes, where the adapter has `subgroups`. */
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
  /** All features of the adapter, sorted. */
  readonly features: readonly string[];
  /** What a user should know about this choice, in a sentence: that it is a software GPU, what it lacks. */
  readonly note?: string;
}
//#endregion
//#region src/engine/contract.d.ts
/** How a runtime is made. */
interface RuntimeOptions {
  /** A diffusers folder; left out: the built-in model. */
  readonly model?: string;
  readonly adapter?: AdapterChoice;
  /** How weights, and on a hardware GPU activations, are stored; `auto` is f16 where the adapter computes with it. */
  readonly precision?: Precision;
  /**
   * Bytes of device memory that may be used; left out: all there are. Where they are fewer than the model takes, its
   * components take turns on the device, at the price of loading them again for each run.
   */
  readonly maxGpuMemory?: number;
  /**
   * Whether the first `warmUp` on an adapter times the kernels that could do each operation, and has this and later runtimes
   * use the fastest; it takes from seconds to minutes, once. `auto` (also where left out): on hardware adapters with all of
   * their memory; on software adapters the rules were measured. What `daguerre tune` has timed is used in any case.
   */
  readonly tune?: Tune;
  /** Which of several saved weights to take, such as `fp16`. */
  readonly variant?: string;
  /** A folder with an AutoencoderTiny (TAESD) to decode previews with. */
  readonly tinyAutoencoder?: string;
  /** The folder whose LoRA files a request may name. */
  readonly loraFolder?: string;
  /** Told of what is done while the model is loaded, and later by `warmUp`. */
  readonly onProgress?: (progress: LoadProgress) => void;
}
/** What is being made ready: bytes of weights, of one component after the other; shapes that are timed; kernels. */
interface LoadProgress {
  /** The component's name, as `unet`, or `tuning unet`, or `kernels`. */
  readonly what: string;
  readonly done: number;
  readonly total: number;
}
/** A request in what decides which kernels and how much memory it takes; what is left out is the model's default. */
interface WarmUpShape {
  readonly width?: number;
  readonly height?: number;
  readonly guidance_scale?: number;
  readonly num_images?: number;
}
type Precision = "auto" | "f32" | "f16";
type Tune = "auto" | "on" | "off";
/** The model a runtime has loaded. */
interface ModelFacts {
  readonly name: string;
  /** Pixels, what a request without `width` and `height` gets. */
  readonly defaultWidth: number;
  readonly defaultHeight: number;
  /** Denoising steps, what a request without `num_inference_steps` gets. */
  readonly defaultSteps: number;
  /** What a request without `guidance_scale` gets. */
  readonly defaultGuidanceScale: number;
  /** What a request with `few_step` gets; undefined where the model has no few-step variant. */
  readonly fewStep?: {
    readonly steps: number;
    readonly guidanceScale: number;
  };
}
interface RunOptions {
  /** Aborting stops the run before its next step. */
  readonly signal?: AbortSignal;
  /** Asked before each step for what has changed since (see `parseUpdate`), which the run then goes on with. */
  readonly takeUpdate?: () => GenerationUpdate | undefined;
}
/** How the device stands at this moment. */
interface DeviceState {
  /** The device was lost and nothing more can run on it. */
  readonly lost: boolean;
  /** Bytes that the model and its plans hold on the device. */
  readonly memoryBytes: number;
  readonly peakMemoryBytes: number;
}
interface Runtime {
  readonly adapter: AdapterFacts;
  readonly model: ModelFacts;
  readonly device: DeviceState;
  /**
   * Compiles what text-to-image of this shape takes and runs each kernel once, so that the first request does not wait for
   * it; before that it tunes what was never timed on this adapter, where `tune` says so. Takes its turn among the runs.
   * @throws RequestError where the shape cannot be run; GPU errors
   */
  warmUp(shape?: WarmUpShape): Promise<void>;
  /** Tokens of a prompt as the model's text encoder counts them, its begin and end marks included. */
  countTokens(text: string): number;
  /** @throws RequestError, from the first `next()`, when the input cannot be run */
  textToImage(input: TextToImageInput, options?: RunOptions): AsyncGenerator<RunEvent, void, undefined>;
  /** @throws RequestError, from the first `next()`, when the input cannot be run */
  imageToImage(input: ImageToImageInput, options?: RunOptions): AsyncGenerator<RunEvent, void, undefined>;
  /** Ends what is running and gives the device back. */
  close(): Promise<void>;
}
//#endregion
//#region src/engine/map.d.ts
/**
 * `map`: many inputs through one function, so many at a time, their results as a stream: a transcription of chunks, a
 * thumbnail of each file. As a generator it goes straight into any transport.
 */
interface MapOptions {
  /** Calls under way at once. */
  readonly concurrency?: number;
  /** Results in the order of their inputs (the default), or each as soon as it is there. */
  readonly ordered?: boolean;
  /** Aborting stops it before the next input; calls under way are told through their own argument. */
  readonly signal?: AbortSignal;
}
/**
 * Calls `fn` for each input and yields what it gives. Inputs are taken as they are needed, and not when results are not:
 * at most `concurrency` calls are under way or wait to be read. The first error ends it; `fn`'s signal is then aborted,
 * as it is when the consumer leaves.
 *
 * @throws whatever `inputs` or `fn` throw, RangeError for a concurrency below 1, and the signal's reason
 */
declare function map<Input, Output>(inputs: Iterable<Input> | AsyncIterable<Input>, fn: (input: Input, index: number, signal: AbortSignal) => Output | Promise<Output>, {
  concurrency,
  ordered,
  signal
}?: MapOptions): AsyncGenerator<Output, void, undefined>;
//#endregion
//#region src/engine/runtime.d.ts
/**
 * Opens a GPU and loads a model onto it.
 * Throws `AdapterError` where there is no such adapter, `WeightsError`, `ModelConfigError` or `TokenizerError` for a folder
 * that is not a model we can run, `MemoryLimitError` for one that cannot be run within `maxGpuMemory`.
 */
declare function createRuntime(options?: RuntimeOptions): Promise<Runtime>;
//#endregion
//#region src/gpu/errors.d.ts
/**
 * What can go wrong on a GPU, as types a caller can tell apart.
 *
 * WebGPU reports most faults late and elsewhere: a bad dispatch surfaces as an "uncaptured error" event, a dead driver
 * as a resolved promise. `faults.ts` collects them; this file only says what they are. The labels that Dawn prints in its
 * messages (`[ComputePipeline "unet 64x64: mid_block.resnets.0.conv1"]`) are the one thing that leads from such a late
 * message back to the plan and kernel that caused it, so they are read out of the message and kept beside it.
 */
type GpuErrorCode = "gpu-adapter" | "gpu-validation" | "gpu-out-of-memory" | "gpu-internal" | "gpu-device-lost";
/** A label as Dawn prints it: the kind of object (`ComputePipeline`, `CommandEncoder`, …) and its label. */
interface ObjectLabel {
  readonly object: string;
  readonly label: string;
}
/** Base of every error of `gpu/`. `code` is stable and safe to show to a client; `message` is for logs. */
declare class GpuError extends Error {
  readonly code: GpuErrorCode;
  /** Labels named by the message, in its order, without repeats. Empty where it names none. */
  readonly labels: readonly ObjectLabel[];
  constructor(code: GpuErrorCode, message: string, options?: {
    labels?: readonly ObjectLabel[];
    cause?: unknown;
  });
}
/** No adapter of the wished kind: the message says what was found and what to do. */
declare class AdapterError extends GpuError {
  /** Names of the adapters that were found but did not fit. */
  readonly found: readonly string[];
  constructor(message: string, found?: readonly string[], cause?: unknown);
}
/** A call broke WebGPU's rules: a bug in this program, never the user's fault. `labels` name plan and kernel. */
declare class GpuValidationError extends GpuError {
  constructor(message: string, options?: {
    labels?: readonly ObjectLabel[];
    cause?: unknown;
  });
}
/** The device could not give the memory that was asked for. */
declare class GpuOutOfMemoryError extends GpuError {
  constructor(message: string, options?: {
    labels?: readonly ObjectLabel[];
    cause?: unknown;
  });
}
/** The device is gone. `reason` is "destroyed" where this program destroyed it, "unknown" for a crash, hang or reset. */
declare class DeviceLostError extends GpuError {
  readonly reason: "destroyed" | "unknown";
  constructor(reason: "destroyed" | "unknown", message: string, options?: {
    cause?: unknown;
  });
}
//#endregion
//#region src/image/encode.d.ts
/** Pixels as the encoder takes them: RGBA8, row by row, `width * height * 4` bytes, unchanged until encoded. */
interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}
type PictureFormat = "jpeg" | "png" | "webp";
interface EncodedPicture {
  readonly bytes: Uint8Array;
  readonly content_type: `image/${PictureFormat}`;
  readonly width: number;
  readonly height: number;
}
/**
 * Encodes `picture`.
 *
 * An opaque picture is stored without alpha. JPEG has none: transparency is laid on white.
 *
 * @param options.quality 1..100 for JPEG and WebP; PNG is exact and ignores it
 * @param options.maxSide pixels of the longer side; a larger picture is shrunk to it, a smaller one left as it is
 * @throws RangeError when the bytes are not `width * height * 4`
 */
declare function encodePicture(picture: Pixels, options?: {
  format?: PictureFormat;
  quality?: number;
  maxSide?: number;
}): Promise<EncodedPicture>;
//#endregion
//#region src/weights/errors.d.ts
/**
 * What can be wrong with a model on disk, as one type.
 *
 * A model folder is untrusted input: it came from a stranger. An error says which file, which tensor and why, in words
 * that may be shown to a client: `file` is a name inside the model folder ("unet/model.safetensors"), never a path of
 * this machine, and whatever text came out of the file is quoted and cut short.
 */
/** Stable, one for each thing a caller might treat differently. */
type WeightsErrorCode = /** A file or folder that must be there is not, or is not of the kind it must be. */"weights-not-found" /** The operating system could not read or write. */ | "weights-io" /** The file ends before what its header promises. */ | "weights-truncated" /** The safetensors header is too long, or is not the JSON it must be. */ | "weights-header" /** A tensor's bytes overlap another's, leave a hole, or lie outside of the file. */ | "weights-offsets" /** A shape that is no shape, or does not fit its bytes or the model. */ | "weights-shape" /** An element type that does not exist or does not serve here. */ | "weights-dtype" /** Read after `close()`. */ | "weights-closed" /** A sharded model's index file contradicts itself or its shards. */ | "weights-index" /** Only pickles (`.bin`, `.ckpt`, …) are there. */ | "weights-pickle" /** The wished variant ("fp16") is not there. */ | "weights-variant" /** Missing, extra or ill-shaped tensors for a model. */ | "weights-mismatch" /** `model_index.json` or a component's config is not what it must be. */ | "model-config" /** A pipeline or component class that this server does not know. */ | "model-class" /** A tensor that is no LoRA tensor, or of a kind of adapter that is not supported. */ | "lora-format" /** A LoRA that changes modules which the model does not have. */ | "lora-module";
interface WeightsErrorDetails {
  /** Name inside the model folder, or base name. */
  readonly file?: string;
  readonly tensor?: string;
  readonly cause?: unknown;
}
declare class WeightsError extends Error {
  readonly code: WeightsErrorCode;
  readonly file: string | undefined;
  readonly tensor: string | undefined;
  readonly reason: string;
  constructor(code: WeightsErrorCode, reason: string, details?: WeightsErrorDetails);
}
//#endregion
export { type AdapterChoice, AdapterError, type AdapterFacts, type AnyRun, type ApiKey, type App, type AppOptions, type Authenticator, type ConnectionLimits, DeviceLostError, type Failure, type GateOptions, type GenerationInput, GpuError, GpuOutOfMemoryError, GpuValidationError, type GuardOptions, type ImageToImageInput, type Job, JobError, type JobRequestOptions, type Jobs, type JobsOptions, type Listening, type LoadProgress, type MapOptions, type Metrics, type ModelFacts, type MountOptions, type Mounted, type OpenAiOptions, Picture, PreviewDecoder, PreviewEvent, type Principal, ProgressEvent, type QueueOptions, QueuedEvent, type RateOptions, type RealtimeOptions, RequestError, ResultEvent, type Run, type RunContext, RunEvent, type RunOptions, type Runtime, type RuntimeOptions, type SessionOptions, type Source, type SseOptions, type TextToImageInput, type WarmUpShape, WeightsError, type WorkerOptions, cancelJob, createApp, createAuthenticator, createJobs, createMetrics, createRuntime, encodePicture, failureResponse, gate, guard, jobStatus, json, listen, map, mount, openaiImages, ownerOf$1 as ownerOf, parseRemoteGeneration, parseUpdate, principalOf, queue, rateLimit, realtime, resume, sessionLimit, sse, throughJobs, tokenRoute, updateJob, worker };
/** A host that is this thread: for tests, for embedding, and where isolation is not wanted. */
import type { AnyRun, RunContext } from "../jobs/run.ts";
import { hostFault } from "./errors.ts";
import type { Host, HostState, HostStats } from "./host.ts";
import { LinkedSignal } from "./linked-signal.ts";

export class HereHost<Input, Event> implements Host<Input, Event> {
  readonly kind = "here";
  readonly #load: () => Promise<AnyRun<Input, Event>>;
  readonly #closing = new AbortController();
  #loaded: Promise<AnyRun<Input, Event>> | undefined;
  #active = 0;
  #ended = 0;
  #failed = 0;

  constructor(load: () => Promise<AnyRun<Input, Event>>) {
    this.#load = load;
  }

  get state(): HostState {
    if (this.#closing.signal.aborted) return "closed";
    return this.#loaded === undefined ? "idle" : "ready";
  }

  get stats(): HostStats {
    const opened = this.#loaded === undefined ? 0 : 1;
    return { active: this.#active, ended: this.#ended, failed: this.#failed, opened, lost: 0 };
  }

  readonly run = (input: Input, context: RunContext) => this.#run(input, context);

  async start(): Promise<void> {
    if (this.state === "closed") throw hostFault("host-closed", "The host is closed");
    this.#loaded ??= this.#load();
    await this.#loaded;
  }

  async close(): Promise<void> {
    this.#closing.abort(hostFault("host-closed", "The host of this run is closed"));
  }

  async *#run(input: Input, context: RunContext): AsyncGenerator<Event, void, undefined> {
    context.signal.throwIfAborted();
    await this.start();
    const run = await this.#loaded!;
    const linked = new LinkedSignal([context.signal, this.#closing.signal]);
    const { signal } = linked;
    this.#active++;
    try {
      for await (const event of await run(input, { ...context, signal })) {
        signal.throwIfAborted();
        yield event;
        signal.throwIfAborted();
      }
    } catch (error) {
      if (!context.signal.aborted) this.#failed++;
      throw signal.aborted ? signal.reason : error;
    } finally {
      linked.release();
      this.#active--;
      this.#ended++;
    }
  }
}

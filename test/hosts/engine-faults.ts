/**
 * Faults of an engine's process under real clients: a server of its own, whose engine is killed, stopped, loses its device or
 * hangs while clients of every transport read. Nobody may see a gap, a repeat, or other pixels.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { decode, encode } from "@msgpack/msgpack";
import { createParser } from "eventsource-parser";
import { WebSocket } from "ws";
import type { appOfRuntime } from "../../runtime-app.ts";
import type { EngineProcess, openEngine } from "../../src/hosts/engine/engine-process.ts";
import type { EngineOptions } from "../../src/hosts/engine/messages.ts";
import type { Listening, listen } from "../../transports/http/listen.ts";
import type { createMetrics } from "../../transports/observe/metrics.ts";

/** The parts of a server, from the sources or as they were built. */
export interface ServerParts {
  readonly openEngine: typeof openEngine;
  readonly appOfRuntime: typeof appOfRuntime;
  readonly listen: typeof listen;
  readonly createMetrics: typeof createMetrics;
  /** The built module of the engine. */
  readonly engineMain: URL;
}

export const KINDS = ["SIGKILL", "SIGSEGV", "SIGSTOP", "loss", "hang"] as const;
export type Kind = (typeof KINDS)[number];
export const TRANSPORTS = ["sse", "websocket", "json", "detached"] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** A client, and whether it breaks its connection and comes back while the engine is away. */
export interface Client {
  readonly transport: Transport;
  readonly resumes: boolean;
}

export interface Trial {
  readonly kind: Kind;
  /** The step after which it happens; 0: at the beginning. */
  readonly step: number;
  readonly clients: readonly Client[];
}

export interface Outcome {
  /** Gaps, repeats and other pixels that clients saw; empty if all is well. */
  readonly faults: readonly string[];
  /** The answers of the server as it noticed: the status of `GET /ready`, and `daguerre_gpu_lost`. */
  readonly away: { readonly ready: number; readonly gpuLost: number };
  /** Milliseconds from the fault to its detection, and from there to the next event of the client that waited longest. */
  readonly detectionMs: number;
  readonly pauseMs: number;
}

const SIGNALS = {
  SIGKILL: "SIGKILL",
  SIGSEGV: "SIGSEGV",
  SIGSTOP: "SIGSTOP",
  loss: "SIGUSR2",
  hang: "SIGHUP",
} as const;
/** Seconds of a first step; a later one may take a twelfth of it. */
export const FIRST_STEP_SECONDS = 24;
export const HANG_MS = (FIRST_STEP_SECONDS * 1000) / 12;
export const STEPS = 6;
const SIZE = 64;
/** Pictures that are drawn, one after the other. */
const SEEDS = 2;

/** An event in what must be the same: its name, and the bytes of its picture. */
interface Seen {
  readonly name: string;
  readonly picture?: string;
  readonly at: number;
}

// biome-ignore lint/suspicious/noExplicitAny: a message of the server
type Message = any;

export class FaultBench {
  readonly #engine: EngineProcess;
  readonly #server: Listening;
  #lostAt = 0;
  #away: Promise<Outcome["away"]> | undefined;
  #trials = 0;
  /** Events that a client sees without a fault, by the seed of its picture. */
  readonly #undisturbed = new Map<number, Promise<Seen[]>>();

  private constructor(engine: EngineProcess, server: Listening) {
    this.#engine = engine;
    this.#server = server;
    engine.process.onLost = () => {
      this.#lostAt = performance.now();
      this.#away = this.state();
    };
  }

  static async open(parts: ServerParts, { spares = 0 }: { spares?: 0 | 1 } = {}): Promise<FaultBench> {
    const options = { engineMain: parts.engineMain.href, adapter: { prefer: "software" } } as EngineOptions;
    const engine = await parts.openEngine({
      engine: options,
      worker: new URL("./faulty-engine.mjs", import.meta.url),
      spares,
      firstStepSeconds: FIRST_STEP_SECONDS,
      onStderr: (stderr) => stderr.resume(),
    });
    await engine.warmUp({ width: SIZE, height: SIZE, guidance_scale: 2 });
    const metrics = parts.createMetrics({ device: engine.device, engine: engine.process });
    const server = await parts.listen(parts.appOfRuntime(engine, { metrics }), 0, "127.0.0.1");
    return new FaultBench(engine, server);
  }

  get engine(): EngineProcess {
    return this.#engine;
  }

  get url(): string {
    return this.#server.url;
  }

  async close(): Promise<void> {
    await this.#server.close();
    await this.#engine.close();
  }

  /** The server's own account of itself. */
  async state(): Promise<Outcome["away"]> {
    const [ready, metrics] = await Promise.all(["ready", "metrics"].map((path) => fetch(`${this.url}/${path}`)));
    const gpuLost = Number(/^daguerre_gpu_lost (\d)/m.exec(await metrics!.text())?.[1]);
    return { ready: ready!.status, gpuLost };
  }

  /** Draws for each client while the fault happens, and compares with what a client sees without it. */
  async run({ kind, step, clients }: Trial): Promise<Outcome> {
    const seed = this.#trials++ % SEEDS;
    if (!this.#undisturbed.has(seed)) {
      this.#undisturbed.set(seed, this.#read({ transport: "sse", resumes: false }, seed));
    }
    const undisturbed = await this.#undisturbed.get(seed)!;
    const faults: string[] = [];
    let happened = 0;
    const strike = () => {
      if (happened > 0) return;
      happened = performance.now();
      process.kill(this.#engine.process.pid!, SIGNALS[kind]);
    };
    const readings = clients.map((client, index) =>
      this.#read(client, seed, index === 0 ? { step, strike } : undefined),
    );
    const seen = await Promise.all(readings);
    const detected = this.#lostAt;
    if (detected < happened) faults.push("the loss was not seen");
    let pauseMs = 0;
    for (const [index, events] of seen.entries()) {
      for (const fault of compare(events, undisturbed)) {
        faults.push(`${kind} at ${step}, ${clients[index]!.transport}, seed ${seed}: ${fault}`);
      }
      const next = events.find(({ at }) => at > detected);
      if (next !== undefined) pauseMs = Math.max(pauseMs, next.at - detected);
    }
    await this.#recover();
    const away = await this.#away!;
    return { faults, away, detectionMs: detected - happened, pauseMs };
  }

  async #recover(): Promise<void> {
    while (this.#engine.process.unready !== undefined) await sleep(20);
  }

  #read(client: Client, seed: number, strike?: Strike): Promise<Seen[]> {
    const input = { prompt: "a lake", seed, num_inference_steps: STEPS, width: SIZE, height: SIZE, guidance_scale: 2 };
    const request = { ...input, preview_every: 2, output_format: "png", preview_format: "png" };
    const reading = new Reading(this.#server.url, strike);
    if (client.transport === "json") return reading.json(request);
    if (client.transport === "websocket") return reading.webSocket(request, client.resumes);
    return reading.stream(request, client.transport === "detached", client.resumes);
  }
}

interface Strike {
  readonly step: number;
  readonly strike: () => void;
}

/** One client's reading of one picture. */
class Reading {
  readonly #url: string;
  readonly #strike: Strike | undefined;
  readonly #seen: Seen[] = [];
  #lastId = "0";
  #job = "";
  #isOver = false;

  constructor(url: string, strike: Strike | undefined) {
    this.#url = url;
    this.#strike = strike;
  }

  async json(request: object): Promise<Seen[]> {
    // It sees no step; the fault comes some time after its beginning.
    if (this.#strike) setTimeout(this.#strike.strike, 50 + 80 * this.#strike.step);
    const answer = await fetch(this.#url, { method: "POST", headers: JSON_TYPE, body: JSON.stringify(request) });
    const body: Message = await answer.json();
    this.#note(answer.ok ? { type: "result", ...body } : { type: `HTTP ${answer.status}`, ...body });
    return this.#seen;
  }

  async stream(request: object, detached: boolean, resumes: boolean): Promise<Seen[]> {
    const query = detached ? "?detached=true" : "?resume_grace_s=60";
    this.#atBeginning();
    const init = { method: "POST", headers: JSON_TYPE, body: JSON.stringify(request) };
    await this.#events(`${this.#url}/stream${query}`, init, resumes || detached ? 2 : Number.POSITIVE_INFINITY);
    while (!this.#isOver) {
      const headers = { "last-event-id": this.#lastId };
      await this.#events(`${this.#url}/stream/${this.#job}`, { headers }, Number.POSITIVE_INFINITY);
    }
    return this.#seen;
  }

  /** Reads until the end, or until so many steps are done and the connection is broken off. */
  async #events(url: string, init: RequestInit, breakAfter: number): Promise<void> {
    const leave = new AbortController();
    const answer = await fetch(url, { ...init, signal: leave.signal });
    this.#job ||= answer.headers.get("x-request-id") ?? "";
    if (!answer.ok) {
      this.#note({ type: `HTTP ${answer.status}`, detail: await answer.text() });
      this.#isOver = true;
      return;
    }
    const parser = createParser({
      onEvent: ({ id, data }) => {
        if (leave.signal.aborted) return;
        this.#lastId = id ?? this.#lastId;
        const event = JSON.parse(data);
        this.#note(event);
        if (event.type === "progress" && event.step >= breakAfter) leave.abort();
      },
    });
    const decoder = new TextDecoder();
    try {
      for await (const chunk of answer.body!) parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }));
    } catch (error) {
      if (!leave.signal.aborted) throw error;
    }
  }

  async webSocket(request: object, resumes: boolean): Promise<Seen[]> {
    let session = "";
    let query = "";
    for (let isFirst = true; !this.#isOver; isFirst = false) {
      const socket = new WebSocket(`${this.#url.replace("http", "ws")}/realtime${query}`);
      const breakAfter = resumes && isFirst ? 2 : Number.POSITIVE_INFINITY;
      await new Promise<void>((resolve) => {
        socket.on("close", () => resolve());
        socket.on("error", (error) => {
          this.#note({ type: `socket ${error.message}` });
          this.#isOver = true;
          resolve();
        });
        socket.on("message", (data: Buffer, isBinary) => {
          const message: Message = isBinary ? decode(data) : JSON.parse(data.toString());
          if (message.action === "session") {
            session = message.session;
            if (isFirst) socket.send(encode({ ...request, request_id: "mine" }));
            if (isFirst) this.#atBeginning();
            return;
          }
          if (message.event_id === undefined) return;
          this.#lastId = String(message.event_id);
          this.#note(message);
          if (message.type === "progress" && message.step >= breakAfter) socket.terminate();
          if (this.#isOver) socket.close();
        });
      });
      query = `?session=${session}&after=mine:${this.#lastId}`;
    }
    return this.#seen;
  }

  #atBeginning(): void {
    if (this.#strike?.step === 0) setTimeout(this.#strike.strike, 30);
  }

  #note(message: Message): void {
    const { type, step, image } = message;
    if (type === "queued" || type === "preparing") return;
    const name = step === undefined ? type : `${type} ${step}`;
    const picture =
      image && (image.url ?? `data:${image.content_type};base64,${Buffer.from(image.content).toString("base64")}`);
    const detail = type === "progress" || type === "preview" || type === "result" ? "" : ` ${JSON.stringify(message)}`;
    this.#seen.push({ name: name + detail, picture, at: performance.now() });
    if (type === "result" || type === "error" || detail !== "") this.#isOver = true;
    if (type === "progress" && step === this.#strike?.step) this.#strike?.strike();
  }
}

const JSON_TYPE = { "content-type": "application/json" };

/** The differences of what a client saw from what it should have seen; previews may be left out. */
function compare(seen: readonly Seen[], undisturbed: readonly Seen[]): string[] {
  const faults: string[] = [];
  const isWhole = seen.length > 1;
  const must = undisturbed.filter(({ name }) => (isWhole ? !name.startsWith("preview") : name === "result"));
  const steps = seen.filter(({ name }) => !name.startsWith("preview")).map(({ name }) => name);
  const wanted = must.map(({ name }) => name);
  if (steps.join() !== wanted.join()) faults.push(`saw ${steps.join(", ")} in place of ${wanted.join(", ")}`);
  const names = seen.map(({ name }) => name);
  const order = undisturbed.map(({ name }) => name).filter((name) => names.includes(name));
  if (order.join() !== names.join()) faults.push(`its events came as ${names.join(", ")}`);
  for (const { name, picture } of seen) {
    const right = undisturbed.find((one) => one.name === name);
    if (right !== undefined && right.picture !== picture) faults.push(`${name} has another picture`);
  }
  return faults;
}

/** Draws 0..1 (a linear congruential generator of Numerical Recipes). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

export interface SoakFigures {
  readonly clients: number;
  readonly faults: readonly string[];
  /** Processes that were lost, and faults that were caused: a loss without a fault is a process that was replaced for nothing. */
  readonly losses: readonly [lost: number, caused: number];
  /** Clients by kind of fault, and by transport. */
  readonly counts: Readonly<Record<string, number>>;
  /** Milliseconds, by kind: the median and the most. */
  readonly detectionMs: Readonly<Record<string, readonly [number, number]>>;
  readonly pauseMs: Readonly<Record<string, readonly [number, number]>>;
}

/** So many clients, each under a fault that a seed draws; up to four of them under the same one. */
export async function engineUnderFire(
  bench: FaultBench,
  { clients: total, seed, write }: { clients: number; seed: number; write: (line: string) => void },
): Promise<SoakFigures> {
  const random = randomFrom(seed);
  const any = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)]!;
  const faults: string[] = [];
  const counts: Record<string, number> = {};
  const detections = new Map<Kind, number[]>();
  const pauses = new Map<Kind, number[]>();
  let drawn = 0;
  let trial = 0;
  for (; drawn < total; trial++) {
    const kind = KINDS[trial % KINDS.length]!;
    const clients = Array.from({ length: Math.min(1 + Math.floor(random() * 4), total - drawn) }, () => {
      const transport = any(TRANSPORTS);
      return { transport, resumes: transport !== "json" && random() < 0.6 };
    });
    const step = Math.floor(random() * STEPS);
    const outcome = await bench.run({ kind, step, clients });
    drawn += clients.length;
    faults.push(...outcome.faults);
    for (const { transport, resumes } of clients) {
      for (const name of [kind, transport, ...(resumes ? ["resumed"] : [])]) counts[name] = (counts[name] ?? 0) + 1;
    }
    detections.set(kind, [...(detections.get(kind) ?? []), outcome.detectionMs]);
    pauses.set(kind, [...(pauses.get(kind) ?? []), outcome.pauseMs]);
    const ms = `${Math.round(outcome.detectionMs)} ms, then ${Math.round(outcome.pauseMs)} ms`;
    write(`${drawn}/${total} ${kind} at ${step}, ${clients.map(({ transport }) => transport)}: ${ms}`);
    for (const fault of outcome.faults) write(`FAULT ${fault}`);
  }
  const lost = [...bench.engine.process.losses.values()].reduce((sum, count) => sum + count);
  return {
    clients: drawn,
    faults,
    losses: [lost, trial],
    counts,
    detectionMs: figures(detections),
    pauseMs: figures(pauses),
  };
}

function figures(all: ReadonlyMap<Kind, readonly number[]>): Record<string, readonly [number, number]> {
  const of = (list: readonly number[]) => {
    const sorted = list.toSorted((one, other) => one - other);
    return [Math.round(sorted[sorted.length >> 1]!), Math.round(sorted.at(-1)!)] as const;
  };
  return Object.fromEntries([...all].map(([kind, list]) => [kind, of(list)]));
}

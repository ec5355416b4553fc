import { beforeEach, describe, expect, it } from "vitest";
import type { Connection, Input, PreparingEvent, RunEvent, RunListener, RunOptions, Shown } from "./connection.ts";
import { type Run, Runs, type RunView } from "./runs.ts";

const picture = (url: string): Shown => ({ url, width: 8, height: 8, type: "image/png" });
const preview = (url: string, step = 1): RunEvent => ({ type: "preview", image: picture(url), step, steps: 4 });
const result = (url: string): RunEvent => ({ type: "result", image: picture(url), seed: "7", warnings: [] });

/** A connection that starts nothing: the test speaks for the server. */
class Wire implements Connection {
  readonly listeners: RunListener[] = [];
  readonly replaced: RunOptions["replace"][] = [];
  readonly cancelled: number[] = [];
  run(_: Input, listener: RunListener, { replace }: RunOptions): () => void {
    const index = this.listeners.push(listener) - 1;
    this.replaced.push(replace);
    return () => this.cancelled.push(index);
  }
  close(): void {}
}

/** Writes down what the page would show. */
class Log implements RunView {
  readonly lines: string[] = [];
  running = false;
  begin = ({ prompt }: Run) => void this.lines.push(`begin ${prompt}`);
  queued = (position: number, seconds?: number) =>
    void this.lines.push(`queued ${position} ${seconds ?? ""}`.trimEnd());
  preparing = ({ what, done, total }: PreparingEvent) => void this.lines.push(`preparing ${what} ${done}/${total}`);
  progress = (step: number, steps: number, fraction: number) => void this.lines.push(`${step}/${steps} ${fraction}`);
  preview = ({ prompt }: Run, { url }: Shown) => void this.lines.push(`preview ${prompt} ${url}`);
  result = ({ prompt }: Run, { image }: { image: Shown }, ms: number, more: boolean) =>
    void this.lines.push(`result ${prompt} ${image.url} ${ms} ms${more ? ", more" : ""}`);
  failed = ({ prompt }: Run, { status }: { status: number }, news: boolean) =>
    void this.lines.push(`failed ${prompt} ${status}${news ? "" : ", no news"}`);
  cancelled = () => void this.lines.push("cancelled");
  busy = (running: boolean) => {
    this.running = running;
  };
  take = () => this.lines.splice(0);
}

describe("Runs", () => {
  let wire: Wire;
  let log: Log;
  let released: string[];
  let clock: number;
  let runs: Runs;

  beforeEach(() => {
    wire = new Wire();
    log = new Log();
    released = [];
    clock = 0;
    runs = new Runs(
      log,
      ({ url }) => released.push(url),
      () => clock,
    );
  });

  const size = { width: 8, height: 8 };
  const byHand = (prompt: string) => runs.start(wire, { prompt }, { deliberate: true, replace: "interrupt", size });
  const byTyping = (prompt: string) => runs.start(wire, { prompt }, { deliberate: false, replace: "interrupt", size });
  const byStroke = (prompt: string) => runs.start(wire, { prompt }, { deliberate: false, replace: "wait", size });

  it("shows a run by hand at once, and its events in order", () => {
    byHand("a");
    expect(log.running).toBe(true);
    const [listener] = wire.listeners;
    listener!.event({ type: "queued", position: 2, seconds: 7 });
    listener!.event({ type: "progress", step: 1, steps: 4, progress: 0.25 });
    clock = 30;
    listener!.event(preview("p1"));
    clock = 90;
    listener!.event(result("r1"));
    expect(log.take()).toEqual(["begin a", "queued 2 7", "1/4 0.25", "preview a p1", "result a r1 90 ms"]);
    expect(log.running).toBe(false);
    expect(runs.picture?.url).toBe("r1");
  });

  it("shows a run by typing from its first picture on, not from its place in the queue", () => {
    byTyping("a");
    wire.listeners[0]!.event({ type: "queued", position: 1 });
    expect(log.take()).toEqual([]);
    wire.listeners[0]!.event(preview("p1"));
    expect(log.take()).toEqual(["begin a", "preview a p1"]);
  });

  it("ignores a run that a newer request has replaced", () => {
    byTyping("a");
    byTyping("b");
    expect(wire.replaced).toEqual(["interrupt", "interrupt"]);
    wire.listeners[0]!.event(result("old"));
    wire.listeners[0]!.failed({ status: 500, detail: "" });
    expect(log.take()).toEqual([]);
    expect(log.running).toBe(true);
  });

  it("keeps older runs of strokes until a newer one is shown, and releases pictures that come too late", () => {
    byStroke("a");
    byStroke("b");
    wire.listeners[0]!.event(preview("a1"));
    wire.listeners[1]!.event(preview("b1"));
    wire.listeners[0]!.event(preview("a2", 2));
    wire.listeners[0]!.event(result("a3"));
    expect(log.take()).toEqual(["begin a", "preview a a1", "begin b", "preview b b1"]);
    expect(released).toEqual(["a1", "a2", "a3"]);
    expect(log.running).toBe(true);
    wire.listeners[1]!.event(result("b2"));
    expect(log.take()).toEqual(["result b b2 0 ms"]);
  });

  it("says when a run has finished while a newer one is under way", () => {
    byStroke("a");
    byStroke("b");
    wire.listeners[0]!.event(result("a1"));
    expect(log.take()).toEqual(["begin a", "result a a1 0 ms, more"]);
  });

  it("keeps the picture on the plate and its states until the next run has one, and nothing longer", () => {
    byHand("a");
    wire.listeners[0]!.event(preview("a1"));
    wire.listeners[0]!.event(result("a2"));
    byHand("b");
    wire.listeners[1]!.event({ type: "progress", step: 1, steps: 4, progress: 0.25 });
    expect(released).toEqual([]);
    expect(runs.picture?.url).toBe("a2");
    wire.listeners[1]!.event(preview("b1"));
    expect(released).toEqual(["a1", "a2"]);
    expect(runs.picture?.url).toBe("b1");
    wire.listeners[1]!.event(result("b2"));
    expect(released).toEqual(["a1", "a2"]);
    expect(runs.picture?.url).toBe("b2");
  });

  it.each(["failed", "cancelled", "superseded"])("keeps the picture before a run that is %s without one", (how) => {
    byHand("a");
    wire.listeners[0]!.event(preview("a1"));
    wire.listeners[0]!.event(result("a2"));
    byHand("b");
    const [, listener] = wire.listeners;
    if (how === "failed") listener!.failed({ status: 0, detail: "broken" });
    else if (how === "cancelled") runs.cancel();
    else listener!.superseded();
    expect(released).toEqual([]);
    expect(runs.picture?.url).toBe("a2");
    byHand("c");
    wire.listeners[2]!.event(preview("c1"));
    expect(released).toEqual(["a1", "a2"]);
  });

  it("shows the preparation for the newest run, however it was started, and not that for older ones", () => {
    const kernels = (done: number): RunEvent => ({ type: "preparing", what: "kernels", done, total: 60 });
    byStroke("a");
    expect(runs.silent).toBe(true);
    wire.listeners[0]!.event({ type: "queued", position: 0 });
    expect(runs.silent).toBe(true);
    wire.listeners[0]!.event(kernels(1));
    expect(runs.silent).toBe(false);
    byHand("b");
    wire.listeners[0]!.event(kernels(2));
    wire.listeners[1]!.event(kernels(3));
    expect(log.take()).toEqual(["preparing kernels 1/60", "begin b", "preparing kernels 3/60"]);
  });

  it("reports a failure as news only if nothing newer is shown", () => {
    byStroke("a");
    byStroke("b");
    wire.listeners[1]!.event(preview("b1"));
    wire.listeners[0]!.failed({ status: 503, detail: "" });
    wire.listeners[1]!.failed({ status: 500, detail: "" });
    expect(log.take()).toEqual(["begin b", "preview b b1", "failed a 503, no news", "failed b 500"]);
    expect(log.running).toBe(false);
  });

  it("ends a run that the server has dropped for a newer one without a word", () => {
    byStroke("a");
    wire.listeners[0]!.superseded();
    expect(log.take()).toEqual([]);
    expect(log.running).toBe(false);
  });

  it("cancels all that is under way, and hears nothing of it afterwards", () => {
    byStroke("a");
    byStroke("b");
    runs.cancel();
    expect(wire.cancelled).toEqual([0, 1]);
    expect(log.take()).toEqual(["cancelled"]);
    wire.listeners[0]!.event(result("a1"));
    wire.listeners[1]!.failed({ status: 0, detail: "broken" });
    runs.cancel();
    expect(log.take()).toEqual([]);
  });
});

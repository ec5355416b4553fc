// Ranks of the groups' tests: one class, whose call does what its payload says. `BUILT` is the built `daguerre/hosts`.
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const { DistributedWorker } = await import(process.env.DAGUERRE_BUILT_HOSTS);

export default class extends DistributedWorker {
  calls = 0;
  ended = 0;
  aborted = 0;

  async setup({ start = 0, log, failsOn } = {}) {
    if (failsOn === this.rank) throw Object.assign(new Error("no such model"), { status: 404 });
    this.start = start;
    this.log = log;
  }

  teardown() {
    if (this.log) writeFileSync(`${this.log}-${this.rank}`, "torn down");
  }

  async call({ does, ...payload }, context) {
    this.calls++;
    context.signal.addEventListener("abort", () => this.aborted++);
    try {
      return await this[does](payload, context);
    } finally {
      this.ended++;
    }
  }

  facts() {
    const { rank, worldSize, device, start } = this;
    return { rank, worldSize, device, start, pid: process.pid };
  }

  counts() {
    const { calls, ended, aborted } = this;
    return this.allGather({ calls, ended, aborted });
  }

  async collectives({ from = 0 }) {
    const gathered = await this.gather(`r${this.rank}`, from);
    const all = await this.allGather({ rank: this.rank, part: new Uint8Array(5000).fill(this.rank) });
    const told = await this.broadcast(this.rank === from ? { word: "from", from } : "not looked at", from);
    const share = await this.scatter(
      this.rank === from ? Array.from({ length: this.worldSize }, (_, rank) => rank * 10) : undefined,
      from,
    );
    await this.barrier();
    const sum = await this.allReduce(new Float32Array([this.rank, 0.1]));
    const mean = await this.allReduce(this.rank, "mean");
    const max = await this.allReduce(this.rank, "max");
    const parts = all.map(({ part }) => part[4999]);
    return this.allGather({ gathered, parts, told, share, sum, mean, max });
  }

  /** Adds results, with collectives between them whose values belong to this call. */
  async steps({ id, n = 3, ms = 0 }) {
    for (let step = 0; step < n; step++) {
      await sleep(ms);
      const parts = await this.gather({ id, step, rank: this.rank });
      await this.addStreamingResult({ step, parts });
      await this.barrier();
    }
    return { id };
  }

  /** Streams until it is told to stop, and counts what it has added. */
  async endless() {
    for (this.added = 0; ; this.added++) {
      await this.addStreamingResult({ added: this.added });
      await this.barrier();
    }
  }

  howMany() {
    return this.added;
  }

  async picture({ side = 8, ...options }) {
    const rgba = new Uint8Array(side * side * 4).fill(200);
    await this.addStreamingResult({ deep: [{ picture: { width: side, height: side, rgba } }] }, options);
    return { width: side, height: side, rgba };
  }

  async timed() {
    await this.addStreamingResult({ added: Date.now() });
  }

  async mismatch() {
    if (this.rank === 0) return this.gather(1);
    await this.barrier();
  }

  async otherRoot() {
    await this.broadcast(1, this.rank);
  }

  async leavesEarly() {
    if (this.rank !== 1) await this.barrier();
  }

  async unevenSums() {
    await this.allReduce(new Float32Array(this.rank + 1));
  }

  async throws({ rank }) {
    if (this.rank === rank) throw Object.assign(new Error("too bright"), { status: 422, field: "prompt" });
    await this.barrier();
  }

  /** Each collective, with a rank that ends its place before it. */
  async dies({ rank, collective, stop }) {
    await this.barrier();
    if (this.rank === rank) {
      await sleep(30); // the others are in the collective by then
      if (stop) process.kill(process.pid, "SIGSTOP");
      process.exit(9);
    }
    const values = Array.from({ length: this.worldSize }, () => 1);
    await this[collective](collective === "scatter" ? values : 1);
  }

  async quiet({ ms }) {
    await this.addStreamingResult("first");
    await sleep(ms);
    await this.addStreamingResult("late");
  }

  async barriers({ n }) {
    for (let index = 0; index < 20; index++) await this.barrier();
    const times = [];
    for (let index = 0; index < n; index++) {
      const began = performance.now();
      await this.barrier();
      times.push(performance.now() - began);
    }
    return times;
  }

  async gathers({ n, bytes }) {
    const part = new Uint8Array(bytes);
    const times = [];
    for (let index = 0; index < n; index++) {
      const began = performance.now();
      await this.gather(part);
      times.push(performance.now() - began);
    }
    return times;
  }

  async sums({ n, length }) {
    const part = new Float32Array(length);
    const times = [];
    for (let index = 0; index < n; index++) {
      const began = performance.now();
      await this.allReduce(part);
      times.push(performance.now() - began);
    }
    return times;
  }

  says() {
    this.rankPrint("hello");
  }
}

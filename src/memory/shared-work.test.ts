import { describe, expect, it } from "vitest";
import { SharedWork } from "./shared-work.ts";

/** Work that ends when it is told to, and rejects with the signal's reason. */
function work() {
  const seen: { signal?: AbortSignal; finish?: (value: string) => void } = {};
  const shared = new SharedWork(
    (signal) =>
      new Promise<string>((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        Object.assign(seen, { signal, finish: resolve });
      }),
  );
  return { shared, seen };
}

describe("shared work", () => {
  it("is there for all who joined, and for one who comes later", async () => {
    const { shared, seen } = work();
    const both = [shared.join(), shared.join(new AbortController().signal)];
    seen.finish!("done");
    expect(await Promise.all([...both, shared.join()])).toEqual(["done", "done", "done"]);
    expect(await shared.ended).toBe(true);
  });

  it("goes on for the others if one leaves, and stops with the last", async () => {
    const { shared, seen } = work();
    const [first, second] = [new AbortController(), new AbortController()];
    const left = shared.join(first.signal);
    const last = shared.join(second.signal);
    first.abort(new Error("first"));
    await expect(left).rejects.toThrow("first");
    expect(shared.isStopped).toBe(false);
    second.abort(new Error("second"));
    await expect(last).rejects.toThrow("second");
    expect([shared.isStopped, seen.signal!.aborted, await shared.ended]).toEqual([true, true, false]);
  });

  it("is not begun in vain by one who has left already", async () => {
    const { shared } = work();
    await expect(shared.join(AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
    expect(shared.isStopped).toBe(true);
  });
});

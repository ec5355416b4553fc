import { describe, expect, it } from "vitest";
import { createOutbox } from "./outbox.ts";

describe("outbox", () => {
  it("hands items out in order and then says that it has ended", async () => {
    const outbox = createOutbox<number>();
    await outbox.put(1);
    await outbox.put(2);
    outbox.end();
    expect([await outbox.take(1000), await outbox.take(1000), await outbox.take(1000)]).toEqual([
      { item: 1 },
      { item: 2 },
      "ended",
    ]);
  });

  it("replaces what waits in the same slot, and nothing else", async () => {
    const outbox = createOutbox<string>();
    await outbox.put("queued");
    await outbox.put("preview 1", "preview");
    await outbox.put("progress 1", "progress");
    await outbox.put("preview 2", "preview");
    await outbox.put("result");
    outbox.end();
    const taken = [];
    for (let next = await outbox.take(0); next !== "ended"; next = await outbox.take(0)) taken.push(next);
    expect(taken).toEqual(["queued", "progress 1", "preview 2", "result"].map((item) => ({ item })));
  });

  it("says when nothing came, and still delivers later", async () => {
    const outbox = createOutbox<number>();
    expect(await outbox.take(5)).toBe("quiet");
    const next = outbox.take(5000);
    await outbox.put(3);
    expect(await next).toEqual({ item: 3 });
  });

  it("makes the producer wait at the limit, until something is taken", async () => {
    const outbox = createOutbox<number>(2);
    await outbox.put(1);
    let room = false;
    const put = outbox.put(2).then(() => {
      room = true;
    });
    await new Promise(setImmediate);
    expect(room).toBe(false);
    expect(await outbox.take(0)).toEqual({ item: 1 });
    await put;
  });

  it("lets everybody go when it is abandoned", async () => {
    const outbox = createOutbox<number>(1);
    const put = outbox.put(1);
    outbox.abandon();
    await put;
    await outbox.put(2);
    expect(await outbox.take(1000)).toBe("ended");
  });
});

import fc from "fast-check";
import { expect, it, vi } from "vitest";
import { createAccount } from "./account.ts";

it("ends the slowest hold of the client that holds the most, and no other", () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  const account = createAccount({ bodies: 1_000 });
  const ended: string[] = [];
  const hold = (client: string, name: string) => account.open("bodies", client, () => ended.push(name));
  const [still, slow, quick, other] = [hold("a", "still"), hold("a", "slow"), hold("a", "quick"), hold("b", "other")];
  still.resize(300);
  slow.resize(10);
  vi.advanceTimersByTime(2_000);
  slow.resize(100);
  quick.resize(200);
  other.resize(350);
  expect(ended).toEqual([]);
  vi.advanceTimersByTime(10);
  quick.resize(400);
  expect(ended).toEqual(["still"]);
  vi.advanceTimersByTime(10);
  expect(slow.resize(200)).toBe(true);
  expect(quick.resize(500)).toBe(true);
  expect(ended).toEqual(["still", "slow"]);
  expect([still.ended, slow.ended, still.resize(5), account.bytes("bodies")]).toEqual([true, true, false, 850]);
  // One that takes too much by itself goes itself.
  expect(quick.resize(900)).toBe(false);
  expect(ended).toEqual(["still", "slow", "quick"]);
  expect(account.bytes("bodies")).toBe(350);
  vi.useRealTimers();
});

it("refuses holds that cannot be ended, and leaves as much free as one client has", () => {
  const account = createAccount({ sessions: 1_000 });
  const [one, more, other] = [
    account.open("sessions", "a"),
    account.open("sessions", "a"),
    account.open("sessions", "b"),
  ];
  expect(one.resize(1_001)).toBe(false);
  expect(one.resize(400)).toBe(true);
  expect(more.resize(200)).toBe(false);
  expect([one.bytes, more.bytes]).toEqual([400, 0]);
  expect(more.resize(100)).toBe(true);
  expect(other.resize(501)).toBe(false);
  expect(other.resize(500)).toBe(true);
  one.release();
  one.release();
  expect([account.bytes("sessions"), account.bytes("sessions", "a")]).toEqual([600, 100]);
});

it("shows what is held elsewhere beside its own", () => {
  const account = createAccount();
  account.open("logs", "a").resize(5);
  account.enter("logs", () => 7);
  expect(account.bytes("logs")).toBe(12);
});

it("never holds more than its bound, and never loses count, whatever is done", () => {
  const act = fc.record({ hold: fc.nat(9), bytes: fc.nat(700), release: fc.boolean() });
  fc.assert(
    fc.property(fc.array(act, { maxLength: 200 }), fc.boolean(), (acts, endable) => {
      const account = createAccount({ bodies: 1_000 });
      const holds = Array.from({ length: 10 }, (_, n) =>
        account.open("bodies", `client ${n % 3}`, endable ? () => {} : undefined),
      );
      for (const { hold, bytes, release } of acts) {
        if (release) holds[hold]!.resize(0);
        else holds[hold]!.resize(bytes);
        expect(account.bytes("bodies")).toBeLessThanOrEqual(1_000);
        expect(account.bytes("bodies")).toBe(holds.reduce((sum, one) => sum + one.bytes, 0));
      }
      for (const hold of holds) hold.release();
      // Bytes that come late are not counted any more.
      for (const hold of holds) expect(hold.resize(1)).toBe(false);
      expect(account.bytes("bodies")).toBe(0);
    }),
  );
});

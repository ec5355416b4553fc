import { setImmediate } from "node:timers/promises";
import { expect, it } from "vitest";
import { Updates } from "../jobs/updates.ts";
import { PendingUpdate } from "./pending-update.ts";

it("reads at once, and gives the changes since the last call laid over each other", async () => {
  const updates = new Updates();
  const pending = new PendingUpdate(updates);
  expect(updates.areRead).toBe(true);
  expect(pending.take()).toBeUndefined();
  updates.push({ prompt: "a", guidance_scale: 1 });
  await setImmediate();
  updates.push({ prompt: "b" });
  await setImmediate();
  expect(pending.take()).toEqual({ prompt: "b", guidance_scale: 1 });
  expect(pending.take()).toBeUndefined();
  pending.stop();
  expect(updates.areRead).toBe(false);
});

it("takes nothing where nobody sends changes, or where they break off", async () => {
  const nobody = new PendingUpdate(undefined);
  expect(nobody.take()).toBeUndefined();
  nobody.stop();
  const broken = new PendingUpdate(
    (async function* () {
      yield { prompt: "a" };
      throw new Error("the line broke");
    })(),
  );
  await setImmediate();
  expect(broken.take()).toEqual({ prompt: "a" });
  broken.stop();
});

it("stops at once, though the next change never comes", async () => {
  let isReleased = false;
  const silent: AsyncIterable<object> = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => {}),
      return: async () => {
        isReleased = true;
        return { done: true, value: undefined };
      },
    }),
  };
  new PendingUpdate(silent).stop();
  expect(isReleased).toBe(true);
});

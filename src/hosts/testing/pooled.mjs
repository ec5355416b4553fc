// Functions and generators of the pools' tests.
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread, threadId } from "node:worker_threads";

const place = () => (isMainThread ? process.pid : threadId);

/** The nth of a sequence that a reader can check; some are slow, some end their process. */
export async function square({ n, ms = 0, dies = false }) {
  if (ms) await sleep(ms);
  if (dies) process.exit(3);
  return n * n;
}

export const add = (left, right) => left + right;

export function refuses({ n }) {
  if (n % 2) throw Object.assign(new Error(`${n} is odd`), { status: 422, field: "n" });
  return [n];
}

/** Computes without pause. */
export function* sums({ n, ms = 0 }) {
  let sum = 0;
  for (let index = 1; index <= n; index++) {
    const end = performance.now() + ms;
    while (performance.now() < end);
    sum += index;
    yield sum;
  }
}

export async function* letters({ text, ms = 0 }) {
  for (const letter of text) {
    await sleep(ms);
    yield letter;
  }
}

/** Ends its process in the middle, if no other has yet: the file that says so is its input. */
export async function* dies({ file, n }) {
  const { writeFileSync, existsSync } = await import("node:fs");
  for (let index = 0; index < n; index++) {
    if (index === 3 && !existsSync(file)) {
      writeFileSync(file, "");
      process.exit(1);
    }
    yield { index, place: place() };
  }
}

export const where = async ({ ms = 0 }) => {
  await sleep(ms);
  return place();
};

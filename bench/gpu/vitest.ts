/**
 * The part of `vitest` that the tests use, on Node's own test runner: vitest itself is too large to carry to another
 * machine.
 */

import {
  after,
  before,
  afterEach as nodeAfterEach,
  beforeEach as nodeBeforeEach,
  test as once,
  describe as suite,
} from "node:test";
import { format } from "node:util";
import { chai, JestAsymmetricMatchers, JestChaiExpect, JestExtend } from "@vitest/expect";

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

export const expect = Object.assign((value: unknown, message?: string) => chai.expect(value, message), {
  fail: chai.expect.fail,
});
export const afterAll = (release: () => unknown) => after(async () => void (await release()));
export const beforeAll = (prepare: () => unknown) => before(async () => void (await prepare()));
export const beforeEach = (prepare: () => unknown) => nodeBeforeEach(async () => void (await prepare()));
export const afterEach = (release: () => unknown) => nodeAfterEach(async () => void (await release()));

/** Those that start a program from its TypeScript source. */
const FROM_SOURCE = ["three thousand runs leak nothing"];

type Body = (...values: never[]) => unknown;
type Register = (title: string, body: (() => unknown) | undefined, skip: boolean) => void;

function api(register: Register, isSkipped = false) {
  const define = (title: string, ...rest: unknown[]) => {
    const body = rest.find((part) => typeof part === "function") as (() => unknown) | undefined;
    register(title, body, isSkipped || FROM_SOURCE.includes(title));
  };
  return Object.assign(define, {
    each:
      (cases: readonly unknown[]) =>
      (title: string, ...rest: unknown[]) => {
        const body = rest.find((part) => typeof part === "function") as Body;
        cases.forEach((value, index) => {
          const values = Array.isArray(value) ? value : [value];
          register(titleOf(title, values, index), () => body(...(values as never[])), isSkipped);
        });
      },
    skipIf: (condition: unknown) => api(register, isSkipped || Boolean(condition)),
    runIf: (condition: unknown) => api(register, isSkipped || !condition),
  });
}

/** `%s` and the like, `$name` and `$a.b` of a case that is an object. */
function titleOf(title: string, values: readonly unknown[], index: number): string {
  const [first] = values;
  const named = title.replace(/\$([a-zA-Z_][\w.]*)/g, (whole, path: string) => {
    const value = path.split(".").reduce<unknown>((of, key) => (of as Record<string, unknown>)?.[key], first);
    return value === undefined ? whole : String(value);
  });
  const places = named.replaceAll("%#", String(index)).match(/%[sdifjoO]/g)?.length ?? 0;
  return places > 0 ? format(named, ...values.slice(0, places)) : named;
}

const skipping = (skip: boolean) => (skip ? { skip } : {});
export const test = api((title, body, skip) => void once(title, skipping(skip), async () => void (await body?.())));
export const it = test;
export const describe = api((title, body, skip) => void suite(title, skipping(skip), () => void body?.()));

/**
 * A tenth of the attack suite, the same one each time. `npm run soak -- security` runs all of it; `SECURITY_SEED` chooses
 * another tenth. The server that is attacked is the built one (`npm run build`).
 */
import { expect, it } from "vitest";
import { runSuite } from "./suite.ts";

const SEED = Number(process.env.SECURITY_SEED ?? 20261127);

it("nothing from outside ends, stalls or fills the server", { timeout: 300_000 }, async () => {
  const breaches = await runSuite({ seconds: 40, seed: SEED, share: 0.1, write: console.log });
  expect(breaches).toEqual([]);
});

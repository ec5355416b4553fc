/**
 * The cost of a picture and of a start of the built-in model, in CPU time of the process, of two checkouts in turns:
 *
 *     npm run bench:picture -- OTHER_CHECKOUT [--pairs 30] [--driver swiftshader]
 *
 * Both must be built (`npm run build`).
 */
import { type ChildProcess, fork } from "node:child_process";
import path from "node:path";
import { parseArgs } from "node:util";
import { untunedEnvironment } from "../../tooling/untuned.ts";
import { measurePairs, pairsLine } from "../pairs.ts";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { pairs: { type: "string", default: "30" }, driver: { type: "string", default: "" } },
});
const here = path.resolve(import.meta.dirname, "../..");
const other = positionals[0];
if (other === undefined) {
  console.error("Name the checkout to compare with.");
  process.exit(1);
}

interface Drawer {
  readonly child: ChildProcess;
  /** CPU milliseconds from the start of the process to its first picture. */
  readonly startMs: number;
}

function answerOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("message", (answer) => resolve(answer as number));
    const ended = (code: number | null) => reject(new Error(`the process ended with code ${code}`));
    child.once("exit", ended);
    child.once("message", () => child.off("exit", ended));
  });
}

const env = untunedEnvironment();

async function start(checkout: string): Promise<Drawer> {
  const program = path.join(import.meta.dirname, "draw.mjs");
  const child = fork(program, [path.resolve(checkout), flags.driver], {
    stdio: ["ignore", "ignore", "ignore", "ipc"],
    env,
  });
  return { child, startMs: await answerOf(child) };
}

async function startOnce(checkout: string): Promise<number> {
  const { child, startMs } = await start(checkout);
  child.removeAllListeners();
  child.kill();
  return startMs;
}

function draw({ child }: Drawer, kind: string): Promise<number> {
  child.send(kind);
  return answerOf(child);
}

const pairs = Number(flags.pairs);
for (const checkout of [here, other]) await startOnce(checkout); // fills the drivers' caches
console.log(
  pairsLine(
    "start",
    await measurePairs(
      pairs,
      () => startOnce(here),
      () => startOnce(other),
    ),
  ),
);
const drawers = { here: await start(here), other: await start(other) };
for (const kind of ["picture", "picture with previews", "LoRA"]) {
  for (const drawer of Object.values(drawers)) for (let n = 0; n < 3; n++) await draw(drawer, kind);
  const measured = await measurePairs(
    pairs,
    () => draw(drawers.here, kind),
    () => draw(drawers.other, kind),
  );
  console.log(pairsLine(kind, measured));
}
for (const { child } of Object.values(drawers)) {
  child.removeAllListeners();
  child.kill();
}

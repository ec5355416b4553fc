// A run that announces its phases, and ends or stops its process in one of them as its script says. `DAGUERRE_TEST_LOAD` says
// what happens as the module loads: `hang` or `exit`, and the file that counts how often.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const countOf = (file) => (existsSync(file) ? readFileSync(file, "utf8").length : 0);

/** Does it, if it has not been done so often yet. */
async function mishap({ how, file, times = 1 }) {
  if (countOf(file) >= times) return;
  appendFileSync(file, "x");
  if (how === "exit") process.exit(70);
  if (how === "SIGSTOP" || how === "SIGKILL" || how === "SIGSEGV") process.kill(process.pid, how);
  if (how === "blocks") for (;;);
  await new Promise(() => setInterval(() => {}, 1000));
}

const [loadHow, loadFile] = (process.env.DAGUERRE_TEST_LOAD ?? "").split(":");
if (loadHow) await mishap({ how: loadHow, file: loadFile });

export default async function* ({ steps = 6, ms = 2, id = 0, script, checkpoints = false, waits = false }, context) {
  const at = async (phase, step) => {
    if (waits) context.announce("wait");
    context.announce(phase);
    if (script && script.phase === phase && (script.step ?? step) === step) await mishap(script);
  };
  let { sum, first } = context.from ?? { sum: id, first: 1 };
  const words = [];
  if (context.updates) {
    void (async () => {
      for await (const { word } of context.updates) words.push(word);
    })();
  }
  await at("compile");
  for (let step = first; step <= steps; step++) {
    await at(step === first ? "first-step" : "step", step);
    await sleep(ms);
    context.signal.throwIfAborted();
    sum = (sum * 31 + step) % 1_000_003;
    yield { step, sum, words: [...words], resumed: first > 1 };
    if (checkpoints && step % 2 === 0) await context.checkpoint({ sum, first: step + 1 });
  }
  await at("encode");
  yield { result: sum, pid: process.pid };
}

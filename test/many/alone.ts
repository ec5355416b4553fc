/** A process of its own that draws requests one after the other: how many models and the seeds as arguments, their hashes as JSON. */
import { createRuntime } from "../../src/engine/runtime.ts";
import { drawnAlone, fewModels } from "./requests.ts";

async function main(): Promise<void> {
  const [count, ...seeds] = process.argv.slice(2).map(Number);
  const all = Object.values(fewModels()).slice(0, count);
  const hashes: [number, string][] = [];
  // Each model in a runtime of its own, with all memory: what it draws knows nothing of others.
  for (const [index, { model }] of all.entries()) {
    const runtime = await createRuntime({ model });
    const own = seeds.filter((seed) => seed % all.length === index);
    hashes.push(...(await drawnAlone(runtime, own)));
    await runtime.close();
  }
  process.stdout.write(`${JSON.stringify(hashes)}\n`);
}

await main();

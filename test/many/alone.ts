/** A process of its own that draws requests one after the other: their seeds as arguments, their hashes as JSON. */
import { createRuntime } from "../../src/engine/runtime.ts";
import { drawnAlone } from "./requests.ts";

async function main(): Promise<void> {
  const runtime = await createRuntime();
  const hashes = await drawnAlone(runtime, process.argv.slice(2).map(Number));
  process.stdout.write(`${JSON.stringify([...hashes])}\n`);
  await runtime.close();
}

await main();

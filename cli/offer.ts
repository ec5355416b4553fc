/** A model's name that is not on this machine: a person at a terminal is asked whether it shall be downloaded. */
import { createInterface } from "node:readline/promises";
import { nameToPull } from "../src/engine/model-location.ts";

/** Asks if there is a terminal; without one, or after a no, opening the model says what to do. */
export async function offerModel(model: string | undefined, variant?: string): Promise<void> {
  if (model === undefined || !process.stdin.isTTY || !process.stderr.isTTY) return;
  const name = await nameToPull(model);
  if (name === undefined) return;
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
  const answer = await lines.question(`${name} is not on this machine. Download it? [y/N] `);
  lines.close();
  if (!/^y(?:es)?$/i.test(answer.trim())) return;
  const { pullModel } = await import("./pull.ts");
  const path = await pullModel(name, [], { variant }, process.stderr);
  if (path === undefined) process.exit();
}

#!/usr/bin/env node
/**
 * The `daguerre` command. A command that may open a GPU runs in a child process, whose native code cannot write to the
 * terminal (`supervisor.ts`); help, the version, and what is being debugged run in this one. So does `serve`, whose engine is
 * a child of its own, unless its settings say otherwise.
 */
import process from "node:process";
import { isSupervised, mayBeSupervised } from "./supervised.ts";

const args = process.argv.slice(2);
const options = args.slice(0, args.includes("--") ? args.indexOf("--") : undefined);

const opensNoGpu =
  args.length === 0 ||
  ["help", "serve", "pull", "models"].includes(args[0]!) ||
  options.some((option) => ["-h", "--help", "-v", "--version"].includes(option));

if (isSupervised()) {
  const { takeStderr } = await import("./supervised.ts");
  takeStderr();
}
if (isSupervised() || opensNoGpu || !mayBeSupervised()) await import("./main.ts");
else {
  const { supervise } = await import("./supervisor.ts");
  await supervise();
}

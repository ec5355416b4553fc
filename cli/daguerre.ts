#!/usr/bin/env node
/**
 * The `daguerre` command. A command that may open a GPU runs in a child process, whose native code cannot write to the
 * terminal (`supervisor.ts`); help, the version, and what is being debugged run in this one.
 */
import process from "node:process";
import { isSupervised } from "./supervised.ts";

const args = process.argv.slice(2);
const options = args.slice(0, args.includes("--") ? args.indexOf("--") : undefined);

const opensNoGpu =
  args.length === 0 ||
  ["help", "pull", "models"].includes(args[0]!) ||
  options.some((option) => ["-h", "--help", "-v", "--version"].includes(option));

/** A debugger is attached to this process, and its port is taken. */
const isInspected = [...process.execArgv, ...(process.env.NODE_OPTIONS ?? "").split(/\s+/)].some((option) =>
  option.startsWith("--inspect"),
);

if (isSupervised()) {
  const { takeStderr } = await import("./supervised.ts");
  takeStderr();
}
// Dawn speaks D3D12 on Windows, and is silent; and Windows has no signals to hand on.
if (isSupervised() || opensNoGpu || isInspected || process.platform === "win32") await import("./main.ts");
else {
  const { supervise } = await import("./supervisor.ts");
  await supervise();
}

/** Runs a command of this checkout, as it was built (`tooling/build-once.ts`), in a process of its own. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import path from "node:path";

export const ROOT = path.resolve(import.meta.dirname, "..");

/** The `daguerre` command. */
export const CLI = path.join(ROOT, "dist/cli.js");

export function daguerre(args: readonly string[], env: Record<string, string> = {}, cwd: string = ROOT) {
  const child = spawn(process.execPath, [CLI, ...args], {
    cwd,
    env: { ...process.env, ...env },
  });
  return watched(child);
}

/** A process with all that it writes, and its end: the exit code, or the signal that ended it. */
export function watched(child: ChildProcessWithoutNullStreams) {
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.on("close", (code, signal) => resolve(signal ?? code));
  });
  return { child, output, ended };
}

export async function run(...args: readonly string[]) {
  const { output, ended } = daguerre(args);
  const code = await ended;
  return { ...output, code };
}

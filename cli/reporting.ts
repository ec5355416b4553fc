/** The common part of commands that print a report. */
import process from "node:process";
import type { Command } from "commander";

/** The last line of a command's help. */
export function withExample(command: Command, example: string): Command {
  return command.addHelpText("after", `\nExample: ${example}`);
}

export const REPORT_AS_JSON = "print one JSON document (docs/commands.md) instead of lines";

/** Runs a command that reports: its lines on stdout as they come, or its report as JSON at the end. */
export async function report<Report>(
  { json }: { json?: boolean },
  run: (write: (line: string) => void) => Promise<Report>,
) {
  const print = (text: string) => process.stdout.write(`${text}\n`);
  const result = await run(json ? () => {} : print);
  if (json) print(JSON.stringify(result, undefined, 2));
  return result;
}

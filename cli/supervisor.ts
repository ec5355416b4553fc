/**
 * Runs a command in a child process and keeps what native code writes to stderr from the terminal.
 *
 * Dawn and the drivers write to file descriptor 2, and there is no switch for it. In the child that descriptor is a pipe,
 * which is read here; the child's own words go straight to this process's stderr, which it has as descriptor 3, so that
 * it is a terminal there too and nothing of them waits or is lost. All else is as if there were one process:
 *
 * - stdin and stdout are inherited, the exit code is the child's, and 128 + n after signal n.
 * - SIGINT and SIGTERM reach the child once, whether they were sent to this process or to both (`interrupts.ts`).
 * - If this process dies, the child ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Readable } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { setTimeout as sleep } from "node:timers/promises";
import { DriverMessages } from "../src/gpu/drivers/driver-messages.ts";
import { type FromChild, SIGNALS } from "./interrupts.ts";
import { STDERR_FD, SUPERVISED } from "./supervised.ts";

/** Milliseconds that stderr may stay open after the child has ended, in the hands of a process that it started. */
const LAST_WORDS_MS = 500;

/** Runs this very command line in a child, and sets the exit code. */
export async function supervise(): Promise<void> {
  const [, script = "", ...args] = process.argv;
  const stdio = ["inherit", "inherit", "pipe", "ipc"] as (string | number)[];
  stdio.splice(STDERR_FD, 0, process.stderr.fd);
  const child = spawn(process.execPath, [...process.execArgv, script, ...args], {
    stdio: stdio as ("inherit" | "pipe" | "ipc" | number)[],
    env: { ...process.env, [SUPERVISED]: "1" },
  });
  forwardSignals(child);
  process.stderr.on("error", () => {}); // nobody reads it any more
  const words = passOn(child.stderr as Readable, Boolean(process.env.DEBUG));
  const end = await new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once("exit", (code, signal) => resolve(signal ?? code ?? 1));
    child.once("error", reject);
  });
  await Promise.race([words, sleep(LAST_WORDS_MS, undefined, { ref: false })]);
  child.stderr?.destroy();
  const crash = crashOf(end);
  if (crash !== undefined) process.stderr.write(`daguerre: ${crash}\n`);
  process.exitCode = typeof end === "number" ? end : 128 + constants.signals[end];
}

/** Hands on what ends a command. A child that acts on signals itself gets a message; another one the signal. */
function forwardSignals(child: ChildProcess): void {
  let acts = false;
  child.on("message", (message: FromChild) => {
    acts = message.actsOnSignals;
  });
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      if (child.connected) child.send({ signal }, () => {});
      if (!acts) child.kill(signal);
    });
  }
}

/** Writes to stderr what is no driver's, each line at once; resolves when the stream has ended. */
export async function passOn(stream: Readable, all: boolean): Promise<void> {
  const messages = new DriverMessages();
  const decoder = new StringDecoder();
  let line = "";
  /** True if the beginning of the line has been written already. */
  let begun = false;
  const take = (text: string) => {
    const lines = text.split("\n");
    for (const [index, part] of lines.entries()) {
      line += part;
      const ends = index < lines.length - 1;
      const shown = all || begun || (ends ? !messages.isDrivers(line) : !messages.mayBeDrivers(line));
      if (shown) process.stderr.write((begun ? part : line) + (ends ? "\n" : ""));
      begun = shown && !ends && line !== "";
      if (ends) line = "";
    }
  };
  for await (const chunk of stream) take(decoder.write(chunk as Buffer));
  if (line !== "" && !begun && !messages.isDrivers(line)) process.stderr.write(line);
}

const CRASHES: ReadonlySet<NodeJS.Signals> = new Set(["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP"]);
/** 128 + signal: a shell or Node's own `abort` may say it so. */
const CRASH_CODES = new Map([...CRASHES].map((signal) => [128 + constants.signals[signal], signal]));

/** One sentence about an end that is nobody's wish; undefined for any other. */
function crashOf(end: number | NodeJS.Signals): string | undefined {
  const signal = typeof end === "number" ? CRASH_CODES.get(end) : end;
  if (signal === "SIGKILL") return "the system ended the process (SIGKILL), perhaps for want of memory";
  if (signal === undefined || !CRASHES.has(signal)) return undefined;
  return `the process crashed (${signal}) in native code, mostly a GPU driver's: daguerre doctor tries each driver by itself`;
}

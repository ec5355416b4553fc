/**
 * Messages that native code (Dawn, Mesa, other drivers) writes to stderr without being asked, told apart from all else
 * that is written there. Known by their shape, since their texts change with each version:
 *
 * - Dawn: `Warning: …` (`Error`, `Info`, `Debug`), then indented places of its sources, then perhaps an empty line
 * - Mesa: `MESA: error: …`, `MESA-INTEL: warning: …`, `WARNING: radv is not a conformant Vulkan implementation, …`
 *
 * An error that Node itself prints, before it ends the process, also has a line `Error: …`; the line with `^` under the
 * source comes before it.
 */

const HEADS: readonly RegExp[] = [
  /^(?:Debug|Info|Warning|Error): /,
  /^(?:INTEL-)?MESA(?:-[A-Z0-9]+)*: /,
  /^(?:WARNING|warning): .* is not a conformant vulkan implementation/i,
  /^lib(?:GL|EGL|drm|va)\b.*: /i,
];
/** The possible ends of a head: a place in Dawn, a call, or nothing. */
const MORE = /^\s+at |^ - |^\s*$/;
const CARET = /^\s*\^+\s*$/;

/** The texts of the beginnings above, of which an unfinished line may be one. */
const BEGINNINGS = ["Debug: ", "Info: ", "Warning: ", "Error: ", "WARNING: ", "warning: ", "MESA", "INTEL-MESA", "lib"];

/** Reads stderr line by line and says of each line whose it is. */
export class DriverMessages {
  /** True if the line before belonged to a driver. */
  #inMessage = false;
  /** Node prints an error of JavaScript, which ends the process. */
  #inThrow = false;

  /** True if this line, without its end, is a driver's. Lines come in order, each once. */
  isDrivers(line: string): boolean {
    if (CARET.test(line)) this.#inThrow = true;
    this.#inMessage = !this.#inThrow && (HEADS.some((head) => head.test(line)) || (this.#inMessage && MORE.test(line)));
    return this.#inMessage;
  }

  /** True if a line that begins so, and goes on, may turn out to be a driver's. */
  mayBeDrivers(beginning: string): boolean {
    if (this.#inThrow) return false;
    if (this.#inMessage && /^\s|^$/.test(beginning)) return true;
    return BEGINNINGS.some((text) => text.startsWith(beginning) || beginning.startsWith(text));
  }
}

/** Dawn's complaints in what a process wrote to stderr: the first line of each warning and error, in order. */
export function dawnComplaints(stderr: string): string[] {
  return [...stderr.matchAll(/^(?:Warning|Error): (.*)$/gm)].map(([, text = ""]) => text);
}

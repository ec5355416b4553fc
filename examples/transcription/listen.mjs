// Reads Morse from sound: the loud parts, their lengths, and the letters that they spell.
import { LETTERS } from "./morse.mjs";

/** Seconds that loudness is measured over. */
const FRAME = 0.01;

/** @returns {{rate: number, samples: Int16Array}} of 16-bit mono PCM, the only WAV it reads */
export function readWav(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const name = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.byteLength < 44 || name(0) !== "RIFF" || name(8) !== "WAVE") throw new TypeError("not a WAV file");
  if (view.getUint16(20, true) !== 1 || view.getUint16(22, true) !== 1 || view.getUint16(34, true) !== 16) {
    throw new TypeError("only mono PCM of 16 bits is read");
  }
  const rate = view.getUint32(24, true);
  for (let at = 12; at + 8 <= bytes.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (name(at) === "data") return { rate, samples: new Int16Array(bytes.slice(at + 8, at + 8 + size).buffer) };
    at += 8 + size + (size % 2);
  }
  throw new TypeError("the WAV file has no sound");
}

/**
 * Splits a recording into words: runs of sound and silence, cut where it is silent for five dots or more.
 *
 * @yields {{start: number, end: number, unit: number, runs: {on: boolean, length: number}[]}} seconds
 */
export function* split({ rate, samples }) {
  const size = Math.max(1, Math.round(rate * FRAME));
  const loudness = [];
  for (let at = 0; at < samples.length; at += size) {
    const frame = samples.subarray(at, at + size);
    loudness.push(Math.sqrt(frame.reduce((sum, value) => sum + value * value, 0) / frame.length));
  }
  const threshold = Math.max(...loudness) / 3;
  const runs = [];
  for (const level of loudness) {
    const on = level > threshold;
    if (runs.at(-1)?.on === on) runs.at(-1).length += FRAME;
    else runs.push({ on, length: FRAME });
  }
  // Dots are the shortest sounds; the quarter-lowest is one even if a click is shorter.
  const sounds = runs.filter(({ on }) => on).map(({ length }) => length);
  const unit = sounds.sort((a, b) => a - b)[Math.floor(sounds.length / 4)] ?? FRAME;

  let word = [];
  let now = 0;
  let start = 0;
  for (const run of [...runs, { on: false, length: Number.POSITIVE_INFINITY }]) {
    if (!run.on && run.length > 5 * unit) {
      if (word.length > 0) yield { start, end: now, unit, runs: word };
      word = [];
    } else {
      if (word.length === 0) start = now;
      if (run.on || word.length > 0) word.push(run);
    }
    now += run.length;
  }
}

/** The letters of a word; `?` for signs that are none. */
export function read({ runs, unit }) {
  const letters = [""];
  for (const { on, length } of runs) {
    if (on) letters[letters.length - 1] += length > 2 * unit ? "-" : ".";
    else if (length > 2 * unit) letters.push("");
  }
  return letters.map((signs) => LETTERS[signs] ?? "?").join("");
}

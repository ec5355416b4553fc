// Speaks Morse: prints the request's JSON, with the words of its arguments as a WAV file.
import { CODE } from "./morse.mjs";

const RATE = 8000;
/** Seconds of a dot. Everything else is a multiple of it. */
const UNIT = 0.06;
const PITCH = 600;

const samples = [];
function sound(units, on) {
  const length = Math.round(units * UNIT * RATE);
  for (let i = 0; i < length; i++) {
    // Ends that rise and fall in 5 ms: a tone that is cut off clicks.
    const edge = Math.min(1, i / 40, (length - i) / 40);
    samples.push(on ? 12_000 * edge * Math.sin((2 * Math.PI * PITCH * i) / RATE) : 200 * (Math.random() - 0.5));
  }
}

for (const word of process.argv.slice(2).join(" ").toLowerCase().split(/\s+/)) {
  for (const letter of word) {
    for (const sign of CODE[letter] ?? "") {
      sound(sign === "." ? 1 : 3, true);
      sound(1, false);
    }
    sound(2, false);
  }
  sound(4, false);
}

const wav = Buffer.alloc(44 + samples.length * 2);
wav.write("RIFF", 0);
wav.writeUInt32LE(wav.length - 8, 4);
wav.write("WAVEfmt ", 8);
wav.writeUInt32LE(16, 16);
wav.writeUInt16LE(1, 20); // PCM
wav.writeUInt16LE(1, 22); // one channel
wav.writeUInt32LE(RATE, 24);
wav.writeUInt32LE(RATE * 2, 28);
wav.writeUInt16LE(2, 32);
wav.writeUInt16LE(16, 34);
wav.write("data", 36);
wav.writeUInt32LE(samples.length * 2, 40);
samples.forEach((sample, index) => {
  wav.writeInt16LE(Math.round(sample), 44 + index * 2);
});
console.log(JSON.stringify({ audio: `data:audio/wav;base64,${wav.toString("base64")}` }));

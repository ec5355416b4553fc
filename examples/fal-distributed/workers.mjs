// The workers of fal's guide. Each class is one rank's; `call` runs on every rank at once.
import { setTimeout as sleep } from "node:timers/promises";
import { DistributedWorker } from "daguerre/hosts";

export class StreamingWorker extends DistributedWorker {
  setup() {
    this.rankPrint("ready");
  }

  async call({ steps = 10 }, { signal }) {
    for (let step = 1; step <= steps; step++) {
      await sleep(20, undefined, { signal });
      if (this.rank === 0) await this.addStreamingResult({ step, progress: step / steps }, { asTextEvent: true });
    }
    await this.barrier();
    return { done: true, ranks: this.worldSize };
  }
}

const SIDE = 96;

export class GatherWorker extends DistributedWorker {
  async call({ steps = 20, seed = 1 }, { signal }) {
    const light = new Float64Array(SIDE * SIDE);
    const random = randomFrom(seed + this.rank);
    let output;
    for (let step = 1; step <= steps; step++) {
      signal.throwIfAborted();
      addSample(light, random, this.rank / this.worldSize);
      if (step % 5 !== 0 && step !== steps) continue;
      // Rank 0 gets one picture of each rank, the others none.
      const previews = await this.gather(develop(light, step));
      if (this.rank === 0) {
        output = sideBySide(previews);
        if (step < steps) await this.addStreamingResult({ step, preview: output }, { asTextEvent: true });
      }
      await this.barrier();
    }
    return { output };
  }
}

/** One sample of every pixel: a ball lit from one side, with the grain of a short exposure. */
function addSample(light, random, turn) {
  const angle = 2 * Math.PI * turn;
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      const x = (2 * column) / (SIDE - 1) - 1;
      const y = (2 * row) / (SIDE - 1) - 1;
      const depth = 0.8 - x * x - y * y;
      const lit = Math.max(0, 0.7 * (x * Math.cos(angle) + y * Math.sin(angle)) + 0.7 * Math.sqrt(Math.max(0, depth)));
      light[row * SIDE + column] += (depth > 0 ? lit : 0.1) + 2 * (random() - 0.5);
    }
  }
}

/** The mean of so many samples as pixels. */
function develop(light, samples) {
  const grey = new Uint8ClampedArray(light.length);
  for (let at = 0; at < light.length; at++) grey[at] = (255 * light[at]) / samples;
  return grey;
}

function sideBySide(pictures) {
  const width = SIDE * pictures.length;
  const rgba = new Uint8Array(width * SIDE * 4).fill(255);
  for (const [index, grey] of pictures.entries()) {
    for (let at = 0; at < grey.length; at++) {
      const to = 4 * (Math.floor(at / SIDE) * width + index * SIDE + (at % SIDE));
      rgba.fill(grey[at], to, to + 3);
    }
  }
  return { width, height: SIDE, rgba };
}

/** 0..1 (a linear congruential generator of Numerical Recipes). */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

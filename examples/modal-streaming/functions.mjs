// The functions that Modal's guide runs in other containers. Each runs in a process of a pool.
import { setTimeout as sleep } from "node:timers/promises";
import { read } from "../transcription/listen.mjs";

/** A generator that blocks: only in a process of its own may it do so. */
export function* fakeVideoRender({ frames = 10, ms = 100 } = {}) {
  for (let i = 0; i < frames; i++) {
    const end = performance.now() + ms;
    while (performance.now() < end); // a GPU's work
    yield { text: `frame ${i}: hello world!` };
  }
}

/** The first inputs take the longest, so that the two orders differ. */
export async function mapMe(i) {
  await sleep(60 * (8 - i));
  return { text: `segment ${i}` };
}

/** Words of one piece of a recording, in Morse code. A speech model would be loaded above, once for each process. */
export function transcribeSegment(segment) {
  return { text: read(segment), start: segment.start, end: segment.end };
}

// The runs and ranks that `bench:hosts` times. `DAGUERRE_BUILT_HOSTS` is the built `daguerre/hosts`.

const now = () => performance.timeOrigin + performance.now();

/** Events of so many bytes, each with the moment at which it was made. */
export async function* events({ n, bytes }) {
  const picture = new Uint8Array(bytes);
  for (let index = 0; index < n; index++) yield { made: now(), picture };
}

export const memory = () => process.memoryUsage().rss;

const { DistributedWorker } = process.env.DAGUERRE_BUILT_HOSTS
  ? await import(process.env.DAGUERRE_BUILT_HOSTS)
  : { DistributedWorker: Object };

/** So many turns of one collective, timed on each rank, after a few that are not. */
export class Rank extends DistributedWorker {
  async call({ collective, n, length }) {
    if (collective === "stream") {
      for (let index = 0; index < n; index++) await this.addStreamingResult({ made: now() });
      return undefined;
    }
    const value = new Float32Array(length);
    const times = [];
    for (let index = -10; index < n; index++) {
      await this.barrier();
      const began = performance.now();
      await (collective === "barrier" ? this.barrier() : this[collective](value));
      if (index >= 0) times.push(performance.now() - began);
    }
    return times;
  }
}

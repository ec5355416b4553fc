/**
 * Plans and merged weight sets that stay on the device for later runs, within one bound of bytes: the least recently
 * used goes first once all of them take more. A thing in use never goes, even beyond the bound.
 */

export interface Evictable {
  readonly bytes: number;
  readonly isUsed: boolean;
  /** Frees it. It has been forgotten by the budget then. */
  drop(): void;
}

export class Budget {
  readonly maxBytes: number;
  /** Things that gave way to others so far. */
  evictions = 0;
  /** The least recently used first. */
  readonly #kept = new Set<Evictable>();

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get bytes(): number {
    let sum = 0;
    for (const { bytes } of this.#kept) sum += bytes;
    return sum;
  }

  /** Notes that `thing` is used now, for the first time or again, and makes room for it. */
  use(thing: Evictable): void {
    this.#kept.delete(thing);
    this.#kept.add(thing);
    this.trim();
  }

  forget(thing: Evictable): void {
    this.#kept.delete(thing);
  }

  /** Drops unused components until the rest is within the bound. */
  trim(): void {
    for (const thing of this.#kept) {
      if (this.bytes <= this.maxBytes) return;
      // Dropping a weight set drops its plans, which come after it here.
      if (thing.isUsed || !this.#kept.delete(thing)) continue;
      this.evictions++;
      thing.drop();
    }
  }
}

/**
 * Jobs by their ids and idempotency keys, which are an owner's own: several owners may have a job of the same id. Ids whose
 * logs are gone are remembered for a while, so that a late visitor is told 410 and not 404.
 */
import { type Viewer, visible } from "./visible.ts";

/** The part of a job that the directory reads. */
export interface NamedJob {
  readonly id: string;
  readonly owner: string | undefined;
  readonly idempotencyKey: string | undefined;
}

/** Ids remembered after their logs are gone. */
const REMEMBERED_IDS = 4096;

interface PastId {
  readonly id: string;
  readonly owner: string | undefined;
}

export class Directory<T extends NamedJob> {
  readonly #byId = new Map<string, Set<T>>();
  /** Jobs by key, of each owner. */
  readonly #byKey = new Map<string | undefined, Map<string, T>>();
  /** The oldest first. */
  readonly #past = new Set<PastId>();
  readonly #pastById = new Map<string, Set<PastId>>();

  /** Takes a job in. The owner's former job of this id must have been removed. */
  add(job: T): void {
    const namesakes = this.#byId.get(job.id) ?? new Set();
    this.#byId.set(job.id, namesakes.add(job));
    this.#forgetPast(job.id, job.owner);
    if (job.idempotencyKey === undefined) return;
    const keys = this.#byKey.get(job.owner) ?? new Map<string, T>();
    this.#byKey.set(job.owner, keys.set(job.idempotencyKey, job));
  }

  /** Takes a job out and remembers its id. */
  remove(job: T): void {
    const { id, owner, idempotencyKey } = job;
    const namesakes = this.#byId.get(id);
    if (namesakes?.delete(job)) {
      if (namesakes.size === 0) this.#byId.delete(id);
      this.#rememberPast({ id, owner });
    }
    const keys = this.#byKey.get(owner);
    // A later job may have taken the key over.
    if (idempotencyKey === undefined || keys?.get(idempotencyKey) !== job) return;
    keys.delete(idempotencyKey);
    if (keys.size === 0) this.#byKey.delete(owner);
  }

  /** The owner's own job of this id. */
  own(id: string, owner: string | undefined): T | undefined {
    for (const job of this.#byId.get(id) ?? []) if (job.owner === owner) return job;
    return undefined;
  }

  /** The owner's own job of this idempotency key. */
  byKey(key: string, owner: string | undefined): T | undefined {
    return this.#byKey.get(owner)?.get(key);
  }

  /** The job that a viewer knows by this id, its own before one without an owner. */
  visibleTo(id: string, viewer: Viewer | undefined): T | undefined {
    const all = [...(this.#byId.get(id) ?? [])].filter((job) => visible(job, viewer));
    return all.find(({ owner }) => owner === viewer?.owner) ?? all[0];
  }

  /** True if a viewer has known a job of this id that is gone. */
  wasSeen(id: string, viewer: Viewer | undefined): boolean {
    return [...(this.#pastById.get(id) ?? [])].some((past) => visible(past, viewer));
  }

  #rememberPast(past: PastId): void {
    const namesakes = this.#pastById.get(past.id) ?? new Set();
    this.#pastById.set(past.id, namesakes.add(past));
    this.#past.add(past);
    if (this.#past.size <= REMEMBERED_IDS) return;
    const [oldest] = this.#past;
    this.#dropPast(oldest!);
  }

  #forgetPast(id: string, owner: string | undefined): void {
    for (const past of this.#pastById.get(id) ?? []) if (past.owner === owner) this.#dropPast(past);
  }

  #dropPast(past: PastId): void {
    this.#past.delete(past);
    const namesakes = this.#pastById.get(past.id);
    namesakes?.delete(past);
    if (namesakes?.size === 0) this.#pastById.delete(past.id);
  }
}

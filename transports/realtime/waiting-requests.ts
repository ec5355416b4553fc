/** Requests that wait in a session, and the bytes that the session holds on its client's account. */
import type { Account, Hold } from "../../src/jobs/account.ts";
import { bytesOf } from "../../src/jobs/bytes-of.ts";
import { changedInput } from "../../src/jobs/updates.ts";
import { CANCELLED } from "../failure.ts";
import type { RequestEnd } from "../observe/request-log.ts";

export interface WaitingRequest<Input> {
  readonly requestId: string;
  readonly input: Input;
  readonly bytes: number;
  /** Writes it into the log of requests: it was answered so. */
  readonly end: (status: number, ended?: RequestEnd) => void;
}

/** Bytes of a session besides its requests. */
const SESSION_BYTES = 16 * 1024;
/** Bytes of requests that wait in a session, at most; a single one may be larger. */
const MAX_WAITING_BYTES = 64 * 2 ** 20;

/** The oldest comes first. A running request is counted by its job. */
export class WaitingRequests<Input> {
  readonly #requests: WaitingRequest<Input>[] = [];
  readonly #hold: Hold;
  /** Bytes of the fields that lie under later requests. */
  #defaultsBytes = 0;

  constructor(account: Account, client: string) {
    this.#hold = account.open("sessions", client);
    this.#recount();
  }

  get size(): number {
    return this.#requests.length;
  }

  get ids(): readonly string[] {
    return this.#requests.map(({ requestId }) => requestId);
  }

  /** False: the account has no room for it. */
  push(request: WaitingRequest<Input>): boolean {
    if (!this.#hold.resize(this.#bytesWith(request.bytes))) return false;
    this.#requests.push(request);
    return true;
  }

  shift(): WaitingRequest<Input> | undefined {
    const first = this.#requests.shift();
    this.#recount();
    return first;
  }

  /** Takes one out, if it is there. */
  remove(requestId: string | undefined): WaitingRequest<Input> | undefined {
    const at = this.#requests.findIndex((request) => request.requestId === requestId);
    if (at < 0) return undefined;
    const [request] = this.#requests.splice(at, 1);
    this.#recount();
    return request;
  }

  /**
   * Lays a change over a request that waits.
   *
   * @returns "not-found" where it does not wait, "no-room" where the account has none for it
   * @throws JobError `not-updatable`
   */
  change(
    requestId: string | undefined,
    change: Readonly<Record<string, unknown>>,
  ): "changed" | "not-found" | "no-room" {
    const at = this.#requests.findIndex((request) => request.requestId === requestId);
    const before = this.#requests[at];
    if (before === undefined) return "not-found";
    const input = changedInput(before.input, change);
    this.#requests[at] = { ...before, input, bytes: bytesOf(input) };
    if (this.#recount()) return "changed";
    this.#requests[at] = before;
    return "no-room";
  }

  /** Takes all of them out. */
  clear(): readonly WaitingRequest<Input>[] {
    const requests = this.#requests.splice(0);
    this.#recount();
    return requests;
  }

  /** True if there are more than `buffering`, or more bytes than may wait. */
  isCrowded(buffering: number): boolean {
    return this.size > buffering || this.#bytes() > MAX_WAITING_BYTES;
  }

  /** False: the account has no room for fields of so many bytes. */
  keepDefaults(bytes: number): boolean {
    const before = this.#defaultsBytes;
    this.#defaultsBytes = bytes;
    if (this.#recount()) return true;
    this.#defaultsBytes = before;
    return false;
  }

  /** The session has ended. */
  release(): void {
    for (const { end } of this.#requests.splice(0)) end(CANCELLED, "client left");
    this.#hold.release();
  }

  #bytes(): number {
    return this.#requests.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #bytesWith(more: number): number {
    return SESSION_BYTES + this.#defaultsBytes + this.#bytes() + more;
  }

  #recount(): boolean {
    return this.#hold.resize(this.#bytesWith(0));
  }
}

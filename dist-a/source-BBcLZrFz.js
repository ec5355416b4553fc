import { M as string, S as array, T as int, k as object, y as _enum } from "./request-Cv9RgteD.js";
import { createHash, createHmac, randomBytes, randomUUID, timingSafeEqual } from "node:crypto";
import { setImmediate as setImmediate$1 } from "node:timers/promises";
import { HTTPException } from "hono/http-exception";
//#region src/engine/job-errors.ts
const STATUS = {
	"queue-full": 503,
	draining: 503,
	"id-in-use": 409,
	"key-reused": 422,
	"not-found": 404,
	"log-gone": 410,
	"beyond-log": 400,
	"already-completed": 400
};
/** Its message may be shown to a client. */
var JobError = class extends Error {
	name = "JobError";
	code;
	/** HTTP status. */
	status;
	/** Seconds after which the same request may succeed. */
	retryAfter;
	constructor(code, message, retryAfter) {
		super(message);
		this.code = code;
		this.status = STATUS[code];
		this.retryAfter = retryAfter;
	}
};
//#endregion
//#region src/engine/fingerprint.ts
/** Whether two inputs are the same request: a hash of all they hold, whatever the order of their fields. */
/** Fields that name a request and do not change what it asks. */
const NAMES = new Set(["request_id", "input_id"]);
/** SHA-256 in hex. Values that JSON does not know (functions, symbols) count as absent. */
function fingerprint(input) {
	const hash = createHash("sha256");
	add(hash, input, true);
	return hash.digest("hex");
}
function add(hash, value, top) {
	if (value instanceof Uint8Array) hash.update(`bytes ${value.byteLength}\n`).update(value);
	else if (Array.isArray(value)) {
		hash.update(`array ${value.length}\n`);
		for (const item of value) add(hash, item, false);
	} else if (typeof value === "object" && value !== null) {
		const names = Object.keys(value).filter((name) => value[name] !== void 0 && !(top && NAMES.has(name))).sort();
		hash.update(`object ${names.length}\n`);
		for (const name of names) {
			hash.update(`${name.length} ${name}\n`);
			add(hash, value[name], false);
		}
	} else {
		const text = String(value);
		hash.update(`${typeof value} ${text.length} ${text}\n`);
	}
}
//#endregion
//#region src/engine/job-log.ts
/**
* What one job has said so far, for any number of readers.
*
* Entries are numbered from 1 as they are appended. A reader is no more than a place in the log: it moves at its own
* pace and holds no copy of anything, so a slow one costs nothing. Vocabulary: an entry with a *slot* ("preview") is
* *droppable*; it is *superseded* once a newer entry of the same slot is there.
*
* Who may miss what:
* - What stood in the log when a reader began is replayed to it in full. After that a superseded entry is skipped, so
*   that a reader that is behind sees the newest picture and not every one.
* - The log is bounded in bytes and entries. At the bound superseded entries go first, oldest first. Then, oldest first,
*   whatever else is not kept for good; a reader that still needed such an entry is *lost*, and so is one that wants to
*   begin before it. The last entry and those marked `keep` (the result) never go.
* - A producer that asks for `room` is held back by the *fastest* reader, never by the slowest: one client that stops
*   reading costs the others nothing and is itself lost when the log has moved on.
*/
const LOG_LIMITS = {
	bytes: 32 * 2 ** 20,
	entries: 4096,
	ahead: 16
};
/** Each may write an event to its socket before the loop comes round again: some 20 µs a reader. */
const WOKEN_AT_ONCE = 50;
function createJobLog(limits = {}) {
	const { bytes: maxBytes, entries: maxEntries, ahead: maxAhead } = {
		...LOG_LIMITS,
		...limits
	};
	let entries = [];
	const kept = /* @__PURE__ */ new Set();
	/** The newest id of each slot, and how many entries it has had. */
	const newest = /* @__PURE__ */ new Map();
	const counts = /* @__PURE__ */ new Map();
	const readers = /* @__PURE__ */ new Set();
	let lastId = 0;
	/** The newest entry without a slot that is no longer held; whoever is before it has missed something. */
	let lostId = 0;
	let bytes = 0;
	let ended = false;
	let free = false;
	/** How far the fastest reader came before there were none. */
	let reached = 0;
	let makeRoom;
	const superseded = (entry) => entry.slot !== void 0 && (newest.get(entry.slot) ?? 0) > entry.id;
	function push(entry) {
		lastId = entry.id;
		entries.push(entry);
		bytes += entry.bytes;
		if (entry.slot !== void 0) {
			newest.set(entry.slot, entry.id);
			counts.set(entry.slot, entry.nth);
		}
		while (entries.length > 1 && (bytes > maxBytes || entries.length > maxEntries) && evictOne());
		wakeReaders();
	}
	/** Readers are woken a few at a time, so that a thousand of them do not keep the event loop to themselves. */
	function wakeReaders() {
		const all = [...readers];
		const wakeFrom = (from) => {
			for (const reader of all.slice(from, from + WOKEN_AT_ONCE)) reader.wake();
			if (from + WOKEN_AT_ONCE < all.length) setImmediate(wakeFrom, from + WOKEN_AT_ONCE);
		};
		wakeFrom(0);
	}
	/** False when all that is left must stay. */
	function evictOne() {
		let at = entries.findIndex(superseded);
		if (at < 0) at = entries.findIndex((entry, index) => index < entries.length - 1 && !kept.has(entry));
		const entry = entries[at];
		if (entry === void 0) return false;
		entries.splice(at, 1);
		bytes -= entry.bytes;
		if (entry.slot === void 0) lostId = Math.max(lostId, entry.id);
		return true;
	}
	/** The index of the first entry with an id greater than `id`. */
	function indexAfter(id) {
		let low = 0;
		let high = entries.length;
		while (low < high) {
			const middle = low + high >> 1;
			if (entries[middle].id > id) high = middle;
			else low = middle + 1;
		}
		return low;
	}
	function crowded() {
		if (free || ended) return false;
		let fastest = readers.size === 0 ? reached : 0;
		for (const { position } of readers) fastest = Math.max(fastest, position);
		let count = 0;
		let size = 0;
		for (let index = entries.length - 1; index >= 0 && entries[index].id > fastest; index--) {
			const entry = entries[index];
			if (entry.slot !== void 0) continue;
			size += entry.bytes;
			if (++count >= maxAhead || size > maxBytes / 2) return true;
		}
		return false;
	}
	function gone(after) {
		if (after < lostId) return new JobError("log-gone", "Events after this one are no longer held");
		if (after > lastId) return new JobError("beyond-log", `The job has ${lastId} events so far, none after ${after}`);
	}
	function read({ after = 0, holdMs, onDropped } = {}) {
		const fault = gone(after);
		if (fault !== void 0) throw fault;
		/** Up to here everything is replayed. */
		const backlog = lastId;
		let wakeUp;
		const self = {
			position: after,
			wake: () => wakeUp?.()
		};
		readers.add(self);
		/** The `nth` of the last entry handed out, by slot; what is gone from before `after` counts as seen. */
		const seen = new Map(counts);
		for (let index = indexAfter(after); index < entries.length; index++) {
			const { slot, nth } = entries[index];
			if (slot !== void 0) seen.set(slot, Math.min(seen.get(slot), nth - 1));
		}
		const drop = (slot, nth) => {
			const count = nth - 1 - (seen.get(slot) ?? 0);
			if (count > 0) onDropped?.(slot, count);
			seen.set(slot, nth);
		};
		/** The entry to hand out, or how long to wait for one that is held back. */
		function pick() {
			for (let index = indexAfter(self.position); index < entries.length; index++) {
				const entry = entries[index];
				if (entry.slot !== void 0) {
					if (entry.id > backlog && superseded(entry)) continue;
					const hold = holdMs?.(entry.slot) ?? 0;
					if (hold > 0) {
						if (entry.id === lastId && !ended) return hold;
						continue;
					}
				}
				return entry;
			}
			return Number.POSITIVE_INFINITY;
		}
		return {
			get position() {
				return self.position;
			},
			async next(withinMs) {
				const until = performance.now() + withinMs;
				for (;;) {
					if (self.position < lostId) return "lost";
					const picked = pick();
					if (typeof picked !== "number") {
						self.position = picked.id;
						if (picked.slot !== void 0) drop(picked.slot, picked.nth);
						makeRoom?.();
						return picked;
					}
					if (ended || !readers.has(self)) return "ended";
					const left = until - performance.now();
					if (left <= 0) return "quiet";
					await new Promise((resolve) => {
						const timer = setTimeout(resolve, Math.min(Math.ceil(Math.min(picked, left)), 2 ** 31 - 1));
						wakeUp = () => {
							clearTimeout(timer);
							resolve();
						};
					});
					wakeUp = void 0;
				}
			},
			wake: self.wake,
			close() {
				if (!readers.delete(self)) return;
				for (const [slot, count] of counts) drop(slot, count + 1);
				if (readers.size === 0) reached = Math.max(reached, self.position);
				self.wake();
				makeRoom?.();
			}
		};
	}
	return {
		get lastId() {
			return lastId;
		},
		get bytes() {
			return bytes;
		},
		get ended() {
			return ended;
		},
		get readers() {
			return readers.size;
		},
		get entries() {
			return entries;
		},
		append(event, { slot, keep = false } = {}) {
			const nth = slot === void 0 ? 0 : (counts.get(slot) ?? 0) + 1;
			const entry = {
				id: lastId + 1,
				slot,
				nth,
				bytes: bytesOf(event),
				event
			};
			if (keep) kept.add(entry);
			push(entry);
			return entry;
		},
		end(failure) {
			if (ended) return;
			if (failure !== void 0) push({
				id: lastId + 1,
				slot: void 0,
				nth: 0,
				bytes: ENTRY_BYTES,
				error: failure.error
			});
			ended = true;
			makeRoom?.();
			wakeReaders();
		},
		gone,
		read,
		async room() {
			while (crowded()) await new Promise((resolve) => {
				makeRoom = resolve;
			});
		},
		runFree() {
			free = true;
			makeRoom?.();
		},
		clear() {
			entries = [];
			kept.clear();
			bytes = 0;
			lostId = lastId + 1;
			wakeReaders();
		}
	};
}
/** What an entry and its event's own fields take besides their contents; an estimate. */
const ENTRY_BYTES = 256;
/** Levels of an event that are counted. */
const COUNTED_DEPTH = 6;
/** Bytes that an event keeps in memory: its binary data and strings, and an estimate for the rest. */
function bytesOf(event) {
	return ENTRY_BYTES + sizeOf(event, COUNTED_DEPTH);
}
function sizeOf(value, depth) {
	if (typeof value === "string") return value.length * 2;
	if (typeof value !== "object" || value === null) return 8;
	if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return value.byteLength;
	if (depth === 0) return ENTRY_BYTES;
	let sum = 16;
	for (const field of Object.values(value)) sum += sizeOf(field, depth - 1);
	return sum;
}
//#endregion
//#region src/engine/jobs.ts
/**
* Jobs: runs that were admitted, from waiting in line to the end of their log's retention.
*
* A store wraps one run. `submit` admits an input or refuses it; what the run yields goes into the job's log
* (`job-log.ts`), and whoever wants the events watches the job, as often and as late as the log allows. What the run is,
* and how events reach a client, is not known here.
*
* A job stops early in three ways, each told to its run through the signal and to its watchers as the last entry at
* once: it is cancelled (`AbortError`), it is past its deadline (`TimeoutError`), or its last watcher left and did not
* come back within the grace period (`AbortError`), unless it was submitted detached. The place on the device is free
* when the run itself has returned.
*/
const JOB_DEFAULTS = {
	concurrency: Number.POSITIVE_INFINITY,
	maxQueued: 64,
	maxQueuedBytes: 256 * 2 ** 20,
	deadlineMs: Number.POSITIVE_INFINITY,
	graceMs: 0,
	retentionMs: 6e4,
	retainedBytes: 256 * 2 ** 20,
	retainedJobs: 1024
};
/** Ids remembered after their logs are gone, so that a late visitor is told 410 and not 404. */
const REMEMBERED_IDS = 4096;
/** Seconds; what a refused client is told to wait, at least and at most. */
const RETRY_AFTER = {
	min: 1,
	max: 60
};
/** Seconds after which another process has probably taken over. */
const RESTART_SECONDS = 5;
/** Milliseconds that a run has to return once it was handed back. */
const RETURN_MS = 2e3;
/** `setTimeout` takes no more. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Which events a newer one of their kind makes worthless. */
function slotOf(event) {
	const type = event?.type;
	return type === "progress" || type === "preview" || type === "queued" ? type : void 0;
}
/** The result stays in the log whatever its bound. */
function isResult(event) {
	return event?.type === "result";
}
function createJobs(run, options = {}) {
	const limits = {
		...JOB_DEFAULTS,
		...withoutUndefined(options)
	};
	const slot = options.slotOf ?? slotOf;
	const { queuedEvent } = options;
	const held = /* @__PURE__ */ new Map();
	const byKey = /* @__PURE__ */ new Map();
	const line = [];
	/** Jobs that have ended, in the order in which they did. */
	const inOrder = /* @__PURE__ */ new Set();
	const past = /* @__PURE__ */ new Set();
	const listeners = /* @__PURE__ */ new Set();
	let running = 0;
	let draining = false;
	let idle;
	/** A run's usual length in ms, as a moving average, to tell refused clients when to come back. */
	let usualMs = 1e3;
	const tell = (...change) => {
		for (const listener of listeners) listener(...change);
	};
	function pump() {
		while (running < limits.concurrency) {
			const next = line.shift();
			if (next === void 0) break;
			running++;
			const begun = performance.now();
			next.start().finally(() => {
				running--;
				usualMs += (performance.now() - begun - usualMs) / 4;
				pump();
			});
		}
		if (queuedEvent !== void 0) for (const [position, waiting] of line.entries()) {
			if (waiting.told === position) continue;
			waiting.told = position;
			waiting.log.append(queuedEvent(position), { slot: "queued" });
		}
		if (running === 0 && line.length === 0) idle?.();
	}
	function retryAfter() {
		const seconds = Math.ceil((line.length + 1) * usualMs / limits.concurrency / 1e3);
		return Math.min(Math.max(seconds, RETRY_AFTER.min), RETRY_AFTER.max);
	}
	function checkRoom(inputBytes) {
		if (running < limits.concurrency) return;
		const bytes = line.reduce((sum, waiting) => sum + waiting.inputBytes, inputBytes);
		if (line.length < limits.maxQueued && (line.length === 0 || bytes <= limits.maxQueuedBytes)) return;
		throw new JobError("queue-full", `${line.length} jobs are waiting already; try again later`, retryAfter());
	}
	const stopping = () => new JobError("draining", "The server is restarting; ask again", RESTART_SECONDS);
	/** Forgets a job that has ended. */
	function forget(entry) {
		clearTimeout(entry.expiry);
		inOrder.delete(entry);
		const { id } = entry.job;
		if (held.get(id) === entry) {
			held.delete(id);
			past.add(id);
			const [oldest] = past;
			if (past.size > REMEMBERED_IDS) past.delete(oldest);
		}
		if (entry.idempotencyKey !== void 0 && byKey.get(entry.idempotencyKey) === entry) byKey.delete(entry.idempotencyKey);
		entry.log.clear();
	}
	function retain(entry) {
		entry.expiry = setTimeout(() => forget(entry), Math.min(limits.retentionMs, LONGEST_TIMER)).unref();
		let bytes = 0;
		let count = 0;
		inOrder.add(entry);
		for (const older of [...inOrder].reverse()) {
			bytes += older.log.bytes + older.inputBytes;
			if (++count > limits.retainedJobs || bytes > limits.retainedBytes && older !== entry) forget(older);
		}
	}
	/** `twin` is by what a second submission of the same input is known. */
	function admit(input, inputBytes, given, twin) {
		const { id = randomUUID(), owner, detached = false, signal } = given;
		const log = createJobLog(options.log);
		const stop = new AbortController();
		const submittedAt = Date.now();
		let graceMs = given.graceMs ?? limits.graceMs;
		let state = "queued";
		let startedAt;
		let endedAt;
		let failure;
		let update;
		let grace;
		let watchers = 0;
		let settle = () => {};
		const ended = new Promise((resolve) => {
			settle = resolve;
		});
		if (detached) log.runFree();
		function end(how, error) {
			if (endedAt !== void 0) return;
			state = how;
			endedAt = Date.now();
			failure = error?.error;
			clearTimeout(deadline);
			clearTimeout(grace);
			signal?.removeEventListener("abort", onSignal);
			log.end(error);
			retain(entry);
			tell(job, "ended");
			settle();
		}
		function stopWith(reason) {
			if (endedAt !== void 0) return false;
			const at = line.indexOf(entry);
			if (at >= 0) line.splice(at, 1);
			end(reason?.name === "AbortError" ? "cancelled" : "failed", { error: reason });
			stop.abort(reason);
			if (at >= 0) pump();
			return true;
		}
		const cancelled = () => new DOMException("Cancelled", "AbortError");
		const onSignal = () => stopWith(signal?.reason);
		signal?.addEventListener("abort", onSignal, { once: true });
		const deadlineMs = Math.min(given.deadlineMs ?? Number.POSITIVE_INFINITY, limits.deadlineMs);
		const deadline = deadlineMs <= LONGEST_TIMER ? setTimeout(() => stopWith(new DOMException("The deadline has passed", "TimeoutError")), deadlineMs).unref() : void 0;
		const job = {
			id,
			owner,
			input,
			detached,
			submittedAt,
			log,
			ended,
			get state() {
				return state;
			},
			get position() {
				return Math.max(line.indexOf(entry), 0);
			},
			get startedAt() {
				return startedAt;
			},
			get endedAt() {
				return endedAt;
			},
			get error() {
				return failure;
			},
			watch({ graceMs: own, ...where } = {}) {
				const onDropped = (slot, count) => tell(job, "dropped", void 0, {
					slot,
					count
				});
				const reader = log.read({
					...where,
					onDropped
				});
				if (own !== void 0) graceMs = own;
				clearTimeout(grace);
				watchers++;
				let open = true;
				return {
					get position() {
						return reader.position;
					},
					async next(withinMs) {
						const read = await reader.next(withinMs);
						if (typeof read !== "string" && "event" in read) tell(job, "read", read.event);
						return read;
					},
					wake: reader.wake,
					close() {
						if (!open) return;
						open = false;
						reader.close();
						if (--watchers > 0 || detached || endedAt !== void 0) return;
						if (graceMs <= 0) stopWith(cancelled());
						else grace = setTimeout(() => stopWith(cancelled()), Math.min(graceMs, LONGEST_TIMER)).unref();
					}
				};
			},
			cancel: (reason = cancelled()) => stopWith(reason),
			update(change) {
				if (endedAt !== void 0) return false;
				update = {
					...update,
					...change
				};
				return true;
			}
		};
		const entry = {
			job,
			log,
			inputBytes,
			told: void 0,
			idempotencyKey: twin.key,
			print: twin.print,
			async start() {
				state = "running";
				startedAt = Date.now();
				tell(job, "started");
				const takeUpdate = () => {
					const taken = update;
					update = void 0;
					return taken;
				};
				try {
					for await (const event of await run(input, {
						signal: stop.signal,
						requestId: id,
						takeUpdate
					})) {
						if (stop.signal.aborted) break;
						log.append(event, {
							slot: slot(event),
							keep: isResult(event)
						});
						tell(job, "event", event);
						await setImmediate$1();
						await log.room();
						if (stop.signal.aborted) break;
					}
					end("completed");
				} catch (error) {
					end("failed", { error });
				}
			}
		};
		return {
			entry,
			queue: () => signal?.aborted && onSignal()
		};
	}
	return {
		submit(input, given = {}) {
			const key = given.idempotencyKey === void 0 ? void 0 : `${given.owner ?? ""} ${given.idempotencyKey}`;
			const print = key === void 0 ? void 0 : fingerprint(input);
			const twin = key === void 0 ? void 0 : byKey.get(key);
			if (twin !== void 0 && twin.job.state !== "failed" && twin.job.state !== "cancelled") {
				if (twin.print === print) return twin.job;
				throw new JobError("key-reused", "This idempotency key was used with another input");
			}
			if (draining) throw stopping();
			const namesake = given.id === void 0 ? void 0 : held.get(given.id);
			if (namesake !== void 0) {
				const theirs = namesake.job.owner !== given.owner;
				if (namesake.job.endedAt === void 0 || theirs) throw new JobError("id-in-use", "A job with this request_id exists; choose another");
				forget(namesake);
			}
			const inputBytes = bytesOf(input);
			checkRoom(inputBytes);
			const { entry, queue } = admit(input, inputBytes, given, {
				key,
				print
			});
			const { job } = entry;
			held.set(job.id, entry);
			past.delete(job.id);
			if (key !== void 0) byKey.set(key, entry);
			tell(job, "submitted");
			line.push(entry);
			queue();
			pump();
			return job;
		},
		get: (id) => held.get(id)?.job,
		find(id) {
			const job = held.get(id)?.job;
			if (job !== void 0) return job;
			if (past.has(id)) throw new JobError("log-gone", "This job has ended and its log is no longer held");
			throw new JobError("not-found", "There is no such job");
		},
		list: () => [...held.values()].map(({ job }) => job),
		get bytes() {
			let sum = 0;
			for (const { log, inputBytes } of held.values()) sum += log.bytes + inputBytes;
			return sum;
		},
		counts() {
			const counts = {
				queued: 0,
				running: 0,
				completed: 0,
				failed: 0,
				cancelled: 0
			};
			for (const { job } of held.values()) counts[job.state]++;
			return counts;
		},
		observe(listener) {
			listeners.add(listener);
			return () => listeners.delete(listener);
		},
		async drain(graceMs = Number.POSITIVE_INFINITY) {
			draining = true;
			if (running === 0 && line.length === 0) return;
			let timer;
			await new Promise((resolve) => {
				idle = resolve;
				const handBack = () => {
					for (const { job } of held.values()) job.cancel(stopping());
					timer = setTimeout(resolve, RETURN_MS);
				};
				timer = setTimeout(handBack, Math.min(graceMs, LONGEST_TIMER));
			});
			clearTimeout(timer);
		}
	};
}
/**
* A store as a run: each call submits a job and gives what it says, waiting in line included. For a consumer that knows
* runs alone.
*/
function throughJobs(jobs, options = {}) {
	return async function* (input, { signal }) {
		const reader = jobs.submit(input, {
			...options,
			signal
		}).watch();
		try {
			for (;;) {
				const read = await reader.next(LONGEST_TIMER);
				if (read === "quiet") continue;
				if (read === "ended") return;
				if (read === "lost") throw new JobError("log-gone", "Events of this job are no longer held");
				if ("error" in read) throw read.error;
				yield read.event;
			}
		} finally {
			reader.close();
		}
	};
}
/** Options that were given as undefined are not given. */
function withoutUndefined(options) {
	return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== void 0));
}
//#endregion
//#region transports/input.ts
/** Room for a starting picture of the size that `LIMITS.imageBytes` allows, in base64, and the words around it. */
const DEFAULT_MAX_BODY_BYTES = 28 * 1024 * 1024;
function inputSource(c) {
	return c.req.method === "GET" ? "query" : "body";
}
/**
* Reads and checks the input.
*
* @throws HTTPException 400 for a body that is not JSON, 413 for one that is too long
* @throws whatever `parse` throws
*/
async function readInput(c, options) {
	const { parse, maxBodyBytes = DEFAULT_MAX_BODY_BYTES } = options;
	const source = inputSource(c);
	const raw = source === "query" ? c.req.query() : parseJson((await readBody(c.req.raw, maxBodyBytes)).toString("utf8"));
	return parse === void 0 ? raw : parse(raw, source);
}
function parseJson(text) {
	try {
		return JSON.parse(text);
	} catch {
		throw new HTTPException(400, { message: "The body is not valid JSON" });
	}
}
/**
* The bytes of a body, `limit` at most.
*
* @throws HTTPException 413
*/
async function readBody(request, limit) {
	const tooLong = () => new HTTPException(413, { message: `The body is longer than ${limit} bytes` });
	if (Number(request.headers.get("content-length") ?? 0) > limit) throw tooLong();
	const chunks = [];
	let size = 0;
	for await (const chunk of request.body ?? []) {
		size += chunk.byteLength;
		if (size > limit) throw tooLong();
		chunks.push(chunk);
	}
	return Buffer.concat(chunks);
}
//#endregion
//#region transports/auth.ts
/**
* Who may ask for what.
*
* A *key* is a secret of somebody's server; a *token* is a JWT of minutes that such a server has made for a browser,
* because what a page holds everybody holds. Either makes a *principal*, which carries scopes (which routes) and models.
* With neither keys nor a token secret, everybody is the anonymous principal: that is for a machine of one's own.
*
* Credentials come as `Authorization: Bearer …` (OpenAI's clients, fal's tokens) or `Key …` (fal's keys). A token may also
* be in the query (`?fal_jwt_token=`), since neither `EventSource` nor a browser's `WebSocket` sends headers; a key may
* not, since addresses end up in logs. Everything is decided before an upgrade or a body is read.
*/
/** Loaded when a token is met: it takes as long as a denoising step of the built-in model. */
const jose = () => import("jose");
/** Routes, in groups that somebody would want to grant apart. */
const SCOPES = [
	"run",
	"realtime",
	"openai",
	"queue",
	"metrics"
];
const ANONYMOUS = {
	name: "anonymous",
	by: "nothing",
	scopes: SCOPES,
	models: void 0
};
const AUDIENCE = "daguerre";
const DEFAULT_TOKEN_SECONDS = 600;
/** Clocks of two servers may differ by so many seconds. */
const CLOCK_SKEW_S = 5;
const HASHED = /^sha256:([0-9a-f]{64})$/i;
/** @throws RangeError for a token secret that is too short, or a key that is empty */
function createAuthenticator(options) {
	const { tokenSecret, tokenSeconds = DEFAULT_TOKEN_SECONDS } = options;
	if (tokenSecret !== void 0 && Buffer.byteLength(tokenSecret) < 32) throw new RangeError("the token secret must have at least 32 bytes (openssl rand -hex 32)");
	const secret = tokenSecret === void 0 ? void 0 : new TextEncoder().encode(tokenSecret);
	const pepper = randomBytes(32);
	const digest = (sha256) => createHmac("sha256", pepper).update(sha256).digest();
	const keys = options.keys.map(({ name, key, scopes = SCOPES, models }) => {
		if (key.length === 0) throw new RangeError(`the key '${name}' is empty`);
		const hashed = HASHED.exec(key)?.[1];
		return {
			digest: digest(hashed === void 0 ? createHash("sha256").update(key).digest() : Buffer.from(hashed, "hex")),
			principal: {
				name,
				by: "key",
				scopes,
				models
			}
		};
	});
	const required = keys.length > 0 || secret !== void 0;
	const byKey = (value) => {
		const given = digest(createHash("sha256").update(value).digest());
		let found;
		for (const known of keys) if (timingSafeEqual(known.digest, given)) found = known.principal;
		return found;
	};
	const byToken = async (token) => {
		if (secret === void 0) return refused("The token is not valid here");
		const { errors, jwtVerify } = await jose();
		try {
			const { payload } = await jwtVerify(token, secret, {
				algorithms: ["HS256"],
				audience: AUDIENCE,
				requiredClaims: ["exp", "iat"],
				clockTolerance: CLOCK_SKEW_S
			});
			const { exp = 0, iat = 0, sub = "token", scope, models } = payload;
			if (exp - iat > tokenSeconds + CLOCK_SKEW_S) return refused(`The token lives longer than ${tokenSeconds} s`);
			const named = typeof scope === "string" ? scope.split(" ") : [];
			return {
				name: sub,
				by: "token",
				scopes: SCOPES.filter((known) => named.includes(known)),
				models: Array.isArray(models) ? models.filter((model) => typeof model === "string") : void 0
			};
		} catch (error) {
			return refused(error instanceof errors.JWTExpired ? "The token has expired" : "The token is not valid here");
		}
	};
	return {
		required,
		issues: secret !== void 0,
		async authenticate(credential) {
			if (credential === void 0) return required ? refused("A key or a token is required") : ANONYMOUS;
			if (!required) return ANONYMOUS;
			const { value, from } = credential;
			const known = from === "header" ? byKey(value) : void 0;
			if (known !== void 0) return known;
			return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(value) ? byToken(value) : refused("The key is not valid here");
		},
		async issueToken(principal, wanted) {
			if (secret === void 0) throw new Error("no token secret is configured");
			const seconds = Math.min(wanted.seconds ?? tokenSeconds, tokenSeconds);
			const scopes = (wanted.scopes ?? principal.scopes).filter((scope) => principal.scopes.includes(scope));
			const models = wanted.models?.filter((model) => principal.models?.includes(model) ?? true) ?? principal.models;
			const { SignJWT } = await jose();
			return {
				token: await new SignJWT({
					scope: scopes.join(" "),
					...models && { models }
				}).setProtectedHeader({
					alg: "HS256",
					typ: "JWT"
				}).setSubject(wanted.subject === void 0 ? principal.name : `${principal.name}/${wanted.subject}`).setAudience(AUDIENCE).setIssuedAt().setExpirationTime(`${seconds}s`).sign(secret),
				expires_in: seconds
			};
		}
	};
}
function refused(detail) {
	return {
		status: 401,
		detail
	};
}
/** Where a request carries its credential. */
function credentialOf(c) {
	const header = c.req.header("authorization");
	if (header !== void 0) return {
		value: /^(?:Bearer|Key) +(\S+)$/i.exec(header.trim())?.[1] ?? "",
		from: "header"
	};
	const token = c.req.query("fal_jwt_token");
	return token === void 0 ? void 0 : {
		value: token,
		from: "query"
	};
}
/** Where the middleware leaves the principal for what comes after it. */
const principals = /* @__PURE__ */ new WeakMap();
/** Who asks; the anonymous principal where no middleware has run. */
function principalOf(c) {
	return principals.get(c.req.raw) ?? ANONYMOUS;
}
/** Whose a job is that this request starts, or may see; undefined where all are anonymous. */
function ownerOf(c) {
	const { name, by } = principalOf(c);
	return by === "nothing" ? void 0 : name;
}
/** Lets only those pass who may: 401 without a valid credential, 403 without the scope or the model. */
function guard({ authenticator, scopeOf, model, refuse }) {
	return async (c, next) => {
		const scope = scopeOf(c.req.path, c.req.method);
		if (scope === "open") return next();
		const who = await authenticator.authenticate(credentialOf(c));
		if (!("name" in who)) {
			const response = refuse(c, who);
			response.headers.set("WWW-Authenticate", "Bearer realm=\"daguerre\"");
			return response;
		}
		if (scope !== "any" && !who.scopes.includes(scope)) return refuse(c, {
			status: 403,
			detail: `This credential lacks the scope '${scope}'`
		});
		if (scope !== "any" && scope !== "metrics" && who.models !== void 0 && !who.models.includes(model)) return refuse(c, {
			status: 403,
			detail: `This credential may not use the model '${model}'`
		});
		principals.set(c.req.raw, who);
		return next();
	};
}
/** The body of `POST /auth/token`: what the token is to be allowed less than the key. */
const tokenRequestSchema = object({
	scopes: array(_enum(SCOPES)).optional(),
	models: array(string().max(256)).max(64).optional(),
	/** Seconds; at most what is configured. */
	seconds: int().min(1).max(86400).optional(),
	/** Whom it is for, so that logs can tell. */
	subject: string().regex(/^[\w.@-]{1,64}$/, "must be letters, digits and . _ @ -").optional()
});
/** Longer bodies cannot be a token request. */
const TOKEN_BODY_BYTES = 16 * 1024;
/**
* `POST /auth/token`: a key gets a token for a browser. A token gets none: it would live for ever.
*
* @throws what `readInput` and the schema throw; HTTPException 403, 404
*/
function tokenRoute(authenticator) {
	return async (c) => {
		if (!authenticator.issues) throw new HTTPException(404, { message: "This server makes no tokens" });
		const principal = principalOf(c);
		if (principal.by !== "key") throw new HTTPException(403, { message: "Only a key can ask for a token" });
		const body = (await readBody(c.req.raw, TOKEN_BODY_BYTES)).toString("utf8");
		const wanted = tokenRequestSchema.parse(body === "" ? {} : parseJson(body), { reportInput: true });
		return c.json(await authenticator.issueToken(principal, wanted), 200, { "Cache-Control": "no-store" });
	};
}
//#endregion
//#region transports/source.ts
/** How long jobs wait for clients whose connection broke, where nobody says otherwise. */
const RESUME = {
	/** Seconds that the client of a stream may ask for, at most. */
	streamSeconds: 120,
	/** Milliseconds that a realtime session waits. */
	sessionMs: 15e3
};
/** The store of jobs behind a source; one of its own where it has none. */
function jobsOf(source, options = {}) {
	if (typeof source === "function") return createJobs(source, options);
	if ("submit" in source) return source;
	return createJobs(() => source, options);
}
/** Submits the job that a request asks for. */
function submit(c, jobs, input, { deadlineMs, ownerOf }, how) {
	return jobs.submit(input, {
		...how,
		owner: ownerOf?.(c),
		idempotencyKey: c.req.header("idempotency-key"),
		deadlineMs
	});
}
//#endregion
export { createJobs as _, createAuthenticator as a, bytesOf as b, principalOf as c, DEFAULT_MAX_BODY_BYTES as d, inputSource as f, JOB_DEFAULTS as g, readInput as h, SCOPES as i, tokenRequestSchema as l, readBody as m, jobsOf as n, guard as o, parseJson as p, submit as r, ownerOf as s, RESUME as t, tokenRoute as u, throughJobs as v, JobError as x, LOG_LIMITS as y };

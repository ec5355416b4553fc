import { _ as createJobs, a as createAuthenticator, c as principalOf, o as guard, s as ownerOf, u as tokenRoute, v as throughJobs, x as JobError } from "./source-BBcLZrFz.js";
import { a as parseRemoteGeneration, l as RequestError, o as parseUpdate } from "./request-Cv9RgteD.js";
import { _ as failureResponse, a as realtime, c as queue, d as jobStatus, f as updateJob, g as sessionLimit, h as rateLimit, i as createApp, l as json, m as openaiImages, n as listen, o as resume, p as gate, r as mount, s as sse, t as createMetrics, u as cancelJob } from "./metrics-Dou9icY8.js";
import { r as encodePicture } from "./encode-DEou0K_K.js";
import { g as WeightsError, n as createRuntime } from "./runtime-DWW_EOyq.js";
import { _ as DeviceLostError, b as GpuValidationError, g as AdapterError, v as GpuError, y as GpuOutOfMemoryError } from "./faults-D86CbdmA.js";
import { isAbsolute } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
//#region transports/worker.ts
/**
* A run in a worker thread: `sse(worker(new URL("./render.js", import.meta.url)))`. For what computes without pause: a
* synchronous generator that would keep this thread, and with it every other client, from its turn.
*
* The module's default export (or the one named) is the run; a generator, an async one, or anything iterable will do. One
* thread serves one run at a time, and threads are kept for the next. The run is asked for its next event when the one
* before has been taken, so a slow client slows the thread and nothing piles up. Cancelling ends an iterator at its next
* event; one that gives none within `graceMs` is ended together with its thread.
*/
const IDLE = 2;
const GRACE_MS = 1e3;
/**
* What a thread does: imports the module once, then one iterator after another, one event for each request. The text is
* given to the thread as it stands, so that it needs no file of its own in a bundle.
*/
const THREAD = `
const { parentPort, workerData } = require("node:worker_threads");
const loaded = import(workerData.module);
let iterator, cancel;
parentPort.on("message", async (asked) => {
  if (asked.abort) {
    cancel.abort(new DOMException("Cancelled", "AbortError"));
    return;
  }
  try {
    if ("input" in asked) {
      const run = (await loaded)[workerData.name];
      if (typeof run !== "function") throw new TypeError(workerData.name + " is not a function of the module");
      cancel = new AbortController();
      const given = await run(asked.input, { signal: cancel.signal, requestId: asked.requestId });
      iterator = (given[Symbol.asyncIterator] ?? given[Symbol.iterator]).call(given);
    }
    if (asked.stop) {
      await iterator?.return?.();
      parentPort.postMessage({ done: true });
      return;
    }
    const next = await iterator.next();
    parentPort.postMessage(next.done ? { done: true } : { event: next.value });
  } catch (error) {
    const { name = "Error", message = String(error), stack, ...fields } = error instanceof Error ? { ...error, name: error.name, message: error.message } : {};
    parentPort.postMessage({ error: { name, message, fields: JSON.parse(JSON.stringify(fields)) } });
  }
});
`;
function startThread(module, name) {
	const thread = new Worker(THREAD, {
		eval: true,
		workerData: {
			module,
			name
		}
	});
	thread.unref();
	let answer;
	let fail;
	let dead;
	thread.on("message", (reply) => answer?.(reply));
	const died = (error) => {
		dead ??= error;
		fail?.(dead);
	};
	thread.on("error", died);
	thread.on("exit", (code) => died(/* @__PURE__ */ new Error(`the worker thread ended with code ${code}`)));
	return {
		ask: (message) => new Promise((resolve, reject) => {
			if (dead !== void 0) return reject(dead);
			answer = resolve;
			fail = reject;
			thread.postMessage(message);
		}),
		abort: () => thread.postMessage({ abort: true }),
		end: () => void thread.terminate()
	};
}
/**
* @param module a URL (`new URL("./render.js", import.meta.url)` lies beside the caller), a package's name, or a path; a
* relative one (`./render.js`) is relative to the working folder
*/
function worker(module, options = {}) {
	const { name = "default", idle = IDLE, graceMs = GRACE_MS } = options;
	const specifier = isPath(module) ? pathToFileURL(module).href : String(module);
	const kept = [];
	return async function* (input, { signal, requestId }) {
		signal.throwIfAborted();
		const thread = kept.pop() ?? startThread(specifier, name);
		let over = false;
		let hung;
		const stop = () => {
			thread.abort();
			hung = setTimeout(() => thread.end(), graceMs);
		};
		signal.addEventListener("abort", stop, { once: true });
		try {
			let asked = {
				input,
				requestId
			};
			for (;;) {
				const reply = await thread.ask(asked);
				if ("error" in reply || "done" in reply) over = true;
				signal.throwIfAborted();
				if ("error" in reply) throw asError(reply.error);
				if ("done" in reply) return;
				yield reply.event;
				asked = {};
			}
		} catch (error) {
			throw signal.aborted ? signal.reason : error;
		} finally {
			signal.removeEventListener("abort", stop);
			hung ??= setTimeout(() => thread.end(), graceMs);
			const ended = over || await thread.ask({ stop: true }).then(() => true, () => false);
			clearTimeout(hung);
			if (ended && kept.length < idle && !signal.aborted) kept.push(thread);
			else thread.end();
		}
	};
}
function isPath(module) {
	return typeof module === "string" && (isAbsolute(module) || /^\.\.?[/\\]/.test(module));
}
/** The error of another thread, with the fields that decide what a client may see (`field`, `status`). */
function asError({ name, message, fields }) {
	return Object.assign(new Error(message), {
		name,
		...fields
	});
}
//#endregion
//#region src/engine/map.ts
const CONCURRENCY = 4;
/**
* Calls `fn` for each input and yields what it gives. Inputs are taken as they are needed, and not when results are not:
* at most `concurrency` calls are under way or wait to be read. The first error ends it; `fn`'s signal is then aborted,
* as it is when the consumer leaves.
*
* @throws whatever `inputs` or `fn` throw, RangeError for a concurrency below 1, and the signal's reason
*/
async function* map(inputs, fn, { concurrency = CONCURRENCY, ordered = true, signal } = {}) {
	if (!(concurrency >= 1)) throw new RangeError(`concurrency must be at least 1, not ${concurrency}`);
	const stop = new AbortController();
	const given = signal === void 0 ? stop.signal : AbortSignal.any([signal, stop.signal]);
	const source = Symbol.asyncIterator in inputs ? inputs[Symbol.asyncIterator]() : inputs[Symbol.iterator]();
	const calls = /* @__PURE__ */ new Set();
	let dry = false;
	let index = 0;
	function begin(input) {
		const at = index++;
		const call = Promise.resolve().then(() => fn(input, at, given)).then((value) => ({
			call,
			value
		}));
		call.catch(() => {});
		calls.add(call);
	}
	const aborted = new Promise((_, reject) => {
		given.addEventListener("abort", () => reject(given.reason), { once: true });
	});
	aborted.catch(() => {});
	try {
		given.throwIfAborted();
		for (;;) {
			while (!dry && calls.size < concurrency) {
				const next = await Promise.race([source.next(), aborted]);
				if (next.done) dry = true;
				else begin(next.value);
			}
			if (calls.size === 0) return;
			const [oldest] = calls;
			const { call, value } = await Promise.race([aborted, ...ordered ? [oldest] : calls]);
			calls.delete(call);
			yield value;
		}
	} finally {
		stop.abort(new DOMException("Nobody takes the results any more", "AbortError"));
		if (!dry) await source.return?.();
	}
}
//#endregion
export { AdapterError, DeviceLostError, GpuError, GpuOutOfMemoryError, GpuValidationError, JobError, RequestError, WeightsError, cancelJob, createApp, createAuthenticator, createJobs, createMetrics, createRuntime, encodePicture, failureResponse, gate, guard, jobStatus, json, listen, map, mount, openaiImages, ownerOf, parseRemoteGeneration, parseUpdate, principalOf, queue, rateLimit, realtime, resume, sessionLimit, sse, throughJobs, tokenRoute, updateJob, worker };

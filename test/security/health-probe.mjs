/**
 * A worker that asks `GET /health` at a steady pace, whether or not the last one was answered, as clients do: a server that
 * stands still for a second delays a second's worth of them. Messages in: `{port}` begins, `"halt"` and `"go on"` make a
 * pause, `"stop"` ends and is answered with `{times, failures}` (milliseconds; why each of the rest had no answer).
 */
import { Agent, get } from "node:http";
import { parentPort } from "node:worker_threads";

const EVERY_MS = 50;
/** What counts for a request without an answer. */
const GIVEN_UP_MS = 10_000;

let agent;
let timer;
let times = [];
/** Why a request had no answer, one text each. */
let failures = [];
let last = Promise.resolve();

let halted = false;

parentPort.on("message", async (message) => {
  if (message === "halt" || message === "go on") {
    halted = message === "halt";
    return;
  }
  if (message === "stop") {
    clearInterval(timer);
    // Those under way count too.
    await last;
    agent?.destroy();
    parentPort.postMessage({ times, failures });
    return;
  }
  times = [];
  failures = [];
  last = Promise.resolve();
  agent = new Agent({ keepAlive: true, maxSockets: 200 });
  clearInterval(timer);
  timer = setInterval(() => {
    if (halted) return;
    const before = last;
    const one = ask(message.port);
    last = Promise.all([before, one]);
  }, EVERY_MS);
});

function ask(port) {
  const begun = performance.now();
  return new Promise((resolve) => {
    /** @param {string} [failure] why there is no answer */
    const done = (failure) => {
      times.push(failure === undefined ? performance.now() - begun : GIVEN_UP_MS);
      if (failure !== undefined) failures.push(`${failure} after ${(performance.now() - begun).toFixed(0)} ms`);
      resolve();
    };
    const request = get({ host: "127.0.0.1", port, path: "/health", agent, timeout: GIVEN_UP_MS }, (response) => {
      response.resume();
      response.once("error", () => {});
      response.once("end", () => done(response.statusCode === 200 ? undefined : `status ${response.statusCode}`));
      response.once("close", () => response.complete || done("an answer cut short"));
    });
    request.once("timeout", () => request.destroy(new Error("silence")));
    request.once("error", ({ code, message }) => {
      done(`${code ?? message}${request.reusedSocket ? ", on a connection used before" : ""}`);
    });
  });
}

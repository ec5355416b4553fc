/**
 * A worker that asks `GET /health` at a steady pace, whether or not the last one was answered, as clients do: a server that
 * stands still for a second delays a second's worth of them. Messages in: `{port}` begins, `"halt"` and `"go on"` make a
 * pause, `"stop"` ends and is answered with `{times, failed}` (milliseconds; how many had no answer).
 */
import { Agent, get } from "node:http";
import { parentPort } from "node:worker_threads";

const EVERY_MS = 50;
/** What counts for a request without an answer. */
const GIVEN_UP_MS = 10_000;

let agent;
let timer;
let times = [];
let failed = 0;
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
    parentPort.postMessage({ times, failed });
    return;
  }
  times = [];
  failed = 0;
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
    const done = (ok) => {
      times.push(ok ? performance.now() - begun : GIVEN_UP_MS);
      if (!ok) failed++;
      resolve();
    };
    const request = get({ host: "127.0.0.1", port, path: "/health", agent, timeout: GIVEN_UP_MS }, (response) => {
      response.resume();
      response.once("error", () => {});
      response.once("end", () => done(response.statusCode === 200));
      response.once("close", () => response.complete || done(false));
    });
    request.once("timeout", () => request.destroy(new Error("no answer")));
    request.once("error", () => done(false));
  });
}

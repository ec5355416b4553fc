import { expect, it } from "vitest";
import { RequestError } from "../src/engine/errors.ts";
import { JobError } from "../src/jobs/job-errors.ts";
import { failureOf, failureResponse, isServerFault } from "./failure.ts";

it("a fault is a status and a detail, with Retry-After where it has one", async () => {
  const full = failureResponse(failureOf(new JobError("queue-full", "full", 7)));
  expect([full.status, await full.json(), full.headers.get("retry-after")]).toEqual([503, { detail: "full" }, "7"]);
  const gone = failureResponse(failureOf(new JobError("log-gone", "gone")));
  expect([gone.status, await gone.json(), gone.headers.get("retry-after")]).toEqual([410, { detail: "gone" }, null]);
});

it("issues say where they were found, and are bounded in number and in the length of names", () => {
  const issue = { path: ["x".repeat(1000), 3], message: "no", type: "value_error" };
  const { status, detail } = failureOf(new RequestError("x", "no", Array(101).fill(issue)), "query");
  expect(status).toBe(422);
  expect(detail.length).toBe(101);
  expect(detail[0]).toEqual({ loc: ["query", "x".repeat(128), 3], msg: "no", type: "value_error" });
  expect(detail[100]).toEqual({ loc: ["query"], msg: "1 more faults are not listed", type: "too_many" });
});

it.each([
  [new Error("x"), true],
  [Object.assign(new Error("x"), { status: 500 }), true],
  [Object.assign(new Error("x"), { code: "host-hung", status: 503, retryAfter: 5 }), true],
  [new JobError("queue-full", "full", 7), false],
  [new JobError("draining", "stopping", 7), false],
  [new DOMException("x", "TimeoutError"), false],
  [new DOMException("x", "AbortError"), false],
  [new RequestError("x", "no"), false],
])("%o is for the operator: %s", (error, answer) => {
  expect(isServerFault(error)).toBe(answer);
});

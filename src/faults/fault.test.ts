import { runInNewContext } from "node:vm";
import { HTTPException } from "hono/http-exception";
import { expect, it } from "vitest";
import { z } from "zod";
import { RequestError } from "../engine/errors.ts";
import { GpuOutOfMemoryError } from "../gpu/errors.ts";
import { ImageError } from "../image/errors.ts";
import { JobError } from "../jobs/job-errors.ts";
import { FaultError, faultOf, faultSchema } from "./fault.ts";

const issue = { path: ["loras", 0, "scale"], message: "must be a number", type: "float_type" };
const zodError = z.object({ steps: z.int() }).safeParse({ steps: "x" }, { reportInput: true }).error;

const FAULTS: [string, unknown, object][] = [
  [
    "a request's",
    new RequestError("loras.0.scale", "must be a number", [issue]),
    {
      code: "invalid-request",
      status: 422,
      message: "loras.0.scale: must be a number",
      field: "loras.0.scale",
      issues: [issue],
    },
  ],
  [
    "zod's",
    zodError,
    {
      code: "invalid-request",
      status: 422,
      message: "Invalid input: expected number, received string",
      field: "steps",
      issues: [{ path: ["steps"], message: "Invalid input: expected number, received string", type: "float_type" }],
    },
  ],
  [
    "a picture's",
    new ImageError("image-damaged", "the picture is damaged"),
    {
      code: "image-damaged",
      status: 422,
      message: "the picture is damaged",
      field: "image",
      issues: [{ path: ["image"], message: "the picture is damaged", type: "image-damaged" }],
    },
  ],
  [
    "a job's",
    new JobError("queue-full", "try again", 7),
    { code: "queue-full", status: 503, message: "try again", retryAfter: 7 },
  ],
  [
    "a program's own",
    Object.assign(new Error("too bright"), { status: 409 }),
    { code: "http-409", status: 409, message: "too bright" },
  ],
  [
    "Hono's",
    new HTTPException(418, { message: "short and stout" }),
    { code: "http-418", status: 418, message: "short and stout" },
  ],
  ["an abort", new DOMException("x", "AbortError"), { code: "cancelled", status: 499, message: "Cancelled" }],
  ["a deadline", new DOMException("x", "TimeoutError"), { code: "timed-out", status: 504, message: "Timed out" }],
];

const INTERNAL = { code: "internal", status: 500, message: "Internal error" };

it.each(FAULTS)("%s fault is data that a schema takes", (_, error, fault) => {
  expect(faultOf(error)).toEqual(fault);
  expect(faultSchema.parse(faultOf(error))).toEqual(fault);
  expect(faultOf(new FaultError(faultOf(error)))).toEqual(fault);
});

it.each(FAULTS)("%s fault is recognised without its class", (_, error, fault) => {
  const { name, message, code, status, field, issues, retryAfter } = error as Record<string, unknown>;
  const fields = structuredClone({ name, message, code, status, field, issues, retryAfter });
  expect(faultOf(fields)).toEqual(fault);
  const foreign = runInNewContext("(fields) => Object.assign(new Error(fields.message), fields)")(fields);
  expect(foreign).not.toBeInstanceOf(Error);
  expect(faultOf(foreign)).toEqual(fault);
});

it.each([
  [
    "an error of Node",
    Object.assign(new Error("ENOENT: /home/me/secret"), { code: "ENOENT", path: "/home/me/secret" }),
  ],
  ["a device's", new GpuOutOfMemoryError("out of memory in shader decoder_7")],
  ["a status that is none", Object.assign(new Error("secret"), { status: 200 })],
  ["a status that is a text", Object.assign(new Error("secret"), { status: "404" })],
  ["a field alone", Object.assign(new Error("secret"), { field: "prompt" })],
  ["a response", new Response("secret", { status: 404 })],
  ["a string", "secret"],
  ["null", null],
  ["undefined", undefined],
])("%s says nothing", (_, error) => {
  expect(faultOf(error)).toEqual(INTERNAL);
});

it("no field but a fault's own goes along, and none of another type", () => {
  const error = Object.assign(new Error("no"), {
    status: 503,
    path: "/home/me",
    config: { key: "secret" },
    code: 20,
    field: 3,
    issues: ["secret"],
    retryAfter: "soon",
  });
  expect(faultOf(error)).toEqual({ code: "http-503", status: 503, message: "no" });
  const nested = { status: 422, message: "no", issues: [{ ...issue, input: "secret" }] };
  expect(faultOf(nested).issues).toEqual([issue]);
});

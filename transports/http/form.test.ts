import { setTimeout as sleep } from "node:timers/promises";
import { Hono } from "hono";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startTurnMeter } from "../../test/turn-meter.ts";
import { failureOf, failureResponse } from "../failure.ts";
import { type FormField, readForm } from "./form.ts";
import { type Listening, listen } from "./listen.ts";

let server: Listening;
let fields: FormField[];
beforeAll(async () => {
  const app = new Hono();
  app.post("/", async (c) => {
    try {
      fields = await readForm(c, {});
      return c.text("read");
    } catch (error) {
      return failureResponse(failureOf(error));
    }
  });
  server = await listen(app, 0, "127.0.0.1");
});
afterAll(() => server.close());

async function send(body: string | Buffer | FormData, type?: string): Promise<string> {
  const headers: Record<string, string> = type === undefined ? {} : { "content-type": type };
  try {
    const response = await fetch(server.url, { method: "POST", body, headers });
    return `${response.status} ${await response.text()}`;
  } catch {
    // It was refused before all of it had been sent.
    return "closed";
  }
}

it("gives fields in their order, and files as bytes of their own", async () => {
  const form = new FormData();
  const bytes = Uint8Array.from({ length: 300_000 }, (_, index) => index * 7);
  form.append("prompt", "é 灯\r\n--x");
  form.append("image[]", new File([bytes], "a.png", { type: "image/png" }));
  form.append("empty", "");
  form.append("prompt", "twice");
  form.append("__proto__", "x");
  form.append("none", new File([], "b.png"));
  expect(await send(form)).toBe("200 read");
  expect(fields.map(([name]) => name)).toEqual(["prompt", "image[]", "empty", "prompt", "__proto__", "none"]);
  expect([fields[0]![1], fields[3]![1]]).toEqual(["é 灯\r\n--x", "twice"]);
  expect(Buffer.compare(fields[1]![1] as Uint8Array, bytes)).toBe(0);
  expect(fields[5]![1]).toEqual(new Uint8Array());
});

const PART = '--b\r\nContent-Disposition: form-data; name="x"';
const MALFORMED = /^400 .*not a multipart/;
/** The client is in this process, too: more would be its own turns. */
const LARGE = 2 * 2 ** 20;
const CASES: [string, string | Buffer, RegExp][] = [
  ["nothing", "", MALFORMED],
  ["no end of the form", `${PART}\r\n\r\n1\r\n`, MALFORMED],
  ["no end of a file", `${PART}; filename="f"\r\n\r\nabc`, MALFORMED],
  ["no end of a header", PART, MALFORMED],
  ["a field of 100 KB", `${PART}\r\n\r\n${"x".repeat(100_000)}\r\n--b--`, /^413 .*bytes in 'x'/],
  ["300 fields", `${`${PART}\r\n\r\n1\r\n`.repeat(300)}--b--`, /^413 .*more parts/],
  ["50 files", `${`${PART}; filename="f"\r\n\r\n1\r\n`.repeat(50)}--b--`, /^413 .*more files/],
  ["ends of parts alone", Buffer.alloc(LARGE, "--b\r\n"), /^413 |closed/],
  ["parts without headers", Buffer.alloc(LARGE, "\r\n--b\r\n\r\n"), /^413 |closed/],
  ["fields without end", Buffer.alloc(LARGE, `${PART}\r\n\r\n1\r\n`), /^413 |closed/],
  ["headers without end", Buffer.concat([Buffer.from("--b\r\n"), Buffer.alloc(LARGE, "A: b\r\n")]), /^4\d\d |closed/],
  [
    "almost its boundary",
    Buffer.concat([Buffer.from(`${PART}; filename="f"\r\n\r\n`), Buffer.alloc(LARGE, "\r\n--\r\n-")]),
    /^4\d\d |closed/,
  ],
  ["lines", Buffer.alloc(LARGE, "\r\n"), /^4\d\d |closed/],
];

it.each(CASES)("of %s is refused, and holds nobody up", async (_, body, answer) => {
  const meter = startTurnMeter();
  expect(await send(body, "multipart/form-data; boundary=b")).toMatch(answer);
  await sleep(10);
  expect(meter.stop().longestMs).toBeLessThan(50);
});

it("needs a type and a boundary", async () => {
  for (const type of [
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "text/plain",
    "multipart/mixed; boundary=b",
  ]) {
    expect(await send("--b--", type), type).toMatch(MALFORMED);
  }
});

/**
 * Bodies and frames up to the documented limits that are wide, deep, long, or not what they say: JSON on every route that
 * reads it, msgpack and text over `/realtime`, forms, queries.
 */
import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import sharp from "sharp";
import { type Attack, SMALL } from "./attack.ts";
import { ATTACKER, exchange, type Part, request } from "./raw-http.ts";
import { RealtimeClient } from "./realtime-client.ts";
import { bodies, brokenJson, FIELDS, jsonOf, objectOf, pairs } from "./requests.ts";

/** `limits.body_bytes` and `limits.frame_bytes`, by default. */
const LIMIT = 28 * 2 ** 20;
/** Statuses that refuse a body for what it is; a connection may be closed instead while such a body is still coming. */
const REFUSED = [400, 413, 422, "closed"];
/** A job may be waiting, or its client may have had too many. */
const BUSY = [429, 503];
/** A session's answer to such a frame, or its end. */
const REFUSED_FRAME = ["HTTP_400", "HTTP_413", "HTTP_422", "closed 1007", "closed 1008", "closed 1009"];
/** An answer is about the request; it is not larger than so much. */
const ANSWER_BYTES = 2 ** 20;

const KEYS = 2_300_000;

/** Text of `head`, then as many of `unit` as fit, then `tail`. */
function filled(head: string, unit: string, tail: string, bytes: number = LIMIT): Buffer {
  const body = Buffer.alloc(bytes, unit);
  const room = bytes - head.length - tail.length;
  body.write(head, "latin1");
  const end = head.length + room - (room % unit.length);
  // The filling begins behind the head, so that whole units stand there.
  body.fill(unit, head.length, end);
  body.write(tail, end, "latin1");
  return body.subarray(0, end + tail.length);
}

function distinctKeys(count: number): string {
  const parts: string[] = [];
  for (let index = 0; index < count; index++) parts.push(`"k${index.toString(36)}":0`);
  return `{"prompt":"x",${parts.join(",")}}`;
}

/** Bodies that nobody means, each refused; made when their turn comes. */
const REFUSED_BODIES: Record<string, () => Uint8Array | string> = {
  "2.3 million keys": () =>
    distinctKeys(KEYS)
      .slice(0, LIMIT - 1)
      .replace(/,[^,]*$/, "}"),
  "2.3 million keys, nested": () => `{"prompt":"x","z":${distinctKeys(2_000_000)}}`,
  "[ × 14 million": () => Buffer.concat([Buffer.alloc(14_000_000, "["), Buffer.alloc(14_000_000, "]")]),
  "[ × 28 million, never closed": () => Buffer.alloc(LIMIT - 1, "["),
  '{"a": × 5 million': () => filled("", '{"a":', ""),
  "[], × 9.5 million": () => filled('{"prompt":"x","z":[', "[],", "0]}"),
  "{}, × 9.5 million": () => filled('{"prompt":"x","loras":[', "{},", "0]}"),
  "0, × 14 million": () => filled('{"prompt":"x","z":[', "0,", "0]}"),
  '"", × 9 million': () => filled('{"prompt":"x","z":[', '"",', "0]}"),
  '"a":1, × 4 million, one key': () => filled("{", '"a":1,', '"prompt":"x"}'),
  "misspelt names × 60 000": () => distinctKeys(60_000).replaceAll('"k', '"num_images'),
  "names that are one of ours in disguise × 100 000": () => {
    const bars = Array.from(
      { length: 100_000 },
      (_, index) => `"${"_".repeat(index % 40)}steps${"-".repeat(index / 40 / 25)}":1`,
    );
    return `{"prompt":"x",${bars.join(",")}}`;
  },
  "a number of 28 million digits": () => filled('{"prompt":"x","seed":', "1", "}"),
  "a fraction of 28 million digits": () => filled('{"prompt":"x","guidance_scale":0.', "3", "}"),
  "an exponent of 28 million digits": () => filled('{"prompt":"x","width":1e', "9", "}"),
  "a prompt of 28 million characters": () => filled('{"prompt":"', "a", '"}'),
  "a prompt of \\u0041 × 4.6 million": () => filled('{"prompt":"', "\\u0041", '"}'),
  'a prompt of quotes \\"': () => filled('{"prompt":"', '\\"', '"}'),
  "a prompt of backslashes": () => filled('{"prompt":"', "\\\\", '"}'),
  "a prompt of four-byte characters": () =>
    Buffer.concat([Buffer.from('{"prompt":"'), Buffer.alloc(27_000_000, "\u{1f600}"), Buffer.from('"}')]),
  "a string that does not end": () => filled('{"prompt":"', "a", ""),
  "a string that ends in an escape": () => filled('{"prompt":"', "a", "\\"),
  "a prompt that is no UTF-8": () =>
    Buffer.concat([Buffer.from('{"prompt":"'), Buffer.alloc(27_000_000, 0xff), Buffer.from('"}')]),
  "base64 of 20 MB that is no picture": () =>
    filled('{"prompt":"x","image":"data:image/png;base64,', "AAAA", '"}', 20_000_000),
  "base64 of 20 MB with a blank in each line": () =>
    filled('{"prompt":"x","image":"data:image/png;base64,', "AAA\\n", '"}', 20_000_000),
  "base64 of 20 MB in escapes": () =>
    filled('{"prompt":"x","image":"data:image/png;base64,', "\\u0041", '"}', 20_000_000),
  "no base64 of 20 MB": () => filled('{"prompt":"x","image":"data:image/png;base64,', "!", '"}', 20_000_000),
  "bare base64 of 20 MB": () => filled('{"prompt":"x","image":"', "AAAA", '"}', 20_000_000),
  "two pictures of 13 MB": () =>
    Buffer.concat([
      filled('{"prompt":"x","image":"data:image/png;base64,', "AAAA", '",', 13_000_000),
      filled('"image_url":"data:image/png;base64,', "AAAA", '"}', 13_000_000),
    ]),
  "a picture in a list": () => filled('{"prompt":"x","image":["data:image/png;base64,', "AAAA", '"]}', 20_000_000),
  "a prompt that is a picture": () => filled('{"prompt":"data:image/png;base64,', "AAAA", '"}', 20_000_000),
  "UTF-16": () => Buffer.from('{"prompt":"x"}', "utf16le"),
  "bytes that are nothing": () => Buffer.alloc(LIMIT, 0xc1),
  "blanks alone": () => Buffer.alloc(LIMIT, " "),
  "one byte too many": () => filled('{"prompt":"', "a", '"}', LIMIT + 1),
};

/** Those of them that are wrong in a picture. */
const PICTURES = /base64|pictures?/;

/** Bodies that are legal; one that only looks wide or deep is not to be refused for it. Drawn, or refused as a whole. */
const LEGAL_BODIES: Record<string, { body: () => Uint8Array | string; allowed: readonly (number | string)[] }> = {
  "brackets within a prompt": { body: () => small({ prompt: '[{"'.repeat(3_000) }), allowed: [200] },
  "escaped quotes within a prompt": { body: () => small({ prompt: '\\"[{,'.repeat(1_900) }), allowed: [200] },
  "a prompt that ends in backslashes": { body: () => small({ prompt: "\\\\\\" }), allowed: [200] },
  "lone surrogates": { body: () => `{"prompt":"\\ud800\\udfff\\ud800",${rest()}}`, allowed: [200, 400, 422] },
  "1,000 unknown fields": {
    body: () => small(objectOf(Array.from({ length: 1_000 }, (_, index) => [`k${index}`, index]))),
    allowed: [200],
  },
  "28 MB of blanks within": { body: () => filled(`{"prompt":"x",${rest()}`, " ", "}"), allowed: [200, ...REFUSED] },
  "a name of 1 MB": { body: () => `{"${"k".repeat(2 ** 20)}":1,"prompt":"x",${rest()}}`, allowed: [200, ...REFUSED] },
  "a name of 20 MB": {
    body: () => filled('{"', "k", `":1,"prompt":"x",${rest()}}`, 20_000_000),
    allowed: [200, ...REFUSED],
  },
  "20 names of 1 MB": {
    body: () =>
      `{"prompt":"x",${rest()},${Array.from({ length: 20 }, (_, at) => `"${String(at).padStart(2)}${"k".repeat(2 ** 20)}":1`)}}`,
    allowed: [200, ...REFUSED],
  },
  "an unknown picture of 20 MB": {
    body: () => filled(`{"prompt":"x",${rest()},"mask":"data:image/png;base64,`, "AAAA", '"}', 20_000_000),
    allowed: [200, ...REFUSED],
  },
  "the same name 15,000 times": {
    body: () => `{${'"prompt":"x",'.repeat(15_000)}${rest()}}`,
    allowed: [200, ...REFUSED],
  },
  "names of Object's": {
    body: () => `{"__proto__":{"width":9},"constructor":{"prototype":{"steps":1}},"toString":1,"prompt":"x",${rest()}}`,
    allowed: [200, ...REFUSED],
  },
};

/** The fields of a small picture but its prompt, as JSON without braces. */
function rest(): string {
  return JSON.stringify({ ...SMALL, prompt: undefined }).slice(1, -1);
}

function small(more: Record<string, unknown>): string {
  return JSON.stringify({ ...SMALL, ...more });
}

/** Routes that read JSON. */
const ROUTES = ["/", "/stream", "/queue/x", "/v1/images/generations"];

export async function attack(context: Attack): Promise<void> {
  const { open, guarded } = context;
  for (const [index, [name, make]] of Object.entries(REFUSED_BODIES).entries()) {
    // A text that is no picture is found out when it is drawn, which only this route waits for.
    const picture = PICTURES.test(name);
    // Each on one route, in turns; the widest of all on every route.
    const one = picture ? "/" : ROUTES[index % ROUTES.length]!;
    const routes = context.share < 1 || index > 2 ? [one] : ROUTES;
    for (const target of routes) {
      await context.case(`${name} to POST ${target}`, open, async () => {
        const answer = await context.ask(name, open, request(open.port, { target, body: make() }), REFUSED);
        if (answer.bytes > ANSWER_BYTES) context.breach(`an answer of ${answer.bytes} bytes`);
      });
    }
  }
  for (const [name, { body, allowed }] of Object.entries(LEGAL_BODIES)) {
    await context.case(name, open, async () => {
      await context.ask(name, open, request(open.port, { target: "/", body: body() }), allowed, { timeoutMs: 60_000 });
    });
  }
  await context.case("a picture of megabytes", open, async () => {
    const picture = await noise(1400, 1400);
    const image = `data:image/png;base64,${picture.toString("base64")}`;
    const body = small({ image, strength: 1 });
    await context.ask("in JSON", open, request(open.port, { target: "/", body }), [200], { timeoutMs: 60_000 });
    const both = small({ image, image_url: image, mask: image, strength: 1 });
    await context.ask("three in JSON", open, request(open.port, { target: "/", body: both }), [200, 400, 413, 422], {
      timeoutMs: 60_000,
    });
  });
  await context.case("other routes that read", open, async () => {
    const wide = distinctKeys(200_000);
    const deep = "[".repeat(1_000_000);
    for (const body of [wide, deep]) {
      const patch = request(open.port, { method: "PATCH", target: "/jobs/nobody", body });
      await context.ask("PATCH", open, patch, [404, ...REFUSED]);
      const cancel = request(open.port, { method: "POST", target: "/queue/x/requests/nobody/cancel", body });
      await context.ask("POST …/cancel", open, cancel, [404, 405, ...REFUSED]);
      await context.ask("POST /auth/token", open, request(open.port, { target: "/auth/token", body }), [
        404,
        ...REFUSED,
      ]);
      const headers = guarded.credential;
      const token = request(guarded.port, { target: "/auth/token", body, headers });
      await context.ask("POST /auth/token with a key", guarded, token, REFUSED);
      const stranger = request(guarded.port, { target: "/", body });
      await context.ask("without a key", guarded, stranger, [401, "closed"]);
    }
  });
  await context.case("a job that is changed", guarded, async () => {
    const target = "/queue/x";
    const headers = guarded.credential;
    const body = small({ num_inference_steps: 50, request_id: `changed-${context.seed}` });
    await context.ask("submit", guarded, request(guarded.port, { target, body, headers }), [200]);
    const change = JSON.stringify({ prompt: "x".repeat(10_000) });
    const parts = request(guarded.port, {
      method: "PATCH",
      target: `/jobs/changed-${context.seed}`,
      body: change,
      headers,
    });
    await context.ask("a prompt over limits.prompt_characters by PATCH", guarded, parts, [422]);
    const client = await RealtimeClient.open(guarded.port, { headers: { Authorization: headers[0]!.slice(15) } });
    client.send(encode({ ...SMALL, request_id: "r", num_inference_steps: 50 }));
    const word = await client.ask(encode({ type: "update", request_id: "r", prompt: "x".repeat(10_000) }));
    context.expect("… by update", word, ["HTTP_422"]);
    await client.close();
    await exchange(
      guarded.port,
      request(guarded.port, { method: "DELETE", target: `/jobs/changed-${context.seed}`, headers }),
    );
  });
  await frames(context);
  await forms(context);
  await context.case("queries", open, async () => {
    const queries = [
      "a=".repeat(5_000).replaceAll("a=", "a=&"),
      Array.from({ length: 1_500 }, (_, index) => `k${index}=`).join("&"),
      `prompt=${"%41".repeat(4_900)}`,
      `prompt=x&width=${"9".repeat(14_000)}`,
      FIELDS.map((name) => `${name.toUpperCase()}=1`).join("&"),
      "prompt=x&prompt=y&prompt[]=z&prompt[a]=b&loras[0][name]=x",
      "prompt=x&width=1e99&height=NaN&seed=-1",
      "prompt=%ff%fe%00&detached=maybe&resume_grace_s=1e9",
    ];
    for (const query of queries) {
      const parts = request(open.port, { target: `/stream?${query}` });
      await context.ask(query.slice(0, 60), open, parts, [200, 400, 403, 414, 422, 431], { headOnly: true });
    }
  });
  await fuzzed(context);
}

async function frames(context: Attack): Promise<void> {
  const { open } = context;
  const wide = (unit: number, bytes: number, head: readonly number[] = [0x81, 0xa1, 0x7a]) => {
    const body = Buffer.alloc(bytes, unit);
    Buffer.from([...head, 0xdd]).copy(body);
    body.writeUInt32BE(bytes - head.length - 5, head.length + 1);
    return body;
  };
  /** `{type: "defaults", z: …}` */
  const defaults = (rest: Uint8Array) =>
    Buffer.concat([Buffer.from([0x82]), encode("type"), encode("defaults"), encode("z"), rest]);
  const binary = (bytes: number) => {
    const head = Buffer.from([0xc6, 0, 0, 0, 0]);
    head.writeUInt32BE(bytes, 1);
    return Buffer.concat([head, Buffer.alloc(bytes)]);
  };
  const MAP = 0x80;
  const hostile: Record<string, () => Uint8Array | string> = {
    "{z: [{}, {}, …]} of 28 MiB": () => wide(MAP, LIMIT),
    "{z: [{}, {}, …]} of 18 MiB": () => wide(MAP, 18 * 2 ** 20),
    "{z: [{}, {}, …]} of 4 MiB": () => wide(MAP, 4 * 2 ** 20),
    "{z: [[], [], …]} of 28 MiB": () => wide(0x90, LIMIT),
    "{z: [nil, nil, …]} of 28 MiB": () => wide(0xc0, LIMIT),
    '{z: ["", "", …]} of 28 MiB': () => wide(0xa0, LIMIT),
    "a map of 9 million entries": () => {
      const body = Buffer.alloc(LIMIT - 1, Buffer.from([0xa1, 0x61, 0xc0]));
      body[0] = 0xdf;
      body.writeUInt32BE(Math.floor((body.length - 5) / 3), 1);
      body.fill(Buffer.from([0xa1, 0x61, 0xc0]), 5);
      return body.subarray(0, 5 + 3 * Math.floor((body.length - 5) / 3));
    },
    "deep arrays, 20 MB": () => Buffer.alloc(20_000_000, 0x91),
    "deep maps, 20 MB": () => Buffer.alloc(20_000_000, Buffer.from([0x81, 0xa1, 0x61])),
    "a list of 2^32 - 1": () => Buffer.from([0xdd, 255, 255, 255, 255, 0xc0]),
    "a map of 2^32 - 1": () => Buffer.from([0xdf, 255, 255, 255, 255, 0xa1, 0x61, 0xc0]),
    "a string of 2^32 - 1": () => Buffer.from([0xdb, 255, 255, 255, 255, 0x61]),
    "bytes of 2^32 - 1": () => Buffer.from([0xc6, 255, 255, 255, 255, 0x61]),
    "an extension of 2^32 - 1": () => Buffer.from([0xc9, 255, 255, 255, 255, 5, 0x61]),
    "a prompt of 27 MB": () => encode({ ...SMALL, prompt: "x".repeat(27_000_000) }),
    "a field name of 27 MB": () => encode({ ...SMALL, prompt: 7, ["k".repeat(27_000_000)]: 1 }),
    "a request_id of 20 MB": () => encode({ ...SMALL, request_id: "x".repeat(20_000_000) }),
    "an input_id of 20 MB": () => encode({ ...SMALL, input_id: "x".repeat(20_000_000) }),
    "a picture of 27 MB that is none": () => encode({ ...SMALL, image: new Uint8Array(27_000_000) }),
    "bytes as a map's name": () => Buffer.from([0x81, 0xc4, 1, 0x61, 0xc0]),
    "two values": () => Buffer.from([0x80, 0x80]),
    "the reserved 0xc1": () => Buffer.from([0xc1]),
    "text: 2.3 million keys": () => distinctKeys(2_000_000),
    "text: [ × 14 million": () => "[".repeat(14_000_000),
    "text: {} × 9.5 million": () => `{"prompt":"x","z":[${"{},".repeat(9_000_000)}0]}`,
    "text: a prompt of \\u0041 × 4 million": () => `{"prompt":"${"\\u0041".repeat(4_000_000)}"}`,
    "defaults of maps, 14 MiB": () => defaults(wide(MAP, 14 * 2 ** 20, []).subarray(0)),
  };
  for (const [name, make] of Object.entries(hostile)) {
    await context.case(`frame: ${name}`, open, async () => {
      const client = await RealtimeClient.open(open.port);
      const frame = make();
      context.expect(name, await client.ask(frame), REFUSED_FRAME);
      await client.close();
    });
  }
  await context.case("frame: cancel with a uint64 as its id", open, async () => {
    const client = await RealtimeClient.open(open.port);
    const frame = Buffer.concat([
      Buffer.from([0x82]),
      encode("type"),
      encode("cancel"),
      encode("request_id"),
      Buffer.from([0xcf, ...Array(8).fill(255)]),
    ]);
    context.expect("uint64", await client.ask(frame), ["not-found", ...REFUSED_FRAME]);
    await client.close();
  });
  await context.case("frame: 15 small pictures in frames of 20 MiB", open, async () => {
    // Each job keeps its input for the retention; kept bytes show in what is left afterwards.
    const client = await RealtimeClient.open(open.port);
    const frame = encode({ ...SMALL, image: new Uint8Array(1_000), z: new Uint8Array(20 * 2 ** 20) });
    for (let round = 0; round < 15 && client.open; round++)
      context.expect("a picture that is none", await client.ask(frame), REFUSED_FRAME);
    await client.close();
  });
  await context.case("frame: defaults of 20 MiB of bytes in 24 sessions", open, async () => {
    const clients = await Promise.all(Array.from({ length: 24 }, () => RealtimeClient.open(open.port)));
    const frame = defaults(binary(20 * 2 ** 20));
    for (const client of clients) {
      if (context.isOver(open)) break;
      // Unknown fields may be dropped in silence, which is an answer too: then the next request tells that the session goes on.
      client.send(frame);
      const word = await client.ask(encode({ prompt: 7 }));
      context.expect("defaults, then a bad request", word, REFUSED_FRAME);
    }
    const { externalBytes, heapBytes } = await open.watch("collect");
    const { rss } = open.memory();
    if (externalBytes + heapBytes > 200 * 2 ** 20)
      context.breach(`sessions hold ${externalBytes} bytes outside the heap, rss ${rss}`);
    await Promise.all(clients.map((client) => client.close()));
  });
}

async function forms(context: Attack): Promise<void> {
  const { open } = context;
  const field = (name: string, value: string | Uint8Array, more = "") =>
    Buffer.concat([
      Buffer.from(`--b\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`),
      Buffer.from(value),
      Buffer.from("\r\n"),
    ]);
  const file = (name: string, bytes: Uint8Array) => field(name, bytes, '; filename="x.png"\r\nContent-Type: image/png');
  const END = Buffer.from("--b--\r\n");
  const many = (count: number, make: (index: number) => Uint8Array) =>
    Buffer.concat([...Array.from({ length: count }, (_, index) => make(index)), END]);
  const hostile: Record<string, () => Uint8Array | string> = {
    "100,000 fields": () => many(100_000, (index) => field(`k${index}`, "x")),
    "100,000 fields of one name": () => many(100_000, () => field("prompt", "x")),
    "20,000 files": () => many(20_000, () => file("image[]", Buffer.from("x"))),
    "a field of 27 MB": () => many(1, () => field("prompt", Buffer.alloc(27_000_000, "x"))),
    "a file of 27 MB that is no picture": () =>
      many(2, (index) => (index === 0 ? field("prompt", "x") : file("image", Buffer.alloc(27_000_000)))),
    "a name of 1 MB": () => many(1, () => field("k".repeat(2 ** 20), "x")),
    "no end": () => Buffer.concat([file("image", Buffer.alloc(1_000))]),
    "no part": () => END,
    nothing: () => "",
    "boundaries alone": () => Buffer.alloc(20_000_000, "--b\r\n"),
    "nearly boundaries": () => Buffer.concat([Buffer.from("--b\r\n\r\n"), Buffer.alloc(20_000_000, "\r\n--a")]),
    "a head without end": () => Buffer.concat([Buffer.from("--b\r\n"), Buffer.alloc(20_000_000, "X-A: b\r\n")]),
    "names of Object's": () => many(3, (index) => field(["__proto__", "constructor", "prompt"][index]!, "x")),
    "a form within a form": () =>
      many(1, () =>
        field(
          "image",
          many(1_000, () => field("x", "y")),
          "\r\nContent-Type: multipart/mixed; boundary=b",
        ),
      ),
  };
  for (const [name, make] of Object.entries(hostile)) {
    await context.case(`form: ${name}`, open, async () => {
      const headers = ["Content-Type: multipart/form-data; boundary=b"];
      const parts = request(open.port, { target: "/v1/images/edits", headers, body: make() });
      const answer = await context.ask(name, open, parts, REFUSED);
      if (answer.bytes > ANSWER_BYTES) context.breach(`an answer of ${answer.bytes} bytes`);
    });
  }
  await context.case("form: boundaries of all kinds", open, async () => {
    for (const boundary of ["", " ", '""', "x".repeat(200), "a b", "\u00e9", "b; boundary=c", "--", "(*)"]) {
      const headers = [`Content-Type: multipart/form-data; boundary=${boundary}`];
      const parts = request(open.port, { target: "/v1/images/edits", headers, body: many(1, () => field("x", "y")) });
      await context.ask(`boundary ${boundary.slice(0, 20)}`, open, parts, [...REFUSED, 415]);
    }
  });
}

async function fuzzed(context: Attack): Promise<void> {
  const { open } = context;
  const half = context.left / 2;
  const answered = [200, 202, 204, 400, 404, 405, 409, 413, 415, 422, ...BUSY];
  const target = fc.constantFrom(...ROUTES, "/jobs/nobody", "/v1/images/edits", "/auth/token");
  const body = fc.oneof({ weight: 3, arbitrary: pairs.map(jsonOf) }, brokenJson, fc.json());
  const asked = fc.record({
    target,
    body,
    type: fc.constantFrom("application/json", "text/plain", "x", "multipart/form-data; boundary=b"),
  });
  const post = async ({ target, body, type }: { target: string; body: string; type: string }) => {
    const method = target.startsWith("/jobs/") ? "PATCH" : "POST";
    const parts: Part[] = request(open.port, { method, target, body, headers: [`Content-Type: ${type}`] });
    const { status } = await exchange(open.port, parts, { timeoutMs: 60_000, headOnly: target === "/stream" });
    context.expect(`${method} ${target} ${body.slice(0, 200)}`, status, answered);
  };
  const options = { values: fc.array(asked, { minLength: 8, maxLength: 8 }), rounds: 150, timeMs: half };
  await context.fuzz("fuzzed bodies", open, options, async (values) => {
    await Promise.all(values.map(post));
  });
  const type = fc.constantFrom(undefined, undefined, undefined, "request", "cancel", "update", "defaults", "x", 7);
  const message = fc.tuple(
    bodies,
    type,
    fc.constantFrom(undefined, true, "yes"),
    fc.constantFrom(undefined, "queue", "latest", 7),
  );
  const frame = message.map(([fields, type, interrupt, mode]) => ({ ...fields, type, interrupt, mode }));
  const damaged = fc.tuple(frame, fc.nat(), fc.nat(255)).map(([fields, at, value]) => {
    const bytes = Uint8Array.from(encode(fields, { ignoreUndefined: true }));
    bytes[at % bytes.length] = value;
    return bytes;
  });
  const sent = fc.oneof(
    { weight: 3, arbitrary: frame.map((fields): Uint8Array | string => encode(fields, { ignoreUndefined: true })) },
    damaged,
    frame.map((fields) => JSON.stringify(fields)),
    fc.uint8Array({ maxLength: 60 }),
    fc.string({ maxLength: 60 }),
  );
  const session = { values: fc.array(sent, { minLength: 10, maxLength: 30 }), rounds: 80 };
  await context.fuzz("fuzzed sessions", open, session, async (values) => {
    const client = await RealtimeClient.open(open.port, { from: ATTACKER });
    for (const value of values) client.send(value);
    const last = await client.ask(encode({ type: "cancel", request_id: "the-last" }));
    await client.close();
    context.expect("a session", last.startsWith("closed") ? last : "answered", [
      "answered",
      "closed 1008",
      "closed 1009",
      "closed 1007",
    ]);
    for (const word of client.told) if (/^HTTP_5(?!03|04)/.test(word)) context.breach(`a session was told ${word}`);
  });
}

/** A picture that does not shrink: a PNG of nearly 3 bytes a pixel. */
async function noise(width: number, height: number): Promise<Buffer> {
  const raw = Buffer.alloc(width * height * 3);
  for (let at = 0, state = 1; at < raw.length; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    raw[at] = state >>> 16;
  }
  return sharp(raw, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 0 })
    .toBuffer();
}

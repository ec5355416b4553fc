/** Keys and tokens, forged, bent and borrowed: whose jobs are whose, and what a stranger may learn of another's. */
import { createHmac } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { type Attack, SMALL } from "./attack.ts";
import { type Answer, exchange, request } from "./raw-http.ts";
import { RealtimeClient } from "./realtime-client.ts";
import { KEYS, TOKEN_SECRET } from "./suite.ts";

const BUSY = [429, 503];

/** A JWT of any shape, signed as asked. */
function jwt(
  payload: unknown,
  { header = { alg: "HS256", typ: "JWT" } as unknown, secret = TOKEN_SECRET } = {},
): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part(header)}.${part(payload)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

const now = () => Math.floor(Date.now() / 1000);

/** Claims of a token that an operator could have signed. */
function claims(more: Record<string, unknown> = {}): Record<string, unknown> {
  return { sub: "somebody", aud: "daguerre", iat: now(), exp: now() + 60, scope: "run realtime queue openai", ...more };
}

export async function attack(context: Attack): Promise<void> {
  const { guarded, seed } = context;
  const { port } = guarded;
  const bearer = (value: string) => [`Authorization: Bearer ${value}`];
  const ask = (target: string, more: { method?: string; body?: string; headers?: readonly string[] } = {}) =>
    exchange(port, request(port, { target, ...more }), { timeoutMs: 30_000 });
  const submit = async (id: string | undefined, credential: string, more: readonly string[] = []) => {
    const body = JSON.stringify({ ...SMALL, request_id: id });
    const answer = await ask("/queue/x", { body, headers: [...bearer(credential), ...more] });
    return { status: answer.status, id: /"request_id":\s*"([^"]+)"/.exec(answer.body)?.[1] };
  };
  const tokenOf = async (key: string, wanted: object = {}) => {
    const { body } = await ask("/auth/token", { body: JSON.stringify(wanted), headers: bearer(key) });
    return JSON.parse(body || "{}") as { token: string; subject?: string; expires_in: number };
  };

  await context.case("another's job by every route and method", guarded, async () => {
    const id = `of-a-${seed}`;
    const never = `of-n-${seed}`;
    context.expect("a submits", (await submit(id, KEYS.a)).status, [200]);
    for (let round = 0; round < 60; round++) {
      if ((await ask(`/queue/x/requests/${id}`, { headers: bearer(KEYS.a) })).status === 200) break;
      await sleep(200);
    }
    const subjectless = (await tokenOf(KEYS.a)).token;
    const strangers: Record<string, string> = {
      "key b": KEYS.b,
      "a token of b": (await tokenOf(KEYS.b)).token,
      "a token of a without a subject": subjectless,
      "a token of a for somebody": (await tokenOf(KEYS.a, { subject: "somebody" })).token,
      "a token that is nobody's": jwt(claims()),
      "a token with a's name": jwt(claims({ sub: "a" })),
    };
    for (const [who, credential] of Object.entries(strangers)) {
      for (const { method, path, body } of JOB_ROUTES) {
        const of = async (job: string): Promise<Answer> => {
          const headers = [...bearer(credential), ...(path.includes("stream") ? ["Last-Event-ID: 0"] : [])];
          return ask(path.replace("ID", job), { method, headers, body });
        };
        const [others, nobodys] = [await of(id), await of(never)];
        context.expect(`${who}: ${method} ${path}`, others.status, method === "POST" ? [404, 405] : [404, 405, 400]);
        // Another's job and a job that never was cannot be told apart.
        const same = (answer: Answer, job: string) => `${answer.status} ${answer.body.replaceAll(job, "ID")}`;
        if (same(others, id) !== same(nobodys, never)) {
          context.breach(
            `${who}: ${method} ${path} tells a job that is from one that never was: ${same(others, id)} / ${same(nobodys, never)}`,
          );
        }
      }
    }
    // It is a's still.
    context.expect("a's result", (await ask(`/queue/x/requests/${id}`, { headers: bearer(KEYS.a) })).status, [200]);
  });
  await context.case("another's ids and idempotency keys", guarded, async () => {
    const id = `id-${seed}`;
    const first = await submit(id, KEYS.a);
    context.expect("a's id", first.status, [200]);
    // Ids are a client's own: b's job of that name is b's.
    const second = await submit(id, KEYS.b);
    context.expect("the same id of b", second.status, [200]);
    const stream = await ask("/stream", {
      body: JSON.stringify({ ...SMALL, request_id: id }),
      headers: bearer(KEYS.b),
    });
    context.expect("the same id of b by stream", stream.status, [200, 409]);
    const idempotent = ["Idempotency-Key: k"];
    const [ofA, ofB] = [await submit(undefined, KEYS.a, idempotent), await submit(undefined, KEYS.b, idempotent)];
    context.expect("an idempotency key of a and of b", ofA.id === ofB.id ? "one job" : "two jobs", ["two jobs"]);
    const spaced = [
      await submit(undefined, jwt(claims({ sub: "a" })), ["Idempotency-Key: b c"]),
      await submit(undefined, jwt(claims({ sub: "a b" })), ["Idempotency-Key: c"]),
    ];
    const apart = spaced[0]!.id === undefined || spaced[0]!.id !== spaced[1]!.id;
    context.expect("`a` + `b c` and `a b` + `c`", apart ? "two jobs" : "one job", ["two jobs"]);
    for (const sub of ['a","b', "a\u0000b", "a/b", "["]) {
      const one = await submit(undefined, jwt(claims({ sub })), ["Idempotency-Key: q"]);
      context.expect(`sub ${JSON.stringify(sub)}`, one.status, [200, 401, ...BUSY]);
    }
  });
  await context.case("another's job within a session", guarded, async () => {
    const id = `session-${seed}`;
    const owner = await RealtimeClient.open(port, { headers: { Authorization: `Bearer ${KEYS.a}` } });
    owner.send(encode({ ...SMALL, request_id: id, num_inference_steps: 100 }));
    await owner.until((word) => word === "progress", 20_000);
    const stranger = await RealtimeClient.open(port, { headers: { Authorization: `Bearer ${KEYS.b}` } });
    context.expect("cancel", await stranger.ask(encode({ type: "cancel", request_id: id })), ["not-found"]);
    context.expect("update", await stranger.ask(encode({ type: "update", request_id: id, prompt: "x" })), [
      "not-found",
    ]);
    const session = owner.messages.find(({ action }) => action === "session")?.session as string;
    const thief = await RealtimeClient.open(port, {
      query: `?session=${session}`,
      headers: { Authorization: `Bearer ${KEYS.b}` },
    });
    const resumed = thief.messages.find(({ action }) => action === "session")?.resumed;
    context.expect("a's session by b", resumed === true ? "resumed" : "fresh", ["fresh"]);
    await Promise.all([owner, stranger, thief].map((client) => client.close()));
  });
  await context.case("a subject is passed on", guarded, async () => {
    const first = await tokenOf(KEYS.a);
    context.expect("the answer names a subject", typeof first.subject, ["string"]);
    const { status, id } = await submit(undefined, first.token);
    context.expect("its job", status, [200]);
    const refreshed = await tokenOf(KEYS.a, { subject: first.subject });
    context.expect(
      "the refreshed token's",
      (await ask(`/jobs/${id}`, { headers: bearer(refreshed.token) })).status,
      [200],
    );
    const other = await tokenOf(KEYS.a);
    context.expect("another visitor's", (await ask(`/jobs/${id}`, { headers: bearer(other.token) })).status, [404]);
    const ofB = await tokenOf(KEYS.b, { subject: first.subject });
    context.expect(
      "the same subject of key b",
      (await ask(`/jobs/${id}`, { headers: bearer(ofB.token) })).status,
      [404],
    );
  });
  await context.case("tokens that are not", guarded, async () => {
    const century = 100 * 365 * 86_400;
    const good = jwt(claims());
    context.expect("a good one", (await ask("/jobs/nobody", { headers: bearer(good) })).status, [404]);
    const [head, body, signature] = good.split(".") as [string, string, string];
    const bad: Record<string, string> = {
      "iat and exp a hundred years ahead": jwt(claims({ iat: now() + century, exp: now() + century + 60 })),
      "iat ahead": jwt(claims({ iat: now() + 600, exp: now() + 660 })),
      "lives for a year": jwt(claims({ exp: now() + 365 * 86_400 })),
      "no exp": jwt(claims({ exp: undefined })),
      "no iat": jwt(claims({ iat: undefined })),
      expired: jwt(claims({ iat: now() - 600, exp: now() - 60 })),
      "not yet": jwt(claims({ nbf: now() + 600 })),
      "exp as text": jwt(claims({ exp: String(now() + 60) })),
      "exp 1e308": jwt(claims({ exp: 1e308 })),
      "iat negative": jwt(claims({ iat: -1e15 })),
      "another audience": jwt(claims({ aud: "other" })),
      "no audience": jwt(claims({ aud: undefined })),
      "models as text": jwt(claims({ models: "other" })),
      "models as an object": jwt(claims({ models: { 0: "landscapes" } })),
      "models of numbers": jwt(claims({ models: [7] })),
      "models true": jwt(claims({ models: true })),
      "scope as a number": jwt(claims({ scope: 7 })),
      "scope as a list": jwt(claims({ scope: ["run"] })),
      "sub as a list": jwt(claims({ sub: ["a"] })),
      "sub as a number": jwt(claims({ sub: 7 })),
      "key as a list": jwt(claims({ key: ["a"] })),
      "alg none": `${Buffer.from('{"alg":"none"}').toString("base64url")}.${body}.`,
      "alg NonE": `${Buffer.from('{"alg":"NonE"}').toString("base64url")}.${body}.${signature}`,
      "alg HS512": jwt(claims(), { header: { alg: "HS512" } }),
      "alg RS256": jwt(claims(), { header: { alg: "RS256" } }),
      crit: jwt(claims(), { header: { alg: "HS256", crit: ["x"], x: 1 } }),
      "jwk in its head": jwt(claims(), {
        header: { alg: "HS256", jwk: { kty: "oct", k: "AAAA" } },
        secret: "\u0000\u0000\u0000",
      }),
      "another secret": jwt(claims(), { secret: "x".repeat(40) }),
      "an empty secret": jwt(claims(), { secret: "" }),
      "no signature": `${head}.${body}.`,
      "a cut signature": good.slice(0, -2),
      "its payload a list": jwt([]),
      "its payload a word": jwt("x"),
      "12 KB of scope": jwt(claims({ scope: "run ".repeat(3_000), aud: "other" })),
      prototype: jwt(JSON.parse('{"__proto__":{"aud":"daguerre","exp":9e9,"iat":1}}')),
    };
    for (const [what, token] of Object.entries(bad)) {
      context.expect(what, (await ask("/jobs/nobody", { headers: bearer(token) })).status, [401]);
      const client = await RealtimeClient.open(port, { query: `?fal_jwt_token=${token}` });
      context.expect(`${what}, a session`, client.told[0] ?? "open", ["refused 401"]);
      await client.close();
    }
    for (const header of [
      "Bearer",
      "Bearer ",
      "Basic eDp5",
      `Key ${KEYS.a}x`,
      `Bearer ${KEYS.a} x`,
      `Bearer ${KEYS.a.toUpperCase()}`,
      "x".repeat(8_000),
    ]) {
      context.expect(
        header.slice(0, 20),
        (await ask("/jobs/nobody", { headers: [`Authorization: ${header}`] })).status,
        [401],
      );
    }
    context.expect("a key in the address", (await ask(`/jobs/nobody?fal_jwt_token=${KEYS.a}`)).status, [401]);
    context.expect(
      "a token asks for a token",
      (await ask("/auth/token", { body: "{}", headers: bearer(good) })).status,
      [401, 403],
    );
  });
  await context.case("more than a key has", guarded, async () => {
    const { token } = await tokenOf(KEYS.narrow, { scopes: ["run", "queue", "metrics", "realtime", "openai"] });
    for (const credential of [KEYS.narrow, token]) {
      context.expect("metrics", (await ask("/metrics", { headers: bearer(credential) })).status, [403]);
      context.expect("queue", (await submit(undefined, credential)).status, [403]);
      const images = JSON.stringify({ prompt: "x" });
      context.expect(
        "openai",
        (await ask("/v1/images/generations", { body: images, headers: bearer(credential) })).status,
        [403],
      );
    }
    const otherModel = jwt(claims({ models: ["another"] }));
    context.expect("another model", (await submit(undefined, otherModel)).status, [403]);
    const none = jwt(claims({ scope: "" }));
    context.expect("no scope", (await ask("/jobs/nobody", { headers: bearer(none) })).status, [403, 401]);
  });
  await context.case("wrong methods start nothing", guarded, async () => {
    const body = JSON.stringify(SMALL);
    const headers = bearer(KEYS.a);
    // A body that would be a request: it is a cancel of nobody, not a submission.
    const cancel = await ask("/queue/x/requests/nobody/cancel", { method: "POST", body, headers });
    context.expect("POST …/cancel", cancel.status, [404, 405]);
    for (const path of [
      "/queue/x/requests/nobody",
      "/queue/x/requests/nobody/status",
      "/queue/x/requests/nobody/status/stream",
    ]) {
      const answer = await ask(path, { method: "POST", body, headers });
      context.expect(`POST ${path}`, answer.status, [404, 405]);
    }
    for (const [method, target] of [
      ["PUT", "/"],
      ["PATCH", "/"],
      ["PUT", "/stream"],
      ["DELETE", "/stream"],
      ["PUT", "/queue/x"],
      ["POST", "/jobs/x"],
      ["POST", "/realtime"],
      ["get", "/"],
    ] as const) {
      context.expect(`${method} ${target}`, (await ask(target, { method, body, headers })).status, [400, 404, 405]);
    }
    context.expect("no key", (await ask("/", { body })).status, [401]);
  });
  if (context.left < 30_000) context.skip("that a session ends with its token", "it takes 25 s");
  else {
    await context.case("a session whose token expires", guarded, async () => {
      const { token } = await tokenOf(KEYS.a, { seconds: 1, scopes: ["realtime"] });
      const client = await RealtimeClient.open(port, { query: `?fal_jwt_token=${token}` });
      // It is told, and has a grace of seconds to finish what runs; after it nothing is drawn for it.
      await client.until((word) => word.startsWith("closed") || word === "Unauthorized", 25_000);
      await client.until((word) => word.startsWith("closed"), 10_000);
      const word = client.open ? await client.ask(encode(SMALL)) : "closed";
      context.expect("a request after it", word, ["closed", "HTTP_401", "Unauthorized", "closed 1008"]);
      await client.close();
    });
  }
  const value = fc.oneof(
    fc.constantFrom<unknown>(null, "", 0, -1, 1e308, true, [], {}, ["run"], "run", "a", "*", now() + 1e9),
    fc.jsonValue({ maxDepth: 2 }),
  );
  const bent = fc.array(
    fc.tuple(
      fc.constantFrom("sub", "aud", "iat", "exp", "nbf", "scope", "scopes", "models", "key", "iss", "jti"),
      value,
    ),
    { minLength: 1, maxLength: 3 },
  );
  const options = { values: fc.array(bent, { minLength: 8, maxLength: 8 }), rounds: 100 };
  await context.fuzz("fuzzed claims", guarded, options, async (all) => {
    await Promise.all(
      all.map(async (changes) => {
        // A token that may do nothing, bent: no change of types gives it more than it is given by name.
        const payload = claims({ scope: "", ...Object.fromEntries(changes) });
        const { status } = await ask("/metrics", { headers: bearer(jwt(payload)) });
        const granted = [payload.scope, payload.scopes].some((scopes) =>
          JSON.stringify(scopes ?? "").includes("metrics"),
        );
        context.expect(JSON.stringify(changes), status, granted ? [200, 401, 403] : [401, 403]);
        // Where work is counted against somebody, who that is must be known.
        const working = jwt(claims(Object.fromEntries(changes)));
        const work = await ask("/", { body: "{", headers: bearer(working) });
        context.expect(`${JSON.stringify(changes)} at work`, work.status, [400, 401, 403, ...BUSY]);
      }),
    );
  });
}

/** Every route to a job. */
const JOB_ROUTES: readonly { method: string; path: string; body?: string }[] = [
  { method: "GET", path: "/jobs/ID" },
  { method: "HEAD", path: "/jobs/ID" },
  { method: "PATCH", path: "/jobs/ID", body: '{"prompt":"y"}' },
  { method: "DELETE", path: "/jobs/ID" },
  { method: "GET", path: "/stream/ID" },
  { method: "GET", path: "/stream/ID?after=0" },
  { method: "HEAD", path: "/stream/ID" },
  { method: "GET", path: "/queue/x/requests/ID" },
  { method: "GET", path: "/queue/x/requests/ID/status" },
  { method: "GET", path: "/queue/x/requests/ID/status?logs=1" },
  { method: "GET", path: "/queue/x/requests/ID/status/stream" },
  { method: "PUT", path: "/queue/x/requests/ID/cancel" },
  { method: "POST", path: "/queue/x/requests/ID/cancel", body: "{}" },
];

import { createHmac } from "node:crypto";
import fc from "fast-check";
import { Hono } from "hono";
import { SignJWT } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { gradientRun } from "../../test/gradient-run.ts";
import { createApp } from "../app.ts";
import { type Failure, failureResponse } from "../failure.ts";
import { clientOf } from "../http/client.ts";
import { type Listening, listen } from "../http/listen.ts";
import { type ApiKey, createAuthenticator, guard, ownerOf, principalOf, SCOPES } from "./auth.ts";
import type { GateOptions } from "./gate.ts";
import { rateLimit } from "./rate.ts";

const open: Listening[] = [];
afterEach(() => Promise.all(open.splice(0).map((server) => server.close())));

const SECRET = "0123456789abcdef0123456789abcdef";
const MODEL = { name: "gradient", defaultWidth: 64, defaultHeight: 64, defaultSteps: 10, countTokens: () => 3 };
const KEYS: readonly ApiKey[] = [
  { name: "a", key: "k-a" },
  { name: "b", key: "k-b" },
  { name: "narrow", key: "k-narrow", scopes: ["run"], models: ["gradient"] },
];
const bearer = (value: string) => ({ authorization: `Bearer ${value}` });
const refuse = (_: unknown, failure: Failure) => failureResponse(failure);
const seconds = () => Math.floor(Date.now() / 1000);
const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Signs any claims at all, which a library for JWTs would refuse to. */
function signed(claims: Record<string, unknown>, header: Record<string, unknown> = { alg: "HS256" }): string {
  const now = seconds();
  const text = `${base64url(header)}.${base64url({ aud: "daguerre", iat: now, exp: now + 60, ...claims })}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

async function serving(gate: Partial<GateOptions> = {}, keys: readonly ApiKey[] = KEYS) {
  const authenticator = createAuthenticator({ keys, tokenSecret: SECRET, tokenSeconds: 600 });
  const app = createApp({
    run: gradientRun(),
    health: () => ({}),
    model: MODEL,
    gate: { authenticator, ...gate },
    jobs: { concurrency: 8 },
  });
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  return server.url;
}

/** The status and the `detail` of a request for a picture. */
async function asking(url: string, token: string) {
  const response = await fetch(url, { method: "POST", headers: bearer(token), body: '{"prompt":"x"}' });
  return { status: response.status, detail: ((await response.json()) as { detail?: unknown }).detail };
}

const made = async (url: string, key: string, wanted: object = {}) => {
  const response = await fetch(`${url}/auth/token`, {
    method: "POST",
    headers: bearer(key),
    body: JSON.stringify(wanted),
  });
  expect(response.status).toBe(200);
  return (await response.json()) as { token: string; expires_in: number; subject: string };
};

describe("claims", () => {
  const wrong: [claim: string, value: unknown][] = [
    ["models", "other"],
    ["models", null],
    ["models", {}],
    ["models", 0],
    ["models", false],
    ["models", ["gradient", 1]],
    ["models", [["gradient"]]],
    ["models", { 0: "gradient", length: 1 }],
    ["scope", ["run"]],
    ["scope", null],
    ["scope", { run: true }],
    ["scope", 1],
    ["scope", true],
    ["scopes", "run"],
    ["scopes", null],
    ["scopes", {}],
    ["scopes", ["run", null]],
    ["scopes", [{ name: "run" }]],
    ["sub", ["a"]],
    ["sub", 1],
    ["sub", null],
    ["sub", {}],
    ["sub", ""],
    ["sub", "a\u0000b"],
    ["sub", "a\nb"],
    ["sub", "\u2028"],
    ["sub", "\ud800"],
    ["sub", "x".repeat(257)],
    ["key", ["a"]],
    ["key", 1],
    ["key", null],
    ["key", { name: "a" }],
    ["key", "nobody"],
    ["key", ""],
    ["key", "a/x"],
    ["key", "__proto__"],
    ["iat", "1"],
    ["iat", null],
    ["exp", "9999999999"],
    ["exp", [1]],
    ["nbf", "0"],
    ["nbf", seconds() + 3600],
    ["aud", ["other"]],
    ["aud", null],
    ["aud", { daguerre: true }],
  ];
  let url = "";
  let server: Listening;
  beforeAll(async () => {
    url = await serving();
    server = open.pop()!;
  });
  afterAll(() => server.close());

  it.each(wrong)("`%s` of %j is refused by its name", async (claim, value) => {
    const usual = claim === "scopes" ? {} : { scope: "run" };
    const { status, detail } = await asking(url, signed({ ...usual, [claim]: value }));
    expect(status).toBe(401);
    expect(detail).toMatch(new RegExp(`^The token is not valid here: \`${claim}\` must be `));
  });

  it("are told apart from a forged signature, which is told nothing", async () => {
    const [header, payload] = signed({ scope: "run", models: "other" }).split(".");
    expect(await asking(url, `${header}.${payload}.${"A".repeat(43)}`)).toEqual({
      status: 401,
      detail: "The token is not valid here",
    });
  });

  const now = seconds();
  const century = 100 * 365 * 86_400;
  it.each([
    ["a hundred years ahead", now + century, now + century + 60, "`iat` is in the future"],
    ["an hour ahead", now + 3600, now + 3660, "`iat` is in the future"],
    ["beyond the skew of clocks", now + 60, now + 90, "`iat` is in the future"],
    ["for a hundred years", now, now + century, "lives longer than 600 s"],
    ["for a moment longer than allowed", now, now + 700, "lives longer than 600 s"],
    ["since before it was a number", -1e300, now + 60, "lives longer than 600 s"],
    ["since long ago", now - century, now + 60, "lives longer than 600 s"],
    ["backwards", now, now - 600, "expired"],
  ])("a token %s is refused", async (_, iat, exp, words) => {
    const { status, detail } = await asking(url, signed({ scope: "run", iat, exp }));
    expect(status).toBe(401);
    expect(detail).toContain(words);
  });

  it("may be numbers without end, which end nothing", async () => {
    // JSON has no infinity, but a number that is too large becomes one.
    for (const claims of ['"iat":0,"exp":1e999', '"iat":-1e999,"exp":1e999', '"iat":1e999,"exp":1e999']) {
      const text = `${base64url({ alg: "HS256" })}.${Buffer.from(`{"aud":"daguerre","scope":"run",${claims}}`).toString("base64url")}`;
      const token = `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
      expect((await asking(url, token)).status, claims).toBe(401);
    }
  });

  it("of clocks that differ a little are taken, and scopes as a text or as a list", async () => {
    const at = seconds();
    const good = [{ scope: "run" }, { scopes: ["run", "openai"] }, { scope: "run other", iat: at + 3, exp: at + 603 }];
    for (const claims of good) {
      expect((await asking(url, signed(claims))).status, JSON.stringify(claims)).toBe(200);
    }
    // Each of the two differences is within the skew, and the end is too far away all the same.
    expect((await asking(url, signed({ scope: "run", iat: at + 4, exp: at + 608 }))).status).toBe(401);
    const none = [
      {},
      { scope: "" },
      { scopes: [] },
      { scope: "RUN" },
      { scope: "run\u00a0" },
      { scopes: ["run openai"] },
    ];
    for (const claims of none) {
      expect((await asking(url, signed(claims))).status, JSON.stringify(claims)).toBe(403);
    }
    const both = await asking(url, signed({ scope: "run", scopes: ["run"] }));
    expect(both.detail).toBe("The token is not valid here: `scopes` must not be there beside `scope`");
    expect((await asking(url, signed({ scope: "run", models: [] }))).status).toBe(403);
    expect((await asking(url, signed({ scope: "run", models: ["gradient"] }))).status).toBe(200);
  });

  it("become values of the principal", async () => {
    const authenticator = createAuthenticator({ keys: KEYS, tokenSecret: SECRET });
    const exp = seconds() + 60;
    const of = (claims: Record<string, unknown>) =>
      authenticator.authenticate({ value: signed({ scope: "run", exp, ...claims }), from: "header" });
    expect(await of({ sub: "x/y z", key: "a", models: ["m"] })).toEqual({
      name: "a",
      by: "token",
      key: "a",
      subject: "x/y z",
      scopes: ["run"],
      models: ["m"],
      expiresAt: exp * 1000,
    });
    // A subject that looks like that of a key's token acts for no key.
    expect(await of({ sub: "a/x" })).toMatchObject({ name: "subject:a/x", key: undefined, subject: "a/x" });
    expect(await authenticator.authenticate({ value: "k-narrow", from: "header" })).toEqual({
      name: "narrow",
      by: "key",
      key: "narrow",
      subject: undefined,
      scopes: ["run"],
      models: ["gradient"],
      expiresAt: undefined,
    });
  });
});

describe("POST /auth/token", () => {
  it("answers a subject: the one asked for, else another one each time", async () => {
    const url = await serving();
    const { subject, token } = await made(url, "k-a", { subject: "visitor-17" });
    expect(subject).toBe("visitor-17");
    const claims = JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString());
    expect(claims).toMatchObject({ sub: "visitor-17", key: "a", aud: "daguerre" });
    const random = await Promise.all(Array.from({ length: 20 }, () => made(url, "k-a")));
    expect(new Set(random.map((one) => one.subject)).size).toBe(20);
    // 16 bytes; and what is answered may be asked for.
    for (const one of random) expect(one.subject).toMatch(/^[\w-]{22}$/);
    expect((await made(url, "k-a", { subject: random[0]!.subject })).subject).toBe(random[0]!.subject);
  });

  it.each([
    [{ scope: "run" }, "scope"],
    [{ model: ["gradient"] }, "model"],
    [{ scopes: "run" }, "scopes"],
    [{ scopes: ["all"] }, "scopes"],
    [{ models: "gradient" }, "models"],
    [{ models: null }, "models"],
    [{ subject: "a/b" }, "subject"],
    [{ subject: "" }, "subject"],
    [{ subject: ["a"] }, "subject"],
    [{ seconds: 0 }, "seconds"],
    [{ seconds: 1e9 }, "seconds"],
    [[], ""],
    ["run", ""],
  ])("refuses %j instead of making a token of all rights", async (wanted, field) => {
    const url = await serving();
    const response = await fetch(`${url}/auth/token`, {
      method: "POST",
      headers: bearer("k-a"),
      body: JSON.stringify(wanted),
    });
    expect(response.status).toBe(422);
    expect(JSON.stringify(await response.json())).toContain(field);
  });

  it("makes no more than the key has, and nothing of what is taken out of the configuration", async () => {
    const url = await serving();
    const { token } = await made(url, "k-narrow", { scopes: [...SCOPES], models: ["gradient", "sdxl"] });
    const claims = JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString());
    expect([claims.scope, claims.models]).toEqual(["run", ["gradient"]]);
    expect((await asking(url, token)).status).toBe(200);
    const later = await serving({}, KEYS.slice(0, 2));
    expect(await asking(later, token)).toEqual({
      status: 401,
      detail: "The token is not valid here: `key` must be the name of a key of this server",
    });
  });
});

describe("owners", () => {
  it("are a key, or a subject of one key, and nothing that reads alike", async () => {
    const url = await serving();
    const token = async (key: string, subject?: string) => (await made(url, key, { subject })).token;
    const first = await made(url, "k-a");
    const own = (claims: object) => signed({ scope: "run queue", ...claims });
    const unnamed = own({ jti: "1" });
    // Each line is one owner, with all credentials that it may use.
    const owners: string[][] = [
      ["k-a"],
      ["k-b"],
      [first.token, await token("k-a", first.subject)],
      [await token("k-a")],
      [await token("k-a", "x"), own({ key: "a", sub: "x" })],
      [await token("k-b", "x")],
      [own({ sub: "x" }), own({ sub: "x", jti: "2" })],
      [own({ sub: "a" })],
      [own({ sub: "a/x" })],
      [own({ sub: "a x" })],
      [own({ sub: "token" })],
      [own({ sub: '["a","x"]' })],
      [own({ sub: '","x' }), own({ sub: '","x', jti: "2" })],
      [own({ key: "a", sub: "null" })],
      [unnamed],
      [own({ jti: "2" })],
      [own({ key: "a", jti: "2" })],
    ];
    const jobs = await Promise.all(
      owners.map(async ([credential]) => {
        const response = await fetch(`${url}/queue/x`, {
          method: "POST",
          headers: bearer(credential!),
          body: '{"prompt":"x"}',
        });
        expect(response.status).toBe(200);
        return ((await response.json()) as { request_id: string }).request_id;
      }),
    );
    for (const [owner, credentials] of owners.entries()) {
      for (const credential of credentials) {
        for (const [starter, id] of jobs.entries()) {
          const { status, body } = await fetch(`${url}/jobs/${id}`, { headers: bearer(credential) });
          await body?.cancel();
          expect(status, `owner ${owner} asks for the job of ${starter}`).toBe(owner === starter ? 200 : 404);
        }
      }
    }
  });

  it("of a token without a subject do not depend on how its signature is spelt", async () => {
    const app = new Hono();
    const authenticator = createAuthenticator({ keys: [], tokenSecret: SECRET });
    app.use(guard({ authenticator, scopeOf: () => "run", model: "m", refuse }));
    app.get("/", (c) => c.text(ownerOf(c) ?? ""));
    const token = signed({ scope: "run" });
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const spellings = [...alphabet].map((letter) => token.slice(0, -1) + letter);
    const answers = await Promise.all(spellings.map((value) => app.request("/", { headers: bearer(value) })));
    const owners = await Promise.all(answers.filter(({ ok }) => ok).map((answer) => answer.text()));
    expect(owners.length).toBeGreaterThan(0);
    expect(new Set(owners).size).toBe(1);
    expect(owners[0]).toMatch(/^\[null,"token:[\w-]{43}"\]$/);
  });
});

describe("clients", () => {
  /** The client that limits count these requests for. */
  async function counted(headers: Record<string, string>): Promise<string> {
    const app = new Hono();
    const keys = [{ name: "a", key: "k-a" }];
    const keyed = createAuthenticator({ keys, tokenSecret: SECRET });
    const authenticator = "authorization" in headers ? keyed : createAuthenticator({ keys: [] });
    app.use(guard({ authenticator, scopeOf: () => "run", model: "m", refuse }));
    app.get("/", (c) => c.text(clientOf(c, 1)));
    return (await app.request("/", { headers })).text();
  }

  it.each([
    ["203.0.113.9", "203.0.113.9"],
    ["203.0.113.9:51234", "203.0.113.9"],
    ["::ffff:203.0.113.9", "203.0.113.9"],
    ["::ffff:cb00:7109", "203.0.113.9"],
    ["0:0:0:0:0:ffff:cb00:7109", "203.0.113.9"],
    ["64:ff9b::cb00:7109", "203.0.113.9"],
    ["2001:db8::1", "2001:db8::/64"],
    ["2001:DB8:0:0:ffff:ffff:ffff:ffff", "2001:db8::/64"],
    ["[2001:db8::7]:443", "2001:db8::/64"],
    ["[2001:db8::7]", "2001:db8::/64"],
    ["2001:db8:0:1::1", "2001:db8:0:1::/64"],
    ["2001:db8:0:100::1", "2001:db8:0:100::/64"],
    ["fe80::1%eth0", "fe80::/64"],
    ["::1", "::/64"],
    ["key:a", "unknown"],
    ["not an address", "unknown"],
    ["999.1.1.1", "unknown"],
  ])("of the address %s count by %s", async (address, network) => {
    expect(await counted({ "x-forwarded-for": address })).toBe(`address:${network}`);
  });

  it("are told apart by their kind", async () => {
    const token = (claims: object) => bearer(signed({ scope: "run", ...claims }));
    const seen = {
      "a key": [await counted(bearer("k-a")), "key:a"],
      "its token": [await counted(token({ key: "a", sub: "x" })), "key:a"],
      "another one of its tokens": [await counted(token({ key: "a" })), "key:a"],
      "a token of no key": [await counted(token({ sub: "a" })), "subject:a"],
      "one that reads like a key": [await counted(token({ sub: "key:a" })), "subject:key:a"],
      "one that reads like a key's token": [await counted(token({ sub: "a/x" })), "subject:a/x"],
      "one that reads like an address": [await counted(token({ sub: "address:::1" })), "subject:address:::1"],
      "one that reads like nobody": [await counted(token({ sub: "anonymous" })), "subject:anonymous"],
    };
    for (const [name, [got, wanted]] of Object.entries(seen)) expect(got, name).toBe(wanted);
  });

  it("are limited as they are counted: a key's tokens together, those of no key by their subject", async () => {
    const url = await serving({ requestsPerMinute: 2 }, [...KEYS, { name: "anonymous", key: "k-anonymous" }]);
    const statuses = async (...tokens: string[]) => {
      const seen: number[] = [];
      for (const token of tokens) seen.push((await asking(url, token)).status);
      return seen;
    };
    const of = (claims: object) => signed({ scope: "run", ...claims });
    const tokens = [of({ key: "a", sub: "1" }), of({ key: "a", sub: "2" }), of({ key: "a" }), "k-a"];
    expect(await statuses(...tokens)).toEqual([200, 200, 429, 429]);
    expect(await statuses(of({ sub: "a" }), of({ sub: "a" }), of({ sub: "a" }))).toEqual([200, 200, 429]);
    expect(await statuses(of({ sub: "a/1" }), of({ sub: "b" }), "k-b")).toEqual([200, 200, 200]);
    expect(await statuses("k-anonymous", "k-anonymous", "k-anonymous")).toEqual([200, 200, 429]);
  });

  it("are the /64 of their address where all are anonymous", async () => {
    const app = new Hono();
    app.use(rateLimit({ requestsPerMinute: 1, proxies: 1, counts: () => true, refuse }));
    app.get("/", (c) => c.text("ok"));
    const server = await listen(app, 0, "127.0.0.1");
    open.push(server);
    const from = async (address: string) => {
      const { status, body } = await fetch(server.url, { headers: { "x-forwarded-for": address } });
      await body?.cancel();
      return status;
    };
    expect(await from("2001:db8::1")).toBe(200);
    expect(await from("2001:db8::2")).toBe(429);
    expect(await from("2001:db8:0:1::2")).toBe(200);
    expect(await from("198.51.100.7")).toBe(200);
    expect(await from("::ffff:198.51.100.7")).toBe(429);
  });
});

describe("tokens of any shape", () => {
  const authenticator = createAuthenticator({ keys: KEYS, tokenSecret: SECRET, tokenSeconds: 600 });
  const judged = (value: string) => authenticator.authenticate({ value, from: "header" });
  const names = fc.constantFrom(
    "scope",
    "scopes",
    "models",
    "sub",
    "key",
    "aud",
    "iat",
    "exp",
    "nbf",
    "crit",
    "__proto__",
  );
  const values = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.subarray([...SCOPES, "gradient", "all", "*"]),
    fc.subarray([...SCOPES, "all", "*"]).map((list) => list.join(" ")),
    fc.constantFrom("a", "b", "narrow", "daguerre", seconds(), seconds() + 300, 1e300, -1e300),
  );

  it("yield no right that is not signed, and always an answer, whatever their claims are", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(names, values), { maxLength: 5 }), async (changes) => {
        const claims: Record<string, unknown> = Object.fromEntries([
          ["scope", "run"],
          ["models", ["gradient"]],
          ...changes,
        ]);
        const who = await judged(signed(claims));
        if ("status" in who) {
          expect(who.status).toBe(401);
          expect(who.detail).toMatch(/^The token /);
          return;
        }
        // Every claim that a right came of has its own type; none was guessed.
        const asked = claims.scopes ?? claims.scope;
        const stated = typeof asked === "string" ? asked.split(" ") : (asked as unknown[]);
        for (const scope of who.scopes) expect(stated).toContain(scope);
        expect(who.models).toEqual(claims.models);
        expect(Array.isArray(who.models)).toBe(true);
        expect(who.key).toBe(claims.key);
        expect(typeof who.subject).toBe("string");
        expect(who.expiresAt).toBeLessThanOrEqual(Date.now() + 606_000);
      }),
      { numRuns: 1000 },
    );
  });

  it("are refused when anything of a token is changed after it was signed", async () => {
    const { token } = await authenticator.issueToken((await judged("k-narrow")) as never, { subject: "x" });
    const parts = token.split(".") as [string, string, string];
    const payload = JSON.parse(Buffer.from(parts[1], "base64url").toString());
    const mutation = fc.oneof(
      fc.tuple(names, values).map(([name, value]) => {
        const changed = base64url({ ...payload, [name]: value });
        return [parts[0], changed, parts[2]].join(".");
      }),
      fc.constantFrom("none", "None", "HS384", "HS512", "RS256", "ES256", "", null, ["HS256"]).chain((alg) =>
        fc.constantFrom(parts[2], "", "AAAA").map((signature) => {
          return `${base64url({ alg, typ: "JWT" })}.${parts[1]}.${signature}`;
        }),
      ),
      fc
        .nat(token.length - 1)
        .chain((at) =>
          fc
            .constantFrom("A", "z", "_", "-", "=", ".", " ", "é")
            .map((letter) => token.slice(0, at) + letter + token.slice(at + 1)),
        ),
      fc.nat(token.length - 1).map((at) => token.slice(0, at)),
    );
    await fc.assert(
      fc.asyncProperty(mutation, async (changed) => {
        const who = await judged(changed);
        // Either it is what was signed, spelt otherwise, or it is nothing.
        const [header, claims] = changed.split(".");
        if (header === parts[0] && claims === parts[1] && !("status" in who)) {
          expect(who).toMatchObject({ key: "narrow", subject: "x", scopes: ["run"], models: ["gradient"] });
        } else {
          expect(who).toMatchObject({ status: 401 });
        }
      }),
      { numRuns: 1000 },
    );
  });

  it("get 401 over HTTP, never a fault of the server", async () => {
    const url = await serving();
    const text = fc.string({ unit: fc.constantFrom(..."abcXYZ019-_.="), maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(fc.oneof(text, fc.tuple(names, values)), async (wanted) => {
        const token = typeof wanted === "string" ? wanted : signed({ [wanted[0]]: wanted[1] });
        const { status, body } = await fetch(`${url}/jobs/none`, { headers: bearer(token) });
        await body?.cancel();
        // 403: it is valid and lacks the scope; 404: it has the scope, and there is no such job.
        expect([401, 403, 404]).toContain(status);
      }),
      { numRuns: 150 },
    );
  });
});

it("a token of one server's secret is nothing to another, and its principal is found where the guard has left it", async () => {
  const app = new Hono();
  const authenticator = createAuthenticator({ keys: [], tokenSecret: `${SECRET}!` });
  app.use(guard({ authenticator, scopeOf: () => "any", model: "m", refuse }));
  app.get("/", (c) => c.json(principalOf(c)));
  const now = seconds();
  const foreign = await app.request("/", { headers: bearer(signed({ scope: "run" })) });
  expect(foreign.status).toBe(401);
  const token = await new SignJWT({ scopes: ["run"] })
    .setProtectedHeader({ alg: "HS256" })
    .setAudience("daguerre")
    .setSubject("visitor")
    .setIssuedAt(now)
    .setExpirationTime(now + 60)
    .sign(new TextEncoder().encode(`${SECRET}!`));
  expect(await (await app.request("/", { headers: bearer(token) })).json()).toEqual({
    name: "subject:visitor",
    by: "token",
    subject: "visitor",
    scopes: ["run"],
    expiresAt: (now + 60) * 1000,
  });
});

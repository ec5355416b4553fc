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
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Context, MiddlewareHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import { z } from "zod";
import type { Failure } from "./failure.ts";
import { parseJson, readBytes } from "./input.ts";

/** Loaded when a token is met: it takes as long as a denoising step of the built-in model. */
const jose = () => import("jose");

/** Routes, in groups that somebody would want to grant apart. */
export const SCOPES = ["run", "realtime", "openai", "queue", "metrics"] as const;
export type Scope = (typeof SCOPES)[number];

/** Who asks. */
export interface Principal {
  /** What limits are counted by and logs show: a key's name, a token's subject, or `anonymous`. */
  readonly name: string;
  readonly by: "key" | "token" | "nothing";
  readonly scopes: readonly Scope[];
  /** Names of models; undefined: all. */
  readonly models: readonly string[] | undefined;
}

/** A key as it is configured: the key itself, or its SHA-256 in hexadecimal (`sha256:…`), so that a file need not hold it. */
export interface ApiKey {
  readonly name: string;
  readonly key: string;
  readonly scopes?: readonly Scope[];
  readonly models?: readonly string[];
}

export interface AuthOptions {
  readonly keys: readonly ApiKey[];
  /** The secret (HS256) that tokens are signed with, 32 bytes or more; undefined: there are no tokens. */
  readonly tokenSecret?: string;
  /** Seconds that a token may live, from `iat` to `exp`. */
  readonly tokenSeconds?: number;
}

export interface Authenticator {
  /** Whether anybody at all needs a credential. */
  readonly required: boolean;
  /** The principal of a credential, or why there is none. Never throws. */
  authenticate(credential: Credential | undefined): Promise<Principal | Failure>;
  /** Whether there is a secret to make tokens with. */
  readonly issues: boolean;
  /** A token with a part of `principal`'s rights. @throws Error when there is no token secret */
  issueToken(principal: Principal, wanted: TokenRequest): Promise<{ token: string; expires_in: number }>;
}

export interface TokenRequest {
  readonly scopes?: readonly Scope[];
  readonly models?: readonly string[];
  /** Seconds; at most what is configured. */
  readonly seconds?: number;
  readonly subject?: string;
}

export interface Credential {
  readonly value: string;
  /** A key is not taken from an address. */
  readonly from: "header" | "query";
}

const ANONYMOUS: Principal = { name: "anonymous", by: "nothing", scopes: SCOPES, models: undefined };
const AUDIENCE = "daguerre";
const DEFAULT_TOKEN_SECONDS = 600;
/** Clocks of two servers may differ by so many seconds. */
const CLOCK_SKEW_S = 5;
const HASHED = /^sha256:([0-9a-f]{64})$/i;

/** @throws RangeError for a token secret that is too short, or a key that is empty */
export function createAuthenticator(options: AuthOptions): Authenticator {
  const { tokenSecret, tokenSeconds = DEFAULT_TOKEN_SECONDS } = options;
  if (tokenSecret !== undefined && Buffer.byteLength(tokenSecret) < 32) {
    throw new RangeError("the token secret must have at least 32 bytes (openssl rand -hex 32)");
  }
  const secret = tokenSecret === undefined ? undefined : new TextEncoder().encode(tokenSecret);
  // Keys of any length become digests of one length, under a secret of this process, so that the time of a comparison
  // says nothing about a key.
  const pepper = randomBytes(32);
  const digest = (sha256: Buffer) => createHmac("sha256", pepper).update(sha256).digest();
  const keys = options.keys.map(({ name, key, scopes = SCOPES, models }) => {
    if (key.length === 0) throw new RangeError(`the key '${name}' is empty`);
    const hashed = HASHED.exec(key)?.[1];
    const sha256 = hashed === undefined ? createHash("sha256").update(key).digest() : Buffer.from(hashed, "hex");
    return { digest: digest(sha256), principal: { name, by: "key", scopes, models } satisfies Principal };
  });
  const required = keys.length > 0 || secret !== undefined;

  const byKey = (value: string): Principal | undefined => {
    const given = digest(createHash("sha256").update(value).digest());
    let found: Principal | undefined;
    for (const known of keys) if (timingSafeEqual(known.digest, given)) found = known.principal;
    return found;
  };

  const byToken = async (token: string): Promise<Principal | Failure> => {
    if (secret === undefined) return refused("The token is not valid here");
    const { errors, jwtVerify } = await jose();
    try {
      const { payload } = await jwtVerify(token, secret, {
        algorithms: ["HS256"],
        audience: AUDIENCE,
        requiredClaims: ["exp", "iat"],
        clockTolerance: CLOCK_SKEW_S,
      });
      const { exp = 0, iat = 0, sub = "token", scope, models } = payload;
      if (exp - iat > tokenSeconds + CLOCK_SKEW_S) return refused(`The token lives longer than ${tokenSeconds} s`);
      const named = typeof scope === "string" ? scope.split(" ") : [];
      return {
        name: sub,
        by: "token",
        scopes: SCOPES.filter((known) => named.includes(known)),
        models: Array.isArray(models) ? models.filter((model) => typeof model === "string") : undefined,
      };
    } catch (error) {
      return refused(error instanceof errors.JWTExpired ? "The token has expired" : "The token is not valid here");
    }
  };

  return {
    required,
    issues: secret !== undefined,
    async authenticate(credential) {
      if (credential === undefined) return required ? refused("A key or a token is required") : ANONYMOUS;
      if (!required) return ANONYMOUS;
      const { value, from } = credential;
      // Three parts in base64url: a JWT. Keys are looked up first, so one that looks so works all the same.
      const known = from === "header" ? byKey(value) : undefined;
      if (known !== undefined) return known;
      return /^[\w-]+\.[\w-]+\.[\w-]+$/.test(value) ? byToken(value) : refused("The key is not valid here");
    },
    async issueToken(principal, wanted) {
      if (secret === undefined) throw new Error("no token secret is configured");
      const seconds = Math.min(wanted.seconds ?? tokenSeconds, tokenSeconds);
      const scopes = (wanted.scopes ?? principal.scopes).filter((scope) => principal.scopes.includes(scope));
      const models = wanted.models?.filter((model) => principal.models?.includes(model) ?? true) ?? principal.models;
      const { SignJWT } = await jose();
      const token = await new SignJWT({ scope: scopes.join(" "), ...(models && { models }) })
        .setProtectedHeader({ alg: "HS256", typ: "JWT" })
        // The key's name stays in it: what its tokens do counts against the key.
        .setSubject(wanted.subject === undefined ? principal.name : `${principal.name}/${wanted.subject}`)
        .setAudience(AUDIENCE)
        .setIssuedAt()
        .setExpirationTime(`${seconds}s`)
        .sign(secret);
      return { token, expires_in: seconds };
    },
  };
}

function refused(detail: string): Failure {
  return { status: 401, detail };
}

/** Where a request carries its credential. */
export function credentialOf(c: Context): Credential | undefined {
  const header = c.req.header("authorization");
  if (header !== undefined) {
    const value = /^(?:Bearer|Key) +(\S+)$/i.exec(header.trim())?.[1];
    return { value: value ?? "", from: "header" };
  }
  const token = c.req.query("fal_jwt_token");
  return token === undefined ? undefined : { value: token, from: "query" };
}

/** Where the middleware leaves the principal for what comes after it. */
const principals = new WeakMap<Request, Principal>();

/** Who asks; the anonymous principal where no middleware has run. */
export function principalOf(c: Context): Principal {
  return principals.get(c.req.raw) ?? ANONYMOUS;
}

/** Whose a job is that this request starts, or may see; undefined where all are anonymous. */
export function ownerOf(c: Context): string | undefined {
  const { name, by } = principalOf(c);
  return by === "nothing" ? undefined : name;
}

/** What a path needs: nothing, some credential whatever its scopes, or one with that scope. */
export type Access = "open" | "any" | Scope;

export interface GuardOptions {
  readonly authenticator: Authenticator;
  /** What a path needs. What is not known should need something. */
  readonly scopeOf: (path: string, method: string) => Access;
  /** The model that would answer. */
  readonly model: string;
  /** How a refusal is put into words for this path. */
  readonly refuse: (c: Context, failure: Failure) => Response;
}

/** Lets only those pass who may: 401 without a valid credential, 403 without the scope or the model. */
export function guard({ authenticator, scopeOf, model, refuse }: GuardOptions): MiddlewareHandler {
  return async (c, next) => {
    const scope = scopeOf(c.req.path, c.req.method);
    if (scope === "open") return next();
    const who = await authenticator.authenticate(credentialOf(c));
    if (!("name" in who)) {
      const response = refuse(c, who);
      response.headers.set("WWW-Authenticate", 'Bearer realm="daguerre"');
      return response;
    }
    if (scope !== "any" && !who.scopes.includes(scope))
      return refuse(c, { status: 403, detail: `This credential lacks the scope '${scope}'` });
    if (scope !== "any" && scope !== "metrics" && who.models !== undefined && !who.models.includes(model)) {
      return refuse(c, { status: 403, detail: `This credential may not use the model '${model}'` });
    }
    principals.set(c.req.raw, who);
    return next();
  };
}

/** The body of `POST /auth/token`: what the token is to be allowed less than the key. */
export const tokenRequestSchema = z.object({
  scopes: z.array(z.enum(SCOPES)).optional(),
  models: z.array(z.string().max(256)).max(64).optional(),
  /** Seconds; at most what is configured. */
  seconds: z.int().min(1).max(86_400).optional(),
  /** Whom it is for, so that logs can tell. */
  subject: z
    .string()
    .regex(/^[\w.@-]{1,64}$/, "must be letters, digits and . _ @ -")
    .optional(),
});

/** Longer bodies cannot be a token request. */
const TOKEN_BODY_BYTES = 16 * 1024;

/**
 * `POST /auth/token`: a key gets a token for a browser. A token gets none: it would live for ever.
 *
 * @throws what `readInput` and the schema throw; HTTPException 403, 404
 */
export function tokenRoute(authenticator: Authenticator): (c: Context) => Promise<Response> {
  return async (c) => {
    if (!authenticator.issues) throw new HTTPException(404, { message: "This server makes no tokens" });
    const principal = principalOf(c);
    if (principal.by !== "key") throw new HTTPException(403, { message: "Only a key can ask for a token" });
    const wanted = tokenRequestSchema.parse(await readTokenRequest(c), { reportInput: true });
    return c.json(await authenticator.issueToken(principal, wanted), 200, { "Cache-Control": "no-store" });
  };
}

/** The body may be left out. */
async function readTokenRequest(c: Context): Promise<unknown> {
  const body = await readBytes(c, { maxBodyBytes: TOKEN_BODY_BYTES });
  return body.length === 0 ? {} : parseJson(body);
}

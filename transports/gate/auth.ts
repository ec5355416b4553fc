/**
 * Authentication and scopes: the requests that a client may make.
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
import { z } from "zod";
import type { Failure } from "../failure.ts";

/** Loaded when a token is met: it takes as long as a denoising step of the built-in model. */
const jose = () => import("jose");

/** Routes, in groups that somebody would want to grant apart. */
export const SCOPES = ["run", "realtime", "openai", "queue", "a1111", "metrics"] as const;
export type Scope = (typeof SCOPES)[number];

/** The client of a request. A key is the owner `{key, subject: undefined}`; each of its tokens' subjects is another. */
export interface Principal {
  /** For logs alone: the name of the key, `subject:` and the subject of a token of no key, or `anonymous`. */
  readonly name: string;
  readonly by: "key" | "token" | "nothing";
  /** The name of the key whose rights it has and against which its work counts; undefined: it acts for no key. */
  readonly key: string | undefined;
  /** Whom a token is for; every token has one. undefined for keys and the anonymous. */
  readonly subject: string | undefined;
  readonly scopes: readonly Scope[];
  /** Names of models; undefined: all. */
  readonly models: readonly string[] | undefined;
  /** When the credential ends, in ms since the epoch; undefined: never. */
  readonly expiresAt: number | undefined;
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
  /** Seconds that a token may live: from `iat` to `exp`, and from now to `exp`. */
  readonly tokenSeconds?: number;
}

export interface Authenticator {
  /** True if there are keys, so that requests need a credential. */
  readonly required: boolean;
  /** The principal of a credential, or why there is none. Never throws. */
  authenticate(credential: Credential | undefined): Promise<Principal | Failure>;
  /** True if there is a secret to make tokens with. */
  readonly issues: boolean;
  /** A token with a part of `principal`'s rights. @throws Error when there is no token secret */
  issueToken(principal: Principal, wanted: TokenRequest): Promise<IssuedToken>;
}

export interface IssuedToken {
  readonly token: string;
  /** Seconds. */
  readonly expires_in: number;
  /** Whom the token is for. The next token that is asked for with it owns what this one starts. */
  readonly subject: string;
}

export interface TokenRequest {
  readonly scopes?: readonly Scope[];
  readonly models?: readonly string[];
  /** Seconds; at most what is configured. */
  readonly seconds?: number;
  /** Left out: one that nobody can guess. */
  readonly subject?: string;
}

export interface Credential {
  readonly value: string;
  /** A key is not taken from an address. */
  readonly from: "header" | "query";
}

const ANONYMOUS: Principal = {
  name: "anonymous",
  by: "nothing",
  key: undefined,
  subject: undefined,
  scopes: SCOPES,
  models: undefined,
  expiresAt: undefined,
};
const AUDIENCE = "daguerre";
const DEFAULT_TOKEN_SECONDS = 600;
/** Clocks of two servers may differ by so many seconds. */
const CLOCK_SKEW_S = 5;
const HASHED = /^sha256:([0-9a-f]{64})$/i;
/** Bytes of a random subject, too many to guess. */
const SUBJECT_BYTES = 16;

/**
 * The claims of a token; `jose` has checked `aud`, `exp`, `iat` and `nbf` by then. A claim of another type is an error:
 * to pass over it would give more rights than were meant. The descriptions are the ends of the messages.
 */
const claimsSchema = z.object({
  sub: z
    .string()
    .regex(/^[^\p{C}\p{Zl}\p{Zp}]{1,256}$/u)
    .optional()
    .describe("a text of 1 to 256 printable characters"),
  key: z.string().optional().describe("the name of a key, as a text"),
  scope: z.string().optional().describe("a text, with a space between two scopes"),
  scopes: z.array(z.string()).optional().describe("a list of texts"),
  models: z.array(z.string()).optional().describe("a list of names of models"),
  exp: z.number(),
  iat: z.number(),
});

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
    const principal: Principal = { ...ANONYMOUS, name, by: "key", key: name, scopes, models };
    return { digest: digest(sha256), principal };
  });
  const required = keys.length > 0 || secret !== undefined;

  const byKey = (value: string): Principal | undefined => {
    const candidate = digest(createHash("sha256").update(value).digest());
    let found: Principal | undefined;
    for (const known of keys) if (timingSafeEqual(known.digest, candidate)) found = known.principal;
    return found;
  };

  const byToken = async (token: string): Promise<Principal | Failure> => {
    if (secret === undefined) return invalid();
    const { errors, jwtVerify } = await jose();
    try {
      const { payload } = await jwtVerify(token, secret, {
        algorithms: ["HS256"],
        audience: AUDIENCE,
        requiredClaims: ["exp", "iat"],
        clockTolerance: CLOCK_SKEW_S,
      });
      const claims = claimsSchema.safeParse(payload);
      if (!claims.success) {
        const claim = String(claims.error.issues[0]?.path[0]) as keyof typeof claimsSchema.shape;
        return invalid(claim, `must be ${claimsSchema.shape[claim].description}`);
      }
      const { sub, key, scope, scopes, models, exp, iat } = claims.data;
      const now = Date.now() / 1000;
      if (iat > now + CLOCK_SKEW_S) return invalid("iat", "is in the future; compare the clocks");
      // Both are bounded: a token of a hundred years can have its `iat` close to its `exp`.
      if (Math.max(exp - iat, exp - now) > tokenSeconds + CLOCK_SKEW_S) {
        return refused(`The token lives longer than ${tokenSeconds} s`);
      }
      // A key that is taken out of the configuration takes its tokens with it.
      if (key !== undefined && !keys.some(({ principal }) => principal.key === key)) {
        return invalid("key", "must be the name of a key of this server");
      }
      if (scope !== undefined && scopes !== undefined) return invalid("scopes", "must not be there beside `scope`");
      const names = scopes ?? scope?.split(" ") ?? [];
      const subject = sub ?? subjectOf(token);
      return {
        name: key ?? `subject:${subject}`,
        by: "token",
        key,
        subject,
        scopes: SCOPES.filter((known) => names.includes(known)),
        models,
        expiresAt: exp * 1000,
      };
    } catch (error) {
      if (error instanceof errors.JWTExpired) return refused("The token has expired");
      if (!(error instanceof errors.JWTClaimValidationFailed)) return invalid();
      return invalid(error.claim, CLAIM_FAULTS[error.claim] ?? "has a wrong value");
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
      const subject = wanted.subject ?? randomBytes(SUBJECT_BYTES).toString("base64url");
      const { SignJWT } = await jose();
      const token = await new SignJWT({ scope: scopes.join(" "), key: principal.key, models })
        .setProtectedHeader({ alg: "HS256", typ: "JWT" })
        .setSubject(subject)
        .setAudience(AUDIENCE)
        .setIssuedAt()
        .setExpirationTime(`${seconds}s`)
        .sign(secret);
      return { token, expires_in: seconds, subject };
    },
  };
}

function refused(detail: string): Failure {
  return { status: 401, detail };
}

/** Names the claim at fault, where a claim is at fault: the signature was right then, so this tells a stranger nothing. */
function invalid(claim?: string, fault?: string): Failure {
  return refused(`The token is not valid here${claim === undefined ? "" : `: \`${claim}\` ${fault}`}`);
}

/** The rules of the claims that `jose` checks. */
const CLAIM_FAULTS: Readonly<Record<string, string>> = {
  aud: `must be there and be "${AUDIENCE}"`,
  exp: "must be there, in seconds since 1970",
  iat: "must be there, in seconds since 1970",
  nbf: "must be in the past, in seconds since 1970",
};

/**
 * The subject of a token that names none: a digest of what was signed, so that only this token owns what it starts. The
 * signature itself is left out, because one signature can be spelt in several ways.
 */
function subjectOf(token: string): string {
  const signed = token.slice(0, token.lastIndexOf("."));
  return `token:${createHash("sha256").update(signed).digest("base64url")}`;
}

/**
 * The credential of a request, and its place in the request.
 * @param takesBasic whether Basic counts: its password is the key, whatever the user's name; without a password the name is
 */
export function credentialOf(c: Context, takesBasic: boolean = false): Credential | undefined {
  const header = c.req.header("authorization");
  if (header !== undefined) {
    const value = /^(?:Bearer|Key) +(\S+)$/i.exec(header.trim())?.[1] ?? (takesBasic ? basicOf(header) : undefined);
    return { value: value ?? "", from: "header" };
  }
  const token = c.req.query("fal_jwt_token");
  return token === undefined ? undefined : { value: token, from: "query" };
}

/** Characters of a Basic header that are read; a key is shorter. */
const MAX_BASIC = 8192;

function basicOf(header: string): string | undefined {
  const base64 = /^Basic +([A-Za-z0-9+/]+={0,2})$/i.exec(header.slice(0, MAX_BASIC).trim())?.[1];
  if (base64 === undefined) return undefined;
  const text = Buffer.from(base64, "base64").toString();
  const colon = text.indexOf(":");
  return text.slice(colon + 1) || text.slice(0, colon);
}

/** The middleware leaves the principal here for the handlers after it. */
const principals = new WeakMap<Request, Principal>();

/** The principal of a request; the anonymous one if no middleware has run. */
export function principalOf(c: Context): Principal {
  return principals.get(c.req.raw) ?? ANONYMOUS;
}

/** The owner of the jobs that this request starts or may see, another text for each key and subject; undefined where all are anonymous. */
export function ownerOf(c: Context): string | undefined {
  const { by, key = null, subject = null } = principalOf(c);
  return by === "nothing" ? undefined : JSON.stringify([key, subject]);
}

/** The credential that a path needs: none, one of any scope, or one with that scope. */
export type Access = "open" | "any" | Scope;

export interface GuardOptions {
  readonly authenticator: Authenticator;
  /** The credential that a path needs. An unknown path should need one. */
  readonly scopeOf: (path: string, method: string, c: Context) => Access;
  /** The model that would answer, or the names of those of which one would. */
  readonly model: string | readonly string[];
  /** True if a path takes Basic credentials; left out: none does. */
  readonly takesBasic?: (c: Context) => boolean;
  /** Writes a refusal as this path's transport does. */
  readonly refuse: (c: Context, failure: Failure) => Response;
}

/** Lets only those pass who may: 401 without a valid credential, 403 without the scope or the model. */
export function guard({ authenticator, scopeOf, model, takesBasic, refuse }: GuardOptions): MiddlewareHandler {
  const models = [model].flat();
  return async (c, next) => {
    const scope = scopeOf(c.req.path, c.req.method, c);
    if (scope === "open") return next();
    const isBasic = takesBasic?.(c) ?? false;
    const who = await authenticator.authenticate(credentialOf(c, isBasic));
    if (!("name" in who)) {
      const response = refuse(c, who);
      response.headers.set("WWW-Authenticate", `${isBasic ? "Basic" : "Bearer"} realm="daguerre"`);
      return response;
    }
    if (scope !== "any" && !who.scopes.includes(scope))
      return refuse(c, { status: 403, detail: `This credential lacks the scope '${scope}'` });
    if (scope !== "any" && scope !== "metrics" && !mayUseOne(who, models)) {
      const [only = ""] = models;
      const which = models.length > 1 ? "may use none of the models here" : `may not use the model '${only}'`;
      return refuse(c, { status: 403, detail: `This credential ${which}` });
    }
    principals.set(c.req.raw, who);
    return next();
  };
}

function mayUseOne({ models: own }: Principal, models: readonly string[]): boolean {
  return own === undefined || models.some((model) => own.includes(model));
}

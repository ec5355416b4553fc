/** `POST /auth/token`: a key gets a token for a browser. */
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import { z } from "zod";
import { parseJson, readBytes } from "../http/input.ts";
import { COMMON, failure } from "../openapi/describe.ts";
import type { Route } from "../route.ts";
import { type Authenticator, principalOf, SCOPES } from "./auth.ts";

/** The body of `POST /auth/token`: what the token is to be allowed less than the key. */
// Strict: a name that is misspelt and passed over would leave the token all rights of its key.
export const tokenRequestSchema = z.strictObject({
  scopes: z.array(z.enum(SCOPES)).optional(),
  models: z.array(z.string().max(256)).max(64).optional(),
  /** Seconds; at most what is configured. */
  seconds: z.int().min(1).max(86_400).optional(),
  subject: z
    .string()
    .regex(/^[\w.@-]{1,64}$/, "must be 1 to 64 letters, digits and . _ @ -")
    .optional()
    .describe("whom the token is for: tokens of one key and one subject own the same jobs; left out: a random one"),
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
    const request = tokenRequestSchema.parse(await readTokenRequest(c), { reportInput: true });
    return c.json(await authenticator.issueToken(principal, request), 200, { "Cache-Control": "no-store" });
  };
}

const answered = z.object({
  token: z.string(),
  expires_in: z.int().describe("seconds"),
  subject: z.string().describe("pass it on when you ask for the next token: that one then owns what this one starts"),
});

export function tokenRoutes(authenticator: Authenticator): Route[] {
  return [
    {
      method: "POST",
      path: "/auth/token",
      scope: "any",
      about: {
        tag: "server",
        summary: "A short-lived token for a browser, for a key",
        body: { schema: { name: "TokenRequest", schema: tokenRequestSchema }, optional: true },
        answers: {
          200: { description: "the token", schema: { name: "Token", schema: answered } },
          400: failure("not JSON"),
          404: failure("no tokens are made here"),
          413: failure("too long"),
          422: failure("fields at fault"),
          ...COMMON,
        },
      },
      handlers: [tokenRoute(authenticator)],
    },
  ];
}

/** The body may be left out. */
async function readTokenRequest(c: Context): Promise<unknown> {
  const body = await readBytes(c, { maxBodyBytes: TOKEN_BODY_BYTES });
  return body.length === 0 ? {} : parseJson(body);
}

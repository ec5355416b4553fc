/**
 * Signatures of webhooks, by the Standard Webhooks specification (https://www.standardwebhooks.com): `webhook-id`,
 * `webhook-timestamp` and `webhook-signature`, an HMAC-SHA256 of the id, the time and the body. While a secret is replaced
 * by another there are two, and each signs: the header then holds two signatures.
 */
import { createHmac } from "node:crypto";
import { slice } from "../../src/platform/turns.ts";
import type { JsonText } from "../wire/json-text.ts";

/** Bytes that a secret may have. */
const SECRET_BYTES = { min: 24, max: 64 };
const PREFIX = "whsec_";

/** The bytes of a secret, `whsec_` and base64; undefined for a text that is none. */
export function webhookSecret(text: string): Buffer | undefined {
  const base64 = text.startsWith(PREFIX) ? text.slice(PREFIX.length) : "";
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return undefined;
  const bytes = Buffer.from(base64, "base64");
  const { min, max } = SECRET_BYTES;
  return bytes.length >= min && bytes.length <= max ? bytes : undefined;
}

/** A webhook as it is sent: its id is the same at every try. */
export interface WebhookMessage {
  readonly id: string;
  readonly body: string | JsonText;
  /** The secrets that sign it; none: it has no signature. */
  readonly secrets: readonly string[];
}

/** The headers of one try at `now`, in milliseconds since the epoch. The body is read through once for each secret. */
export async function webhookHeaders(
  { id, body, secrets }: WebhookMessage,
  now: number,
): Promise<Record<string, string>> {
  const timestamp = String(Math.floor(now / 1000));
  const headers = { "webhook-id": id, "webhook-timestamp": timestamp };
  const signatures: string[] = [];
  for (const secret of secrets.flatMap((text) => webhookSecret(text) ?? [])) {
    const hmac = createHmac("sha256", secret).update(`${id}.${timestamp}.`);
    for (const chunk of typeof body === "string" ? [body] : body) {
      await slice();
      hmac.update(chunk);
    }
    signatures.push(`v1,${hmac.digest("base64")}`);
  }
  return signatures.length === 0 ? headers : { ...headers, "webhook-signature": signatures.join(" ") };
}

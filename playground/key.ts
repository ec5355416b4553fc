/**
 * The key that a server may want. It is asked for when the server has refused without one, kept until the tab is closed,
 * and sent to this server alone. A WebSocket carries no headers, so for it the key is changed into a token of minutes.
 */

export interface Key {
  /** The headers of a request. */
  headers(): Record<string, string>;
  /** For an address; undefined where there is no key, or the server makes no tokens. */
  token(): Promise<string | undefined>;
  /** Shows the field, and whether the server has refused what is in it. */
  ask(): void;
}

const STORED = "daguerre-key";

/**
 * @param field where the key is typed; hidden until it is asked for
 * @param tokens the address that makes tokens of keys
 */
export function wireKey(field: HTMLInputElement, tokens: URL): Key {
  const part = field.closest<HTMLElement>(".field")!;
  try {
    field.value = sessionStorage.getItem(STORED) ?? "";
  } catch {
    // Storage may be forbidden; then the key is typed again after a reload.
  }
  part.hidden = field.value === "";
  field.addEventListener("change", () => {
    try {
      sessionStorage.setItem(STORED, field.value);
    } catch {
      // As above.
    }
  });
  const headers = (): Record<string, string> =>
    field.value.trim() === "" ? {} : { authorization: `Bearer ${field.value.trim()}` };

  /** Whom the tokens are for: with one subject, a later token may take up the session of an earlier one. */
  let subject: string | undefined;

  return {
    headers,
    async token() {
      if (field.value.trim() === "") return undefined;
      const response = await fetch(tokens, {
        method: "POST",
        headers: { ...headers(), "content-type": "application/json" },
        body: JSON.stringify({ scopes: ["realtime"], subject }),
      });
      if (!response.ok) return undefined;
      const answer = (await response.json()) as { token?: unknown; subject?: unknown };
      if (typeof answer.subject === "string") subject = answer.subject;
      const { token } = answer;
      return typeof token === "string" ? token : undefined;
    },
    ask() {
      part.hidden = false;
    },
  };
}

/** The errors that a hub answers with, in words that say what to do. */
import { quoted } from "../platform/quoted.ts";
import { HubError } from "./errors.ts";

export interface Circumstances {
  /** The address that was asked for, before redirects. */
  readonly url: URL;
  /** Seconds that the answer asks to wait. */
  readonly asked: number | undefined;
  readonly hasToken: boolean;
}

/** Bytes of an error's text that are read. */
const LONGEST_TEXT = 4096;

/**
 * An answer of 400 or more as an error. The hub says more in `X-Error-Code` (`GatedRepo`, `RepoNotFound`,
 * `RevisionNotFound`, `EntryNotFound`) and `X-Error-Message` than by the status: it answers 401 to those without a token
 * for what does not exist, so that nobody learns which private models there are.
 */
export async function refusalOf(response: Response, about: Circumstances): Promise<HubError> {
  const { status, headers } = response;
  const code = headers.get("x-error-code");
  const said = headers.get("x-error-message") ?? (await textOf(response));
  const { url, asked, hasToken } = about;
  const asking = subjectOf(url);
  const tokens = `${url.origin}/settings/tokens`;
  if (status === 429) {
    const wait = asked === undefined ? "some minutes" : `${asked} s`;
    const more = hasToken ? "" : "; with a token in HF_TOKEN it allows more";
    return new HubError("rate-limit", `${url.host} allows no more requests for now: try again in ${wait}${more}`);
  }
  if (status >= 500) {
    return new HubError(
      "unreachable",
      `${url.host} answered ${status} each time: it has a fault, or is overloaded; try later`,
    );
  }
  if (code === "GatedRepo") {
    const first = `${asking.name} is gated: open ${asking.page} in a browser and accept its terms`;
    return hasToken
      ? new HubError("no-access", `${first} with the account of the token; its authors may have to approve`)
      : new HubError("no-access", `${first}, then set HF_TOKEN to a token of that account (${tokens})`);
  }
  if (/disabled/i.test(said)) return new HubError("no-access", `${asking.name} was disabled by ${url.host}`);
  if (code === "RevisionNotFound") {
    return new HubError("not-found", `${asking.name} has no such revision: ${asking.page}/refs lists them`);
  }
  if (code === "EntryNotFound") return new HubError("not-found", `${asking.name} has no such file`);
  if (status === 401 && (hasToken ? code !== "RepoNotFound" : /invalid (?:credentials|token)/i.test(said))) {
    return new HubError("no-access", `the token was refused: set HF_TOKEN to a valid one (${tokens})`);
  }
  if (status === 401 || code === "RepoNotFound" || (status === 404 && asking.isModel)) {
    const does = hasToken
      ? "set HF_TOKEN to a token that may read it"
      : "set HF_TOKEN to a token of an account that may read it";
    return new HubError(
      "not-found",
      `${url.host} has no model ${quoted(asking.name)}, or it is private: check the name, or ${does}`,
    );
  }
  if (status === 403) {
    const reason = said === "" ? "" : ` (${quoted(said)})`;
    return new HubError("no-access", `${asking.name} may not be read${reason}: the token needs the right to read it`);
  }
  if (status === 404 || status === 410) return new HubError("not-found", `${url.host} has no such file`);
  return new HubError("bad-answer", `${url.host} answered ${status}${said === "" ? "" : ` (${quoted(said)})`}`);
}

/** The model that an address of the hub is about, and its page. */
function subjectOf(url: URL): { name: string; page: string; isModel: boolean } {
  const found = /^(.*?)(?:\/api\/models)?\/([^/]+\/[^/]+)\/(?:revision|tree|resolve)\//.exec(url.pathname);
  if (found === null) return { name: url.host, page: url.origin, isModel: false };
  const name = decodeURIComponent(found[2]!);
  return { name, page: `${url.origin}${found[1]}/${name}`, isModel: true };
}

async function textOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response.body ?? []) {
      chunks.push(chunk as Uint8Array);
      if ((bytes += (chunk as Uint8Array).byteLength) > LONGEST_TEXT) break;
    }
  } catch {
    // The rest of it would have said no more.
  }
  const text = Buffer.concat(chunks).subarray(0, LONGEST_TEXT).toString("utf8").trim();
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === "string" ? error : "";
  } catch {
    return /^\s*</.test(text) ? "" : text.split("\n")[0]!.trim();
  }
}

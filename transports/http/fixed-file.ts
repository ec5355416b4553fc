/**
 * Files that stay the same while the server runs. Each is compressed once, and answered in the encoding that the client
 * accepts. Every encoding is a representation with a tag of its own (RFC 9110, sections 8.8.3 and 12.5.3).
 */
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { brotliCompress, gzip, constants as zlib } from "node:zlib";
import type { Context } from "hono";
import { accepts } from "hono/accepts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Brotli's effort: more takes ten times as long and saves a twentieth. */
const BROTLI = { params: { [zlib.BROTLI_PARAM_QUALITY]: 5, [zlib.BROTLI_PARAM_MODE]: zlib.BROTLI_MODE_TEXT } };

/** In the order of preference, for a client to which they are the same. */
const ENCODINGS = ["br", "gzip", "identity"] as const;
type Encoding = (typeof ENCODINGS)[number];

interface Representation {
  readonly bytes: Bytes;
  readonly headers: Readonly<Record<string, string>>;
}

export class FixedFile {
  private constructor(private readonly representations: ReadonlyMap<Encoding, Representation>) {}

  /** @param headers of every answer; `Vary` gets the encoding added */
  static async of(content: Bytes, headers: Readonly<Record<string, string>>): Promise<FixedFile> {
    const [br, gz] = await Promise.all([promisify(brotliCompress)(content, BROTLI), promisify(gzip)(content)]);
    const hash = createHash("sha256").update(content).digest("base64url").slice(0, 16);
    const vary = headers.Vary === undefined ? "Accept-Encoding" : `${headers.Vary}, Accept-Encoding`;
    const plain = { ...headers, Vary: vary, ETag: `"${hash}"` };
    const representations = new Map<Encoding, Representation>([["identity", { bytes: content, headers: plain }]]);
    for (const [encoding, bytes] of [["br", br] as const, ["gzip", gz] as const]) {
      if (bytes.length >= content.length) continue;
      representations.set(encoding, {
        bytes: new Uint8Array(bytes),
        headers: { ...plain, ETag: `"${hash}-${encoding}"`, "Content-Encoding": encoding },
      });
    }
    return new FixedFile(representations);
  }

  /** The file, or 304 if the client has this representation of it. */
  answer(c: Context): Response {
    const { bytes, headers } = this.representations.get(this.encodingFor(c))!;
    if (!isCurrent(c.req.header("if-none-match"), headers.ETag ?? "")) {
      return new Response(bytes, { headers: { ...headers, "Content-Length": String(bytes.length) } });
    }
    const { "Content-Encoding": _, "Content-Type": __, ...kept } = headers;
    return new Response(null, { status: 304, headers: kept });
  }

  private encodingFor(c: Context): Encoding {
    const supports = ENCODINGS.filter((encoding) => this.representations.has(encoding));
    return accepts(c, {
      header: "Accept-Encoding",
      supports,
      default: "identity",
      match(preferences) {
        const quality = (name: string) => preferences.find(({ type }) => type.toLowerCase() === name)?.q;
        // A client that does not name `identity` takes it, but rather has what it names.
        const wish = (name: Encoding) => quality(name) ?? quality("*") ?? (name === "identity" ? Number.MIN_VALUE : 0);
        return supports.reduce((best, next) => (wish(next) > wish(best) ? next : best));
      },
    }) as Encoding;
  }
}

/** A proxy may have made the tag a weak one. */
function isCurrent(ifNoneMatch: string | undefined, etag: string): boolean {
  const tags = ifNoneMatch?.split(",").map((tag) => tag.trim().replace(/^W\//, "")) ?? [];
  return tags.includes(etag) || tags.includes("*");
}

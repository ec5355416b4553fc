/** A body of `multipart/form-data` (RFC 7578): its fields in their order, files as bytes. */
import { Busboy, type BusboyHeaders } from "@fastify/busboy";
import type { Context } from "hono";
import { ByteCollector } from "./byte-collector.ts";
import { type BodyOptions, readBody } from "./input.ts";
import { MessageError } from "./message.ts";

/** A form has some twenty fields; a picture or two among them. */
const FORM_BOUNDS = { parts: 256, files: 32, fieldSize: 64 * 1024, headerPairs: 32, headerSize: 8 * 1024 };

export type FormField = readonly [name: string, value: string | Uint8Array];

/**
 * @throws MessageError 400 for a body that is no form, 413 for a form that holds too much
 * @throws the errors of `readBody`
 */
export async function readForm(c: Context, options: BodyOptions): Promise<FormField[]> {
  const malformed = () => new MessageError("The body is not a multipart/form-data form");
  const type = c.req.header("content-type") ?? "";
  if (!/^multipart\/form-data\b/i.test(type)) throw malformed();
  const [, quoted, bare = ""] = /;\s*boundary=(?:"([^"]*)"|([^;\s]*))/i.exec(type) ?? [];
  const delimiter = `--${quoted ?? bare}`;
  if (delimiter === "--") throw malformed();
  let delimiters = 0;
  const fields: FormField[] = [];
  const files = new Map<number, ByteCollector>();
  let fault: MessageError | undefined;
  const tooMany = (what: string) => {
    fault ??= new MessageError(`The form holds more ${what} than it may`, 413);
  };
  let form: InstanceType<typeof Busboy>;
  try {
    form = new Busboy({ headers: { "content-type": type } as BusboyHeaders, limits: FORM_BOUNDS });
  } catch {
    throw malformed();
  }
  const finished = new Promise<void>((resolve) => {
    form.once("finish", resolve).once("close", resolve);
  });
  form
    .on("field", (name: string, value: string, _: boolean, truncated: boolean) => {
      if (truncated) tooMany(`bytes in '${name.slice(0, 64)}'`);
      fields.push([name, value]);
    })
    .on("file", (name: string, file: NodeJS.ReadableStream) => {
      const bytes = new ByteCollector(0);
      const place = fields.push([name, ""]) - 1;
      files.set(place, bytes);
      file.on("data", (part: Buffer) => bytes.add(part));
      // A form that ends in the middle of a file says so at the file, too.
      file.on("error", () => {
        fault ??= malformed();
      });
    })
    .on("filesLimit", () => tooMany("files"))
    .on("error", () => {
      fault ??= malformed();
    });
  await readBody(c, options, async (part) => {
    const bytes = Buffer.from(part.buffer, part.byteOffset, part.byteLength);
    // A form may be nothing but ends of parts, which take long for their bytes; so they are counted first.
    for (let at = bytes.indexOf(delimiter); at >= 0; at = bytes.indexOf(delimiter, at + delimiter.length)) {
      if (++delimiters > FORM_BOUNDS.parts) tooMany("parts");
      if (fault !== undefined) throw fault;
    }
    if (fault !== undefined) throw fault;
    if (!form.write(bytes) && fault === undefined) {
      await new Promise<void>((resolve) => form.once("drain", resolve).once("error", () => resolve()));
    }
  });
  form.end();
  if (fault === undefined) await finished;
  if (fault !== undefined) throw fault;
  return fields.map(([name, value], place) => [name, files.get(place)?.bytes() ?? value]);
}

/** The types of a request's fields that JSON has not. */
import { z } from "zod";
import { fromBase64 } from "../platform/base64.ts";
import { Base64Text } from "./base64-text.ts";
import { LIMITS } from "./limits.ts";

/** Pixels of a side. */
export const side = z.int().min(LIMITS.minSide).max(LIMITS.maxSide).multipleOf(LIMITS.sideMultiple);

/** Ids travel in headers, so they are of plain visible characters. A number is its decimal text. */
const idText = z
  .string()
  .min(1)
  // The pattern of a long one would be looked for in all of it.
  .max(LIMITS.idCharacters, { abort: true })
  .regex(/^[\w.:-]*$/, "may hold letters, digits and . _ : -");
export const id = z
  .union([z.string(), z.number(), z.bigint()], { error: "must be a text, or a whole number" })
  .transform((value, ctx): string => {
    // A larger one has lost its last digits on the way, and would be another client's.
    if (typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER)
      ctx.addIssue({ code: "custom", message: "must be sent as text if it is a number beyond 2^53 - 1" });
    return String(value);
  })
  .pipe(idText);

const SEED_MESSAGE = "must be a whole number from 0 to 2^53 - 1, or a decimal string up to 2^64 - 1";
/** A seed: a bigint only where it is too large for a number. */
export const seed = z
  .union([z.int().min(0), z.bigint().min(0n).max(LIMITS.seed), z.string().regex(/^\d{1,20}$/)], { error: SEED_MESSAGE })
  .transform((value, ctx): number | bigint => {
    if (typeof value === "number") return value;
    const exact = BigInt(value);
    if (exact > LIMITS.seed) ctx.addIssue({ code: "custom", message: SEED_MESSAGE });
    return exact <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(exact) : exact;
  });

const IMAGE_MESSAGE =
  "must be a data URI (data:image/png;base64,…) or base64 without that head; addresses are not fetched";
const DATA_URI = /^data:image\/[\w.+-]{1,40};base64,/;
const BASE64 = /^[A-Za-z0-9+/\s]+={0,2}\s*$/;
/** An encoded picture: bytes, a data URI, or its base64. */
export const picture = z
  .union([z.custom<Uint8Array>((value) => value instanceof Uint8Array), z.string(), z.instanceof(Base64Text)], {
    error: IMAGE_MESSAGE,
  })
  .transform((value, ctx): Uint8Array => {
    const refuse = (message: string) => {
      ctx.addIssue({ code: "custom", message });
      return new Uint8Array();
    };
    const tooLarge = `must be at most ${LIMITS.imageBytes} bytes`;
    if (typeof value !== "string") {
      const { head, bytes } = value instanceof Base64Text ? value : { head: "", bytes: value };
      if (head !== "" && !DATA_URI.test(head)) return refuse(IMAGE_MESSAGE);
      return bytes.byteLength > LIMITS.imageBytes ? refuse(tooLarge) : bytes;
    }
    const head = DATA_URI.exec(value.slice(0, 80))?.[0] ?? "";
    if (head === "" && !BASE64.test(value.slice(0, 1024))) return refuse(IMAGE_MESSAGE);
    // Four characters of base64 carry three bytes: refuse before decoding.
    if ((value.length - head.length) * 0.75 > LIMITS.imageBytes + 2) return refuse(tooLarge);
    const bytes = fromBase64(value.slice(head.length));
    return bytes.byteLength > LIMITS.imageBytes ? refuse(tooLarge) : bytes;
  });
/** Up to `count` numbers from 0 to `most`; in a query or a flag with commas between them. */
export function numbers(most: number, count: number) {
  const list = z.array(z.number().min(0).max(most)).min(1).max(count);
  const text = z
    .string()
    .max(count * 24)
    .regex(/^[\d.,eE+\s-]*$/, "must be numbers with commas between them")
    .transform((value) => value.split(",").map(Number))
    .pipe(list);
  return z.union([list, text], { error: `must be up to ${count} numbers from 0 to ${most}` });
}

/** Pixels on each side of a picture, as `{"left": 128}`; in a query or a flag `left,top,right,bottom`. */
export const margins = (() => {
  const margin = z.int().min(0).max(LIMITS.outpaint).default(0);
  const all = z.object({ left: margin, top: margin, right: margin, bottom: margin });
  const text = z
    .string()
    .max(64)
    .regex(/^\s*\d+(\s*,\s*\d+){3}\s*$/, "must be four numbers with commas between them")
    .transform((value): z.input<typeof all> => {
      const [left, top, right, bottom] = value.split(",").map(Number) as [number, number, number, number];
      return { left, top, right, bottom };
    })
    .pipe(all);
  return z.union([all, text], {
    error: `must be {left, top, right, bottom}, each a whole number from 0 to ${LIMITS.outpaint}`,
  });
})();

/** Two whole numbers, as `1024,768` in a query or a flag. */
export function sizes(most: number) {
  const pair = z.tuple([z.int().min(0).max(most), z.int().min(0).max(most)]);
  const text = z
    .string()
    .max(32)
    .regex(/^\s*\d+\s*[,x]\s*\d+\s*$/, "must be two numbers with a comma between them")
    .transform((value) => value.split(/[,x]/).map(Number))
    .pipe(pair);
  return z.union([pair, text], { error: `must be two whole numbers from 0 to ${most}` });
}

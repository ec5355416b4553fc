/** `image_size`: how clients of fal say a size. Its names, and their pixels, are those of fal's own models. */
import { z } from "zod";

const NAMED_SIZES = {
  square_hd: { width: 1024, height: 1024 },
  square: { width: 512, height: 512 },
  portrait_4_3: { width: 768, height: 1024 },
  portrait_16_9: { width: 576, height: 1024 },
  landscape_4_3: { width: 1024, height: 768 },
  landscape_16_9: { width: 1024, height: 576 },
} as const;
type SizeName = keyof typeof NAMED_SIZES;
const NAMES = Object.keys(NAMED_SIZES) as [SizeName, ...SizeName[]];

/** Pixels of a side. */
interface SideBounds {
  readonly minSide: number;
  readonly maxSide: number;
  readonly sideMultiple: number;
}

/** @param side the rule that width and height obey */
export function imageSizeSchema(side: z.ZodType<number, number>, { minSide, maxSide, sideMultiple }: SideBounds) {
  const pixels = `in pixels, each a multiple of ${sideMultiple} from ${minSide} to ${maxSide}`;
  const error = `must be {width, height} ${pixels}, or one of ${NAMES.join(", ")}`;
  return z.union([z.enum(NAMES), z.object({ width: side, height: side })], { error });
}

/** The width and the height of an `image_size`, in pixels. */
export function sizeOf(imageSize: SizeName | { readonly width: number; readonly height: number }) {
  return typeof imageSize === "string" ? NAMED_SIZES[imageSize] : imageSize;
}

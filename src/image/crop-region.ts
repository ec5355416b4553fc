/** The part of a picture around a mask that is drawn by itself ("only masked"). */

import type { Size } from "./decode.ts";
import type { Region } from "./mask.ts";

interface Span {
  readonly first: number;
  readonly count: number;
}

/**
 * The mask's bounds and `padding` pixels around them, as far as the picture goes, grown to a ratio of width to height as far
 * as that is possible (diffusers' `get_crop_region`).
 * @param ratio left out: as it is
 */
export function croppedTo(bounds: Region, padding: number, { width, height }: Size, ratio?: number): Region {
  let across = around({ first: bounds.left, count: bounds.width }, bounds.width + 2 * padding, width, "cut");
  let down = around({ first: bounds.top, count: bounds.height }, bounds.height + 2 * padding, height, "cut");
  if (ratio !== undefined) {
    if (across.count / down.count > ratio) down = around(down, Math.trunc(across.count / ratio), height, "move");
    else across = around(across, Math.trunc(down.count * ratio), width, "move");
  }
  return { left: across.first, top: down.first, width: across.count, height: down.count };
}

/** A span of `count` about another's middle, within 0 to `most`: what lies outside is cut off, or it is moved inside. */
function around({ first, count: own }: Span, count: number, most: number, outside: "cut" | "move"): Span {
  const begin = first - Math.floor((count - own) / 2);
  if (outside === "cut") {
    const inside = Math.max(begin, 0);
    return { first: inside, count: Math.min(begin + count, most) - inside };
  }
  if (count >= most) return { first: 0, count: most };
  return { first: Math.min(Math.max(begin, 0), most - count), count };
}

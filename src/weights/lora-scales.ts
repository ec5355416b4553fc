/**
 * How strongly an adapter counts in each component of a model and in each block of its UNet.
 *
 * Blocks are named as diffusers' `set_adapters` names them (`{"down": {"block_1": [0.5, 1]}, "mid": 0}`), or are a list of the
 * web UI's extension for block weights: BASE for the text encoders, then the blocks in Stability's numbering.
 */

import { type LoraComponent, sgmBlock } from "./lora-names.ts";

/** One number for a side of the UNet, or numbers of its blocks `block_0`, `block_1`, …, or of the layers of a block. */
export type SideScales = number | Readonly<Record<string, number | readonly number[]>>;

export interface NamedBlockScales {
  readonly down?: SideScales | undefined;
  readonly mid?: number | undefined;
  readonly up?: SideScales | undefined;
}

export type BlockScales = NamedBlockScales | readonly number[];

export interface LoraScales {
  /** The scale of components that have none of their own. */
  readonly scale: number;
  readonly unet?: number | undefined;
  readonly text_encoder?: number | undefined;
  readonly text_encoder_2?: number | undefined;
  /** Multiply the UNet's; what they leave out is 1. */
  readonly blocks?: BlockScales | undefined;
}

const places = (side: string, first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, at) => `${side}${String(first + at).padStart(2, "0")}`);
const some = (side: string, numbers: readonly number[]) => numbers.flatMap((at) => places(side, at, at));

/** Lists by their length: those of blocks with attention, and those of all blocks, of SDXL and of SD 1.x and 2.x. */
const LISTS: ReadonlyMap<number, readonly string[]> = new Map(
  [
    ["BASE", ...some("IN", [4, 5, 7, 8]), "M00", ...places("OUT", 0, 5)],
    ["BASE", ...some("IN", [1, 2, 4, 5, 7, 8]), "M00", ...places("OUT", 3, 11)],
    ["BASE", ...places("IN", 0, 8), "M00", ...places("OUT", 0, 8)],
    ["BASE", ...places("IN", 0, 11), "M00", ...places("OUT", 0, 11)],
  ].map((list) => [list.length, list]),
);

/** Lengths of the lists that the web UI's extension has. */
export const BLOCK_LIST_LENGTHS: readonly number[] = [...LISTS.keys()].sort((a, b) => a - b);

/**
 * How strongly an adapter counts in a module.
 * @param layersPerBlock of the UNet
 */
export function scaleOf(
  { scale, blocks, ...components }: LoraScales,
  component: LoraComponent,
  module: string,
  layersPerBlock: number,
): number {
  const own = components[component] ?? scale;
  if (blocks === undefined) return own;
  if (isList(blocks)) return own * ofList(blocks, component === "unet" ? sgmBlock(module, layersPerBlock) : "BASE");
  return component === "unet" ? own * ofBlock(blocks, module) : own;
}

function isList(blocks: BlockScales): blocks is readonly number[] {
  return Array.isArray(blocks);
}

function ofList(list: readonly number[], block: string | undefined): number {
  const at = block === undefined ? -1 : (LISTS.get(list.length)?.indexOf(block) ?? -1);
  return list[at] ?? 1;
}

function ofBlock({ down, mid, up }: NamedBlockScales, module: string): number {
  const match =
    /^(?:(down|up)_blocks\.(\d+)\.(?:attentions|resnets)\.(\d+)|(?:(down|up)_blocks\.(\d+)|mid_block))\./.exec(module);
  if (match === null) return 1;
  const [, inLayer, blockOfLayer, layer, inBlock, block] = match;
  const side = inLayer ?? inBlock;
  if (side === undefined) return mid ?? 1;
  const scales = side === "down" ? down : up;
  if (typeof scales !== "object") return scales ?? 1;
  const own = scales[`block_${blockOfLayer ?? block}`];
  if (typeof own !== "object") return own ?? 1;
  return (layer === undefined ? undefined : own[Number(layer)]) ?? 1;
}

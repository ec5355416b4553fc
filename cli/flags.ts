/** The texts of the command line become values: one small parser for each kind of flag, each with its own complaint. */
import path from "node:path";
import { InvalidArgumentError } from "commander";
import type { AdapterChoice } from "../src/gpu/drivers/adapter.ts";
import type { PictureFormat } from "../src/image/encode.ts";

/** Any number; what it may be is for the request's schema to say. */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new InvalidArgumentError("It must be a number.");
  return value;
}

/** `512x768`: pixels across and down. */
export function size(text: string): { width: number; height: number } {
  const match = /^(\d+)x(\d+)$/i.exec(text);
  if (match === null) throw new InvalidArgumentError("A size is WIDTHxHEIGHT in pixels, as 512x768.");
  return { width: Number(match[1]), height: Number(match[2]) };
}

/** Bytes: `6442450944`, `512MiB`, `6GiB`, `1.5GiB`. */
export function bytes(text: string): number {
  const value = parseBytes(text);
  if (value === undefined) throw new InvalidArgumentError("An amount of memory is bytes, or as 512MiB or 6GiB.");
  return value;
}

/** Undefined for what is no amount. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?(|[KMG]iB?|[KMG]B?)$/i.exec(text.trim());
  if (match === null) return undefined;
  const unit = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }[match[2]!.slice(0, 1).toLowerCase()]!;
  return Math.floor(Number(match[1]) * unit);
}

/** A LoRA of a command line. */
export interface LoraFlag {
  readonly path: string;
  readonly scale: number;
  readonly unet?: number;
}

/** `FILE`, `FILE:0.8`, or `FILE:0.8:0.5` with another scale for the UNet, added to those given before. */
export function lora(text: string, before: readonly LoraFlag[] = []): LoraFlag[] {
  const [, path = text, scale = "1", unet] = /^(.+?)(?::(-?\d*\.?\d+))?(?::(-?\d*\.?\d+))?$/.exec(text) ?? [];
  return [...before, { path, scale: Number(scale), ...(unet !== undefined && { unet: Number(unet) }) }];
}

/** `auto`, `hardware`, `software`, or part of an adapter's name. */
export function adapter(text: string): AdapterChoice {
  if (text === "auto" || text === "hardware" || text === "software") return { prefer: text };
  return { name: text };
}

/** A picture file to write; its ending says the format. */
export function pictureFile(text: string): { file: string; format: PictureFormat } {
  switch (path.extname(text).toLowerCase()) {
    case ".png":
      return { file: text, format: "png" };
    case ".jpg":
    case ".jpeg":
      return { file: text, format: "jpeg" };
    case ".webp":
      return { file: text, format: "webp" };
    default:
      throw new InvalidArgumentError("A picture's name ends in .png, .jpg or .webp.");
  }
}

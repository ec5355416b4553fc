/**
 * The networks beside the denoiser in a folder of this machine: folders in diffusers' layout, and single files. A name is
 * looked up in a list of what there is; it never becomes a path. A network is opened once, and anew when its file changes.
 */

import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import type { ControlNetwork, ControlPicture, ControlUse } from "../diffusion/control.ts";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
import type { Size, TargetSize } from "../image/decode.ts";
import { ImageError } from "../image/errors.ts";
import { ModelConfigError } from "../models/config.ts";
import { fileVersion } from "../platform/file-version.ts";
import { fileTree } from "../platform/folder-tree.ts";
import { pathKind } from "../platform/path-kind.ts";
import { listed, quoted } from "../platform/quoted.ts";
import { WeightsError } from "../weights/errors.ts";
import { UNION_MODES } from "./control-fields.ts";
import { RequestError } from "./errors.ts";
import { nearest } from "./near-names.ts";
import type { GenerationRequest } from "./request.ts";

/** As many as anybody has collected. */
const BOUNDS = { depth: 8, entries: 10_000 };
const ENDING = /\.(?:safetensors|sft|ckpt|pth|bin)$/i;
const CONFIG = "config.json";
/** The name of folders with an encoder of pictures, as IP-Adapter's authors have it. */
const ENCODER = "image_encoder";
/** Names that an error shows. */
const MOST_SHOWN = 5;
/** A picture whose proportions differ by more is not stretched: it is most likely another's, or broken. */
const MOST_STRETCH = 4;

type Entry = GenerationRequest["control"][number];

/** @throws WeightsError "model-location" if the folder whose networks are to be offered is none */
export async function checkControlFolder(folder: string | undefined): Promise<void> {
  if (folder === undefined || (await pathKind(folder)) === "folder") return;
  const reason = (await pathKind(folder)) === "absent" ? "there is no such folder" : "is no folder";
  throw new WeightsError("model-location", `control_dir ${quoted(folder)}: ${reason}`);
}

export class ControlFolder {
  readonly #folder: string;
  /** By name: the network, as long as its file is the same. */
  readonly #opened = new Map<string, { readonly version: string; readonly network: Promise<ControlNetwork> }>();
  #count = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Names that a request may have, sorted. */
  async names(): Promise<string[]> {
    return [...(await this.#listing()).paths.keys()].sort();
  }

  /** @throws RequestError naming the field of the entry at fault */
  async uses(
    { family }: Pick<LoadedModel, "family">,
    { control, ip_adapter: references }: Pick<GenerationRequest, "control" | "ip_adapter">,
    size: Size,
  ): Promise<ControlUse[]> {
    const listing = await this.#listing();
    const uses: ControlUse[] = [];
    for (const [index, entry] of control.entries()) {
      const field = `control.${index}`;
      const network = await this.#find(family, listing, entry.name, field);
      if (network.readsAnySize) throw new RequestError(`${field}.name`, "is an IP-Adapter; name it in ip_adapter");
      const { scale, start, end, guess_mode: isGuess, preprocess } = entry;
      const mode = modeOf(entry, network, field);
      const picture = await controlPicture(entry.image, `${field}.image`, size);
      uses.push({ field, network, picture, preprocess, scale, start, end, mode, isGuess });
    }
    for (const [index, { name, image, ...numbers }] of references.entries()) {
      const field = `ip_adapter.${index}`;
      const network = await this.#find(family, listing, name, field);
      if (!network.readsAnySize) throw new RequestError(`${field}.name`, `is ${network.title}; name it in control`);
      uses.push({ field, network, picture: await controlPicture(image, `${field}.image`), ...numbers });
    }
    return uses;
  }

  /** @throws RequestError if there is none of this name, or it is not for this model */
  async #find(family: LoadedModel["family"], listing: Listing, name: string, field: string): Promise<ControlNetwork> {
    const { paths } = listing;
    const own = [name, name.replace(ENDING, "")].find((one) => paths.has(one));
    if (own === undefined) throw new RequestError(`${field}.name`, unknown(name, [...paths.keys()]));
    try {
      return await this.#open(family, own, listing);
    } catch (error) {
      const isAbout = error instanceof WeightsError || error instanceof ModelConfigError;
      throw isAbout ? new RequestError(`${field}.name`, error.message) : error;
    }
  }

  async #listing(): Promise<Listing> {
    const { files } = await fileTree(this.#folder, BOUNDS).catch(() => {
      throw new RequestError("control", "the server's folder of control networks cannot be read");
    });
    const configs = files.filter((file) => basename(file) === CONFIG && file !== CONFIG);
    const folders = configs.map((file) => file.slice(0, -CONFIG.length - 1));
    const isEncoder = (folder: string) => basename(folder) === ENCODER;
    const paths = new Map(folders.filter((folder) => !isEncoder(folder)).map((folder) => [folder, folder]));
    for (const file of files) {
      const name = file.replace(ENDING, "");
      const isInside = folders.some((folder) => file.startsWith(`${folder}/`));
      if (ENDING.test(file) && !isInside && !paths.has(name)) paths.set(name, file);
    }
    return { paths, encoders: folders.filter(isEncoder) };
  }

  async #open(family: LoadedModel["family"], name: string, { paths, encoders }: Listing): Promise<ControlNetwork> {
    if (family.openControl === undefined) throw new WeightsError("model-class", "this model has no control networks");
    const path = paths.get(name)!;
    const file = join(this.#folder, path);
    const version = await versionOf(file);
    const known = this.#opened.get(path);
    if (known?.version === version) return known.network;
    // The nearest first; many adapters share one.
    const near = encoders.toSorted(
      (one, other) => shared(other, path) - shared(one, path) || one.length - other.length,
    );
    const folders = near.map((folder) => ({ id: `image encoder (${folder})`, source: join(this.#folder, folder) }));
    // Never the id of one that was there before: its weights may still be on the device.
    const network = family.openControl(file, `control ${++this.#count} (${name})`, folders);
    this.#opened.set(path, { version, network });
    network.catch(() => this.#opened.delete(path));
    return network;
  }
}

/** The networks and encoders in a folder. */
interface Listing {
  /** Paths below the folder by name: of folders with a configuration, and of files that lie in none. */
  readonly paths: ReadonlyMap<string, string>;
  /** Folders of encoders of pictures. */
  readonly encoders: readonly string[];
}

/** Folders that two paths begin with alike. */
function shared(one: string, other: string): number {
  const [parts, others] = [one.split("/"), other.split("/")];
  const first = parts.findIndex((part, at) => part !== others[at]);
  return first < 0 ? parts.length : first;
}

/** Tells a network from what was there before under its name. */
async function versionOf(path: string): Promise<string> {
  const { bytes, writtenAt } = await fileVersion((await pathKind(path)) === "folder" ? join(path, CONFIG) : path);
  return `${bytes} ${writtenAt}`;
}

function unknown(name: string, names: readonly string[]): string {
  const offered =
    names.length === 0 ? "its folder has none" : `it offers ${listed(nearest(name, names).map(quoted), MOST_SHOWN)}`;
  return `${quoted(name)} is not a control network of this server; ${offered}`;
}

/** The number of the kind of an entry's picture. @throws RequestError if the network does not know it */
function modeOf({ mode }: Entry, { modes, title }: ControlNetwork, field: string): number | undefined {
  if (modes === undefined) {
    if (mode === undefined) return undefined;
    throw new RequestError(`${field}.mode`, `is for a ControlNet of several kinds, and this is ${title}; leave it out`);
  }
  const number = typeof mode === "string" ? UNION_MODES.indexOf(mode) : mode;
  if (number !== undefined && number < modes) return number;
  const kinds = UNION_MODES.slice(0, modes).join(", ");
  const reason =
    mode === undefined ? "is needed for a ControlNet of several kinds" : "is none of this ControlNet's kinds";
  throw new RequestError(`${field}.mode`, `${reason}: ${kinds}, or a number from 0 to ${modes - 1}`);
}

/** Pixels of the longer side of a picture that keeps its own size. */
const LONGEST_SIDE = 2048;

/** A picture as a network reads it: stretched to `size`, or of its own size. @throws RequestError naming `field` */
export async function controlPicture(bytes: Uint8Array, field: string, size?: Size): Promise<ControlPicture> {
  const { decodePicture } = await import("../image/decode.ts");
  const refuse = (reason: string) => new RequestError(field, reason);
  try {
    const resize = (own: Size): TargetSize => {
      const ratio = own.width / own.height;
      const factor = size === undefined ? ratio : (ratio * size.height) / size.width;
      if (Math.max(factor, 1 / factor) > MOST_STRETCH) {
        const wanted = size === undefined ? "a square" : `the ${size.width}x${size.height} of the picture to draw`;
        const most = `its proportions may differ by a factor of ${MOST_STRETCH} at most from ${wanted}`;
        throw new ImageError("image-format", `has ${own.width}x${own.height} pixels; ${most}`);
      }
      if (size !== undefined) return { ...size, fit: "stretch" };
      const shrink = Math.min(1, LONGEST_SIDE / Math.max(own.width, own.height));
      const [width, height] = [own.width, own.height].map((side) => Math.max(1, Math.round(side * shrink)));
      return { width: width!, height: height!, fit: "stretch" };
    };
    const { rgba, width, height } = await decodePicture(bytes, { resize });
    const values = new Float32Array(width * height * 3);
    for (let at = 0; at < values.length; at++) values[at] = rgba[Math.floor(at / 3) * 4 + (at % 3)]! / 255;
    const digest = createHash("sha256").update(bytes).digest("hex");
    return { width, height, values, digest };
  } catch (error) {
    throw error instanceof ImageError ? refuse(error.message) : error;
  }
}

/**
 * The networks beside the denoiser in a folder of this machine: folders in diffusers' layout, and single files. A name is
 * looked up in a list of what there is; it never becomes a path. A network is opened once, and anew when its file changes.
 */

import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import type { ControlNetwork, ControlPicture, ControlUse } from "../diffusion/control.ts";
import type { LoadedModel } from "../diffusion/loaded-model.ts";
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
    return [...(await this.#paths()).keys()].sort();
  }

  /** @throws RequestError naming the field of the entry at fault */
  async uses(
    { family }: LoadedModel,
    entries: readonly Entry[],
    size: { readonly width: number; readonly height: number },
  ): Promise<ControlUse[]> {
    const paths = await this.#paths();
    const uses: ControlUse[] = [];
    for (const [index, entry] of entries.entries()) {
      const field = `control.${index}`;
      const path = paths.get(entry.name) ?? paths.get(entry.name.replace(ENDING, ""));
      if (path === undefined) throw new RequestError(`${field}.name`, unknown(entry.name, [...paths.keys()]));
      const network = await this.#open(family, entry.name, path).catch((error) => {
        const isAbout = error instanceof WeightsError || error instanceof ModelConfigError;
        throw isAbout ? new RequestError(`${field}.name`, error.message) : error;
      });
      const { scale, start, end, guess_mode: isGuess } = entry;
      const mode = modeOf(entry, network, field);
      const picture = await controlPicture(entry.image, size, field);
      uses.push({ field, network, picture, scale, start, end, mode, isGuess });
    }
    return uses;
  }

  /** Paths below the folder by name: of folders with a configuration, and of files that lie in none. */
  async #paths(): Promise<ReadonlyMap<string, string>> {
    const { files } = await fileTree(this.#folder, BOUNDS).catch(() => {
      throw new RequestError("control", "the server's folder of control networks cannot be read");
    });
    const folders = files.filter((file) => basename(file) === CONFIG).map((file) => file.slice(0, -CONFIG.length - 1));
    const paths = new Map(folders.filter((folder) => folder !== "").map((folder) => [folder, folder]));
    for (const file of files) {
      const name = file.replace(ENDING, "");
      const isInside = folders.some((folder) => file.startsWith(`${folder}/`));
      if (ENDING.test(file) && !isInside && !paths.has(name)) paths.set(name, file);
    }
    return paths;
  }

  async #open(family: LoadedModel["family"], name: string, path: string): Promise<ControlNetwork> {
    if (family.openControl === undefined) throw new WeightsError("model-class", "this model has no control networks");
    const file = join(this.#folder, path);
    const version = await versionOf(file);
    const known = this.#opened.get(path);
    if (known?.version === version) return known.network;
    // Never the id of one that was there before: its weights may still be on the device.
    const network = family.openControl(file, `control ${++this.#count} (${name})`);
    this.#opened.set(path, { version, network });
    network.catch(() => this.#opened.delete(path));
    return network;
  }
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

/** A picture as a network reads it, stretched to the size of the picture to draw. @throws RequestError naming `field` */
export async function controlPicture(
  bytes: Uint8Array,
  { width, height }: { readonly width: number; readonly height: number },
  field: string,
): Promise<ControlPicture> {
  const { decodePicture } = await import("../image/decode.ts");
  const refuse = (reason: string) => new RequestError(`${field}.image`, reason);
  try {
    const { rgba } = await decodePicture(bytes, {
      resize: (own) => {
        const stretch = (own.width / own.height) * (height / width);
        if (Math.max(stretch, 1 / stretch) <= MOST_STRETCH) return { width, height, fit: "stretch" };
        const most = `its proportions may differ by a factor of ${MOST_STRETCH} at most`;
        throw refuse(`has ${own.width}x${own.height} pixels, and the picture to draw has ${width}x${height}; ${most}`);
      },
    });
    const values = new Float32Array(width * height * 3);
    for (let at = 0; at < values.length; at++) values[at] = rgba[Math.floor(at / 3) * 4 + (at % 3)]! / 255;
    const digest = createHash("sha256").update(bytes).digest("hex");
    return { width, height, values, digest };
  } catch (error) {
    throw error instanceof ImageError ? refuse(error.message) : error;
  }
}

/**
 * Checks of a command line, made before a GPU is opened or a model loaded for it. Each complaint names the
 * flag, and says what to do.
 */
import { constants } from "node:fs";
import { access, mkdir, stat } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import { faultOf } from "../src/faults/fault.ts";
import { existingPath } from "../src/platform/folder-tree.ts";
import { flagOf } from "./generation-flags.ts";

/** A command line that cannot be carried out. Its message is all that a person needs. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The files that `generate` reads and writes. */
export interface GenerateFiles {
  readonly output: { readonly file: string };
  readonly image?: string;
  readonly mask?: string;
  readonly lora?: readonly { readonly path: string }[];
  readonly previewDir?: string;
  readonly strength?: number;
}

/** @throws UsageError naming the first flag at fault */
export async function checkGenerate(prompt: string, options: GenerateFiles): Promise<void> {
  const { output, image, mask, lora = [], previewDir, strength } = options;
  if (prompt.trim() === "") {
    throw new UsageError('the prompt has no words; try: daguerre generate "northern lights over a lake"');
  }
  if (strength !== undefined && image === undefined) {
    throw new UsageError("--strength says how much of a picture to draw anew: name the picture with --image");
  }
  if (mask !== undefined && image === undefined) {
    throw new UsageError("--mask says which part of a picture to draw anew: name the picture with --image");
  }
  if (image !== undefined) await checkReadable("--image", image);
  if (mask !== undefined) await checkReadable("--mask", mask);
  for (const { path: file } of lora) await checkReadable("--lora", await existingPath(file));
  await checkWritable("--output", output.file);
  if (previewDir !== undefined) await makeFolder("--preview-dir", previewDir);
}

async function checkReadable(flag: string, file: string): Promise<void> {
  const facts = await stat(file).catch((error) => {
    throw new UsageError(`${flag} ${file}: ${reasonOf(error)}`);
  });
  if (!facts.isFile()) throw new UsageError(`${flag} ${file}: is no file`);
  await access(file, constants.R_OK).catch(() => {
    throw new UsageError(`${flag} ${file}: may not be read`);
  });
}

async function checkWritable(flag: string, file: string): Promise<void> {
  const facts = await stat(file).catch(() => undefined);
  if (facts?.isDirectory()) throw new UsageError(`${flag} ${file}: is a folder; name a file in it`);
  const folder = path.dirname(file);
  await makeFolder(flag, folder);
  await access(facts ? file : folder, constants.W_OK).catch(() => {
    throw new UsageError(`${flag} ${file}: may not be written`);
  });
}

/**
 * Makes a folder and those above it.
 * @throws UsageError naming the flag if that cannot be done
 */
export async function makeFolder(flag: string, folder: string): Promise<void> {
  try {
    await makeFolders(path.resolve(folder));
  } catch (error) {
    throw new UsageError(`${flag}: the folder ${folder} cannot be made: ${reasonOf(error)}`);
  }
}

/** One by one: `mkdir` with `recursive` never ends in a file system that makes no folders, such as /proc. */
async function makeFolders(folder: string): Promise<void> {
  const facts = await stat(folder).catch(() => undefined);
  if (facts?.isDirectory()) return;
  if (facts) throw new UsageError(`${folder} is a file`);
  await makeFolders(path.dirname(folder));
  await mkdir(folder).catch((error) => {
    if (error.code !== "EEXIST") throw error; // somebody else was quicker
  });
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENOTDIR: "a part of the path is a file",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  ELOOP: "its links go round in circles",
  ENAMETOOLONG: "the name is too long",
};

function reasonOf(error: unknown): string {
  const { code = "", message } = error as NodeJS.ErrnoException;
  return REASONS[code] ?? message;
}

/** An error of the request of `generate` with the flag instead of the field. Other errors pass through. */
export function inFlags(error: unknown): unknown {
  const { issues } = faultOf(error);
  if (issues === undefined) return error;
  const lines = issues.map(({ path: [field], message }) => {
    if (field === "seed") return "--seed must be a whole number, at most 2^64 - 1; -1 takes any";
    const named = flagOf(String(field)) ?? String(field);
    return `${named} ${message.replace(/^(Input|String|List) /, "")}`;
  });
  return new UsageError([...new Set(lines)].join("\n"));
}

/** The flags of `bench`, `tune` and `profile` that are numbers. */
export interface ReportNumbers {
  readonly size?: { readonly width: number; readonly height: number };
  readonly steps?: number;
  readonly rounds?: number;
  readonly layers?: number;
}

/** @throws UsageError naming the flags at fault */
export async function checkReport({ size, steps, rounds, layers }: ReportNumbers): Promise<void> {
  checkCount("--rounds", rounds, 1);
  checkCount("--layers", layers, 0);
  const { parseGeneration } = await import("../src/engine/request-parsing.ts");
  try {
    parseGeneration({ prompt: "any", ...size, num_inference_steps: steps });
  } catch (error) {
    throw inFlags(error);
  }
}

const MOST = 1000;

function checkCount(flag: string, value: number | undefined, least: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= least && value <= MOST)) return;
  throw new UsageError(`${flag} must be a whole number from ${least} to ${MOST}`);
}

/**
 * True if a server can listen there, tried before anything is loaded for it.
 * @throws UsageError naming the setting
 */
export async function checkAddress(port: number, host: string): Promise<void> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ port, host }, resolve);
    });
  } catch (error) {
    throw listenError(error, port, host);
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

/** Why nobody can listen there, in words; other errors pass through. */
export function listenError(error: unknown, port: number, host: string): unknown {
  switch ((error as NodeJS.ErrnoException).code) {
    case "EADDRINUSE":
      return new UsageError(`port ${port} is in use by another program; --port 0 takes any free one`);
    case "EACCES":
      return new UsageError(`port ${port} may not be opened: those below 1024 are for privileged programs`);
    case "EADDRNOTAVAIL":
      return new UsageError(`host ${host} is no address of this machine; 0.0.0.0 stands for all of them`);
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new UsageError(`host ${host} is not known; 127.0.0.1 is this machine alone`);
    default:
      return error;
  }
}

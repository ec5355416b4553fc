/** Files that are none, or not what they should be: pipes, devices, terabytes, headers that lie. */
import { execFile } from "node:child_process";
import { mkdir, symlink, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";

const sh = promisify(execFile);

/** Puts something in the place of a file, of which nothing is there. */
export type Put = (path: string) => Promise<unknown>;

export const fifo: Put = (path) => sh("mkfifo", [path]);
export const folder: Put = (path) => mkdir(path);
export const zeros: Put = (path) => symlink("/dev/zero", path);
export const passwd: Put = (path) => symlink("/etc/passwd", path);
export const itself: Put = (path) => symlink(path, path);
export const text =
  (content: string | Uint8Array): Put =>
  (path) =>
    writeFile(path, content);
export const sparse =
  (bytes: number): Put =>
  async (path) => {
    await writeFile(path, "");
    await truncate(path, bytes);
  };
export const listening: Put = (path) =>
  new Promise<void>((resolve) => {
    const server = createServer().listen(path, () => {
      // The file stays when nobody listens any more only where it is not closed.
      server.unref();
      resolve();
    });
  });

/** safetensors: the length of a header, the header, bytes. */
export function safetensors(
  header: string | Uint8Array,
  said: number | bigint = Buffer.byteLength(header),
  rest = 64,
): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(said));
  return Buffer.concat([length, Buffer.from(header), Buffer.alloc(rest)]);
}

/** JSON that is nothing but depth. */
export const DEEP = "[".repeat(5_000_000);

/** LoRA files, by name; each is 422 where it is asked for. */
export const LORAS: Record<string, Put> = {
  pipe: fifo,
  socket: listening,
  directory: folder,
  zeros,
  passwd,
  itself,
  terabyte: sparse(2 ** 40),
  empty: text(""),
  words: text("not a safetensors file"),
  deep: text(safetensors(DEEP)),
  wide: text(
    safetensors(
      `{${Array.from({ length: 120_000 }, (_, at) => `"t${at}":{"dtype":"F32","shape":[],"data_offsets":[0,4]}`)}}`,
    ),
  ),
  "long-name": text(safetensors(`{"${"n".repeat(20_000_000)}":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`)),
  prototype: text(safetensors('{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}')),
  dimensions: text(
    safetensors(
      `{"lora_unet_x.lora_down.weight":{"dtype":"F32","shape":[${Array(100_000).fill(1)}],"data_offsets":[0,4]}}`,
    ),
  ),
  lying: text(safetensors("{}", 2 ** 40)),
  negative: text(safetensors('{"lora_unet_x.lora_down.weight":{"dtype":"F32","shape":[-1],"data_offsets":[-4,0]}}')),
  rank: text(
    safetensors(
      '{"lora_unet_x.lora_down.weight":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,64]}}',
    ),
  ),
};

/** Writes every one of `LORAS` into a folder that is there. */
export async function writeHostileLoras(path: string): Promise<void> {
  for (const [name, put] of Object.entries(LORAS)) await put(join(path, `${name}.safetensors`));
}

/**
 * Model folders and LoRA files of a stranger's making. A command that is given such a folder ends within seconds with one
 * sentence and exit code 1; a request that names such a LoRA gets 422.
 */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import type { Attack } from "./attack.ts";
import { SMALL } from "./attack.ts";
import {
  DEEP,
  fifo,
  folder,
  itself,
  LORAS,
  listening,
  type Put,
  passwd,
  safetensors,
  sparse,
  text,
  zeros,
} from "./hostile-files.ts";
import { request } from "./raw-http.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MODEL = join(ROOT, "models/landscapes");
const CLI = join(ROOT, "dist/cli.js");
const FILES = [
  "model_index.json",
  "daguerre.json",
  "latent_rgb.json",
  "words.json",
  "scheduler/scheduler_config.json",
  "text_encoder/config.json",
  "text_encoder/model.safetensors",
  "tokenizer/merges.txt",
  "tokenizer/special_tokens_map.json",
  "tokenizer/tokenizer_config.json",
  "tokenizer/vocab.json",
  "unet/config.json",
  "unet/diffusion_pytorch_model.safetensors",
  "vae/config.json",
  "vae/diffusion_pytorch_model.safetensors",
];
/** Milliseconds within which a folder is refused; a picture on a busy machine takes as long. */
const REFUSED_MS = 20_000;

/** A file of the model's with one field changed; `undefined` takes it away. */
const changed =
  (file: string, change: (config: Record<string, unknown>) => unknown): Put =>
  async (path) =>
    writeFile(path, JSON.stringify(change(JSON.parse(await readFile(join(MODEL, file), "utf8")))));

const TIMESTEPS = "scheduler/scheduler_config.json";

/** Hostile files, by the file in whose place they stand; each is refused. */
const HOSTILE: readonly (readonly [string, string, Put])[] = [
  ...[2e8, 9e15, -1, 0, 1.5, 1e308, "1000", [1000]].map(
    (value) =>
      [
        TIMESTEPS,
        `num_train_timesteps ${JSON.stringify(value)}`,
        changed(TIMESTEPS, (config) => ({ ...config, num_train_timesteps: value })),
      ] as const,
  ),
  [TIMESTEPS, "steps_offset 1e308", changed(TIMESTEPS, (config) => ({ ...config, steps_offset: 1e308 }))],
  [TIMESTEPS, "beta_start -1e308", changed(TIMESTEPS, (config) => ({ ...config, beta_start: -1e308 }))],
  [
    TIMESTEPS,
    "a million betas",
    changed(TIMESTEPS, (config) => ({ ...config, trained_betas: Array(1_000_000).fill(0.01) })),
  ],
  ["tokenizer/vocab.json", "a pipe", fifo],
  ["tokenizer/merges.txt", "a pipe", fifo],
  ["model_index.json", "a pipe", fifo],
  ["unet/config.json", "a pipe", fifo],
  ["unet/diffusion_pytorch_model.safetensors", "a pipe", fifo],
  ["tokenizer/vocab.json", "a folder", folder],
  ["model_index.json", "a folder", folder],
  ["tokenizer/vocab.json", "a socket", listening],
  ["vae/config.json", "a socket", listening],
  ["tokenizer/vocab.json", "/dev/zero", zeros],
  ["model_index.json", "/dev/zero", zeros],
  ["unet/diffusion_pytorch_model.safetensors", "/dev/zero", zeros],
  ["tokenizer/vocab.json", "/etc/passwd", passwd],
  ["tokenizer/vocab.json", "itself", itself],
  ["tokenizer/vocab.json", "a terabyte", sparse(2 ** 40)],
  ["tokenizer/merges.txt", "a terabyte", sparse(2 ** 40)],
  ["model_index.json", "a terabyte", sparse(2 ** 40)],
  ["scheduler/scheduler_config.json", "a terabyte", sparse(2 ** 40)],
  ["text_encoder/config.json", "a terabyte", sparse(2 ** 40)],
  ["vae/diffusion_pytorch_model.safetensors", "a terabyte", sparse(2 ** 40)],
  ["model_index.json", "deep", text(DEEP)],
  ["unet/config.json", "deep", text(DEEP)],
  ["tokenizer/vocab.json", "deep", text(DEEP)],
  ["model_index.json", "a list", text("[]")],
  ["model_index.json", "empty", text("")],
  ["unet/config.json", "no object", text("7")],
  [
    "unet/config.json",
    "channels 1e9",
    changed("unet/config.json", (config) => ({ ...config, block_out_channels: [1e9, 1e9] })),
  ],
  [
    "unet/config.json",
    "10,000 blocks",
    changed("unet/config.json", (config) => ({ ...config, down_block_types: Array(10_000).fill("DownBlock2D") })),
  ],
  ["unet/config.json", "layers 1e9", changed("unet/config.json", (config) => ({ ...config, layers_per_block: 1e9 }))],
  [
    "text_encoder/config.json",
    "layers 1e9",
    changed("text_encoder/config.json", (config) => ({ ...config, num_hidden_layers: 1e9 })),
  ],
  [
    "text_encoder/config.json",
    "positions 1e15",
    changed("text_encoder/config.json", (config) => ({ ...config, max_position_embeddings: 1e15 })),
  ],
  [
    "tokenizer/tokenizer_config.json",
    "model_max_length 9e5",
    changed("tokenizer/tokenizer_config.json", (config) => ({ ...config, model_max_length: 9e5 })),
  ],
  ["unet/diffusion_pytorch_model.safetensors", "a header of 2^63", text(safetensors("{}", 2n ** 63n - 1n))],
  ["unet/diffusion_pytorch_model.safetensors", "a header of 90 MB", text(safetensors(Buffer.alloc(90_000_000, " ")))],
  ["unet/diffusion_pytorch_model.safetensors", "a deep header", text(safetensors(DEEP))],
  [
    "unet/diffusion_pytorch_model.safetensors",
    "a tensor of 2^53",
    text(safetensors('{"x":{"dtype":"F32","shape":[9007199254740991],"data_offsets":[0,64]}}')),
  ],
  [
    "unet/diffusion_pytorch_model.safetensors",
    "offsets beyond",
    text(safetensors('{"x":{"dtype":"F32","shape":[16],"data_offsets":[0,640000]}}')),
  ],
  ["unet/diffusion_pytorch_model.safetensors", "eight bytes", text(Buffer.alloc(8, 255))],
  ["unet/diffusion_pytorch_model.safetensors", "nothing", text("")],
];

const LORA_NAMES = [
  "nobody",
  "..",
  "../pipe",
  "/etc/passwd",
  "a/b",
  "a\\b",
  ".hidden",
  "con",
  "x".repeat(128),
  " ",
  "\u0000",
  "pipe.safetensors",
  "PIPE",
];

export async function attack(context: Attack): Promise<void> {
  const { open } = context;
  const place = await mkdtemp(join(tmpdir(), "daguerre-hostile-"));
  try {
    await context.case("LoRA files", context.guarded, () => loras(context));
    for (const [index, [file, what, put]] of HOSTILE.entries()) {
      if (context.left <= 0) {
        context.skip(`${HOSTILE.length - index} folders`, "no time was left");
        break;
      }
      await context.case(`${file}: ${what}`, open, async () => {
        const model = await modelFolder(join(place, `model-${index}`), file, put);
        const ended = await generate(model, place);
        context.expect(what, ended.word, ["refused"]);
        if (ended.said !== "") context.breach(ended.said);
      });
    }
    // Any number of any configuration: harmless, or refused.
    const numbers = await numbersOf([
      "scheduler/scheduler_config.json",
      "unet/config.json",
      "vae/config.json",
      "text_encoder/config.json",
      "daguerre.json",
    ]);
    const value = fc.constantFrom<unknown>(
      0,
      -1,
      0.5,
      2 ** 31,
      2 ** 53,
      1e15,
      1e308,
      -1e308,
      null,
      "7",
      [],
      {},
      true,
      [1e9],
    );
    let count = 0;
    const options = { values: fc.tuple(fc.constantFrom(...numbers), value), rounds: 200 };
    await context.fuzz("fuzzed numbers", open, options, async ([{ file, path }, value]) => {
      const put = changed(file, (config) => replaced(config, path, value));
      const ended = await generate(await modelFolder(join(place, `fuzzed-${count++}`), file, put), place);
      context.expect(`${file} ${path.join(".")} = ${JSON.stringify(value)}`, ended.word, ["refused", "drawn"]);
      if (ended.said !== "") throw new Error(ended.said);
    });
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

/** The guarded server's LoRA folder is hostile; `suite.ts` fills it. */
async function loras(context: Attack): Promise<void> {
  const { guarded } = context;
  const asking = (asked: object) => {
    const body = JSON.stringify({ ...SMALL, ...asked });
    return request(guarded.port, { target: "/", body, headers: guarded.credential });
  };
  for (const name of [...Object.keys(LORAS), ...LORA_NAMES]) {
    const answer = await context.ask(`LoRA ${name.slice(0, 20)}`, guarded, asking({ loras: [{ name }] }), [422]);
    if (/\bat .*\.js:\d|\/tmp\//.test(answer.body)) context.breach(`an answer tells a path: ${answer.body}`);
  }
  await context.ask("nine LoRAs", guarded, asking({ loras: Array(9).fill({ name: "nobody" }) }), [422]);
}

/** A folder of links to the built-in model's files, with something else in the place of one. */
async function modelFolder(path: string, file: string, put: Put): Promise<string> {
  for (const name of FILES) {
    await mkdir(dirname(join(path, name)), { recursive: true });
    if (name !== file) await symlink(join(MODEL, name), join(path, name));
  }
  await put(join(path, file));
  return path;
}

/**
 * `daguerre generate` on a folder.
 *
 * @returns `drawn`, `refused` (exit code 1 within seconds), or what else became of it; what it should not have said
 */
function generate(model: string, place: string): Promise<{ word: string; said: string }> {
  return new Promise((resolve) => {
    const asked = ["generate", "x", "--model", model, "--steps", "1", "--size", "64x64", "-o", join(place, "out.png")];
    const child = spawn(process.execPath, ["--max-old-space-size=1024", CLI, ...asked], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (data) => {
      said = `${said}${data}`.slice(-20_000);
    });
    const late = setTimeout(() => child.kill("SIGKILL"), REFUSED_MS);
    child.once("exit", (code, signal) => {
      clearTimeout(late);
      if (code === 0) return resolve({ word: "drawn", said: "" });
      if (code !== 1)
        return resolve({ word: signal === "SIGKILL" ? "not over in time" : `ended with ${signal ?? code}`, said: "" });
      // Progress and the driver's own warnings stand before it.
      const lines = said
        .trim()
        .split("\n")
        .filter((line) => !/^(Warning:|getting ready)|\r/.test(line));
      const stack = /^\s+at .*[:(]\d+/m.test(said) || lines.length > 3;
      resolve({ word: "refused", said: stack ? `more than a sentence: ${lines.join(" / ").slice(0, 300)}` : "" });
    });
  });
}

interface NumberPlace {
  readonly file: string;
  readonly path: readonly (string | number)[];
}

async function numbersOf(files: readonly string[]): Promise<NumberPlace[]> {
  const found: NumberPlace[] = [];
  for (const file of files) {
    const walk = (value: unknown, path: readonly (string | number)[]): void => {
      if (typeof value === "number") found.push({ file, path });
      else if (typeof value === "object" && value !== null) {
        for (const [name, inner] of Object.entries(value))
          walk(inner, [...path, Array.isArray(value) ? Number(name) : name]);
      }
    };
    walk(JSON.parse(await readFile(join(MODEL, file), "utf8")), []);
  }
  return found;
}

function replaced(config: Record<string, unknown>, path: readonly (string | number)[], value: unknown): unknown {
  const copy = structuredClone(config);
  // biome-ignore lint/suspicious/noExplicitAny: a path into JSON
  const holder = path.slice(0, -1).reduce((at: any, name) => at[name], copy);
  holder[path.at(-1)!] = value;
  return copy;
}

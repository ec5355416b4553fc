/**
 * Every command of docs/models.md, against a hub on loopback whose models are tiny ones of the same kinds: what is pulled
 * is pulled, and what is loaded is opened as the kind that the page says. (Drawing with each is `same-bits.test.ts`.)
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { listModels, removeModels } from "../cli/models.ts";
import { type PullFlags, pullModel } from "../cli/pull.ts";
import { locateModel } from "../src/engine/model-location.ts";
import { openModels } from "../src/engine/open-models.ts";
import { kindOfModel, openFamily } from "../src/families/registry.ts";
import { textOf, readFile as wholeFile } from "../src/platform/model-files.ts";
import { clipVocabulary } from "../src/text/clip-vocabulary.ts";
import { gguf, safetensors, torchFile } from "./checkpoints/tensors.ts";
import { folderOf, originalTensors, type TinyModel, tinySd1, tinySd2, tinySdxl } from "./checkpoints/tiny-models.ts";
import { type Files, LoopbackHub } from "./hub/loopback-hub.ts";

const PAGE = await readFile("docs/models.md", "utf8");
const COMMANDS = [...PAGE.matchAll(/```sh\n(.*?)```/gs)]
  .flatMap(([, block]) => block!.split("\n"))
  .filter((line) => line.startsWith("daguerre "));

let hub: LoopbackHub;
let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "daguerre-page-"));
  hub = await LoopbackHub.start();
  vi.stubEnv("HF_HOME", home);
  vi.stubEnv("XDG_CACHE_HOME", home);
  vi.stubEnv("HF_ENDPOINT", hub.url);
  await fill();
}, 60_000);
afterAll(async () => {
  vi.unstubAllEnvs();
  await hub.close();
  await rm(home, { recursive: true, force: true });
});

/** The models that the page names, by what it says they are. */
async function fill(): Promise<void> {
  const [sd1, sd2, sdxl] = [tinySd1(), tinySd2(), tinySdxl()];
  const vocabulary = await tokenizer();
  const folder = (model: TinyModel) => {
    const names = Object.keys(model.index).filter((name) => name.startsWith("tokenizer"));
    return folderOf(model, Object.fromEntries(names.map((name) => [name, vocabulary])));
  };
  const put = (name: string, files: Files) => hub.repositories.set(name, { files });
  const vae = originalTensors(sdxl).filter(({ name }) => name.startsWith("first_stage_model."));
  put("stable-diffusion-v1-5/stable-diffusion-v1-5", folder(sd1));
  put("stabilityai/sd-turbo", folder(sd2));
  put("stabilityai/stable-diffusion-xl-base-1.0", inVariants(folder(sdxl)));
  put("stabilityai/stable-diffusion-xl-refiner-1.0", folder(sdxl));
  const turbo = "sd_xl_turbo_1.0_fp16.safetensors";
  put("stabilityai/sdxl-turbo", { ...folder(sdxl), [turbo]: safetensors(originalTensors(sdxl)) });
  const quantised = "stable-diffusion-v1-5-pruned-emaonly-Q8_0.gguf";
  put("second-state/stable-diffusion-v1-5-GGUF", {
    [quantised]: gguf(originalTensors(sd1)),
    "stable-diffusion-v1-5-pruned-emaonly-Q4_0.gguf": gguf(originalTensors(sd1)),
  });
  put("segmind/tiny-sd", asPickles(folder(sd1), sd1));
  put("madebyollin/sdxl-vae-fp16-fix", {
    "config.json": JSON.stringify(sdxl.configs.vae),
    "diffusion_pytorch_model.safetensors": safetensors(sdxl.components.vae!),
    "sdxl_vae.safetensors": safetensors(vae),
  });
  const slim = (name: string) => readFile(`test/fixtures/conformance/taesd/vae_slim/${name}`);
  const weights = "diffusion_pytorch_model.safetensors";
  put("madebyollin/taesdxl", { "config.json": await slim("config.json"), [weights]: await slim(weights) });
  const here: Files = {
    "dreamshaper_8.safetensors": safetensors(originalTensors(sd1)),
    "animagine-xl-4.0.safetensors": safetensors(originalTensors(sdxl)),
    "sdxl_vae.safetensors": safetensors(vae),
    "models/dreamshaper_8.safetensors": safetensors(originalTensors(sd1)),
  };
  await mkdir(join(home, "models"));
  for (const [name, content] of Object.entries(here)) await writeFile(join(home, name), content);
}

async function tokenizer(): Promise<Record<string, string>> {
  const files = await clipVocabulary("!");
  const names = await files.list();
  const texts = names.map(async (path) => [path, textOf(await wholeFile({ files, path }, 2 ** 24))] as const);
  return Object.fromEntries(await Promise.all(texts));
}

/** The same weights plain and as fp16. */
function inVariants(files: Files): Files {
  const more = Object.entries(files).filter(([name]) => name.endsWith(".safetensors"));
  return {
    ...files,
    ...Object.fromEntries(more.map(([name, bytes]) => [name.replace(/safetensors$/, "fp16.$&"), bytes])),
  };
}

function asPickles(files: Files, { components }: TinyModel): Files {
  const others = Object.entries(files).filter(([name]) => !name.endsWith(".safetensors"));
  const pickles = Object.entries(components).map(([name, tensors]) => {
    const stem = name.startsWith("text_encoder") ? "pytorch_model" : "diffusion_pytorch_model";
    return [`${name}/${stem}.bin`, torchFile(tensors)] as const;
  });
  return Object.fromEntries([...others, ...pickles]);
}

/** The words of a line, quotes taken off; `$(…)` is one word. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
}

/** Words by the flag before them, and those of no flag. */
function parsed(words: readonly string[]): { flags: Record<string, string>; rest: string[] } {
  const flags: Record<string, string> = {};
  const rest: string[] = [];
  for (let i = 0; i < words.length; i++) {
    if (words[i]!.startsWith("-")) flags[words[i]!.replace(/^-+/, "")] = words[++i]!;
    else rest.push(words[i]!);
  }
  return { flags, rest };
}

async function pullLine(words: readonly string[]): Promise<string> {
  const { flags, rest } = parsed(words);
  const path = await pullModel(rest[0]!, rest.slice(1), flags as PullFlags, new PassThrough());
  return path!;
}

/** A file of the page is in this test's folder, a name is a name, and `$(daguerre pull …)` is what that prints. */
async function pathOf(text: string | undefined): Promise<string | undefined> {
  const inner = /^\$\(daguerre pull (.*)\)$/.exec(text ?? "");
  if (inner !== null) return pullLine(inner[1]!.split(" "));
  return text?.endsWith(".safetensors") && !text.includes("/") ? join(home, text) : text;
}

/** The kind of the model that a line loads. With another VAE or variant the whole model is opened, with its tokenizers. */
async function kindIn({ flags }: ReturnType<typeof parsed>): Promise<string> {
  const model = await locateModel((await pathOf(flags.model))!);
  const [vae, tinyAutoencoder] = [await pathOf(flags.vae), await pathOf(flags["tiny-vae"])];
  if (vae ?? tinyAutoencoder ?? flags.variant)
    await openFamily(model, { vae, tinyAutoencoder, variant: flags.variant });
  return kindOfModel(model);
}

/** The kind that the page says, by the model's name. */
const KINDS: readonly (readonly [RegExp, RegExp])[] = [
  [/sdxl-turbo\/|animagine/, /^Stable Diffusion XL.*one file \(safetensors/],
  [/stable-diffusion-xl/, /^StableDiffusionXLPipeline, a folder$/],
  [/GGUF/, /^Stable Diffusion 1, one file \(gguf/],
  [/dreamshaper/, /^Stable Diffusion 1, one file \(safetensors, F16\), VAE in it/],
  [/v1-5|tiny-sd|sd-turbo/, /^StableDiffusionPipeline, a folder$/],
];

it("has a command for each kind", () => {
  expect(COMMANDS.length).toBeGreaterThan(18);
  for (const name of hub.repositories.keys()) expect(PAGE).toContain(`daguerre pull ${name}`);
});

it("each works, in the order of the page", { timeout: 120_000 }, async () => {
  for (const line of COMMANDS) {
    const [, command, ...words] = wordsOf(line);
    if (command === "pull") {
      const path = await pullLine(words);
      expect(path, line).toContain(basename(words[0]!.split("@")[0]!));
    } else if (command === "models" && words[0] === "remove") {
      await removeModels(words.slice(1), (text) => expect(text).toMatch(/^removed /));
    } else if (command === "models") {
      const { models } = await listModels(() => {});
      const wrong = models.filter(({ runs, name }) => !runs && !/vae|tae/.test(name));
      expect(wrong).toEqual([]);
      expect(models.length).toBeGreaterThanOrEqual(7);
    } else {
      const said = parsed(words);
      if (said.flags.models !== undefined) {
        const models = await openModels({ modelFolder: join(home, said.flags.models) });
        expect(models.map(({ name }) => name)).toContain(said.flags.preload);
        continue;
      }
      const [, kind] = KINDS.find(([name]) => name.test(said.flags.model!))!;
      expect(await kindIn(said), line).toMatch(kind);
    }
  }
});

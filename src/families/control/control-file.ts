/**
 * Files of ControlNets, T2I-Adapters and IP-Adapters: folders in diffusers' layout, and single files in that or the authors' own layout
 * (`cldm`). Numbers that shapes do not say follow from the UNet that a network is a copy of.
 */

import { HEAD_WIDTH } from "../../models/ip-adapter.ts";
import type { UnetConfig } from "../../models/unet-config.ts";
import { fileOf, folderFiles } from "../../platform/folder-files.ts";
import { memoryFiles } from "../../platform/memory-files.ts";
import type { FileAt, ModelFiles } from "../../platform/model-files.ts";
import { quoted } from "../../platform/quoted.ts";
import { WeightsError } from "../../weights/errors.ts";
import { mappedTensors, type TensorMap, type TensorOrigin } from "../../weights/mapped-tensors.ts";
import { type Component, openComponentFolder } from "../../weights/model-directory.ts";
import { openTensorFile } from "../../weights/tensor-file.ts";
import { kindOfTensors } from "../../weights/tensor-kind.ts";
import type { TensorSet } from "../../weights/tensor-set.ts";
import { type Config, type Shapes, unetConfig } from "../checkpoint/configs.ts";
import { numbersIn, unetNames, withoutPrefix } from "../checkpoint/names.ts";

/** Classes of diffusers. */
export const CONTROLNET = "ControlNetModel";
export const UNION = "ControlNetUnionModel";
export const T2I_ADAPTER = "T2IAdapter";
/** The authors' files have no class; this is how messages call it. */
export const IP_ADAPTER = "IPAdapter";
export type ControlClass = typeof CONTROLNET | typeof UNION | typeof T2I_ADAPTER | typeof IP_ADAPTER;

const CLASSES: readonly string[] = [CONTROLNET, UNION, T2I_ADAPTER];
const PREFIXES = ["control_model.", "controlnet.", ""];
/** Residual blocks of a level of a published T2I-Adapter. */
const ADAPTER_BLOCKS = 2;

/** A component of one of these classes; its configuration is unchecked. */
export interface ControlFile extends Component {
  readonly className: ControlClass;
}

/**
 * @param source a folder's files, a file, or the path of either
 * @param unet of the model that it is for
 * @throws WeightsError naming the file, if it is neither a ControlNet nor a T2I-Adapter
 */
export async function openControlFile(source: ModelFiles | FileAt | string, unet: UnetConfig): Promise<ControlFile> {
  if (typeof source === "string") {
    return /\.(?:safetensors|sft|ckpt|pth?|bin)$/i.test(source)
      ? openSingle(fileOf(source), unet)
      : openFolder(folderFiles(source));
  }
  return "path" in source ? openSingle(source, unet) : openFolder(source);
}

async function openFolder(files: ModelFiles): Promise<ControlFile> {
  const extraClasses = { components: Object.fromEntries(CLASSES.map((name) => [name, "control network" as const])) };
  const folder = await openComponentFolder(files, { extraClasses });
  if (!CLASSES.includes(folder.className)) {
    const reason = `is a ${folder.className}, where a ControlNet or an adapter is expected`;
    throw new WeightsError("model-class", reason, { file: files.name });
  }
  const className = folder.className as ControlClass;
  return { ...folder, className, weights: async () => withMap(await folder.weights(), ownNames) };
}

async function openSingle(at: FileAt, unet: UnetConfig): Promise<ControlFile> {
  const file = await openTensorFile(at);
  try {
    const names = [...file.names()];
    const className = classOf(names);
    if (className === undefined) {
      const kind = kindOfTensors(names) ?? "weights of an unknown kind";
      const reason = `is no ControlNet, T2I-Adapter or IP-Adapter: it holds ${kind} (its first tensor is ${quoted(names[0] ?? "none")})`;
      throw new WeightsError("model-class", reason, { file: file.source });
    }
    const { rename, configOf } = LAYOUTS[className];
    const set = mappedTensors(file, rename(names));
    const config = configOf(new Map(Array.from(set.names(), (name) => [name, set.get(name)!.shape])), unet);
    const name = at.path.slice(at.path.lastIndexOf("/") + 1);
    const weights = async () => withMap(await openTensorFile(at), rename);
    return { name, className, kind: "control network", config, files: memoryFiles({}, name), weights };
  } finally {
    await file.close();
  }
}

/** How a class's single files are read: names of tensors, and the configuration that follows from their shapes. */
interface Layout {
  readonly rename: (names: readonly string[]) => TensorMap;
  readonly configOf: (shapes: Shapes, unet: UnetConfig) => Config;
}

const LAYOUTS: Readonly<Record<ControlClass, Layout>> = {
  [CONTROLNET]: { rename: (names) => controlnetNames(names), configOf: controlnetConfig },
  [UNION]: { rename: (names) => controlnetNames(names), configOf: controlnetConfig },
  [T2I_ADAPTER]: { rename: (names) => adapterNames(names), configOf: adapterConfig },
  [IP_ADAPTER]: { rename: (names) => ipAdapterNames(names), configOf: ipAdapterConfig },
};

function withMap(set: TensorSet, rename: (names: readonly string[]) => TensorMap): TensorSet {
  return mappedTensors(set, rename([...set.names()]));
}

function classOf(names: readonly string[]): ControlClass | undefined {
  const has = (pattern: RegExp) => names.some((name) => pattern.test(name));
  if (has(/^image_proj\./) && has(/^ip_adapter\./)) return IP_ADAPTER;
  if (has(/(?:^|\.)task_embedding$/)) return UNION;
  if (has(/(?:^|\.)(?:input_hint_block|controlnet_cond_embedding)\./)) return CONTROLNET;
  return has(/^(?:adapter\.)?body\.\d+\.(?:block1|body|resnets|in_conv)\./) ? T2I_ADAPTER : undefined;
}

/** The authors' names of a ControlNet's own layers: eight convolutions that read the picture, and those with zeros. */
const HINTS = 15;

/** A ControlNet's tensors by diffusers' names. */
export function controlnetNames(names: readonly string[]): TensorMap {
  const prefix = PREFIXES.find((one) =>
    names.some(
      (name) => name.startsWith(`${one}input_hint_block.`) || name.startsWith(`${one}controlnet_cond_embedding.`),
    ),
  )!;
  const own = withoutPrefix(names, prefix);
  const hints = numbersIn(own, /^input_hint_block\.(\d+)\./);
  const last = hints.at(-1) ?? HINTS;
  const map = new Map<string, string>();
  const rest: string[] = [];
  for (const name of own) {
    const [, hint, ofHint] = /^input_hint_block\.(\d+)\.(.+)$/.exec(name) ?? [];
    const [, zero, ofZero] = /^zero_convs\.(\d+)\.0\.(.+)$/.exec(name) ?? [];
    const [, ofMiddle] = /^middle_block_out\.0\.(.+)$/.exec(name) ?? [];
    if (ofHint !== undefined) map.set(`controlnet_cond_embedding.${hintName(Number(hint), last)}.${ofHint}`, name);
    else if (ofZero !== undefined) map.set(`controlnet_down_blocks.${zero}.${ofZero}`, name);
    else if (ofMiddle !== undefined) map.set(`controlnet_mid_block.${ofMiddle}`, name);
    else rest.push(name);
  }
  for (const [to, from] of unetNames(rest)) map.set(to, from);
  const renamed = new Map<string, TensorOrigin>();
  for (const [to, from] of map)
    for (const [name, origin] of unionTensor(to)) renamed.set(name, { ...origin, from: prefix + from });
  return renamed;
}

function hintName(hint: number, last: number): string {
  if (hint === 0) return "conv_in";
  return hint === last ? "conv_out" : `blocks.${hint / 2 - 1}`;
}

function ownNames(names: readonly string[]): TensorMap {
  return new Map(names.flatMap((name) => unionTensor(name).map(([to, origin]) => [to, { ...origin, from: name }])));
}

/** A tensor of a union under the names of `models/controlnet.ts`: queries, keys and values are one matrix in the file. */
function unionTensor(name: string): [string, Omit<TensorOrigin, "from">][] {
  if (name === "task_embedding") return [["task_embedding.weight", { transposed: true }]];
  const [, attention, part] = /^(transformer_layes\.\d+\.attn)\.in_proj_(weight|bias)$/.exec(name) ?? [];
  if (part === undefined) return [[name, {}]];
  return ["q_proj", "k_proj", "v_proj"].map((projection, index) => [
    `${attention}.${projection}.${part}`,
    { rows: { part: index, parts: 3 } },
  ]);
}

/** A T2I-Adapter's tensors by diffusers' names. Blocks of all levels are numbered through in the authors' full ones. */
export function adapterNames(names: readonly string[]): TensorMap {
  const rename = (name: string): string => {
    if (name.startsWith("adapter.")) return name;
    const light = /^body\.(\d+)\.body\.(\d+)\.(.+)$/.exec(name);
    if (light) return `adapter.body.${light[1]}.resnets.${light[2]}.${light[3]}`;
    const block = /^body\.(\d+)\.(block[12]|in_conv)\.(.+)$/.exec(name);
    if (!block || isLight) return `adapter.${name}`;
    const [level, index] = [Math.floor(Number(block[1]) / ADAPTER_BLOCKS), Number(block[1]) % ADAPTER_BLOCKS];
    const within = block[2] === "in_conv" ? "in_conv" : `resnets.${index}.${block[2]}`;
    return `adapter.body.${level}.${within}.${block[3]}`;
  };
  const isLight = names.some((name) => /^body\.\d+\.body\./.test(name));
  return new Map(names.map((name) => [rename(name), { from: name }]));
}

/** The configuration of a ControlNet: as its shapes say, and otherwise as the UNet that it is a copy of has it. */
function controlnetConfig(shapes: Shapes, unet: UnetConfig): Config {
  const inputs = shapes.get("conv_in.weight")?.[1] ?? 0;
  const {
    out_channels: _,
    up_block_types: __,
    ...own
  } = unetConfig(new Map([...shapes, ["conv_out.weight", [inputs]]]));
  const levels = numbersIn(shapes.keys(), /^controlnet_cond_embedding\.blocks\.(\d+)\./).filter((at) => at % 2 === 1);
  const layer = "controlnet_cond_embedding";
  const widths = [
    shapes.get(`${layer}.conv_in.weight`)?.[0],
    ...levels.map((at) => shapes.get(`${layer}.blocks.${at}.weight`)?.[0]),
  ];
  const task = shapes.get("task_embedding.weight");
  const isLike = JSON.stringify(own.block_out_channels) === JSON.stringify(unet.block_out_channels);
  return {
    ...own,
    // Numbers that no shape says.
    ...(isLike && {
      attention_head_dim: unet.attention_head_dim,
      num_attention_heads: unet.num_attention_heads ?? null,
      norm_num_groups: unet.norm_num_groups,
      norm_eps: unet.norm_eps,
      flip_sin_to_cos: unet.flip_sin_to_cos,
      freq_shift: unet.freq_shift,
    }),
    ...(own.addition_embed_type === "text_time" && { addition_time_embed_dim: unet.addition_time_embed_dim ?? 256 }),
    conditioning_embedding_out_channels: widths,
    ...(task && {
      num_trans_channel: task[0],
      num_control_type: task[1],
      num_trans_layer: numbersIn(shapes.keys(), /^transformer_layes\.(\d+)\./).length,
    }),
  };
}

function adapterConfig(shapes: Shapes): Config {
  const levels = numbersIn(shapes.keys(), /^adapter\.body\.(\d+)\./);
  const isLight = levels.some((level) => shapes.has(`adapter.body.${level}.out_conv.weight`));
  const widths = levels.map((level) => {
    const last = isLight ? `adapter.body.${level}.out_conv.weight` : `adapter.body.${level}.resnets.0.block2.weight`;
    return shapes.get(last)?.[0];
  });
  const inputs = shapes.get(isLight ? "adapter.body.0.in_conv.weight" : "adapter.conv_in.weight")?.[1] ?? 0;
  const colours = inputs % 3 === 0 ? 3 : 1;
  const factor = Math.sqrt(inputs / colours);
  return {
    adapter_type: isLight ? "light_adapter" : factor === 16 ? "full_adapter_xl" : "full_adapter",
    in_channels: colours,
    channels: isLight ? widths.slice(0, -1) : widths,
    num_res_blocks: numbersIn(shapes.keys(), /^adapter\.body\.0\.resnets\.(\d+)\./).length,
    downscale_factor: factor,
  };
}

/** An IP-Adapter's tensors: as in the file, but for the learned queries, which `models/ip-adapter.ts` has as a layer. */
function ipAdapterNames(names: readonly string[]): TensorMap {
  const origin = (name: string): [string, TensorOrigin] =>
    name === "image_proj.latents" ? [`${name}.weight`, { from: name, transposed: true }] : [name, { from: name }];
  return new Map(names.map(origin));
}

/** Numbers of an IP-Adapter's projection. A kind that is not known has none. */
function ipAdapterConfig(shapes: Shapes): Config {
  const [plain, norm] = [shapes.get("image_proj.proj.weight"), shapes.get("image_proj.norm.weight")];
  if (plain && norm) return { kind: "plain", inputs: plain[1], width: norm[0], tokens: plain[0]! / norm[0]! };
  const [queries, read] = [shapes.get("image_proj.latents.weight"), shapes.get("image_proj.proj_in.weight")];
  const [query, hidden] = ["0.to_q", "1.1"].map((name) => shapes.get(`image_proj.layers.0.${name}.weight`));
  if (!queries || !read || !query || !hidden) return {};
  return {
    kind: "plus",
    inputs: read[1],
    tokens: queries[1],
    width: shapes.get("image_proj.proj_out.weight")?.[0],
    inner: queries[0],
    layers: numbersIn(shapes.keys(), /^image_proj\.layers\.(\d+)\./).length,
    heads: query[0]! / HEAD_WIDTH,
    expansion: hidden[0]! / queries[0]!,
  };
}

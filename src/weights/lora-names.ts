/**
 * How LoRA files name their tensors.
 *
 * A name is made of a component (UNet or text encoder), a module of it, and a part: `down` and `up`, the two thin
 * matrices of LoRA; `alpha`, a number that scales their product; and the parts of the other kinds of adapter
 * (`lora-changes.ts` says how they are computed). Trainers write these in different ways:
 *
 *     PEFT         unet.down_blocks.0.attentions.0.proj_in.lora_A.weight        (lora_A = down, lora_B = up)
 *     diffusers    unet.down_blocks.0.attentions.0.proj_in.lora.down.weight
 *     attn procs   unet.….attn1.processor.to_out_lora.down.weight               (the oldest; to_out is to_out.0)
 *     kohya        lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight
 *     kohya SGM    lora_unet_input_blocks_1_1_proj_in.lora_down.weight          (block names of Stability's own code)
 *     dotted SGM   diffusion_model.input_blocks.1.1.proj_in.lora_up.weight      (or after unet.)
 *     OneTrainer   lora_unet.down_blocks.0.attentions.0.proj_in.lora_down.weight  (or OMI's: unet., clip_l., clip_g.)
 *     LyCORIS      lycoris_down_blocks_0_attentions_0_proj_in.lora_down.weight
 *
 * LoHa, LoKr, whole differences and IA³ have LyCORIS' endings (`.hada_w1_a`, `.lokr_w2`, `.diff`), whatever comes before.
 *
 * In kohya's names the dots of a module became underscores, which module names have too. They are never guessed back:
 * the model's own module names are written the same way and looked up (`kohyaNames`).
 *
 * Numbering of SGM blocks, with L layers a block: `input_blocks` 0 is conv_in, then each down block has L layers and a
 * downsampler; each up block has L + 1 layers, and its upsampler sits in the last. Sources: the case notes in diffusers'
 * `lora_conversion_utils.py` and the module lists of Stability's `openaimodel.py`.
 */

export type LoraComponent = "unet" | "text_encoder" | "text_encoder_2";

/** Parts that are called the same in every file that has them. */
const OWN_NAMES = [
  "hada_w1_a",
  "hada_w1_b",
  "hada_w2_a",
  "hada_w2_b",
  "hada_t1",
  "hada_t2",
  "lokr_w1",
  "lokr_w1_a",
  "lokr_w1_b",
  "lokr_w2",
  "lokr_w2_a",
  "lokr_w2_b",
  "lokr_t2",
  "diff",
  "diff_b",
  "w_norm",
  "b_norm",
  "dora_scale",
  "on_input",
] as const;

/**
 * `magnitude` is PEFT's `dora_scale`, `up_bias` the bias of its `lora_B`, `gain` the vector of IA³. The names of LoHa's and
 * LoKr's parts are LyCORIS' own.
 */
export type LoraPart =
  | ("down" | "up" | "mid" | "alpha" | "up_bias" | "magnitude" | "gain")
  | (typeof OWN_NAMES)[number];

export interface LoraKey {
  readonly component: LoraComponent;
  /** True if `module` has underscores for dots. */
  readonly underscored: boolean;
  /** The module, by the model's own name (or that with underscores for dots, or its SGM name). */
  readonly module: string;
  readonly part: LoraPart;
}

const PARTS: readonly (readonly [RegExp, LoraPart])[] = [
  // PEFT may leave the adapter's name in: `.lora_A.default.weight`.
  [/\.lora_A(?:\.[\w-]+)?\.weight$/, "down"],
  [/\.lora_B(?:\.[\w-]+)?\.weight$/, "up"],
  [/(?:[._]lora|\.lora_linear_layer)\.down\.weight$/, "down"],
  [/(?:[._]lora|\.lora_linear_layer)\.up\.weight$/, "up"],
  [/\.lora_down\.weight$/, "down"],
  [/\.lora_up\.weight$/, "up"],
  [/\.lora_mid\.weight$/, "mid"],
  [/(?:[._]lora|\.lora_linear_layer)?\.alpha$/, "alpha"],
  [/\.lora_B(?:\.[\w-]+)?\.bias$/, "up_bias"],
  [/\.lora_up\.bias$/, "up_bias"],
  [/\.lora_magnitude_vector(?:\.[\w-]+){0,2}$/, "magnitude"],
  ...OWN_NAMES.map((name) => [new RegExp(`\\.${name}$`), name] as const),
];
/** Behind a kohya prefix alone: elsewhere it is a model's own weight. */
const GAIN = /\.weight$/;

const KOHYA_PREFIXES: readonly (readonly [string, LoraComponent])[] = [
  ["lora_unet_", "unet"],
  ["lora_te_", "text_encoder"],
  ["lora_te1_", "text_encoder"],
  ["lora_te2_", "text_encoder_2"],
];

/** LyCORIS' own wrapper is put around one model, and does not name it. */
const LYCORIS_PREFIX = "lycoris_";

const DOTTED_PREFIXES: readonly (readonly [string, LoraComponent])[] = [
  ["unet.", "unet"],
  ["text_encoder.", "text_encoder"],
  ["text_encoder_2.", "text_encoder_2"],
  ["diffusion_model.", "unet"],
  ["model.diffusion_model.", "unet"],
  ["text_encoders.clip_l.transformer.", "text_encoder"],
  ["text_encoders.clip_g.transformer.", "text_encoder_2"],
  ["clip_l.", "text_encoder"],
  ["clip_g.", "text_encoder_2"],
  ["lora_unet.", "unet"],
  ["lora_te.", "text_encoder"],
  ["lora_te1.", "text_encoder"],
  ["lora_te2.", "text_encoder_2"],
];

/** PEFT's prefix of a module's name if a model was saved by itself. */
const PEFT_PREFIX = "base_model.model.";

/** The parts of a tensor's name; undefined if it is no name of a LoRA tensor. */
export function parseLoraKey(tensor: string): LoraKey | undefined {
  const [base, part] = ending(tensor) ?? [];
  if (base === undefined || part === undefined) return undefined;
  const flat = underscoredModule(base);
  if (flat !== undefined) return { ...flat, underscored: true, part };
  return part === "gain" ? undefined : { ...dottedModule(base), underscored: false, part };
}

/** A tensor's name without its part: the module as the file names it. */
export function withoutPart(tensor: string): string {
  return ending(tensor)?.[0] ?? tensor;
}

function ending(tensor: string): readonly [base: string, part: LoraPart] | undefined {
  for (const [suffix, part] of PARTS) {
    const match = suffix.exec(tensor);
    if (match !== null) return [tensor.slice(0, match.index), part];
  }
  const gain = GAIN.exec(tensor);
  return gain === null ? undefined : [tensor.slice(0, gain.index), "gain"];
}

function underscoredModule(base: string): Pick<LoraKey, "component" | "module"> | undefined {
  for (const [prefix, component] of KOHYA_PREFIXES)
    if (base.startsWith(prefix)) return { component, module: base.slice(prefix.length) };
  if (!base.startsWith(LYCORIS_PREFIX)) return undefined;
  const module = without(base.slice(LYCORIS_PREFIX.length), "unet_");
  return { component: module.startsWith("text_model_") ? "text_encoder" : "unet", module };
}

function dottedModule(base: string): Pick<LoraKey, "component" | "module"> {
  let module = without(base, PEFT_PREFIX);
  const prefixed = DOTTED_PREFIXES.find(([prefix]) => module.startsWith(prefix));
  if (prefixed !== undefined) module = without(module.slice(prefixed[0].length), PEFT_PREFIX);
  // A file without prefixes is of one model: CLIP's modules are all in `text_model` or `text_projection`.
  const component = prefixed?.[1] ?? (/^text_(?:model\.|projection$)/.test(module) ? "text_encoder" : "unet");
  return { component, module: component === "unet" ? unetModule(module) : textModule(module) };
}

/** `….attn1.processor.to_out` → `….attn1.to_out.0`. */
function unetModule(module: string): string {
  return module.replace(".processor.", ".").replace(/\.to_out$/, ".to_out.0");
}

/** Old diffusers used the UNet's names for CLIP's attention: `….self_attn.to_q` → `….self_attn.q_proj`. */
function textModule(module: string): string {
  return module.replace(/\.self_attn\.to_(q|k|v|out)$/, ".self_attn.$1_proj");
}

function without(text: string, prefix: string): string {
  return text.startsWith(prefix) ? text.slice(prefix.length) : text;
}

export interface KohyaName {
  /** The model's own name of the module. */
  readonly module: string;
  /** True if this is the module's name in Stability's code. */
  readonly sgm: boolean;
}

/**
 * The names that kohya's trainers give to a model's modules, without prefix.
 * @param layersPerBlock of the UNet; counted in its first down block where not given.
 */
export function kohyaNames(
  component: LoraComponent,
  modules: Iterable<string>,
  layersPerBlock?: number,
): Map<string, KohyaName> {
  const known = [...modules];
  const names = new Map<string, KohyaName>();
  for (const module of known) names.set(module.replaceAll(".", "_"), { module, sgm: false });
  if (component !== "unet") return names;
  const layers = layersPerBlock ?? countLayers(known);
  for (const module of known)
    for (const name of sgmNames(module, layers)) {
      const underscored = name.replaceAll(".", "_");
      if (!names.has(underscored)) names.set(underscored, { module, sgm: true });
    }
  return names;
}

/** A UNet's block in Stability's numbering, as the web UI writes it: `IN04`, `M00`, `OUT11`; undefined outside blocks. */
export function sgmBlock(module: string, layersPerBlock: number): string | undefined {
  const match = /^(input|middle|output)_blocks?\.(\d+)\./.exec(sgmNames(module, layersPerBlock)[0] ?? "");
  if (match === null) return undefined;
  const [, side, number] = match as unknown as [string, "input" | "middle" | "output", string];
  if (side === "middle") return "M00";
  return `${side === "input" ? "IN" : "OUT"}${number.padStart(2, "0")}`;
}

/** Layers in a block of a UNet, counted in its first down block. */
export function countLayers(modules: Iterable<string>): number {
  return new Set([...modules].map((module) => /^down_blocks\.0\.resnets\.(\d+)\./.exec(module)?.[1]).filter(Boolean))
    .size;
}

const SGM_WHOLE: Readonly<Record<string, string>> = {
  "time_embedding.linear_1": "time_embed.0",
  "time_embedding.linear_2": "time_embed.2",
  "add_embedding.linear_1": "label_emb.0.0",
  "add_embedding.linear_2": "label_emb.0.2",
  conv_in: "input_blocks.0.0",
  conv_norm_out: "out.0",
  conv_out: "out.2",
};

const SGM_RESNET: Readonly<Record<string, string>> = {
  norm1: "in_layers.0",
  norm2: "out_layers.0",
  conv1: "in_layers.2",
  conv2: "out_layers.3",
  time_emb_proj: "emb_layers.1",
  conv_shortcut: "skip_connection",
};

const MID_BLOCKS: Readonly<Record<string, number>> = { "resnets.0": 0, "attentions.0": 1, "resnets.1": 2 };

/** The names of a UNet's module in Stability's code: one, none, or two where it depends on the block. */
function sgmNames(module: string, layers: number): string[] {
  const whole = SGM_WHOLE[module];
  if (whole !== undefined) return [whole];
  const match =
    /^(?:(down|up)_blocks\.(\d+)|(mid)_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)$/.exec(module);
  if (match === null) return [];
  const [, side, blockText, , part = "", layerText, rest = ""] = match;
  const layer = Number(layerText);
  const inner = part === "resnets" ? SGM_RESNET[rest] : rest;
  if (inner === undefined) return [];
  if (side === undefined) {
    const place = MID_BLOCKS[`${part}.${layer}`];
    return place === undefined ? [] : [`middle_block.${place}.${inner}`];
  }
  const first = Number(blockText) * (layers + 1);
  if (side === "down") {
    if (part === "downsamplers") return [`input_blocks.${1 + first + layers}.0.op`];
    return [`input_blocks.${1 + first + layer}.${part === "resnets" ? 0 : 1}.${inner}`];
  }
  // After the resnet comes the attention, if the block has one, and then the upsampler.
  if (part === "upsamplers") return [1, 2].map((place) => `output_blocks.${first + layers}.${place}.conv`);
  return [`output_blocks.${first + layer}.${part === "resnets" ? 0 : 1}.${inner}`];
}

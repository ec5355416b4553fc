/**
 * Adapter files: LoRA (Hu et al. 2021, arXiv:2106.09685) and its kin, from any trainer.
 *
 * This file finds the tensors in any of the namings of `lora-names.ts`, and puts those of a module together;
 * `lora-changes.ts` says how they change it. The arithmetic is the GPU's work. OFT, which turns weights, is refused.
 */

import { listed, quoted } from "../platform/quoted.ts";
import { ELEMENT_BYTES, isFloatType, toFloat32 } from "./element-types.ts";
import { WeightsError } from "./errors.ts";
import { changesAnything, type LoraDelta, type ModuleShape, moduleChanges } from "./lora-changes.ts";
import { LARGEST_ALPHA, type LoraConfig, readLoraConfigs } from "./lora-config.ts";
import { kohyaNames, type LoraComponent, type LoraPart, parseLoraKey, withoutPart } from "./lora-names.ts";
import type { FileSource } from "./regular-file.ts";
import { openSafetensors } from "./safetensors.ts";
import { kindOfTensors } from "./tensor-kind.ts";
import type { TensorEntry } from "./tensor-set.ts";

export type { LoraDelta, ModuleShape } from "./lora-changes.ts";
export type { LoraComponent } from "./lora-names.ts";

/** A model's modules that have a weight, by the module's name (the tensor's, without ".weight"). */
export type ModuleShapes = ReadonlyMap<string, ModuleShape>;

export interface ResolveOptions {
  /** Layers in a block of the UNet, to number SGM blocks; counted in its first down block if left out. */
  readonly layersPerBlock?: number;
}

export interface LoraFile {
  /** Base name, for messages. */
  readonly file: string;
  /** The components that the file changes. */
  readonly components: ReadonlySet<LoraComponent>;
  readonly totalBytes: number;
  /**
   * The changes to one component, in the order of the file. Where a file has a module twice, under diffusers' name and
   * under SGM's, the tensors under diffusers' name count and the others are left out, as diffusers does.
   * Modules that the component does not have are left out (`leftOut`).
   * @throws WeightsError "weights-shape", "weights-dtype" or "lora-format" for tensors that do not fit.
   */
  resolve(component: LoraComponent, modules: ModuleShapes, options?: ResolveOptions): LoraDelta[];
  /**
   * Modules, as the file names them, and tensors that none of these components has a place for, in the order of the file:
   * another text encoder, an embedding, leftovers of training. Empty if the whole file is applied.
   * @throws WeightsError "lora-module" if nothing of the file fits, or nothing of its many changes to the denoiser.
   */
  leftOut(components: Partial<Record<LoraComponent, ModuleShapes>>, options?: ResolveOptions): string[];
  close(): Promise<void>;
}

/** The tensors of one module, as the file has them. */
interface Group {
  readonly component: LoraComponent;
  readonly underscored: boolean;
  readonly module: string;
  readonly parts: Map<LoraPart, TensorEntry>;
  /** Value of the `alpha` tensor. */
  alpha?: number;
  /** Value of the `on_input` tensor. */
  onInput?: boolean;
}

/**
 * Opens a LoRA file: reads its header and the alphas. The caller closes it.
 * @throws WeightsError where it is not a sound safetensors file, has no LoRA, or is an adapter of a kind that is not read.
 */
export async function openLora(source: FileSource, options: { name?: string } = {}): Promise<LoraFile> {
  const set = await openSafetensors(source, { ...options, longestHeader: LONGEST_HEADER });
  const file = set.source;
  try {
    const count = [...set.names()].length;
    if (count > MOST_TENSORS)
      throw new WeightsError("lora-format", `holds ${count} tensors, more than the ${MOST_TENSORS} allowed`, { file });
    const groups = new Map<string, Group>();
    const foreign: string[] = [];
    for (const name of set.names()) if (!addToGroup(groups, set.get(name)!)) foreign.push(name);
    const all = [...groups.values()].filter(changesAnything);
    foreign.push(...[...groups.values()].filter((group) => !changesAnything(group)).map(baseName));
    if (all.length === 0) throw new WeightsError("lora-format", reasonOfNone(set.names()), { file });
    for (const group of all) {
      const alpha = group.parts.get("alpha");
      if (alpha !== undefined) group.alpha = await readNumber(alpha);
      const onInput = group.parts.get("on_input");
      if (onInput !== undefined) group.onInput = (await readNumber(onInput)) !== 0;
    }
    const configs = readLoraConfigs(set.metadata, file);
    return {
      file,
      components: new Set(all.map((group) => group.component)),
      totalBytes: set.totalBytes,
      resolve: (component, modules, resolveOptions) =>
        resolve(
          all.filter((group) => group.component === component),
          component,
          modules,
          { file, config: configs.get(component), ...resolveOptions },
        ),
      leftOut: (components, resolveOptions) => {
        const unknown = all.filter(unknownIn(components, resolveOptions));
        checkFits(all, unknown, file);
        return [...unknown.map(baseName), ...foreign];
      },
      close: () => set.close(),
    };
  } catch (error) {
    await set.close();
    throw error;
  }
}

/** Those of SDXL's UNet and both text encoders are some 3000, in half a megabyte, with as much text as a trainer adds. */
const MOST_TENSORS = 20_000;
const LONGEST_HEADER = 16 * 2 ** 20;

/** Adapters of other kinds, by a piece of their tensors' names. */
const OTHER_ADAPTERS = /\.oft_|\.boft_/;

/** The reason that a file is no LoRA, by what it has instead. */
function reasonOfNone(names: Iterable<string>): string {
  const kind = kindOfTensors(names);
  if (kind === "embedding")
    return "is a textual-inversion embedding, not a LoRA: put it into the folder of embeddings (embedding_dir)";
  return `holds no LoRA tensors${kind === undefined || kind === "LoRA" ? "" : `: it is ${kind}`}`;
}

/** @throws WeightsError if a file is for another kind of model */
function checkFits(all: readonly Group[], unknown: readonly Group[], file: string): void {
  const ofDenoiser = (groups: readonly Group[]) => groups.filter(({ component }) => component === "unet").length;
  const fitting = all.length - unknown.length;
  // Text encoders are alike in many kinds of models: the words alone of a picture's style are not that style.
  const lacksDenoiser = ofDenoiser(unknown) > fitting && ofDenoiser(unknown) === ofDenoiser(all);
  if (fitting > 0 && !lacksDenoiser) return;
  const [which, first] = [unknown.length === 1 ? "a module" : `${unknown.length} modules`, unknown.map(baseName)];
  const reason = `changes ${which} that this model does not have (is it for another kind of model?)`;
  throw new WeightsError("lora-module", `${reason}: ${listed(first.map(quoted), 3)}`, { file });
}

/** True if the tensor is part of a LoRA by its name. */
function addToGroup(groups: Map<string, Group>, entry: TensorEntry): boolean {
  const details = { file: entry.file, tensor: entry.name };
  if (OTHER_ADAPTERS.test(entry.name)) {
    const reason = "belongs to OFT (an orthogonal adapter), which is not supported; LoRA, LoHa, LoKr and DoRA are";
    throw new WeightsError("lora-format", reason, details);
  }
  const key = parseLoraKey(entry.name);
  if (key === undefined) return false;
  const id = `${key.component}/${key.underscored ? "_" : "."}/${key.module}`;
  let group = groups.get(id);
  if (group === undefined) groups.set(id, (group = { ...key, parts: new Map() }));
  const earlier = group.parts.get(key.part);
  if (earlier !== undefined)
    throw new WeightsError("lora-format", `is the same part of the same module as ${quoted(earlier.name)}`, details);
  group.parts.set(key.part, entry);
  return true;
}

/** The one number in a tensor of any numeric type that torch saves a Python number as. */
async function readNumber(entry: TensorEntry): Promise<number> {
  const details = { file: entry.file, tensor: entry.name };
  if (entry.byteLength !== ELEMENT_BYTES[entry.dtype])
    throw new WeightsError(
      "weights-shape",
      `is [${entry.shape.slice(0, 8).join(", ")}], where a single number is expected`,
      details,
    );
  const bytes = new Uint8Array(entry.byteLength);
  await entry.read(bytes);
  const view = new DataView(bytes.buffer);
  let value: number;
  if (isFloatType(entry.dtype)) value = toFloat32(bytes, entry.dtype)[0]!;
  else if (entry.dtype === "F64") value = view.getFloat64(0, true);
  else if (entry.dtype === "I32") value = view.getInt32(0, true);
  else if (entry.dtype === "I64") value = Number(view.getBigInt64(0, true));
  else if (entry.dtype === "BOOL") value = view.getUint8(0);
  else throw new WeightsError("weights-dtype", `is ${entry.dtype}, which no alpha is`, details);
  if (!(Math.abs(value) <= LARGEST_ALPHA))
    throw new WeightsError(
      "lora-format",
      `is ${value}, where a number from -${LARGEST_ALPHA} to ${LARGEST_ALPHA} is expected`,
      details,
    );
  return value;
}

/** A name of the group's that stands in the file, for messages. */
function baseName(group: Group): string {
  const first: TensorEntry = group.parts.values().next().value!;
  return withoutPart(first.name);
}

/** Finds the model's name for a group's module. */
function finder(component: LoraComponent, modules: ModuleShapes, options: ResolveOptions = {}) {
  // Made when first needed: only kohya's files, and names in Stability's words, are looked up in it.
  let names: ReturnType<typeof kohyaNames> | undefined;
  return (group: Group): { module: string; sgm: boolean } | undefined => {
    if (!group.underscored && modules.has(group.module)) return { module: group.module, sgm: false };
    names ??= kohyaNames(component, modules.keys(), options.layersPerBlock);
    const found = names.get(group.module.replaceAll(".", "_"));
    // A dotted name that is not the model's own may be Stability's; nobody writes the model's own half dotted.
    return group.underscored || found?.sgm ? found : undefined;
  };
}

function unknownIn(components: Partial<Record<LoraComponent, ModuleShapes>>, options?: ResolveOptions) {
  const finders = new Map(
    (Object.entries(components) as [LoraComponent, ModuleShapes | undefined][])
      .filter(([, modules]) => modules !== undefined)
      .map(([component, modules]) => [component, finder(component, modules!, options)] as const),
  );
  return (group: Group) => finders.get(group.component)?.(group) === undefined;
}

function resolve(
  groups: readonly Group[],
  component: LoraComponent,
  modules: ModuleShapes,
  context: ResolveOptions & { file: string; config: LoraConfig | undefined },
): LoraDelta[] {
  const find = finder(component, modules, context);
  const chosen = new Map<string, { group: Group; sgm: boolean }>();
  for (const group of groups) {
    const found = find(group);
    if (found === undefined) continue;
    const earlier = chosen.get(found.module);
    if (earlier !== undefined && earlier.sgm === found.sgm)
      throw new WeightsError(
        "lora-format",
        `${quoted(baseName(earlier.group))} and ${quoted(baseName(group))} are the same module`,
        { file: context.file },
      );
    if (earlier === undefined || earlier.sgm) chosen.set(found.module, { group, sgm: found.sgm });
  }
  return Array.from(chosen).flatMap(([module, { group }]) => {
    const { parts, alpha, onInput } = group;
    return moduleChanges({ name: baseName(group), parts, alpha, onInput }, module, modules.get(module)!, context);
  });
}

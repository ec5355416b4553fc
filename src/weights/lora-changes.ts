/**
 * How the tensors of an adapter change a module: which of them belong together, and whether their shapes fit.
 *
 * A weight is a matrix `[out, in]`, or a convolution `[out, in, kh, kw]`, whose kernel has `taps` = kh · kw places. Its
 * change at strength 1 is scale · D, and D is one factor, or two:
 *
 *     LoRA, LoCon   up · down                      scale = alpha / rank, or 1 where the file has no alpha
 *     LoHa          (w1_a · w1_b) ∘ (w2_a · w2_b)  element by element (Hyeon-Woo et al. 2022, arXiv:2108.06098)
 *     LoKr          w1 ⊗ w2                        Kronecker's product; each is whole, or a product; scale 1 if both are whole
 *     difference    diff                           scale 1
 *
 * A product may have a core between its matrices, for a kernel (LoCon's `lora_mid`, Tucker's form of LoHa and LoKr):
 *
 *     F[o, i, y, x] = Σ_r Σ_s up[o, r] · core[r, s, y, x] · down[s, i]
 *
 * With a magnitude (DoRA: Liu et al. 2024, arXiv:2402.09353) the weight becomes V · (1 + t · (m / ‖V‖ − 1)), where V is
 * W + q · D and the norm is of each output's weights, or of each input's. LyCORIS has q = scale and t = strength, PEFT
 * q = strength · scale and t = 1; at strength 1 they agree. IA³ (Liu et al. 2022, arXiv:2205.05638) is W · (1 + strength · w)
 * with a number for each output, or each input. Biases and the weights of norms are changed by a difference.
 */

import { quoted } from "../platform/quoted.ts";
import { isFloatType } from "./element-types.ts";
import { WeightsError } from "./errors.ts";
import type { LoraConfig } from "./lora-config.ts";
import type { LoraPart } from "./lora-names.ts";
import { sameWeight } from "./manifest.ts";
import type { TensorEntry } from "./tensor-set.ts";

/** A module of a model: its weight's shape (one axis: a norm), and whether it has a bias. */
export interface ModuleShape {
  readonly weight: readonly number[];
  readonly hasBias: boolean;
}

interface Extent {
  readonly rows: number;
  readonly columns: number;
  readonly taps: number;
}

/** `[rows, columns, taps]`, written out. */
export interface WholeFactor extends Extent {
  readonly kind: "whole";
  readonly values: TensorEntry;
}

/** `[rows, columns, taps]` as a product over a rank. */
export interface ProductFactor extends Extent {
  readonly kind: "product";
  readonly rank: number;
  /** `[rows, rank]`, or `[rank, rows]` in Tucker's form of LoHa and LoKr. */
  readonly up: TensorEntry;
  readonly isUpTransposed: boolean;
  /** `[rank, columns, taps]`; `[rank, columns]` if there is a core. */
  readonly down: TensorEntry;
  /** `[rank, rank, taps]` */
  readonly core?: TensorEntry;
}

export type Factor = WholeFactor | ProductFactor;

/** The channels along which an adapter has one number each. */
export type ChannelAxis = "outputs" | "inputs";

export interface Magnitude {
  readonly values: TensorEntry;
  readonly axis: ChannelAxis;
  readonly rule: "lycoris" | "peft";
}

/** A change of a weight that is a matrix or a convolution. */
export interface MatrixDelta {
  readonly kind: "matrix";
  /** The model's own name, such as "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q". */
  readonly module: string;
  /** The factor of D at strength 1. */
  readonly scale: number;
  /** D itself, or its two factors: element by element if both are as large as the weight, else by Kronecker's product. */
  readonly factors: readonly [Factor] | readonly [Factor, Factor];
  readonly magnitude?: Magnitude;
}

/** A weight times numbers of its channels. */
export interface GainDelta {
  readonly kind: "gain";
  readonly module: string;
  readonly scale: number;
  readonly values: TensorEntry;
  readonly axis: ChannelAxis;
}

/** A difference of a bias, or of a norm's weight. */
export interface VectorDelta {
  readonly kind: "vector";
  readonly module: string;
  readonly scale: number;
  readonly of: "weight" | "bias";
  readonly values: TensorEntry;
}

export type LoraDelta = MatrixDelta | GainDelta | VectorDelta;

/** The tensors of one module, as a file has them. */
export interface ModuleParts {
  /** The module, as the file names it. */
  readonly name: string;
  readonly parts: ReadonlyMap<LoraPart, TensorEntry>;
  /** Value of the `alpha` tensor. */
  readonly alpha: number | undefined;
  /** Value of `on_input` (IA³). */
  readonly onInput: boolean | undefined;
}

export interface ChangeContext {
  readonly file: string;
  readonly config: LoraConfig | undefined;
}

/** Trained with up to a few hundred; merging a module sums over it. */
const LARGEST_RANK = 8192;

const FAMILIES = {
  LoRA: ["down", "up", "mid"],
  LoHa: ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"],
  LoKr: ["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"],
  "a whole difference": ["diff", "w_norm"],
  "IA³": ["gain"],
} as const satisfies Readonly<Record<string, readonly LoraPart[]>>;

type FamilyName = keyof typeof FAMILIES;

/** True if these parts change anything: a scale or a magnitude alone does not. */
export function changesAnything({ parts }: Pick<ModuleParts, "parts">): boolean {
  if (parts.has("gain")) return parts.has("on_input");
  const all: readonly LoraPart[] = [...Object.values(FAMILIES).flat(), "diff_b", "b_norm", "up_bias"];
  return all.some((part) => parts.has(part));
}

/**
 * The changes of a module's weight and bias.
 * @throws WeightsError "weights-shape", "weights-dtype" or "lora-format", naming the tensor, if its parts do not fit
 */
export function moduleChanges(
  group: ModuleParts,
  module: string,
  shape: ModuleShape,
  context: ChangeContext,
): LoraDelta[] {
  return new ModuleReader(group, module, shape, context).changes();
}

class ModuleReader {
  readonly #group: ModuleParts;
  readonly #module: string;
  readonly #shape: ModuleShape;
  readonly #context: ChangeContext;

  constructor(group: ModuleParts, module: string, shape: ModuleShape, context: ChangeContext) {
    this.#group = group;
    this.#module = module;
    this.#shape = shape;
    this.#context = context;
  }

  changes(): LoraDelta[] {
    const { parts } = this.#group;
    for (const [part, entry] of parts) {
      if (part !== "alpha" && part !== "on_input" && !isFloatType(entry.dtype))
        throw this.#error("weights-dtype", `is ${entry.dtype}, where F32, F16, BF16 or FP8 is expected`, entry);
    }
    const families = (Object.keys(FAMILIES) as FamilyName[]).filter((family) =>
      FAMILIES[family].some((part) => parts.has(part)),
    );
    if (families.length > 1) throw this.#error("lora-format", `is both ${families.join(" and ")}`);
    const weight = families[0] && this.#weightChange(families[0]);
    return [...(weight ? [weight] : []), ...this.#biasChanges(weight?.scale ?? 1)];
  }

  #weightChange(family: FamilyName): LoraDelta {
    const { weight } = this.#shape;
    if (weight.length === 1 && family === "a whole difference") return this.#vector("weight", this.#whole(), 1);
    if (weight.length !== 2 && weight.length !== 4) {
      const reason = `changes ${this.#module} [${weight.join(", ")}], which is no matrix or convolution`;
      throw this.#error("weights-shape", reason, this.#first(FAMILIES[family]));
    }
    const [rows, columns, kh = 1, kw = 1] = weight as [number, number, number?, number?];
    const extent = { rows, columns, taps: kh * kw };
    if (family === "IA³") return this.#gain(rows, columns);
    const magnitude = this.#magnitude(rows, columns);
    const matrix = { kind: "matrix", module: this.#module, ...(magnitude && { magnitude }) } as const;
    switch (family) {
      case "LoRA":
        return { ...matrix, ...this.#lora(extent, [kh, kw]) };
      case "LoHa":
        return { ...matrix, ...this.#loha(extent) };
      case "LoKr":
        return { ...matrix, ...this.#lokr(extent) };
      case "a whole difference": {
        const values = this.#whole();
        this.#expect(values, weight);
        return { ...matrix, scale: 1, factors: [{ kind: "whole", values, ...extent }] };
      }
      default:
        return family satisfies never;
    }
  }

  #whole(): TensorEntry {
    const { parts } = this.#group;
    return this.#part(parts.has("diff") ? "diff" : "w_norm");
  }

  #lora(extent: Extent, [kh, kw]: readonly [number, number]): Pick<MatrixDelta, "scale" | "factors"> {
    const { rows, columns } = extent;
    const [down, up] = [this.#part("down", "down matrix"), this.#part("up", "up matrix")];
    const core = this.#group.parts.get("mid");
    const rank = this.#rank(down);
    this.#expect(down, core === undefined ? [rank, columns, kh, kw] : [rank, columns]);
    this.#expect(up, [rows, rank]);
    if (core !== undefined) this.#expect(core, [rank, rank, kh, kw]);
    const factor: Factor = { kind: "product", ...extent, rank, up, isUpTransposed: false, down, ...(core && { core }) };
    return { scale: this.#scale(rank), factors: [factor] };
  }

  #loha(extent: Extent): Pick<MatrixDelta, "scale" | "factors"> {
    const { parts } = this.#group;
    if (parts.has("hada_t1") !== parts.has("hada_t2"))
      throw this.#error("lora-format", `has no ${parts.has("hada_t1") ? "hada_t2" : "hada_t1"}`);
    const first = this.#product("hada_w1_a", "hada_w1_b", extent, parts.get("hada_t1"));
    const second = this.#product("hada_w2_a", "hada_w2_b", extent, parts.get("hada_t2"));
    return { scale: this.#scale(first.rank), factors: [first, second] };
  }

  #lokr({ rows, columns, taps }: Extent): Pick<MatrixDelta, "scale" | "factors"> {
    const { parts } = this.#group;
    const whole = parts.get("lokr_w1");
    const [outer, inner] = whole
      ? [whole.shape[0], whole.shape[1]]
      : [this.#part("lokr_w1_a").shape[0], this.#part("lokr_w1_b").shape[1]];
    if (!outer || !inner || rows % outer !== 0 || columns % inner !== 0 || (whole && whole.shape.length !== 2)) {
      const reason = `does not divide ${this.#module} [${this.#shape.weight.join(", ")}]`;
      throw this.#error(
        "weights-shape",
        `is [${this.#shapeOf(whole ?? this.#part("lokr_w1_a"))}], which ${reason}`,
        whole,
      );
    }
    const outerExtent = { rows: outer, columns: inner, taps: 1 };
    const innerExtent = { rows: rows / outer, columns: columns / inner, taps };
    const first: Factor = whole
      ? { kind: "whole", values: whole, ...outerExtent }
      : this.#product("lokr_w1_a", "lokr_w1_b", outerExtent);
    const second = this.#secondOfLokr(innerExtent);
    const rank = second.kind === "product" ? second.rank : first.kind === "product" ? first.rank : undefined;
    return { scale: rank === undefined ? 1 : this.#scale(rank), factors: [first, second] };
  }

  #secondOfLokr(extent: Extent): Factor {
    const values = this.#group.parts.get("lokr_w2");
    if (values === undefined) return this.#product("lokr_w2_a", "lokr_w2_b", extent, this.#group.parts.get("lokr_t2"));
    this.#expectRows(values, extent.rows, extent.columns * extent.taps);
    return { kind: "whole", values, ...extent };
  }

  /** A product of LyCORIS' matrices `a` `[rows, rank]` and `b` `[rank, columns · taps]`, or of Tucker's. */
  #product(a: LoraPart, b: LoraPart, extent: Extent, core?: TensorEntry): ProductFactor {
    const { rows, columns, taps } = extent;
    const [up, down] = [this.#part(a), this.#part(b)];
    const rank = this.#rank(down);
    const isUpTransposed = core !== undefined;
    if (core !== undefined) {
      this.#expectRows(core, rank, rank * taps);
      this.#expectRows(up, rank, rows);
      this.#expectRows(down, rank, columns);
    } else {
      this.#expectRows(up, rows, rank);
      this.#expectRows(down, rank, columns * taps);
    }
    return { kind: "product", ...extent, rank, up, isUpTransposed, down, ...(core && { core }) };
  }

  #gain(rows: number, columns: number): GainDelta {
    const values = this.#part("gain");
    const axis = this.#group.onInput ? "inputs" : "outputs";
    const count = axis === "inputs" ? columns : rows;
    if (values.byteLength === 0 || elementsOf(values) !== count)
      throw this.#error("weights-shape", `is [${this.#shapeOf(values)}], where ${count} numbers are expected`, values);
    return { kind: "gain", module: this.#module, scale: 1, values, axis };
  }

  /** `[outputs, 1, …]` or PEFT's `[outputs]` has a number for each output; `[1, inputs, …]` one for each input. */
  #magnitude(rows: number, columns: number): Magnitude | undefined {
    const { parts } = this.#group;
    const peft = parts.get("magnitude");
    const values = peft ?? parts.get("dora_scale");
    if (values === undefined) return undefined;
    const count = elementsOf(values);
    const isOfOutputs = count === rows && (peft !== undefined || values.shape[0] === rows);
    if (isOfOutputs) return { values, axis: "outputs", rule: peft ? "peft" : "lycoris" };
    if (count === columns && peft === undefined && values.shape[0] === 1)
      return { values, axis: "inputs", rule: "lycoris" };
    const reason = `is [${this.#shapeOf(values)}], where a magnitude of each of ${rows} outputs or ${columns} inputs is expected`;
    throw this.#error("weights-shape", reason, values);
  }

  #biasChanges(scale: number): VectorDelta[] {
    const { parts } = this.#group;
    const differences = (["diff_b", "b_norm"] as const).filter((part) => parts.has(part));
    return [
      ...differences.map((part) => this.#vector("bias", this.#part(part), 1)),
      ...(parts.has("up_bias") ? [this.#vector("bias", this.#part("up_bias"), scale)] : []),
    ];
  }

  #vector(of: VectorDelta["of"], values: TensorEntry, scale: number): VectorDelta {
    const channels = this.#shape.weight[0]!;
    if (of === "bias" && !this.#shape.hasBias)
      throw this.#error("lora-module", `changes the bias of ${this.#module}, which has none`, values);
    if (values.shape.length !== 1 || values.shape[0] !== channels) {
      const reason = `is [${this.#shapeOf(values)}], where [${channels}] is expected for the ${of} of ${this.#module}`;
      throw this.#error("weights-shape", reason, values);
    }
    return { kind: "vector", module: this.#module, scale, of, values };
  }

  #scale(rank: number): number {
    const { alpha } = this.#group;
    return alpha === undefined ? (this.#context.config?.scale(this.#module, rank) ?? 1) : alpha / rank;
  }

  #rank(down: TensorEntry): number {
    const rank = down.shape[0] ?? 0;
    if (rank < 1) throw this.#error("weights-shape", "has no rank", down);
    if (rank > LARGEST_RANK)
      throw this.#error("weights-shape", `has rank ${rank}, more than the ${LARGEST_RANK} allowed`, down);
    return rank;
  }

  #part(part: LoraPart, called: string = part): TensorEntry {
    const entry = this.#group.parts.get(part);
    if (entry === undefined) throw this.#error("lora-format", `${quoted(this.#group.name)} has no ${called}`);
    return entry;
  }

  #first(parts: readonly LoraPart[]): TensorEntry {
    return this.#group.parts.get(parts.find((part) => this.#group.parts.has(part))!)!;
  }

  /** A 1×1 kernel may be written out or left away. */
  #expect(entry: TensorEntry, shape: readonly number[]): void {
    const wanted = shape.length === 4 && shape[2] === 1 && shape[3] === 1 ? shape.slice(0, 2) : shape;
    if (!sameWeight(entry.shape, wanted)) throw this.#unlike(entry, wanted);
  }

  /** The axes behind the first may be written as one. */
  #expectRows(entry: TensorEntry, rows: number, others: number): void {
    if (entry.shape[0] !== rows || elementsOf(entry) !== rows * others) throw this.#unlike(entry, [rows, others]);
  }

  #unlike(entry: TensorEntry, wanted: readonly number[]): WeightsError {
    const whole = `${this.#module} [${this.#shape.weight.join(", ")}]`;
    const reason = `is [${this.#shapeOf(entry)}], where [${wanted.join(", ")}] is expected for ${whole}`;
    return this.#error("weights-shape", reason, entry);
  }

  #shapeOf({ shape }: TensorEntry): string {
    return shape.slice(0, 8).join(", ");
  }

  #error(code: WeightsError["code"], reason: string, entry?: TensorEntry): WeightsError {
    return new WeightsError(code, reason, { file: this.#context.file, ...(entry && { tensor: entry.name }) });
  }
}

function elementsOf({ shape }: TensorEntry): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The networks beside a UNet in one step: which there are, what they add to the UNet, and what is written for a slot. */

import { type ControlUse, isActive } from "../../diffusion/control.ts";
import type { Encoders, StepPlace, StepShape } from "../../diffusion/model.ts";
import { preprocessorSpec, preprocessWith } from "../../diffusion/preprocess.ts";
import { PipelineError, type RunShape } from "../../diffusion/request.ts";
import type { Plan } from "../../graph/plan.ts";
import type { Recorder } from "../../graph/recorder.ts";
import type { UnetControl } from "../../models/unet.ts";
import type { PartInput, PartPlace, UnetPart } from "./part.ts";

/** Networks of one request, with the values that their inputs have. */
export interface ControlConditioning {
  readonly parts: readonly PartConditioning[];
}

interface PartConditioning {
  readonly part: UnetPart;
  readonly use: ControlUse;
  readonly inputs: readonly PartInput[];
}

/** A network of a step, with the pictures that it reads at once: those of a union. */
interface Place {
  readonly part: UnetPart;
  readonly pictures: number;
}

const FACTORS = "control factors";

export class UnetControls {
  /** Networks that requests have brought, by id. */
  readonly #parts = new Map<string, UnetPart>();

  /** The part of a step's shape that says which networks it has; nothing if it has none. */
  shape({ controls = [] }: Pick<RunShape, "controls">): { readonly control?: string } {
    if (controls.length === 0) return {};
    const places = grouped(controls).map(([use, ...others]) => {
      const part = use!.network as UnetPart;
      this.#parts.set(part.id, part);
      return [part.id, 1 + others.length];
    });
    return { control: JSON.stringify(places) };
  }

  /** Components that the networks of a step read. */
  needs({ control }: StepShape): readonly string[] {
    return [...new Set(this.#places(control).map(({ part }) => part.id))];
  }

  /** Records the networks; undefined if the step has none. */
  record(g: Recorder, shape: StepShape, inputs: Omit<PartPlace, "name" | "pictures" | "factors" | "firstColumn">) {
    const places = this.#places(shape.control);
    if (places.length === 0) return undefined;
    const columns = places.reduce((sum, { part }) => sum + part.columns, 0);
    const factors = g.input(FACTORS, [inputs.rows, columns], { element: "f32" });
    let firstColumn = 0;
    const made = places.map(({ part, pictures }, index) => {
      const control = part.record(g, { ...inputs, name: nameOf(index), pictures, factors, firstColumn });
      firstColumn += part.columns;
      return control;
    });
    return joined(made);
  }

  /** Reads the pictures. @throws PipelineError naming the field of one that does not fit */
  async encode(
    request: Pick<RunShape, "controls" | "width" | "height">,
    { branches }: StepShape,
    encoders: Encoders,
  ): Promise<ControlConditioning | undefined> {
    const { controls = [], width, height } = request;
    if (controls.length === 0) return undefined;
    const parts: PartConditioning[] = [];
    for (const uses of grouped(controls)) {
      const [use] = uses as [ControlUse];
      const part = use.network as UnetPart;
      const ready: ControlUse[] = [];
      for (const one of uses) ready.push(await preprocessed(one, encoders));
      parts.push({ part, use, inputs: await part.encode(ready, { width, height, branches }, encoders) });
    }
    return { parts };
  }

  async writeConditioning(
    plan: Plan,
    shape: StepShape,
    slot: number,
    { parts }: ControlConditioning,
    timeRows: number,
  ) {
    for (const [index, { inputs }] of parts.entries()) {
      for (const { name, values, isOfTime } of inputs) {
        const rows = isOfTime ? timeRows : shape.slots * shape.branches;
        for (const [branch, own] of values.entries()) {
          const row = branch * shape.slots + slot;
          if (row < rows) await plan.writeInTurns(`${nameOf(index)} ${name}`, own, row);
        }
      }
    }
  }

  /** Writes how much each network counts in a step. */
  writeFactors(plan: Plan, shape: StepShape, slot: number, step: StepPlace, { parts }: ControlConditioning) {
    for (let branch = 0; branch < shape.branches; branch++) {
      const isNegative = shape.branches > 1 && branch === 0;
      const factors = parts.flatMap(({ part, use }) => {
        const own = part.factors(use.scale, { isNegative, isGuess: use.isGuess ?? false });
        return isActive(use, step.index, step.rows.length) ? [...own] : new Array<number>(own.length).fill(0);
      });
      plan.write(FACTORS, Float32Array.from(factors), branch * shape.slots + slot);
    }
  }

  #places(control: StepShape[string] | undefined): readonly Place[] {
    if (typeof control !== "string") return [];
    return (JSON.parse(control) as [string, number][]).map(([id, pictures]) => ({
      part: this.#parts.get(id)!,
      pictures,
    }));
  }
}

/** The use with the picture that its preprocessor makes. */
async function preprocessed(use: ControlUse, encoders: Encoders): Promise<ControlUse> {
  const { preprocess: name, picture } = use;
  if (name === undefined) return use;
  const { made } = await encoders.picture(preprocessorSpec(name, picture), [picture.digest], async (plan) => {
    const done = await preprocessWith(plan, name, picture);
    return { made: done, bytes: done.values.byteLength };
  });
  return { ...use, picture: made };
}

/** Uses by network: pictures of one union that count alike are read together. */
function grouped(controls: readonly ControlUse[]): ControlUse[][] {
  const groups: ControlUse[][] = [];
  for (const use of controls) {
    const known = groups.find(([first]) => first !== undefined && isTogether(first, use));
    if (known) known.push(use);
    else groups.push([use]);
  }
  return groups;
}

function isTogether(one: ControlUse, other: ControlUse): boolean {
  const isUnion = one.network.modes !== undefined && one.network.id === other.network.id;
  return (
    isUnion &&
    one.isGuess === other.isGuess &&
    one.scale === other.scale &&
    one.start === other.start &&
    one.end === other.end
  );
}

function nameOf(index: number): string {
  return `control ${index}`;
}

function joined(controls: readonly UnetControl[]): UnetControl {
  return {
    residuals: controls.flatMap(({ residuals = [] }) => residuals),
    features: controls.flatMap(({ features = [] }) => features),
    references: controls.flatMap(({ references = [] }) => references),
  };
}

/** @throws PipelineError naming the entry whose picture is not of the request's size */
export function checkPictures({ controls = [], width, height }: Pick<RunShape, "controls" | "width" | "height">): void {
  for (const { field, network, picture } of controls) {
    if (network.readsAnySize || (picture.width === width && picture.height === height)) continue;
    const reason = `is ${picture.width}x${picture.height}, and the picture to draw is ${width}x${height}`;
    throw new PipelineError(`${field}.image`, reason);
  }
}

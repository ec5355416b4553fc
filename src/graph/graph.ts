/**
 * A graph while it is recorded: its tensors, operations and parameters, and the scope that layers are named in. The
 * operations themselves are functions over it, in `ops/`; models call them as methods of `Recorder`.
 *
 * It also collects the parameters that the model wants, with their names and shapes in the checkpoint: that list is the
 * one truth that a weight file is checked against.
 */

import { GraphError } from "./errors.ts";
import type { OperationBase } from "./operation.ts";
import {
  type Element,
  type HeadPadding,
  type MatrixParameter,
  type Parameter,
  type ParameterPart,
  quads,
  type Tensor,
  type VectorParameter,
} from "./tensor.ts";

/**
 * The statistics of group norms that leave or enter the plan, as `shaders/group_norm_stats.wgsl` lays them out: partial
 * means and squared deviations. By default they do neither.
 */
export interface NormStatistics {
  /** Those of each row of pixels, as outputs `statistics out <layer>`. */
  readonly output?: boolean;
  /** Those to normalise with, of all pixels as one chunk, as inputs `statistics in <layer>`. */
  readonly input?: boolean;
}

export interface GraphOptions {
  readonly statistics?: NormStatistics;
  /** The component that parameters belong to outside `component`. Default: `"model"`. */
  readonly component?: string;
}

const DEFAULT_COMPONENT = "model";

export class Graph {
  readonly operations: OperationBase[] = [];
  /** The parameters of each component, by key. */
  readonly components = new Map<string, Map<string, Parameter>>();
  readonly inputs = new Map<string, Tensor>();
  readonly states = new Map<string, Tensor>();
  readonly outputs = new Map<string, Tensor>();
  /** Group norms whose statistics are measured or given, by layer: the picture's size, and channels. */
  readonly norms = new Map<string, { height: number; width: number; channels: number }>();
  readonly statistics: NormStatistics;
  #component: string;
  #scopes: readonly string[] = [];
  #nextId = 0;

  constructor(options: GraphOptions = {}) {
    this.statistics = options.statistics ?? {};
    this.#component = options.component ?? DEFAULT_COMPONENT;
    this.components.set(this.#component, new Map());
  }

  /** The parameters of the component that is being recorded, by key: all, if the graph is of one component. */
  get parameters(): ReadonlyMap<string, Parameter> {
    return this.parametersOf(this.#component);
  }

  parametersOf(component: string): ReadonlyMap<string, Parameter> {
    return this.components.get(component) ?? new Map();
  }

  /** Runs `build` with `name` added to the layers' names. */
  scope<T>(name: string, build: () => T): T {
    const outer = this.#scopes;
    this.#scopes = [...outer, name];
    try {
      return build();
    } finally {
      this.#scopes = outer;
    }
  }

  /**
   * Runs `build` with parameters that belong to another component: a ControlNet beside a UNet. Names of its layers begin
   * anew, as they do in its checkpoint.
   */
  component<T>(name: string, build: () => T): T {
    const [component, scopes] = [this.#component, this.#scopes];
    this.#component = name;
    this.#scopes = [];
    if (!this.components.has(name)) this.components.set(name, new Map());
    try {
      return build();
    } finally {
      this.#component = component;
      this.#scopes = scopes;
    }
  }

  /** A tensor that the caller writes before a replay. `constant`: it changes with the prompt, not with the step. */
  input(name: string, shape: readonly number[], options: { element?: Element; constant?: boolean } = {}): Tensor {
    const tensor = this.tensor(name, shape, { role: "input", ...options });
    this.inputs.set(name, tensor);
    return tensor;
  }

  /** An f32 tensor that lives from one replay to the next. */
  state(name: string, shape: readonly number[]): Tensor {
    const tensor = this.tensor(name, shape, { role: "state", element: "f32" });
    this.states.set(name, tensor);
    return tensor;
  }

  /** Names a tensor as a result of the plan, to be read after a replay. */
  output(name: string, tensor: Tensor): void {
    this.outputs.set(name, tensor);
  }

  /** A tensor that an operation is about to make. */
  tensor(
    name: string,
    shape: readonly number[],
    options: Partial<Pick<Tensor, "element" | "role" | "constant">> = {},
  ): Tensor {
    if (shape.some((size) => !Number.isInteger(size) || size < 1)) {
      throw new GraphError(`${name}: impossible shape [${shape}]`);
    }
    const { element = "stored", role = "computed", constant = false } = options;
    return { id: this.#nextId++, name, shape: [...shape], element, role, constant };
  }

  /** Records an operation, and gives its result. */
  push<T extends OperationBase>(operation: T): T {
    this.operations.push(operation);
    return operation;
  }

  /** Weights of a convolution or of linear layers side by side; the key is made of the names of the parts. */
  matrix(options: {
    parts: ParameterPart[];
    partChannels: number[];
    taps: number;
    inputs: number;
    outputHead?: HeadPadding | undefined;
    inputHead?: HeadPadding | undefined;
  }): MatrixParameter {
    const { inputs, inputHead, partChannels } = options;
    const storedInputs = inputHead ? (inputs / inputHead.width) * inputHead.padded : inputs;
    return this.register({
      kind: "matrix",
      key: options.parts.map((part) => part.name).join("+"),
      ...options,
      inputQuads: quads(storedInputs),
      outputQuads: quads(partChannels.reduce((sum, size) => sum + size, 0)),
    });
  }

  /** One tensor of the checkpoint, `[channels]`. */
  vector(name: string, suffix: string, channels: number): VectorParameter {
    const path = this.path(name, suffix);
    return this.register({
      kind: "vector",
      key: path,
      parts: [{ name: path, shape: [channels] }],
      partChannels: [channels],
      quads: quads(channels),
    });
  }

  /** The parameter of this key among those of the component, which is recorded if it is new. */
  register<T extends Parameter>(parameter: Omit<T, "component">): T {
    const parameters = this.components.get(this.#component)!;
    const known = parameters.get(parameter.key);
    if (known) return known as T;
    const made = { ...parameter, component: this.#component } as unknown as T;
    parameters.set(parameter.key, made);
    return made;
  }

  /** `[n, h, w, c]` of a picture. @throws GraphError if the tensor is none */
  picture(x: Tensor, name: string): [number, number, number, number] {
    if (x.shape.length !== 4) throw this.error(name, `wants [n, h, w, c], not [${x.shape}]`);
    return x.shape as unknown as [number, number, number, number];
  }

  /** A name of the checkpoint, with the scopes in front. */
  path(...names: string[]): string {
    return [...this.#scopes, ...names].filter((name) => name !== "").join(".");
  }

  error(name: string, reason: string): GraphError {
    return new GraphError(`${this.path(name)}: ${reason}`);
  }
}

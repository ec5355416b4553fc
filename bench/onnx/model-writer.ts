/**
 * Writes ONNX files: the few messages of onnx.proto that a network of plain operators needs, with protobufjs.
 * Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Weights larger than a protobuf
 * message may be (2 GB) go to a file of their own beside the model ("external data").
 */

import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import { basename } from "node:path";
import protobuf from "protobufjs";

const { root } = protobuf.parse(
  `
  syntax = "proto2";
  message ModelProto { optional int64 ir_version = 1; optional string producer_name = 2; optional GraphProto graph = 7; repeated OperatorSetIdProto opset_import = 8; }
  message OperatorSetIdProto { optional string domain = 1; optional int64 version = 2; }
  message GraphProto { repeated NodeProto node = 1; optional string name = 2; repeated TensorProto initializer = 5; repeated ValueInfoProto input = 11; repeated ValueInfoProto output = 12; }
  message NodeProto { repeated string input = 1; repeated string output = 2; optional string name = 3; optional string op_type = 4; repeated AttributeProto attribute = 5; optional string domain = 7; }
  message AttributeProto { optional string name = 1; optional float f = 2; optional int64 i = 3; optional bytes s = 4; repeated float floats = 7; repeated int64 ints = 8; optional int32 type = 20; }
  message TensorProto { repeated int64 dims = 1; optional int32 data_type = 2; optional string name = 8; optional bytes raw_data = 9; repeated StringStringEntryProto external_data = 13; optional int32 data_location = 14; }
  message StringStringEntryProto { optional string key = 1; optional string value = 2; }
  message ValueInfoProto { optional string name = 1; optional TypeProto type = 2; }
  message TypeProto { optional TensorTypeProto tensor_type = 1; }
  message TensorTypeProto { optional int32 elem_type = 1; optional TensorShapeProto shape = 2; }
  message TensorShapeProto { repeated DimensionProto dim = 1; }
  message DimensionProto { optional int64 dim_value = 1; }
`,
  { keepCase: true },
);
const Model = root.lookupType("ModelProto");

const FLOAT = 1;
const INT32 = 6;
const INT64 = 7;
const ATTRIBUTE = { float: 1, int: 2, string: 3, ints: 7 };
/** Opset 21 has GroupNormalization as it should have been; contrib operators are of com.microsoft, version 1. */
const OPSET = 21;
const IR_VERSION = 10;
/** An initializer over this many bytes is written beside the model, where there is a file beside it. */
const EXTERNAL_BYTES = 64 * 1024;

type Attributes = Record<string, number | string | readonly number[] | { float: number }>;

export interface NodeOptions {
  domain?: "com.microsoft";
  /** Integers become ints; give a float as `{ float }`. */
  attributes?: Attributes;
}

export interface ModelWriter {
  input(name: string, shape: readonly number[], type?: "float" | "int32"): string;
  output(name: string, shape: readonly number[]): void;
  weight(name: string, shape: readonly number[], values: Float32Array): string;
  /** A small constant of 64-bit integers: a shape, a permutation. */
  integers(values: readonly number[]): string;
  /** Adds an operator; gives the name of its result. `""` for an input that is left out. */
  node(operator: string, inputs: readonly string[], options?: NodeOptions): string;
  /** Cuts a tensor along its last axis. */
  split(x: string, sizes: readonly number[]): string[];
  /** Writes the file. */
  finish(): string;
}

/** A writer of `file`; with `external`, weights go to `<file>.data`. */
export function createModelWriter(file: string, { external = false } = {}): ModelWriter {
  const nodes: object[] = [];
  const initializers: object[] = [];
  const inputs: object[] = [];
  const outputs: object[] = [];
  const known = new Set<string>();
  const data = external ? openSync(`${file}.data`, "w") : undefined;
  let dataEnd = 0;
  let counter = 0;

  const valueInfo = (name: string, shape: readonly number[], type: number) => ({
    name,
    type: { tensor_type: { elem_type: type, shape: { dim: shape.map((size) => ({ dim_value: size })) } } },
  });

  const add = (operator: string, nodeInputs: readonly string[], results: number, options: NodeOptions) => {
    const name = `${operator}_${counter++}`;
    const output = Array.from({ length: results }, (_, index) => (index === 0 ? name : `${name}_${index}`));
    const attribute = Object.entries(options.attributes ?? {}).map(([key, value]) => {
      if (typeof value === "number") return { name: key, type: ATTRIBUTE.int, i: value };
      if (typeof value === "string") return { name: key, type: ATTRIBUTE.string, s: new TextEncoder().encode(value) };
      if ("float" in value) return { name: key, type: ATTRIBUTE.float, f: value.float };
      return { name: key, type: ATTRIBUTE.ints, ints: value };
    });
    nodes.push({ name, op_type: operator, domain: options.domain ?? "", input: nodeInputs, output, attribute });
    return output;
  };

  const self: ModelWriter = {
    input(name, shape, type = "float") {
      inputs.push(valueInfo(name, shape, type === "float" ? FLOAT : INT32));
      return name;
    },
    output(name, shape) {
      outputs.push(valueInfo(name, shape, FLOAT));
    },
    weight(name, shape, values) {
      if (known.has(name)) return name;
      known.add(name);
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      if (data === undefined || bytes.byteLength <= EXTERNAL_BYTES) {
        initializers.push({ name, dims: shape, data_type: FLOAT, raw_data: bytes.slice() });
        return name;
      }
      const entries = { location: `${basename(file)}.data`, offset: String(dataEnd), length: String(bytes.byteLength) };
      initializers.push({
        name,
        dims: shape,
        data_type: FLOAT,
        data_location: 1,
        external_data: Object.entries(entries).map(([key, value]) => ({ key, value })),
      });
      let written = 0;
      while (written < bytes.byteLength) written += writeSync(data, bytes, written);
      dataEnd += bytes.byteLength;
      const padding = (4096 - (dataEnd % 4096)) % 4096;
      if (padding > 0) writeSync(data, new Uint8Array(padding));
      dataEnd += padding;
      return name;
    },
    integers(values) {
      const name = `int64:${values.join(",")}`;
      if (!known.has(name)) {
        known.add(name);
        const raw = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
        initializers.push({ name, dims: [values.length], data_type: INT64, raw_data: raw });
      }
      return name;
    },
    node(operator, nodeInputs, options = {}) {
      return add(operator, nodeInputs, 1, options)[0]!;
    },
    split(x, sizes) {
      return add("Split", [x, self.integers(sizes)], sizes.length, { attributes: { axis: -1 } });
    },
    finish() {
      if (data !== undefined) closeSync(data);
      const message = Model.fromObject({
        ir_version: IR_VERSION,
        producer_name: "daguerre-bench",
        opset_import: [
          { domain: "", version: OPSET },
          { domain: "com.microsoft", version: 1 },
        ],
        graph: { name: "network", node: nodes, initializer: initializers, input: inputs, output: outputs },
      });
      writeFileSync(file, Model.encode(message).finish());
      return file;
    },
  };
  return self;
}

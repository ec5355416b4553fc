import { expect, it } from "vitest";
import {
  AdapterError,
  GpuError,
  GpuInternalError,
  GpuOutOfMemoryError,
  GpuValidationError,
  labelsIn,
  toGpuError,
} from "./errors.ts";

// The messages are Dawn's own, of webgpu 0.6.2.

it("reads the labels out of Dawn's messages, without the device's and without repeats", () => {
  const message = `[Buffer "arena 0"] used in submit while destroyed.
 - While calling [Queue].Submit([[CommandBuffer "unet 64x64" from CommandEncoder "unet 64x64"]])`;
  expect(labelsIn(message)).toEqual([
    { object: "Buffer", label: "arena 0" },
    { object: "CommandBuffer", label: "unet 64x64" },
    { object: "CommandEncoder", label: "unet 64x64" },
  ]);
  const invalid = `[Invalid ShaderModule "conv2d"] is invalid due to a previous error.
 - While validating compute stage ([Invalid ShaderModule "conv2d"], entryPoint: "main").
 - While calling [Device "dev"].CreateComputePipeline([ComputePipelineDescriptor ""mid_block.resnets.0.conv1""]).`;
  expect(labelsIn(invalid)).toEqual([
    { object: "ShaderModule", label: "conv2d" },
    { object: "ComputePipeline", label: "mid_block.resnets.0.conv1" },
  ]);
});

it("finds no labels where there are none", () => {
  expect(labelsIn("Buffer size (4294967299) exceeds the max buffer size limit (4294967295).")).toEqual([]);
  expect(labelsIn('While calling [Device "dev"].CreateBuffer([BufferDescriptor]).')).toEqual([]);
  expect(labelsIn("")).toEqual([]);
});

it("keeps what was being done as a label, once", () => {
  const error = toGpuError(new Error("boom\n"), "unet 64x64: mid_block.attn");
  expect(error).toBeInstanceOf(GpuInternalError);
  expect(error.message).toBe("unet 64x64: mid_block.attn: boom");
  expect(error.labels).toEqual([{ object: "Context", label: "unet 64x64: mid_block.attn" }]);
  expect(error.cause).toBeInstanceOf(Error);
  const named = toGpuError({ message: '[ComputePassEncoder "conv"] is bad.' }, "conv");
  expect(named.labels).toEqual([{ object: "ComputePassEncoder", label: "conv" }]);
});

it("leaves our own errors as they are", () => {
  const error = new GpuOutOfMemoryError("arena");
  expect(toGpuError(error, "somewhere")).toBe(error);
});

it("makes something readable of anything thrown", () => {
  expect(toGpuError("text").message).toBe("text");
  expect(toGpuError(undefined).message).toBe("undefined");
  expect(toGpuError(null).message).toBe("null");
});

it("names and codes the classes", () => {
  const error = new GpuValidationError('[Buffer "x"] is bad');
  expect(error).toBeInstanceOf(GpuError);
  expect([error.name, error.code, error.labels]).toEqual([
    "GpuValidationError",
    "gpu-validation",
    [{ object: "Buffer", label: "x" }],
  ]);
  const adapter = new AdapterError("none", ["a"]);
  expect([adapter.name, adapter.code, adapter.adapterNames]).toEqual(["AdapterError", "gpu-adapter", ["a"]]);
});

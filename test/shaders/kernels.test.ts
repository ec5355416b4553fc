/**
 * Every kernel that the product can assemble: its parameters are those that the host writes, field by field, and its module
 * is valid WGSL.
 */

import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { WgslReflect } from "wgsl_reflect/wgsl_reflect.module.js";
import { type Params, packParams } from "../../src/graph/dispatch.ts";
import { assembledKernels } from "./kernels.ts";
import { Validator } from "./validate.ts";
import { writeModules } from "./write.ts";

const kernels = assembledKernels();

interface Field {
  readonly name: string;
  readonly type: string;
  /** In bytes. */
  readonly offset: number;
}

/** The uniform block of a module. The library does not read all of WGSL, so it is given the struct alone. */
function blockOf(code: string): { readonly fields: readonly Field[]; readonly bytes: number } {
  const [struct] = /struct Params \{[^}]*\}/.exec(code)!;
  expect(code).toMatch(/@group\(0\) @binding\(0\) var<uniform> params: Params;/);
  const [block] = new WgslReflect(`${struct}\n@group(0) @binding(0) var<uniform> params: Params;`).uniforms;
  const fields = block!.members!.map(({ name, type, offset }) => ({ name, type: type.name, offset }));
  return { fields, bytes: block!.size };
}

function writtenFields(params: Params): Field[] {
  return Object.entries(params).map(([name, value], index) => ({
    name,
    type: typeof value === "object" ? "f32" : "u32",
    offset: index * 4,
  }));
}

test.each([...new Set(kernels.map(({ kernel }) => kernel.name))])("the host writes the parameters of %s", (name) => {
  for (const { kernel, params } of kernels.filter((assembled) => assembled.kernel.name === name)) {
    const { fields, bytes } = blockOf(kernel.code);
    expect(writtenFields(params)).toEqual(fields);
    const size = packParams(params).byteLength;
    expect(size).toBeGreaterThanOrEqual(bytes);
    expect(size % 16).toBe(0);
  }
});

test("a parameter of another name, type or place is seen", () => {
  const { fields } = blockOf(
    "struct Params { rows: u32, eps: f32 }\n@group(0) @binding(0) var<uniform> params: Params;",
  );
  expect(writtenFields({ rows: 1, eps: { f32: 1 } })).toEqual(fields);
  expect(writtenFields({ eps: { f32: 1 }, rows: 1 })).not.toEqual(fields);
  expect(writtenFields({ rows: 1, eps: 1 })).not.toEqual(fields);
  expect(writtenFields({ rows: 1 })).not.toEqual(fields);
});

test("every shader is part of an assembled kernel", async () => {
  const folder = new URL("../../shaders/", import.meta.url);
  const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith(".wgsl"));
  expect(files.length).toBeGreaterThan(40);
  const code = kernels.map(({ kernel }) => kernel.code).join("\n");
  for (const file of files) {
    const source = await readFile(new URL(file, folder), "utf8");
    // The kernels for matrix units have loops that are written out; their first lines stay.
    expect(code.includes(source.slice(0, 200)), file).toBe(true);
  }
});

test("an invalid module is reported, with the line", async () => {
  const validator = await Validator.open();
  expect(await validator.messages("fn f() -> u32 { return 1u; }")).toEqual([]);
  expect(await validator.messages("\nfn f() -> u32 { return 1.5; }")).toEqual([expect.stringMatching(/^2: /)]);
  validator.close();
});

test("all modules are written to a folder, and are valid", async () => {
  const folder = await mkdtemp(join(tmpdir(), "daguerre-shaders-"));
  try {
    const { files, faults } = await writeModules(join(folder, "modules"), kernels);
    expect([...faults]).toEqual([]);
    expect((await readdir(join(folder, "modules"))).sort()).toEqual([...files].sort());
    expect(files.length).toBe(new Set(kernels.map(({ kernel }) => kernel.code)).size);
    const [file] = files.filter((name) => name.startsWith("conv2d_narrow-"));
    expect(await readFile(join(folder, "modules", file!), "utf8")).toContain("fn main(");
  } finally {
    await rm(folder, { recursive: true });
  }
});

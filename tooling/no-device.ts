/** Stands for the package `webgpu` in the test projects that open no device (see `vitest.config.ts`). */

export const globals = {};

export function create(): never {
  throw new Error("this test opens a device: move it to the project `device` in vitest.config.ts");
}

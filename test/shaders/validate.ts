/** WGSL modules compiled by Dawn's null backend, which offers every extension and runs nothing. */

import { create } from "webgpu";

// Kept: collected while a device of it lives, it would take the process with it.
const gpu = create(["enable-dawn-features=allow_unsafe_apis", "backend=null"]);

const FEATURES = ["chromium-experimental-subgroup-matrix", "subgroups", "shader-f16"] as GPUFeatureName[];

export class Validator {
  readonly #device: GPUDevice;

  private constructor(device: GPUDevice) {
    this.#device = device;
  }

  static async open(): Promise<Validator> {
    const adapter = (await gpu.requestAdapter())!;
    return new Validator(await adapter.requestDevice({ requiredFeatures: FEATURES }));
  }

  /** The messages of the compiler, errors and warnings, with their lines. */
  async messages(code: string): Promise<string[]> {
    this.#device.pushErrorScope("validation");
    const info = await this.#device.createShaderModule({ code }).getCompilationInfo();
    await this.#device.popErrorScope();
    return info.messages.map(({ lineNum, message }) => `${lineNum}: ${message}`);
  }

  close(): void {
    this.#device.destroy();
  }
}

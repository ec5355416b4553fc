import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSafetensors } from "../../test/fixtures/safetensors-writer.ts";
import { type AskedRun, decidedBy, fewStepKind, fewStepOf } from "./few-step-loras.ts";

describe("fewStepKind", () => {
  // Files as their makers published them: ByteDance, latent-consistency, h1t, tianweiy.
  it.each<[string, string, string, number, number]>([
    ["sdxl_lightning_4step_lora.safetensors", "Lightning", "EulerDiscreteScheduler", 4, 0],
    ["sdxl_lightning_8step_lora.safetensors", "Lightning", "EulerDiscreteScheduler", 8, 0],
    ["Hyper-SDXL-1step-lora.safetensors", "Hyper-SD", "TCDScheduler", 1, 0],
    ["Hyper-SDXL-2steps-lora.safetensors", "Hyper-SD", "DDIMScheduler", 2, 0],
    ["Hyper-SD15-8steps-lora.safetensors", "Hyper-SD", "DDIMScheduler", 8, 0],
    ["Hyper-SDXL-12steps-CFG-lora.safetensors", "Hyper-SD", "DDIMScheduler", 12, 5],
    ["lcm-lora-sdv1-5", "LCM", "LCMScheduler", 4, 1],
    ["LCM_LoRA_Weights_SD15.safetensors", "LCM", "LCMScheduler", 4, 1],
    ["TCD-SDXL-LoRA", "TCD", "TCDScheduler", 4, 0],
    ["dmd2_sdxl_4step_lora_fp16.safetensors", "DMD2", "LCMScheduler", 4, 0],
    ["sd_xl_turbo_lora_v1.safetensors", "Turbo", "EulerAncestralDiscreteScheduler", 4, 0],
  ])("%s is %s: %s, %d steps, guidance %d", (name, kind, className, steps, guidanceScale) => {
    expect(fewStepKind([name])).toMatchObject({ kind, className, steps, guidanceScale });
  });

  it.each([
    "ink.safetensors",
    "lightning_mage.safetensors",
    "turbocharged car v2",
    "hyperrealism",
    "calcmap",
    "8steps",
  ])("%s is none", (name) => expect(fewStepKind([name])).toBeUndefined());
});

describe("fewStepOf", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "daguerre-few-step-"));
    const metadata = { ss_output_name: "my_lcm_v2", "modelspec.title": "Mine" };
    const tensor = { name: "a", dtype: "F32", shape: [1], data: new Uint8Array(4) } as const;
    await writeSafetensors(join(folder, "renamed.safetensors"), [tensor], { metadata });
    await writeSafetensors(join(folder, "plain.safetensors"), [tensor]);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  const at = (name: string, scale = 1) => ({ path: join(folder, name), scale });

  it("tells by what the file says of itself, and by the folder of a file without a name of its own", async () => {
    expect((await fewStepOf([at("plain.safetensors"), at("renamed.safetensors")]))?.run.kind).toBe("LCM");
    const unnamed = { path: "/loras/lcm-lora-sdxl/pytorch_lora_weights.safetensors", scale: 1 };
    expect((await fewStepOf([unnamed]))?.run.kind).toBe("LCM");
    expect(await fewStepOf([{ path: "/lcm-loras/ink.safetensors", scale: 1 }])).toBeUndefined();
  });

  it("does not count a LoRA that the UNet has not, nor a file that cannot be read", async () => {
    expect(await fewStepOf([at("renamed.safetensors", 0), { ...at("renamed.safetensors"), unet: 0 }])).toBeUndefined();
    expect(await fewStepOf([at("absent.safetensors"), at("plain.safetensors")])).toBeUndefined();
  });
});

describe("decidedBy", () => {
  const lora = { file: "l.safetensors", run: fewStepKind(["sdxl_lightning_4step"])! };
  const open: AskedRun = {
    scheduler: undefined,
    hasLevels: false,
    hasSpacing: false,
    steps: undefined,
    guidanceScale: undefined,
  };
  const trailing = { timestep_spacing: "trailing" };

  it("gives what a request leaves open, and says so", () => {
    expect(decidedBy(lora, open)).toEqual({
      scheduler: { className: "EulerDiscreteScheduler", changes: trailing },
      warnings: [
        'The LoRA "l.safetensors" is a Lightning LoRA; what the request leaves open is as it needs: EulerDiscreteScheduler, trailing timesteps, 4 steps, no guidance.',
      ],
    });
  });

  it("leaves a scheduler alone, but for its spacing", () => {
    const asked = { ...open, scheduler: { className: "HeunDiscreteScheduler", changes: { a: 1 } }, steps: 8 };
    const { scheduler, warnings } = decidedBy(lora, asked);
    expect(scheduler).toEqual({ className: "HeunDiscreteScheduler", changes: { a: 1, ...trailing } });
    expect(warnings[0]).toMatch(/needs: trailing timesteps, no guidance\.$/);
  });

  it("leaves levels, spacing, steps and guidance alone that a request has", () => {
    expect(decidedBy(lora, { ...open, hasLevels: true, steps: 4, guidanceScale: 1 })).toEqual({
      scheduler: undefined,
      warnings: [],
    });
    const { scheduler } = decidedBy(lora, { ...open, hasSpacing: true });
    expect(scheduler).toEqual({ className: "EulerDiscreteScheduler" });
  });
});

/** Failures in the words of AUTOMATIC1111's web UI, which name the fields of its API. */
import { z } from "zod";
import { type Failure, failureHeaders } from "../failure.ts";
import { detailSchema, type WireFault } from "../wire/events.ts";

export const a1111ErrorSchema = z.object({
  /** The kind of the error, as a class of the web UI's. */
  error: z.string(),
  detail: detailSchema,
  body: z.string(),
  /** All of it in a sentence. */
  errors: z.string(),
});

/** The web UI's names of fields that have others here. */
const NAMES: Readonly<Record<string, string>> = {
  num_inference_steps: "steps",
  guidance_scale: "cfg_scale",
  scheduler: "sampler_name",
  sigma_schedule: "scheduler",
  image: "init_images",
  strength: "denoising_strength",
  mask_invert: "inpainting_mask_invert",
  padding_mask_crop: "inpaint_full_res_padding",
  num_images: "batch_size",
  clip_skip: "override_settings.CLIP_stop_at_last_layers",
};

export function a1111Failure(failure: Failure, headers: Record<string, string> = {}): Response {
  const { status } = failure;
  const detail = typeof failure.detail === "string" ? failure.detail : failure.detail.map(inItsWords);
  const errors = typeof detail === "string" ? detail : detail.map(sentenceOf).join("; ");
  const error = status === 422 ? "RequestValidationError" : "HTTPException";
  return Response.json({ error, detail, body: "", errors } satisfies z.infer<typeof a1111ErrorSchema>, {
    status,
    headers: { ...headers, ...failureHeaders(failure) },
  });
}

function inItsWords({ loc: [source, field, ...rest], ...fault }: WireFault): WireFault {
  if (field === undefined) return { loc: [source!], ...fault };
  const name = NAMES[field];
  return { loc: [source!, ...(name === undefined ? [field] : name.split(".")), ...rest], ...fault };
}

function sentenceOf({ loc, msg }: WireFault): string {
  return loc.length > 1 ? `${loc.slice(1).join(".")}: ${msg}` : msg;
}

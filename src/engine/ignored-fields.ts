/**
 * Fields of other servers that would change the picture. Most unknown fields do no harm if they are ignored
 * (`sync_mode`); these leave the client with another picture than it has asked for, so the result says that they were.
 */

/** By their names in lower case without `_` and `-`: those of diffusers, fal, AUTOMATIC1111, Replicate and InvokeAI. */
const DRAWING_FIELDS: ReadonlySet<string> = new Set(
  [
    // words
    ...["prompt_3", "negative_prompt_3", "prompt_embeds", "negative_prompt_embeds"],
    ...["styles", "style", "style_preset", "embeddings", "textual_inversion", "prompt_strength"],
    // guidance and noise
    ...["cfg_rescale", "true_cfg_scale", "pag_scale", "perturbed_attention_guidance"],
    ...["high_noise_frac", "scheduler_config"],
    ...["variation_amount", "variation_strength", "noise_multiplier"],
    ...["s_churn", "s_noise", "karras", "use_karras_sigmas", "shift", "latents"],
    // size and shape
    ...["aspect_ratio", "tiling", "seamless", "resize_mode"],
    // further passes and networks
    ...["enable_hr", "hr_scale", "hires_fix", "upscale", "refiner", "refiner_checkpoint", "refine", "restore_faces"],
    ...["controlnet", "controlnets", "control_image", "control_images", "controlnet_conditioning_scale"],
    ...["ip_adapter", "ip_adapters", "ip_adapter_image", "ip_adapter_image_embeds", "image_prompts"],
    ...["cross_attention_kwargs", "lora_scale", "freeu", "free_u", "model_name", "vae"],
    ...["override_settings", "script_name", "alwayson_scripts"],
  ].map(plain),
);

/** Ignored fields that a result tells of: their names come from the client. */
export const MOST_IGNORED = 20;
const LONGEST_NAME = 64;

function plain(name: string): string {
  return name.toLowerCase().replace(/[_-]/g, "");
}

/** The fields of a request that are ignored though they would change the picture. */
export function ignoredFields(input: Readonly<Record<string, unknown>>): string[] {
  return Object.keys(input)
    .filter((name) => DRAWING_FIELDS.has(plain(name)) && name.length <= LONGEST_NAME && asksForSomething(input[name]))
    .slice(0, MOST_IGNORED);
}

/** True if a name is one of those fields: a request that was parsed before brings a list of them. */
export function isIgnoredField(name: unknown): name is string {
  return typeof name === "string" && name.length <= LONGEST_NAME && DRAWING_FIELDS.has(plain(name));
}

/** Many clients send all of their server's fields, those that they do not use as null, 0, false, or empty. */
function asksForSomething(value: unknown): boolean {
  if (value === null || value === undefined || value === false || value === 0 || value === "") return false;
  if (Array.isArray(value)) return value.length > 0;
  return typeof value !== "object" || value instanceof Uint8Array || Object.keys(value).length > 0;
}

/** The sentence of a result about the fields that were ignored. */
export function ignoredWarning(names: readonly string[]): string[] {
  if (names.length === 0) return [];
  const [fields, were] = names.length === 1 ? ["field", "was"] : ["fields", "were"];
  return [
    `The ${fields} ${names.join(", ")} ${were} ignored: this server does not have ${names.length === 1 ? "it" : "them"}.`,
  ];
}

/** The bounds of a request. */

/** The edge of what anybody may ask. The runtime may allow less (a model's own sizes, the device's memory). */
export const LIMITS = {
  /** Characters. CLIP reads about 77 tokens a chunk, so this is far beyond what is seen. */
  promptCharacters: 10_000,
  /** Pixels of a side. Below 64 no latent is left at the UNet's lowest level. */
  minSide: 64,
  maxSide: 2048,
  /** Pixels of the whole picture: SDXL's 1024 × 1024 four times over. */
  maxPixels: 2048 * 2048,
  /** Every autoencoder we load makes 8 × 8 pixels from one latent. */
  sideMultiple: 8,
  steps: 200,
  guidanceScale: 100,
  /** Noise levels end at 15 for most models, at 4096 with zero terminal SNR. */
  sigma: 100_000,
  /** The most training steps that a scheduler may have. */
  timestep: 10_000,
  /** OpenAI's bound of `n`. */
  images: 10,
  /** Layers of the deepest text encoder, OpenCLIP bigG. */
  clipSkip: 31,
  /** Pixels of a side in SDXL's size conditions; training pictures had up to some thousands. */
  conditionSide: 16_384,
  /** The scale of the scores that SDXL's refiner was trained with. */
  aestheticScore: 10,
  loras: 8,
  /** Characters of a model's name. */
  modelCharacters: 256,
  /** Characters of a LoRA's name, folders included. */
  loraNameCharacters: 1024,
  /** Multiples of the trained strength; beyond it there is only noise. */
  loraScale: 10,
  /** Layers of a block that have a scale of their own. */
  loraLayers: 16,
  /** Pixels of a picture that is drawn into by a mask, and of its canvas: those of phones have 12 megapixels. */
  canvasPixels: 4096 * 3072,
  /** Standard deviation, in pixels, of the Gaussian that blurs a mask. */
  maskBlur: 64,
  /** Pixels by which a mask grows. */
  maskPadding: 256,
  /** Pixels around the masked part that are drawn with it. */
  cropPadding: 1024,
  /** Pixels by which a picture grows on a side. */
  outpaint: 2048,
  /** Bytes of an encoded starting picture. */
  imageBytes: 20 * 1024 * 1024,
  /** 2^64 − 1, the largest seed that `torch.Generator.manual_seed` takes. */
  seed: 18446744073709551615n,
  idCharacters: 128,
  previewFps: 60,
  minPreviewSize: 16,
} as const;

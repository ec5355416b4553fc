/** The preprocessors that there are, in words; `preprocess.ts` has what they do. */

export const PREPROCESSORS = {
  canny: "thin edges, white on black (Canny's, thresholds 100 and 200)",
  soft_edge: "soft edges, white on black: the gradient of a blurred picture (Sobel's; no network, as HED is)",
  lineart: "lines, white on black, by the difference of two blurs",
  scribble: "thick lines, white on black, as of a sketch",
  tile: "the picture without its details, for networks that add them",
} as const satisfies Readonly<Record<string, string>>;

export type PreprocessorName = keyof typeof PREPROCESSORS;
export const PREPROCESSOR_NAMES = Object.keys(PREPROCESSORS) as [PreprocessorName, ...PreprocessorName[]];

/** The request to a preprocessor, and the list of them. */

import { z } from "zod";
import { PREPROCESSOR_NAMES, PREPROCESSORS } from "../diffusion/preprocessors.ts";
import { generationFields } from "./request.ts";

export const preprocessSchema = z.object({
  preprocessor: z.enum(PREPROCESSOR_NAMES).describe("its name; `GET /preprocessors` lists them"),
  image: generationFields.shape.image.unwrap().describe("the picture: a data URI, or its base64 alone"),
});

export type PreprocessInput = z.input<typeof preprocessSchema>;

/** All preprocessors, in words. */
export function listPreprocessors(): { readonly name: string; readonly description: string }[] {
  return Object.entries(PREPROCESSORS).map(([name, description]) => ({ name, description }));
}

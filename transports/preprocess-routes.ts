/** Preprocessors over HTTP: which there are, and what each makes of a picture. */
import { z } from "zod";
import { listPreprocessors, type PreprocessInput, preprocessSchema } from "../src/engine/preprocessors.ts";
import { encodePicture, type Pixels } from "../src/image/encode.ts";
import { type BodyOptions, readInput } from "./http/input.ts";
import { COMMON, type NamedSchema } from "./openapi/describe.ts";
import type { Route } from "./route.ts";

const PREPROCESSORS_ANSWER: NamedSchema = {
  name: "Preprocessors",
  schema: z.object({ preprocessors: z.array(z.object({ name: z.string(), description: z.string() })) }),
};

/** Makes a picture for a ControlNet of any other. @throws RequestError naming the field at fault */
export type Preprocess = (input: PreprocessInput, options: { readonly signal: AbortSignal }) => Promise<Pixels>;

/** @param preprocess left out: there is no device to do it, and none are listed */
export function preprocessRoutes(preprocess: Preprocess | undefined, options: BodyOptions): Route[] {
  const { maxBodyBytes, bounds, account, clientOf } = options;
  const input = { maxBodyBytes, bounds, account, clientOf, keepBase64: true };
  const preprocessors = preprocess ? listPreprocessors() : [];
  const listing: Route = {
    method: "GET",
    path: "/preprocessors",
    scope: "run",
    about: {
      tag: "server",
      summary: "Ways to make a picture for a ControlNet of any other",
      answers: { 200: { description: "names, and what each makes", schema: PREPROCESSORS_ANSWER }, ...COMMON },
    },
    handlers: [(c) => c.json({ preprocessors })],
  };
  if (preprocess === undefined) return [listing];
  const making: Route = {
    method: "POST",
    path: "/preprocess",
    scope: "run",
    about: {
      tag: "server",
      summary: "The picture that a preprocessor makes",
      body: { schema: { name: "Preprocess", schema: preprocessSchema } },
      answers: { 200: { description: "the picture", type: "image/png" }, ...COMMON },
    },
    handlers: [
      async (c) => {
        const asked = await readInput<PreprocessInput>(c, input);
        const made = await preprocess(asked, { signal: c.req.raw.signal });
        const { bytes } = await encodePicture(made, { format: "png" });
        return c.body(new Uint8Array(bytes), 200, { "Content-Type": "image/png" });
      },
    ],
  };
  return [listing, making];
}

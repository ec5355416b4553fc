// The AI SDK 7 with its providers against SERVER_URL, as their READMEs show them. Prints one line of JSON.
import { createFal } from "@ai-sdk/fal";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage } from "ai";

const url = process.env.SERVER_URL;
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const compatible = createOpenAICompatible({ name: "daguerre", baseURL: `${url}/v1`, apiKey: "none" });
const fal = createFal({ baseURL: url, apiKey: "none" });

const made = async (options) => {
  const { images, warnings } = await generateImage({ prompt: "a hill", maxRetries: 0, ...options });
  return { types: images.map(({ mediaType }) => mediaType), warnings: warnings.map(({ type }) => type) };
};
const refused = async (options) => {
  const error = await generateImage({ prompt: "a hill", maxRetries: 0, ...options }).catch((reason) => reason);
  return [error.name, error.statusCode];
};

const first = await generateImage({ model: openai.image("gpt-image-1"), prompt: "a hill", size: "1024x1024" });
const stop = new AbortController();
const aborted = generateImage({
  model: openai.image("gradient"),
  prompt: "a hill",
  abortSignal: stop.signal,
  providerOptions: { openai: { num_inference_steps: 150 } },
}).catch((error) => error.name);
setTimeout(() => stop.abort(), 50); // long before a picture is there

console.log(
  JSON.stringify({
    node: process.versions.node,
    openai: [first.image.mediaType, first.usage.totalTokens],
    several: await made({ model: openai.image("gradient"), n: 3 }),
    many: (await made({ model: openai.image("gradient"), n: 9 })).types.length,
    edit: await made({
      model: openai.image("gpt-image-1"),
      prompt: { text: "a hill", images: [first.image.uint8Array] },
    }),
    compatible: await made({ model: compatible.imageModel("gradient"), seed: 7 }),
    unknown: await refused({ model: compatible.imageModel("another") }),
    fal: await made({ model: fal.image(process.env.FAL_MODEL), n: 2, seed: 7 }),
    aborted: await aborted,
  }),
);

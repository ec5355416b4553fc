// openai 7 against SERVER_URL, as its README shows it. Prints one line of JSON.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: `${process.env.SERVER_URL}/v1`, apiKey: "none", maxRetries: 0 });
const bytes = (base64) => Buffer.from(base64, "base64");
const kind = (base64) => (bytes(base64).subarray(1, 4).toString() === "PNG" ? "png" : bytes(base64)[0].toString(16));

const one = await client.images.generate({ prompt: "a hill", model: "gradient", size: "1024x1024" });
const two = await client.images.generate({ prompt: "a hill", n: 2, output_format: "jpeg" });
const linked = await client.images.generate({ prompt: "a hill", response_format: "url" });

const stream = await client.images.generate({ prompt: "a hill", stream: true, partial_images: 2 });
const streamed = [];
for await (const event of stream) streamed.push([event.type, event.partial_image_index ?? null, kind(event.b64_json)]);

const image = await toFile(bytes(one.data[0].b64_json), "hill.png", { type: "image/png" });
const edited = await client.images.edit({ image, prompt: "a hill" });
const editing = await client.images.edit({ image: [image], prompt: "a hill", stream: true, partial_images: 1 });
const edits = [];
for await (const event of editing) edits.push(event.type);

const left = await client.images.generate({ prompt: "x", stream: true, partial_images: 3 });
for await (const _ of left) break;

const refused = async (request) => {
  const error = await client.images.generate(request).catch((reason) => reason);
  return [error.constructor.name, error.status, error.param ?? null];
};

console.log(
  JSON.stringify({
    node: process.versions.node,
    one: [one.data.length, kind(one.data[0].b64_json), one.usage.total_tokens, one.size],
    two: two.data.map(({ b64_json }) => kind(b64_json)),
    linked: linked.data[0].url.slice(0, 21),
    streamed,
    edited: kind(edited.data[0].b64_json),
    edits,
    refused: [await refused({ prompt: "x", model: "another" }), await refused({ prompt: "x", n: 99 })],
    failed: await refused({ prompt: "fails" }),
  }),
);

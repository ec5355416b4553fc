import { expect, test } from "vitest";
import { Recorder } from "../graph/recorder.ts";
import { decodeTiny, parseAutoencoderTinyConfig } from "./autoencoder-tiny.ts";

test("a level without residual blocks takes no numbers of diffusers' layers", () => {
  const config = parseAutoencoderTinyConfig({
    encoder_block_out_channels: [8, 8],
    decoder_block_out_channels: [8, 8],
    num_encoder_blocks: [1, 1],
    num_decoder_blocks: [1, 0],
  });
  const g = new Recorder();
  const picture = decodeTiny(g, config, g.input("latents", [1, 4, 4, 4]));
  expect(picture.shape).toEqual([1, 8, 8, 3]);
  // DecoderTiny: 0 convolution, 1 ReLU, 2 block, 3 upsampling, 4 convolution; then at the last level its convolution, 5.
  const layers = [...g.parameters.values()].flatMap(({ parts }) => parts.map(({ name }) => name));
  expect(new Set(layers.map((name) => name.split(".").slice(0, 3).join(".")))).toEqual(
    new Set(["decoder.layers.0", "decoder.layers.2", "decoder.layers.4", "decoder.layers.5"]),
  );
});

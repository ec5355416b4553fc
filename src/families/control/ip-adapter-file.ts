/** From an IP-Adapter's file and the folders of encoders to a part of a UNet's step, if it is made for that UNet. */

import { parseImageProjection } from "../../models/ip-adapter.ts";
import { WeightsError } from "../../weights/errors.ts";
import type { ControlFile } from "./control-file.ts";
import type { ControlledModel } from "./controlled-model.ts";
import { ImageEncoder } from "./image-encoder.ts";
import { IpAdapterPart } from "./ip-adapter-part.ts";

/** @throws WeightsError, ModelConfigError: it is for another kind of model, or no encoder fits it */
export async function openIpAdapter(
  file: ControlFile,
  id: string,
  { unet, imageEncoders }: ControlledModel,
): Promise<IpAdapterPart> {
  const refused = (reason: string) => new WeightsError("model-class", reason, { file: file.name });
  const projection = parseImageProjection(file.name, file.config);
  if (projection.width !== unet.cross_attention_dim) {
    const reason = `its tokens have ${projection.width} numbers, and this model's UNet reads ${unet.cross_attention_dim}`;
    throw refused(`is an IP-Adapter for another kind of model: ${reason}`);
  }
  const field = projection.kind === "plain" ? "projection_dim" : "hidden_size";
  for (const folder of imageEncoders) {
    const encoder = await ImageEncoder.open(folder);
    if (encoder.config[field] === projection.inputs) return new IpAdapterPart(id, { unet, projection, encoder }, file);
  }
  const wanted = `one whose ${field} is ${projection.inputs}`;
  throw refused(`needs an encoder of pictures, ${wanted}: put its folder, image_encoder, beside this file`);
}

import type { Gpu } from "../../src/gpu/device.ts";
import type { Prepared } from "../peers/peer.ts";
import type { NetworkWork } from "./networks.ts";

export async function prepareNetwork(_gpu: Gpu, work: NetworkWork): Promise<Prepared> {
  throw new Error(`no network ${work.network}`);
}

/** A rank as an export that is served: the module's `DistributedWorker`, made and set up. */
import type { PictureFormat } from "../../image/encode.ts";
import type { RunContext } from "../../jobs/run.ts";
import type { Opening, RankFacts } from "../messages.ts";
import type { GroupLink, ServedFunction } from "../served-runs.ts";
import { currentCall, type DistributedWorker } from "./distributed-worker.ts";
import { encodePictures } from "./pictures.ts";
import { RankCall, type RankResult } from "./rank-call.ts";

/** The input of a rank's run. */
export type RankInput =
  | { readonly type: "call"; readonly payload: unknown; readonly streaming: boolean }
  | { readonly type: "teardown" };

/** An event of a rank's run; `returned` is the last one. */
export type RankEvent = RankResult | { readonly returned: unknown };

const FORMATS: readonly unknown[] = ["jpeg", "png", "webp"] satisfies PictureFormat[];

/** @throws whatever its constructor or its `setup` throw, TypeError if it is no worker */
export async function rankFunction(exported: object, group: NonNullable<Opening["group"]>): Promise<ServedFunction> {
  const { rank, setup } = group;
  const worker = new (exported as new (facts: RankFacts) => DistributedWorker)(group);
  if (typeof worker.call !== "function") throw new TypeError("a rank's class extends DistributedWorker and has `call`");
  await worker.setup(setup);

  return async function* (input, context): AsyncGenerator<RankEvent> {
    const asked = input as RankInput;
    if (asked.type === "teardown") return void (await worker.teardown());
    const { signal, requestId, collect } = context as RunContext & GroupLink;
    const { payload, streaming } = asked;
    const call = new RankCall({ collect }, signal, streaming);
    const work = currentCall.run(call, async () => worker.call(payload, { signal, requestId, streaming }));
    const result = yield* call.results(work);
    if (rank === 0) yield { returned: await encodePictures(result, formatOf(payload)) };
  };
}

/** fal's field of a request. */
function formatOf(payload: unknown): PictureFormat {
  const { image_format } = (payload ?? {}) as { image_format?: unknown };
  return FORMATS.includes(image_format) ? (image_format as PictureFormat) : "jpeg";
}

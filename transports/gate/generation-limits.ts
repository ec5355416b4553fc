/**
 * The bounds of one request: prompt, pixels, steps, pictures. The schema of requests has bounds of its own, which are
 * those of the computation; these are the operator's, and are smaller or equal.
 */
import { RequestError, type RequestIssue } from "../../src/engine/errors.ts";
import type { GenerationRequest, GenerationUpdate } from "../../src/engine/request.ts";

/** The edge of one request; what is undefined is left to the schema. */
export interface GenerationLimits {
  /** Characters of a prompt, and of a negative one. */
  readonly promptCharacters?: number;
  /** Pixels of one picture. */
  readonly pixels?: number;
  readonly steps?: number;
  readonly images?: number;
}

/**
 * Refuses a request that is over a limit.
 *
 * @param usual what a request gets that leaves size and steps out
 * @throws RequestError naming every field at fault
 */
export function checkGeneration(
  request: GenerationRequest,
  limits: GenerationLimits,
  usual?: { readonly defaultWidth: number; readonly defaultHeight: number; readonly defaultSteps: number },
): void {
  const issues: RequestIssue[] = [];
  const check = (field: keyof GenerationRequest, value: number, limit: number | undefined, what: string) => {
    if (limit !== undefined && value > limit) {
      issues.push({
        path: [field],
        message: `${what} should be at most ${limit} on this server`,
        type: "less_than_equal",
      });
    }
  };
  check("prompt", request.prompt.length, limits.promptCharacters, "Characters");
  check("negative_prompt", request.negative_prompt.length, limits.promptCharacters, "Characters");
  const { width = usual?.defaultWidth ?? 0, height = usual?.defaultHeight ?? 0 } = request;
  check("width", width * height, limits.pixels, "Width times height");
  const { num_inference_steps: steps = request.few_step ? 0 : (usual?.defaultSteps ?? 0) } = request;
  check("num_inference_steps", steps, limits.steps, "Steps");
  check("num_images", request.num_images, limits.images, "Pictures");
  const [first] = issues;
  if (first !== undefined) throw new RequestError(first.path.join("."), first.message, issues);
}

/**
 * Refuses a change that is over a limit.
 *
 * @throws RequestError naming every field at fault
 */
export function checkUpdate(update: GenerationUpdate, { promptCharacters }: GenerationLimits): void {
  const { prompt = "", negative_prompt = "" } = update;
  checkGeneration({ prompt, negative_prompt, num_images: 0 } as GenerationRequest, { promptCharacters });
}

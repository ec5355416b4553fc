/**
 * `GET /v1/models` and `GET /v1/models/{model}`: front ends ask for them to see whether a base URL is right.
 *
 * Format: https://platform.openai.com/docs/api-reference/models.
 */
import { z } from "zod";
import { failureOf } from "../failure.ts";
import type { ModelChoice } from "../gate/model-choice.ts";
import { inPath, type NamedSchema } from "../openapi/describe.ts";
import type { Route } from "../route.ts";
import { error } from "./images-answers.ts";
import { modelMeant } from "./images-request.ts";
import { openaiFailure } from "./openai-error.ts";

const modelSchema = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: z.int().describe("seconds since 1970"),
  owned_by: z.string(),
});
const MODEL: NamedSchema = { name: "Model", schema: modelSchema };
const MODELS: NamedSchema = {
  name: "Models",
  schema: z.object({ object: z.literal("list"), data: z.array(modelSchema) }),
};
const REFUSALS = {
  401: error("no valid key or token"),
  403: error("not with this key"),
  421: error("not under this name"),
};

export function modelRoutes(models: ModelChoice): Route[] {
  const created = Math.floor(Date.now() / 1000);
  const described = (id: string) => ({ id, object: "model", created, owned_by: "daguerre" }) as const;
  return [
    {
      method: "GET",
      path: "/models",
      about: {
        tag: "OpenAI",
        summary: "OpenAI's models API: the models that are served, the default first",
        answers: { 200: { description: "a list", schema: MODELS }, ...REFUSALS },
      },
      handlers: [(c) => c.json({ object: "list", data: models.of(c).map(({ name }) => described(name)) })],
    },
    {
      method: "GET",
      // A name may hold slashes.
      path: "/models/:model{.+}",
      about: {
        tag: "OpenAI",
        summary:
          "OpenAI's models API: one model, by a served one's name or one of OpenAI's own, which mean the default",
        parameters: [inPath("model", "its name")],
        answers: { 200: { description: "the model", schema: MODEL }, 404: error("another model"), ...REFUSALS },
      },
      handlers: [
        (c) => {
          const id = c.req.param("model") ?? "";
          try {
            models.choose(modelMeant(id), c);
          } catch (fault) {
            return openaiFailure(failureOf(fault));
          }
          return c.json(described(id));
        },
      ],
    },
  ];
}

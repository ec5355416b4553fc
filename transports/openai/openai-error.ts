/** Failures in the words of OpenAI's API. */
import { z } from "zod";
import { CANCELLED, type Failure, failureHeaders } from "../failure.ts";

/** The error body of OpenAI's API. */
export const openaiErrorSchema = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});
export type OpenAiError = z.infer<typeof openaiErrorSchema>;

/** A failure in OpenAI's words. */
export function openaiError({ status, detail }: Failure): OpenAiError {
  const [first] = typeof detail === "string" ? [] : detail;
  const message =
    typeof detail === "string"
      ? detail
      : detail.map(({ loc, msg }) => (loc.length > 1 ? `${loc.slice(1).join(".")}: ${msg}` : msg)).join("; ");
  return {
    error: {
      message,
      type: errorType(status),
      param: first === undefined || first.loc.length < 2 ? null : first.loc.slice(1).join("."),
      code: first?.type ?? ERROR_CODES[status] ?? null,
    },
  };
}

function errorType(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

const ERROR_CODES: Readonly<Record<number, string>> = {
  401: "invalid_api_key",
  429: "rate_limit_exceeded",
  [CANCELLED]: "cancelled",
  500: "server_error",
  503: "server_busy",
  504: "timeout",
};

/** A failure before anything was sent, as a response. FastAPI's 422 is 400 here, and an unknown model is 404. */
export function openaiFailure(failure: Failure, headers: Record<string, string> = {}): Response {
  const body = openaiError(failure);
  const status = failure.status !== 422 ? failure.status : body.error.code === "model_not_found" ? 404 : 400;
  const again = status === 429 || status === 503;
  return Response.json(body, {
    status,
    headers: {
      ...headers,
      "x-should-retry": String(again),
      ...failureHeaders(failure),
    },
  });
}

/** `daguerre serve`: a runtime behind HTTP, until a signal ends it. */
import pino from "pino";
import { createApp } from "../../transports/app.ts";
import { type Listening, listen } from "../../transports/listen.ts";
import type { Runtime } from "../engine/contract.ts";
import { version } from "./version.ts";

export interface ServeOptions {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
}

/**
 * Serves `runtime` and prints, once it answers, what it computes on and a line to try it with. Errors that clients are
 * not shown go to stderr as JSON lines, with the request's id.
 *
 * @throws the system's error when the port cannot be had
 */
export async function serve(
  runtime: Runtime,
  { host, port }: ServeOptions,
  write: (text: string) => unknown,
): Promise<Listening> {
  const log = pino({ name: "daguerre" }, pino.destination(2));
  const { adapter, model } = runtime;
  const app = createApp({
    run: ({ image, ...input }, { signal }) =>
      image === undefined
        ? runtime.textToImage(input, { signal })
        : runtime.imageToImage({ ...input, image }, { signal }),
    health: () => ({
      version,
      adapter: { name: adapter.name, kind: adapter.kind, backend: adapter.backend },
      model: model.name,
      defaults: {
        width: model.defaultWidth,
        height: model.defaultHeight,
        num_inference_steps: model.defaultSteps,
        guidance_scale: model.defaultGuidanceScale,
      },
    }),
    onError: (error, requestId) => log.error({ err: error, request_id: requestId }, "request failed"),
  });
  const server = await listen(app, port, host);
  write(greeting(runtime, reachable(server.url)));
  return server;
}

/** An address that listens everywhere is not one to connect to. */
function reachable(url: string): string {
  return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");
}

function greeting({ adapter, model }: Runtime, url: string): string {
  const kind =
    adapter.kind === "software"
      ? "a software GPU: the CPU does the work, slowly; `daguerre doctor` says what would be faster"
      : adapter.backend;
  return `daguerre ${version}
  model    ${model.name}, ${model.defaultWidth}x${model.defaultHeight}, ${model.defaultSteps} steps
  adapter  ${adapter.name} (${kind})
  serving  ${url}

Watch a picture develop:
  curl -N ${url}/stream -H 'content-type: application/json' -d '{"prompt":"a lighthouse at sunset"}'
`;
}

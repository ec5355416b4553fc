/**
 * Traces go to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names, over OTLP as JSON. Without it nothing is
 * loaded. The SDK is not among Daguerre's dependencies; it is installed beside it by those who have a collector.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { version } from "./version.ts";

/** Sends what is left and stops; what no collector takes in time is lost, with a warning. Never rejects. */
export type StopTelemetry = () => Promise<void>;

/** Milliseconds that a collector may take for the last traces. */
const LAST_EXPORT_MS = 2000;

const PACKAGES = ["@opentelemetry/sdk-trace-node", "@opentelemetry/exporter-trace-otlp-http"];

/**
 * @param warn one line, without its end
 * @throws Error when a collector is set and the SDK is not installed
 */
export async function startTelemetry(
  env: NodeJS.ProcessEnv,
  warn: (line: string) => void = (line) => process.stderr.write(`${line}\n`),
): Promise<StopTelemetry | undefined> {
  const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? env.OTEL_EXPORTER_OTLP_ENDPOINT;
  if (endpoint === undefined || endpoint === "" || env.OTEL_SDK_DISABLED === "true") return undefined;
  let sdk: typeof import("@opentelemetry/sdk-trace-node");
  let exporter: typeof import("@opentelemetry/exporter-trace-otlp-http");
  try {
    sdk = await import("@opentelemetry/sdk-trace-node");
    exporter = await import("@opentelemetry/exporter-trace-otlp-http");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new Error(`OTEL_EXPORTER_OTLP_ENDPOINT is set: npm install ${PACKAGES.join(" ")}, or unset it`);
  }
  // The SDK takes its service's name from here where its user has not said another.
  env.OTEL_SERVICE_NAME ??= "daguerre";
  env.OTEL_RESOURCE_ATTRIBUTES ??= `service.version=${version}`;
  const provider = new sdk.NodeTracerProvider({
    spanProcessors: [new sdk.BatchSpanProcessor(new exporter.OTLPTraceExporter())],
  });
  provider.register();
  return async () => {
    const late = sleep(LAST_EXPORT_MS, undefined, { ref: false }).then(() => {
      throw new Error(`no answer in ${LAST_EXPORT_MS} ms`);
    });
    try {
      await Promise.race([provider.shutdown(), late]);
    } catch (error) {
      const { message } = error as Error;
      warn(`the last traces did not reach the collector at ${endpoint}: ${message}`);
    }
  };
}

import { t as version } from "./version-CHwdeQmM.js";
//#region src/cli/telemetry.ts
/**
* Where traces go: to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names, over OTLP as JSON. Without it nothing is
* loaded. The SDK is not among Daguerre's dependencies; it is installed beside it by those who have a collector.
*/
const PACKAGES = ["@opentelemetry/sdk-trace-node", "@opentelemetry/exporter-trace-otlp-http"];
/** @throws Error when a collector is set and the SDK is not installed */
async function startTelemetry(env) {
	const endpoint = env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? env.OTEL_EXPORTER_OTLP_ENDPOINT;
	if (endpoint === void 0 || endpoint === "" || env.OTEL_SDK_DISABLED === "true") return void 0;
	let sdk;
	let exporter;
	try {
		sdk = await import("@opentelemetry/sdk-trace-node");
		exporter = await import("@opentelemetry/exporter-trace-otlp-http");
	} catch (error) {
		if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
		throw new Error(`OTEL_EXPORTER_OTLP_ENDPOINT is set: npm install ${PACKAGES.join(" ")}, or unset it`);
	}
	env.OTEL_SERVICE_NAME ??= "daguerre";
	env.OTEL_RESOURCE_ATTRIBUTES ??= `service.version=${version}`;
	const provider = new sdk.NodeTracerProvider({ spanProcessors: [new sdk.BatchSpanProcessor(new exporter.OTLPTraceExporter())] });
	provider.register();
	return () => provider.shutdown();
}
//#endregion
export { startTelemetry };

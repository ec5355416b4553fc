import { createServer } from "node:net";
import { trace } from "@opentelemetry/api";
import { expect, it } from "vitest";
import { startTelemetry } from "./telemetry.ts";

/** A port that nothing listens on. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

it("stops in time without a collector, and says what was lost", async () => {
  const endpoint = `http://127.0.0.1:${await closedPort()}`;
  const warnings: string[] = [];
  const stop = await startTelemetry({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }, (line) => warnings.push(line));
  trace.getTracer("test").startSpan("lost").end();
  const begun = performance.now();
  await stop!();
  expect(performance.now() - begun).toBeLessThan(4000);
  expect(warnings).toEqual([expect.stringContaining(`did not reach the collector at ${endpoint}`)]);
});

it("is nothing without an endpoint", async () => {
  expect(await startTelemetry({})).toBeUndefined();
});

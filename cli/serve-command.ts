/** `daguerre serve` from its settings to its end: an engine, the server before it, and signals. */
import process from "node:process";
import type { LoadProgress } from "../src/engine/contract.ts";
import type { ServedRuntime } from "../src/hosts/engine/engine-process.ts";
import type { EngineOptions } from "../src/hosts/engine/messages.ts";
import type { Config } from "./config-schema.ts";
import * as flags from "./flags.ts";
import { INTERRUPTED, onInterrupt } from "./interrupts.ts";
import type { Server } from "./serve.ts";

/** Milliseconds beyond `shutdown_seconds` after which a server that has not ended is ended. */
const LATEST_EXIT_MS = 15_000;
/** Errors that nobody caught after which a server that is ending is ended at once. */
const MAX_FAULTS = 100;

/** @param fail prints an error and sets the exit code */
export async function serveCommand(config: Config, fail: (error: unknown) => void): Promise<void> {
  const { checkAddress } = await import("./checks.ts");
  await checkAddress(config.port, config.host);
  const { loadingScreen } = await import("./loading.ts");
  const loading = loadingScreen(process.stdout);
  const opening = openRuntime(config, loading.show);
  opening.catch(() => {}); // thrown below
  // Loaded while the engine is.
  const [{ serve }, { startTelemetry }] = await Promise.all([import("./serve.ts"), import("./telemetry.ts")]);
  const stopTelemetry = await startTelemetry(process.env);
  const runtime = await opening;
  const write = (text: string) => process.stdout.write(text);
  const server = await serve(runtime, config, write, loading.end).catch(async (error) => {
    loading.end();
    await runtime.close();
    throw error;
  });
  endInOrder(server, config, async () => {
    await runtime.close();
    await stopTelemetry?.();
  }).catch(fail);
}

/** Ends the server at a signal, or at an error that nobody caught; then `close`s what is behind it, and the process. */
async function endInOrder(server: Server, config: Config, close: () => Promise<void>): Promise<void> {
  let closing = false;
  let failed: (error: unknown) => void = () => {};
  const ended = new Promise<never>((_, reject) => {
    failed = reject;
  });
  const end = (code = 0) => {
    closing = true;
    process.exitCode = code;
    setTimeout(() => process.exit(1), config.shutdown_seconds * 1000 + LATEST_EXIT_MS).unref();
    server
      .close(config.shutdown_seconds * 1000)
      .then(close)
      .then(() => process.exit()) // a collector that is not there would be tried again for seconds
      .catch(failed);
  };
  onInterrupt(() => {
    if (closing) process.exit(INTERRUPTED);
    process.stdout.write("\nfinishing what runs; once more to stop at once\n");
    end();
  });
  // An error that comes as far as here leaves the process in a state that nobody knows: it takes no more work, and ends.
  let faults = 0;
  process.on("uncaughtException", (error, origin) => {
    server.failed(error, origin);
    if (++faults > MAX_FAULTS) process.exit(1);
    if (!closing) end(1);
  });
  await ended;
}

async function openRuntime(config: Config, onProgress: (progress: LoadProgress) => void): Promise<ServedRuntime> {
  const { model, models, variant } = config;
  const files = { model, vae: config.vae, tinyAutoencoder: config.tiny_vae, variant };
  const { checkModelFlags, modelOptions } = await import("./several-models.ts");
  checkModelFlags({ models, ...files });
  const { offerModel } = await import("./offer.ts");
  await offerModel(model, variant);
  const onNote = (note: string) => process.stderr.write(`daguerre: ${note}\n`);
  const engine: EngineOptions = {
    ...files,
    ...modelOptions(models),
    preload: config.preload,
    keepAlive: config.keep_alive_seconds,
    adapter: flags.adapter(config.adapter),
    precision: config.precision,
    maxGpuMemory: config.max_gpu_memory,
    runsAtOnce: config.limits.running,
    tune: config.tune,
    loraFolder: config.lora_dir,
    embeddingFolder: config.embedding_dir,
    controlFolder: config.control_dir,
    promptSyntax: config.prompt_syntax,
  };
  if (config.isolation === "none") {
    const { createRuntime } = await import("../src/engine/runtime.ts");
    return createRuntime({ ...engine, onProgress, onNote });
  }
  const [{ openEngine }, { passOn }] = await Promise.all([
    import("../src/hosts/engine/engine-process.ts"),
    import("./supervisor.ts"),
  ]);
  return openEngine({
    engine,
    spares: config.spares === 1 ? 1 : 0,
    firstStepSeconds: config.limits.first_step_seconds,
    onProgress,
    onNote,
    onStderr: (stderr) => void passOn(stderr, Boolean(process.env.DEBUG)),
  });
}

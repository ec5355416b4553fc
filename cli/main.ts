/**
 * Reads the command line. Each command is a file beside this one, loaded when asked for, so that `--help` does not wait
 * for a GPU driver.
 */
import process from "node:process";
import { Command, Option } from "commander";
import type { Precision, Runtime, RuntimeOptions, Tune } from "../src/engine/contract.ts";
import type { AdapterChoice } from "../src/gpu/drivers/adapter.ts";
import type { PromptSyntax } from "../src/text/prompt-syntax.ts";
import type { BenchOptions } from "./bench.ts";
import type { ReportNumbers } from "./checks.ts";
import { CONFIG_FILE, configFile, loadConfig } from "./config.ts";
import * as flags from "./flags.ts";
import type { GenerateJob } from "./generate.ts";
import { fieldsInFlags, withGenerationFlags } from "./generation-flags.ts";
import { onInterrupt } from "./interrupts.ts";
import type { ModelOptions } from "./model.ts";
import { flagName, SETTINGS } from "./settings.ts";
import { version } from "./version.ts";

/** Milliseconds beyond `shutdown_seconds` after which a server that has not ended is ended. */
const LATEST_EXIT_MS = 15_000;
/** Errors that nobody caught after which a server that is ending is ended at once. */
const MAX_FAULTS = 100;
/** 128 + SIGINT, as shells count. */
const INTERRUPTED = 130;

const TUNE = ["auto", "on", "off"] satisfies Tune[];

interface RuntimeFlags {
  model?: string;
  adapter?: AdapterChoice;
  precision?: Precision;
  maxGpuMemory?: number;
  runsAtOnce?: number;
  tune?: Tune;
  loraDir?: string;
  embeddingDir?: string;
  controlDir?: string;
  promptSyntax?: PromptSyntax;
  variant?: string;
  vae?: string;
  tinyVae?: string;
}

/** The flags that say what computes, on every command that computes. */
function withRuntimeFlags(command: Command): Command {
  return command
    .optionsGroup("GPU and model:")
    .option(
      "--model <path>",
      "a folder in diffusers layout, or a checkpoint in one file (default: the built-in landscapes)",
    )
    .option("--vae <path>", "a VAE in place of the model's own: a file, or a folder in diffusers layout")
    .option("--tiny-vae <path>", "a tiny autoencoder (TAESD) that decodes previews: a file, or a folder")
    .option("--variant <name>", "which of a model's saved weights to take, as fp16, bf16 or non_ema")
    .addOption(
      new Option("--adapter <which>", "auto, hardware, software, or part of an adapter's name")
        .argParser(flags.adapter)
        .default({ prefer: "auto" }, "auto"),
    )
    .addOption(
      new Option("--precision <type>", "how numbers are stored").choices(["auto", "f32", "f16"]).default("auto"),
    );
}

type ServeFlags = { config?: string } & Record<string, string | undefined>;

/** A flag for each setting of the server that is no secret. */
function withSettings(command: Command): Command {
  command
    .optionsGroup("Settings:")
    .option("--config <file>", `settings in JSON (env: DAGUERRE_CONFIG; default: ${CONFIG_FILE}, if there is one)`);
  for (const { flag, path, kind, description, variables, choices, default: usual } of SETTINGS) {
    if (flag === undefined) continue;
    if (path.length > 1) command.optionsGroup(`Settings of ${path[0]}:`);
    const shown =
      usual === undefined || (Array.isArray(usual) && usual.length === 0) ? "" : `; default: ${String(usual)}`;
    const value = choices === undefined ? VALUE_NAMES[kind] : choices.join("|");
    command.option(`${flag} <${value}>`, `${description} (env: ${variables.join(", ")}${shown})`);
  }
  return command;
}

const VALUE_NAMES = { text: "text", number: "number", boolean: "true|false", list: "a,b", keys: "keys" } as const;

async function openRuntime(
  { model, vae, tinyVae, variant, adapter, precision, maxGpuMemory, runsAtOnce, tune, ...folders }: RuntimeFlags,
  onProgress?: RuntimeOptions["onProgress"],
): Promise<Runtime> {
  const { createRuntime } = await import("../src/engine/runtime.ts");
  const device = { adapter, precision, maxGpuMemory, runsAtOnce, tune } satisfies RuntimeOptions;
  const files = { model, vae, tinyAutoencoder: tinyVae, variant } satisfies RuntimeOptions;
  const { loraDir: loraFolder, embeddingDir: embeddingFolder, controlDir: controlFolder, promptSyntax } = folders;
  const named = { loraFolder, embeddingFolder, controlFolder };
  return createRuntime({ ...files, ...device, ...named, promptSyntax, onProgress });
}

/** The last line of a command's help. */
function withExample(command: Command, example: string): Command {
  return command.addHelpText("after", `\nExample: ${example}`);
}

const program = new Command("daguerre")
  .description("A diffusion server: WebGPU on Node, pictures streamed while they form.")
  .version(version, "-v, --version")
  .addHelpText("after", '\nExample: daguerre generate "northern lights over a lake"')
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "daguerre: ")) })
  .showHelpAfterError("(daguerre --help lists commands and flags)")
  .commandsGroup("Pictures:");

withExample(withSettings(program.command("serve")), "daguerre serve --port 8080 --lora-dir loras")
  .description("serve the model over HTTP; docs/configuration.md explains every setting")
  .action(async ({ config: named, ...values }: ServeFlags) => {
    const flagged = Object.fromEntries(Object.entries(values).map(([name, value]) => [flagName(name), value]));
    const config = loadConfig({ flags: flagged, env: process.env, file: configFile(named, process.env) });
    const { checkAddress } = await import("./checks.ts");
    await checkAddress(config.port, config.host);
    const { startTelemetry } = await import("./telemetry.ts");
    const stopTelemetry = await startTelemetry(process.env);
    const { loadingScreen } = await import("./loading.ts");
    const loading = loadingScreen(process.stdout);
    const runtime = await openRuntime(
      {
        model: config.model,
        vae: config.vae,
        tinyVae: config.tiny_vae,
        variant: config.variant,
        adapter: flags.adapter(config.adapter),
        precision: config.precision,
        maxGpuMemory: config.max_gpu_memory,
        runsAtOnce: config.limits.running,
        tune: config.tune,
        loraDir: config.lora_dir,
        embeddingDir: config.embedding_dir,
        controlDir: config.control_dir,
        promptSyntax: config.prompt_syntax,
      },
      loading.show,
    );
    const { serve } = await import("./serve.ts");
    const write = (text: string) => process.stdout.write(text);
    const server = await serve(runtime, config, write, loading.end).catch(async (error) => {
      loading.end();
      await runtime.close();
      throw error;
    });
    let closing = false;
    const end = (code = 0) => {
      closing = true;
      process.exitCode = code;
      setTimeout(() => process.exit(1), config.shutdown_seconds * 1000 + LATEST_EXIT_MS).unref();
      server
        .close(config.shutdown_seconds * 1000)
        .then(() => runtime.close())
        .then(() => stopTelemetry?.())
        .then(() => process.exit()) // a collector that is not there would be tried again for seconds
        .catch(fail);
    };
    const interrupt = () => {
      if (closing) process.exit(INTERRUPTED);
      process.stdout.write("\nfinishing what runs; once more to stop at once\n");
      end();
    };
    onInterrupt(interrupt);
    // An error that comes as far as here leaves the process in a state that nobody knows: it takes no more work, and ends.
    let faults = 0;
    process.on("uncaughtException", (error, origin) => {
      server.failed(error, origin);
      if (++faults > MAX_FAULTS) process.exit(1);
      if (!closing) end(1);
    });
  });

/** The flags that are no fields of a request; for those see `generation-flags.ts`. */
interface GenerateFlags extends RuntimeFlags {
  output: GenerateJob["output"];
  size?: { width: number; height: number };
  image?: string;
  previewDir?: string;
  lora?: { path: string; scale: number }[];
}

withGenerationFlags(
  withExample(
    withRuntimeFlags(program.command("generate")),
    'daguerre generate "northern lights over a lake" -o lights.png --steps 20 --seed 7',
  )
    .description("make a picture from words")
    .argument("<prompt>")
    .option("--max-gpu-memory <bytes>", "limit on device memory, as 6GiB", flags.bytes)
    .addOption(
      new Option("--tune <when>", "time the kernels first, where this GPU was never timed")
        .choices(TUNE)
        .default("off"),
    )
    .optionsGroup("Picture:")
    .addOption(
      new Option("-o, --output <file>", "a .png, .jpg or .webp")
        .argParser(flags.pictureFile)
        .default({ file: "out.png", format: "png" }, "out.png"),
    )
    .option("--size <WxH>", "pixels", flags.size),
)
  .optionsGroup("More files:")
  .option("--image <file>", "a picture to start from")
  .option("--preview-dir <dir>", "save the previews in this folder")
  .option("--lora <file[:scale]>", "a LoRA file; may be repeated", flags.lora)
  .action(async (prompt: string, options: GenerateFlags) => {
    const { parseGeneration } = await import("../src/engine/request-parsing.ts");
    const input = {
      prompt,
      ...options.size,
      loras: options.lora,
      ...fieldsInFlags({ ...options }),
      ...(options.previewDir === undefined && { preview_every: 0 }),
    };
    const { checkGenerate, inFlags } = await import("./checks.ts");
    await checkGenerate(prompt, { ...options, strength: input.strength });
    try {
      parseGeneration(input);
    } catch (error) {
      throw inFlags(error);
    }
    const { generate } = await import("./generate.ts");
    const { loadingScreen } = await import("./loading.ts");
    const loading = loadingScreen(process.stderr);
    const runtime = await openRuntime(options, loading.show);
    const interrupt = new AbortController();
    let compiling = true;
    const end = () => {
      // The driver compiles in threads of its own, which nothing can stop; and nothing has been made that could be lost.
      if (compiling || interrupt.signal.aborted) {
        loading.end();
        process.exit(INTERRUPTED);
      }
      interrupt.abort();
    };
    const offInterrupt = onInterrupt(end);
    try {
      // A LoRA changes the weights, and with them all plans: its kernels are compiled with the run.
      if (options.lora === undefined) {
        const { guidance_scale, num_images } = input;
        await runtime.warmUp({ ...options.size, guidance_scale, num_images });
      }
      compiling = false;
      loading.end();
      await generate(
        runtime,
        { input, output: options.output, image: options.image, previewDir: options.previewDir },
        process.stderr,
        interrupt.signal,
      );
    } catch (error) {
      if (!interrupt.signal.aborted) throw error;
      process.exitCode = INTERRUPTED;
    } finally {
      loading.end();
      offInterrupt();
      await runtime.close();
    }
  });

interface ReportFlags extends RuntimeFlags {
  size?: { width: number; height: number };
  json?: boolean;
}

const REPORT_AS_JSON = "print one JSON document (docs/commands.md) instead of lines";

/** Runs a command that reports: its lines on stdout as they come, or its report as JSON at the end. */
async function report<Report>({ json }: { json?: boolean }, run: (write: (line: string) => void) => Promise<Report>) {
  const print = (text: string) => process.stdout.write(`${text}\n`);
  const result = await run(json ? () => {} : print);
  if (json) print(JSON.stringify(result, undefined, 2));
  return result;
}

/** The same of one that loads a model, which takes its time. */
async function reportOnModel<Report>(
  flags: ReportFlags & ReportNumbers,
  run: (options: ModelOptions, write: (line: string) => void) => Promise<Report>,
) {
  const { checkReport } = await import("./checks.ts");
  await checkReport(flags);
  const { loadingScreen } = await import("./loading.ts");
  const loading = loadingScreen(process.stderr);
  const { model, vae, variant, adapter, size, precision = "auto" } = flags;
  const options = { model, vae, variant, adapter, size, precision, onProgress: loading.show };
  await report(flags, (write) =>
    run(options, (line) => {
      loading.end();
      write(line);
    }),
  ).finally(loading.end);
}

program.commandsGroup("This machine:");

withExample(withRuntimeFlags(program.command("profile")), "daguerre profile --size 128x128 --layers 30")
  .description("where a model's time goes on this GPU, per kernel and per layer")
  .option("--size <WxH>", "pixels", flags.size)
  .option("--layers <number>", "rows of the table of layers", flags.number, 20)
  .option("--json", REPORT_AS_JSON)
  .action(async (options: ReportFlags & { layers: number }) => {
    const { profile } = await import("./profile.ts");
    await reportOnModel(options, (common, write) => profile({ ...common, layers: options.layers }, write));
  });

withExample(withRuntimeFlags(program.command("bench")), "daguerre bench --size 128x128 --json")
  .description("time and memory of a picture on this machine, phase by phase, and how to make it faster")
  .option("--size <WxH>", "pixels", flags.size)
  .option("--steps <number>", "denoising steps", flags.number)
  .option("--rounds <number>", "number of pictures; the median counts", flags.number, 3)
  .option("--json", REPORT_AS_JSON)
  .action(async (options: ReportFlags & Pick<BenchOptions, "steps" | "rounds">) => {
    const { bench } = await import("./bench.ts");
    const { steps, rounds } = options;
    await reportOnModel(options, (common, write) => bench({ ...common, steps, rounds }, write));
  });

withExample(withRuntimeFlags(program.command("tune")), "daguerre tune --size 64x64")
  .description("time every kernel that can compute a layer of the model on this GPU, and use the fastest from then on")
  .option("--size <WxH>", "pixels", flags.size)
  .option("--again", "time remembered kernels again, too", false)
  .option("--json", REPORT_AS_JSON)
  .action(async (options: ReportFlags & { again: boolean }) => {
    const { tuneModel } = await import("./tune.ts");
    await reportOnModel(options, (common, write) => tuneModel({ ...common, again: options.again }, write));
  });

withExample(program.command("doctor"), "daguerre doctor --json")
  .description("the GPUs of this machine, missing drivers, and how to fix them")
  .option("--model <path>", "also say what the model at this path is")
  .option("--vae <path>", "with this VAE in place of the model's own")
  .option("--tiny-vae <path>", "with this tiny autoencoder")
  .option("--json", REPORT_AS_JSON)
  .action(async (options: { json?: boolean } & Pick<RuntimeFlags, "model" | "vae" | "tinyVae">) => {
    const { doctor } = await import("./doctor.ts");
    if (!(await report(options, (write) => doctor(write, options))).usable) process.exitCode = 1;
  });

// The reader of the output, such as `head`, may leave before its end.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});

/** One sentence for people; the stack for those who set DEBUG. */
function fail(error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`daguerre: ${message}\n`);
  if (process.env.DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
}

if (process.argv.length <= 2) program.outputHelp();
else await program.parseAsync().catch(fail);

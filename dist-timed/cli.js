#!/usr/bin/env node
import { a as flagName, c as bytes, d as pictureFile, f as size, i as configFile, l as lora, m as Option, o as loadConfig, p as Command, r as SETTINGS, s as adapter, t as CONFIG_FILE, u as number } from "./config-CEnR_OYp.js";
import { t as version } from "./version-CHwdeQmM.js";
import process from "node:process";
//#region src/cli/main.ts
/**
* The `daguerre` command. This file only reads the command line; each command is a file beside it, loaded when asked
* for, so that `--help` does not wait for a GPU driver.
*/
/** Milliseconds beyond `shutdown_seconds` after which a server that has not ended is ended. */
const LATEST_EXIT_MS = 15e3;
/** 128 + SIGINT, as shells count. */
const INTERRUPTED = 130;
const TUNE = [
	"auto",
	"on",
	"off"
];
/** The flags that say what computes, on every command that computes. */
function withRuntimeFlags(command) {
	return command.option("--model <dir>", "a model in diffusers layout (default: the built-in landscapes)").addOption(new Option("--adapter <which>", "auto, hardware, software, or part of an adapter's name").argParser(adapter).default({ prefer: "auto" }, "auto")).addOption(new Option("--precision <type>", "how numbers are stored").choices([
		"auto",
		"f32",
		"f16"
	]).default("auto"));
}
/** A flag for each setting of the server that is no secret. */
function withSettings(command) {
	command.option("--config <file>", `settings in JSON (env: DAGUERRE_CONFIG; default: ${CONFIG_FILE}, if there is one)`);
	for (const { flag, kind, description, variables, choices, default: usual } of SETTINGS) {
		if (flag === void 0) continue;
		const shown = usual === void 0 || Array.isArray(usual) && usual.length === 0 ? "" : `; default: ${String(usual)}`;
		const value = choices === void 0 ? VALUE_NAMES[kind] : choices.join("|");
		command.option(`${flag} <${value}>`, `${description} (env: ${variables.join(", ")}${shown})`);
	}
	return command;
}
const VALUE_NAMES = {
	text: "text",
	number: "number",
	boolean: "true|false",
	list: "a,b",
	keys: "keys"
};
async function openRuntime({ model, adapter, precision, maxGpuMemory, tune, loraDir }, onProgress) {
	process.stderr.write("@openRuntime "+performance.now().toFixed(0)+" cpu "+((u=>((u.user+u.system)/1000).toFixed(0))(process.cpuUsage()))+"\n");const { createRuntime } = await import("./runtime-BGczQLrz.js");
	return createRuntime({
		model,
		adapter,
		precision,
		maxGpuMemory,
		tune,
		loraFolder: loraDir,
		onProgress
	});
}
const program = new Command("daguerre").description("A diffusion server: WebGPU on Node, pictures streamed while they form.").version(version).showHelpAfterError("(daguerre --help shows what can be said)");
withSettings(program.command("serve")).description("serve the model over HTTP; docs/configuration.md tells of every setting").action(async ({ config: named, ...given }) => {
	const config = loadConfig({
		flags: Object.fromEntries(Object.entries(given).map(([name, value]) => [flagName(name), value])),
		env: process.env,
		file: configFile(named, process.env)
	});
	const { startTelemetry } = await import("./telemetry-a6WoEptj.js");
	const stopTelemetry = await startTelemetry(process.env);
	const { loadingScreen } = await import("./loading-CobIuIzH.js");
	const loading = loadingScreen(process.stdout);
	const runtime = await openRuntime({
		model: config.model,
		adapter: adapter(config.adapter),
		precision: config.precision,
		maxGpuMemory: config.max_gpu_memory,
		tune: config.tune,
		loraDir: config.lora_dir
	}, loading.show);
	const { serve } = await import("./serve-BfygfRz6.js");
	const write = (text) => process.stdout.write(text);
	const server = await serve(runtime, config, write, loading.end).catch(async (error) => {
		loading.end();
		await runtime.close();
		throw error;
	});
	let closing = false;
	const end = () => {
		if (closing) process.exit(INTERRUPTED);
		closing = true;
		process.stdout.write("\nfinishing what runs; once more to stop at once\n");
		setTimeout(() => process.exit(1), config.shutdown_seconds * 1e3 + LATEST_EXIT_MS).unref();
		server.close(config.shutdown_seconds * 1e3).then(() => runtime.close()).then(() => stopTelemetry?.()).catch(fail);
	};
	process.on("SIGINT", end);
	process.on("SIGTERM", end);
});
withRuntimeFlags(program.command("generate")).description("make a picture from words").argument("<prompt>").addOption(new Option("-o, --output <file>", "a .png, .jpg or .webp").argParser(pictureFile).default({
	file: "out.png",
	format: "png"
}, "out.png")).option("--negative <prompt>", "what it should not be").option("--steps <number>", "denoising steps", number).option("--guidance <scale>", "how closely to follow the prompt; 1 switches guidance off", number).option("--max-gpu-memory <bytes>", "device memory that may be used, as 6GiB", bytes).addOption(new Option("--tune <when>", "time the kernels first, where this GPU was never timed").choices(TUNE).default("off")).option("--seed <number>", "the same seed gives the same picture").option("--size <WxH>", "pixels", size).option("--images <number>", "how many", number).option("--scheduler <name>", "a diffusers scheduler, as EulerDiscreteScheduler").option("--image <file>", "a picture to start from").option("--strength <number>", "how much of it to draw anew, 0 to 1", number).option("--preview-dir <dir>", "keep the previews there").option("--preview-every <steps>", "steps between two previews", number).option("--few-step", "the model's few-step variant, where it has one: faster, a little less varied").option("--lora <file[:scale]>", "a LoRA file; may be given several times", lora).action(async (prompt, options) => {
	process.stderr.write("@action "+performance.now().toFixed(0)+" cpu "+((u=>((u.user+u.system)/1000).toFixed(0))(process.cpuUsage()))+"\n");const { parseGeneration } = await import("./request-D2IqMwl3.js");
	const input = {
		prompt,
		negative_prompt: options.negative,
		num_inference_steps: options.steps,
		guidance_scale: options.guidance,
		seed: options.seed,
		...options.size,
		num_images: options.images,
		scheduler: options.scheduler,
		loras: options.lora,
		few_step: options.fewStep,
		preview_every: options.previewDir === void 0 ? 0 : options.previewEvery
	};
	parseGeneration({
		...input,
		strength: options.strength
	});
	const { generate } = await import("./generate-Ord4qQUS.js");
	const { loadingScreen } = await import("./loading-CobIuIzH.js");
	const loading = loadingScreen(process.stderr);
	const runtime = await openRuntime(options, loading.show);
	process.stderr.write("@runtime "+performance.now().toFixed(0)+" cpu "+((u=>((u.user+u.system)/1000).toFixed(0))(process.cpuUsage()))+"\n");const interrupt = new AbortController();
	const end = () => {
		if (interrupt.signal.aborted) process.exit(INTERRUPTED);
		interrupt.abort();
	};
	process.on("SIGINT", end);
	process.on("SIGTERM", end);
	try {
		if (options.lora === void 0) await runtime.warmUp({
			...options.size,
			guidance_scale: options.guidance,
			num_images: options.images
		});
		process.stderr.write("@warm "+performance.now().toFixed(0)+" cpu "+((u=>((u.user+u.system)/1000).toFixed(0))(process.cpuUsage()))+"\n");loading.end();
		await generate(runtime, {
			input,
			output: options.output,
			image: options.image === void 0 ? void 0 : {
				file: options.image,
				strength: options.strength
			},
			previewDir: options.previewDir
		}, process.stderr, interrupt.signal);
	} catch (error) {
		if (!interrupt.signal.aborted) throw error;
		process.exitCode = INTERRUPTED;
	} finally {
		loading.end();
		process.off("SIGINT", end);
		process.off("SIGTERM", end);
		await runtime.close();
	}
});
withRuntimeFlags(program.command("profile")).description("where a model's time goes on this GPU, per kernel and per layer").option("--size <WxH>", "pixels", size).option("--layers <number>", "rows of the table of layers", number, 20).action(async (options) => {
	const { profile } = await import("./profile-Cmy7gtS-.js");
	await profile({
		...options,
		precision: options.precision ?? "auto"
	}, (line) => process.stdout.write(`${line}\n`));
});
withRuntimeFlags(program.command("bench")).description("what a picture costs on this machine, phase by phase, and what would make it faster").option("--size <WxH>", "pixels", size).option("--steps <number>", "denoising steps", number).option("--rounds <number>", "pictures of which the median counts", number, 3).action(async (options) => {
	const { bench } = await import("./bench-DzB7IM_W.js");
	const { loadingScreen } = await import("./loading-CobIuIzH.js");
	const loading = loadingScreen(process.stderr);
	const { precision = "auto", ...rest } = options;
	await bench({
		...rest,
		precision,
		onProgress: loading.show
	}, (line) => {
		loading.end();
		process.stdout.write(`${line}\n`);
	}).finally(loading.end);
});
withRuntimeFlags(program.command("tune")).description("time the kernels that could do each layer of a model on this GPU, and use the fastest from then on").option("--size <WxH>", "pixels", size).option("--again", "time what is remembered, too", false).action(async (options) => {
	const { tuneModel } = await import("./tune-BkGmYr99.js");
	await tuneModel({
		...options,
		precision: options.precision ?? "auto"
	}, (line) => process.stdout.write(`${line}\n`));
});
program.command("doctor").description("what this machine offers to compute on, what is missing, and how to mend it").action(async () => {
	const { doctor } = await import("./doctor-DPXoQMF9.js");
	process.exitCode = await doctor((text) => process.stdout.write(text));
});
/** One sentence for people; the stack for those who set DEBUG. */
function fail(error) {
	const message = error instanceof Error ? error.message : String(error);
	process.stderr.write(`daguerre: ${message}\n`);
	if (process.env.DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
	process.exitCode = 1;
}
await program.parseAsync().catch(fail);
//#endregion
export {};

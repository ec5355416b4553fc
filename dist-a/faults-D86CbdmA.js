import { createRequire } from "node:module";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { delimiter, dirname, isAbsolute, join, resolve } from "node:path";
import { isMainThread } from "node:worker_threads";
import { createReadStream, existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { constants as constants$1, homedir, tmpdir } from "node:os";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
//#region src/gpu/errors.ts
/** Base of every error of `gpu/`. `code` is stable and safe to show to a client; `message` is for logs. */
var GpuError = class extends Error {
	code;
	/** Labels named by the message, in its order, without repeats. Empty where it names none. */
	labels;
	constructor(code, message, options = {}) {
		super(message, options.cause === void 0 ? void 0 : { cause: options.cause });
		this.name = new.target.name;
		this.code = code;
		this.labels = options.labels ?? labelsIn(message);
	}
};
/** No adapter of the wished kind: the message says what was found and what to do. */
var AdapterError = class extends GpuError {
	/** Names of the adapters that were found but did not fit. */
	found;
	constructor(message, found = [], cause) {
		super("gpu-adapter", message, {
			labels: [],
			cause
		});
		this.found = found;
	}
};
/** A call broke WebGPU's rules: a bug in this program, never the user's fault. `labels` name plan and kernel. */
var GpuValidationError = class extends GpuError {
	constructor(message, options = {}) {
		super("gpu-validation", message, options);
	}
};
/** The device could not give the memory that was asked for. */
var GpuOutOfMemoryError = class extends GpuError {
	constructor(message, options = {}) {
		super("gpu-out-of-memory", message, options);
	}
};
/** It would have been more than this program was told to use: nothing was allocated. */
var MemoryLimitError = class extends GpuOutOfMemoryError {
	/** Bytes that were asked for, and that may be used in all. */
	wanted;
	limit;
	constructor(message, wanted, limit) {
		super(message, { labels: [] });
		this.wanted = wanted;
		this.limit = limit;
	}
};
/** The driver gave up on something valid, such as a shader it cannot compile. */
var GpuInternalError = class extends GpuError {
	constructor(message, options = {}) {
		super("gpu-internal", message, options);
	}
};
/** The device is gone. `reason` is "destroyed" where this program destroyed it, "unknown" for a crash, hang or reset. */
var DeviceLostError = class extends GpuError {
	reason;
	constructor(reason, message, options = {}) {
		super("gpu-device-lost", message, {
			labels: [],
			cause: options.cause
		});
		this.reason = reason;
	}
};
const LABEL = /\b([A-Z][A-Za-z]+) (?:""(.*?)""|"(.*?)")(?=\]| from )/g;
const UNINFORMATIVE = new Set(["Device", "Queue"]);
/** The labels in a message of Dawn's, in its order and without repeats. */
function labelsIn(message) {
	const seen = /* @__PURE__ */ new Map();
	for (const [, type = "", twice, once] of message.matchAll(LABEL)) {
		const object = type.replace(/Descriptor$/, "");
		const label = twice ?? once ?? "";
		if (label === "" || UNINFORMATIVE.has(object)) continue;
		seen.set(`${object}\n${label}`, {
			object,
			label
		});
	}
	return [...seen.values()];
}
function isNamed$1(error, name) {
	return typeof error === "object" && error !== null && error.constructor.name === name;
}
function messageOf(error) {
	const message = error?.message;
	return (typeof message === "string" && message !== "" ? message : String(error)).trimEnd();
}
/**
* A WebGPU error (from an event, an error scope or a rejected promise) as one of ours.
*
* Told apart by the name of its class, since dawn.node's classes are not globals. `context` names what was being done ("unet 64x64: mid_block.attn") and is kept as a label, for
* the messages in which Dawn names nothing. Errors that are ours already are returned as they are.
*/
function toGpuError(error, context) {
	if (error instanceof GpuError) return error;
	const text = messageOf(error);
	const message = context === void 0 ? text : `${context}: ${text}`;
	const named = labelsIn(text);
	const options = {
		labels: context === void 0 || named.some((l) => l.label === context) ? named : [{
			object: "Context",
			label: context
		}, ...named],
		cause: error
	};
	if (isNamed$1(error, "GPUValidationError")) return new GpuValidationError(message, options);
	if (isNamed$1(error, "GPUOutOfMemoryError")) return new GpuOutOfMemoryError(message, options);
	if (isNamed$1(error, "GPUPipelineError")) return error.reason === "validation" ? new GpuValidationError(message, options) : new GpuInternalError(message, options);
	return new GpuInternalError(message, options);
}
//#endregion
//#region src/gpu/software-driver.ts
/**
* Vulkan drivers on Linux: which are installed, and one to bring along where none is.
*
* Vocabulary. The *loader* is `libvulkan.so.1`, which an application opens; it reads *ICD* files (installable client
* drivers: small JSON files naming a shared library) and opens the drivers they name. *lavapipe* (Mesa) and
* *SwiftShader* (Chromium) are drivers that compute on the CPU. `VK_DRIVER_FILES` lists ICD files to use instead of the
* installed ones.
*
* SwiftShader and a loader come in the optional npm package `@sparticuz/chromium` (Linux x64), as a tar archive that is
* unpacked once into the user's cache directory. Nothing here talks to a GPU; that is `adapter.ts`. macOS and Windows
* have their own drivers and need none of this.
*
* Search order of ICD files: the Vulkan loader's documentation, "LoaderDriverInterface".
*/
const LOADER = "libvulkan.so.1";
/** Debian's and Fedora's Chromium bring a SwiftShader that needs no unpacking. */
const CHROMIUM_ICDS = [
	"/usr/lib/chromium/vk_swiftshader_icd.json",
	"/usr/lib64/chromium-browser/vk_swiftshader_icd.json",
	"/usr/lib/chromium-browser/vk_swiftshader_icd.json",
	"/opt/google/chrome/vk_swiftshader_icd.json"
];
/**
* Daguerre's folder in the user's cache directory: `$XDG_CACHE_HOME` or `~/.cache`, then `daguerre`; on macOS
* `~/Library/Caches/daguerre`, on Windows `%LOCALAPPDATA%\daguerre\Cache`.
*/
function cacheDirectory(platform = process.platform) {
	const { XDG_CACHE_HOME: xdg, LOCALAPPDATA: local } = process.env;
	if (xdg !== void 0 && isAbsolute(xdg)) return join(xdg, "daguerre");
	if (platform === "darwin") return join(homedir(), "Library", "Caches", "daguerre");
	if (platform === "win32") return join(local || join(homedir(), "AppData", "Local"), "daguerre", "Cache");
	return join(homedir(), ".cache", "daguerre");
}
/**
* Tells Mesa to keep its compiled shaders in our cache directory, unless the user chose. lavapipe compiles a kernel at
* its first dispatch, which takes up to 7 s; a kernel found in the cache takes under 1 ms. Mesa's default is `~/.cache`
* too, but it has none where HOME is not set. Best effort: without a cache things are slower, not wrong.
*/
function keepMesaShaders() {
	const { MESA_SHADER_CACHE_DIR, MESA_SHADER_CACHE_DISABLE, MESA_GLSL_CACHE_DIR } = process.env;
	if (MESA_SHADER_CACHE_DIR || MESA_SHADER_CACHE_DISABLE || MESA_GLSL_CACHE_DIR) return;
	const directory = join(cacheDirectory(), "mesa");
	try {
		mkdirSync(directory, { recursive: true });
		process.env.MESA_SHADER_CACHE_DIR = directory;
	} catch {}
}
/** The ICD files that `VK_DRIVER_FILES` (or its old name) lists; undefined where neither is set. */
function chosenDriverFiles(env = process.env) {
	const value = env.VK_DRIVER_FILES || env.VK_ICD_FILENAMES;
	return value ? value.split(delimiter).filter((file) => file !== "") : void 0;
}
/** Makes the Vulkan loader use these ICD files, and no others, from the next `create()` on; undefined undoes that. */
function chooseDriverFiles(files) {
	if (files === void 0) {
		delete process.env.VK_DRIVER_FILES;
		delete process.env.VK_ICD_FILENAMES;
		return;
	}
	process.env.VK_DRIVER_FILES = files.join(delimiter);
	process.env.VK_ICD_FILENAMES = process.env.VK_DRIVER_FILES;
}
/** The folders in which the loader looks for ICD files, in its order. */
function driverFolders(env = process.env) {
	const split = (value, fallback) => (value || fallback).split(delimiter).filter((folder) => isAbsolute(folder));
	const home = homedir();
	const roots = [
		env.XDG_CONFIG_HOME || join(home, ".config"),
		...split(env.XDG_CONFIG_DIRS, "/etc/xdg"),
		"/usr/local/etc",
		"/etc",
		env.XDG_DATA_HOME || join(home, ".local/share"),
		...split(env.XDG_DATA_DIRS, "/usr/local/share:/usr/share")
	];
	return [...new Set(roots.map((root) => join(root, "vulkan", "icd.d")))];
}
/** Reads one ICD file. */
function readDriver(file) {
	try {
		const icd = JSON.parse(readFileSync(file, "utf8"))?.ICD;
		if (typeof icd?.library_path !== "string" || icd.library_path === "") return {
			file,
			problem: "it has no ICD.library_path"
		};
		const path = icd.library_path;
		const library = path.includes("/") ? resolve(dirname(file), path) : path;
		if (isAbsolute(library) && !existsSync(library)) return {
			file,
			problem: `its library ${library} is missing`
		};
		const software = /swiftshader/i.test(path) ? "swiftshader" : /vulkan_lvp/.test(path) ? "lavapipe" : void 0;
		const apiVersion = typeof icd.api_version === "string" ? icd.api_version : "unknown";
		return software === void 0 ? {
			file,
			library,
			apiVersion
		} : {
			file,
			library,
			apiVersion,
			software
		};
	} catch (error) {
		return {
			file,
			problem: error instanceof Error ? error.message : String(error)
		};
	}
}
/** The drivers installed on this machine, whatever `VK_DRIVER_FILES` says. A file made for another processor counts too. */
function installedDrivers(env = process.env) {
	const drivers = [];
	for (const folder of driverFolders(env)) {
		let names;
		try {
			names = readdirSync(folder);
		} catch {
			continue;
		}
		for (const name of names.sort()) if (name.endsWith(".json")) drivers.push(readDriver(join(folder, name)));
	}
	return drivers;
}
/**
* RTLD_NODELETE, which Node's constants leave out; the value is the same in glibc and musl. Without it the library is
* closed again at once, since Node takes it for a broken addon.
*/
const RTLD_NODELETE = 4096;
/**
* Whether `dlopen` can open a library, given by name or path.
* @param keep leaves it open, so that a later `dlopen` by its name finds it wherever it lies.
* @returns the reason where it cannot.
*/
function openLibrary(library, keep = false) {
	const { RTLD_NOW, RTLD_GLOBAL } = constants$1.dlopen;
	try {
		process.dlopen({ exports: {} }, library, keep ? RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE : RTLD_NOW);
	} catch (error) {
		const message = error instanceof Error ? error.message : String(error);
		if (!/did not self-register/.test(message)) return {
			opened: false,
			problem: message
		};
	}
	return { opened: true };
}
/**
* Makes sure that Dawn will find `libvulkan.so.1`: the system's, else the one beside SwiftShader, opened by its path so
* that a later `dlopen` by name finds it already there.
*/
async function ensureLoader() {
	if (openLibrary(LOADER).opened) return "system";
	const icd = await unpackSwiftShader();
	if (icd === void 0) return void 0;
	return openLibrary(join(dirname(icd), LOADER), true).opened ? "@sparticuz/chromium" : void 0;
}
/** SwiftShader's ICD file: the one of an installed Chromium, else the one in `@sparticuz/chromium`, unpacked. */
async function swiftShaderDriver() {
	return CHROMIUM_ICDS.find((file) => existsSync(file)) ?? await unpackSwiftShader();
}
/** lavapipe's ICD file, where Mesa installed one for this processor. */
function lavapipeDriver() {
	return installedDrivers().filter((d) => "software" in d && d.software === "lavapipe").find((d) => !/\.(i[3-6]86|armv7l|armhf)\.json$/.test(d.file))?.file;
}
const PACKAGE = "@sparticuz/chromium";
const ICD = "vk_swiftshader_icd.json";
/** The archive also holds OpenGL libraries (8 MB) that nothing here opens. */
const WANTED = new Set([
	ICD,
	"libvk_swiftshader.so",
	LOADER
]);
/** The installed `@sparticuz/chromium`, or undefined: it is optional, and npm skips optional packages that fail. */
function swiftShaderPackage() {
	if (process.platform !== "linux" || process.arch !== "x64") return void 0;
	try {
		const entry = createRequire(import.meta.url).resolve(PACKAGE);
		const root = entry.slice(0, entry.lastIndexOf(join("@sparticuz", "chromium"))) + join("@sparticuz", "chromium");
		const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
		const archive = join(root, "bin", "swiftshader.tar.br");
		return existsSync(archive) ? {
			version,
			archive
		} : void 0;
	} catch {
		return;
	}
}
let unpacked;
/**
* Unpacks SwiftShader and its loader into the cache directory, unless they are there already.
* @returns the ICD file; undefined where the package is not installed.
*/
function unpackSwiftShader() {
	unpacked ??= unpackOnce().catch((error) => {
		unpacked = void 0;
		throw error;
	});
	return unpacked;
}
async function unpackOnce() {
	const found = swiftShaderPackage();
	if (found === void 0) return void 0;
	const cache = cacheDirectory();
	const home = join(cache, `swiftshader-${found.version}-${process.arch}`);
	if (existsSync(join(home, ICD))) return join(home, ICD);
	try {
		await mkdir(cache, { recursive: true });
		const fresh = await extract(found.archive, join(cache, ".swiftshader-"));
		try {
			await rename(fresh, home);
		} catch (error) {
			await rm(fresh, {
				recursive: true,
				force: true
			});
			if (!existsSync(join(home, ICD))) throw error;
		}
		return join(home, ICD);
	} catch (error) {
		if (!isReadOnly(error)) throw error;
		const fresh = await extract(found.archive, join(tmpdir(), "daguerre-swiftshader-"));
		process.once("exit", () => rmSync(fresh, {
			recursive: true,
			force: true
		}));
		return join(fresh, ICD);
	}
}
function isReadOnly(error) {
	return [
		"EACCES",
		"EPERM",
		"EROFS",
		"ENOENT",
		"ENOTDIR"
	].includes(error.code ?? "");
}
/** Extracts the wanted files into a new folder whose name starts with `prefix`. */
async function extract(archive, prefix) {
	const tar = createRequire(createRequire(import.meta.url).resolve(PACKAGE))("tar-fs");
	const folder = await mkdtemp(prefix);
	try {
		const sink = tar.extract(folder, {
			ignore: (path) => !WANTED.has(path.slice(path.lastIndexOf("/") + 1)),
			chown: false,
			strict: false
		});
		await pipeline(createReadStream(archive), createBrotliDecompress(), sink);
		for (const name of WANTED) if (!existsSync(join(folder, name))) throw new Error(`${archive} holds no ${name}`);
		return folder;
	} catch (error) {
		await rm(folder, {
			recursive: true,
			force: true
		});
		throw error;
	}
}
//#endregion
//#region src/gpu/waiting.ts
/**
* Waiting for the GPU without burning the CPU.
*
* dawn.node learns that work is done by polling: while any of its promises is outstanding it re-queues a `setImmediate`
* for ever, so the JavaScript thread spins at 100% of a core, and on a software GPU that core is taken from the very
* work that is waited for. `settle` makes each of those turns sleep: it queues an immediate of its own beside Dawn's and
* blocks the thread there with `Atomics.wait`, for at most a millisecond a turn.
*
* The event loop keeps turning, so timers, sockets and workers are served. Two rules keep it responsive:
* the sleep is an eighth of the time waited so far, so that short waits (a 0.1 ms read-back) are hardly longer; and
* while turns are long because other work runs in them (a server answering requests), the sleeps are short until the
* loop has been quiet for a moment. (No sleep at all would burn the core: on a crowded machine a turn is as often long
* because the thread was not let run.)
*
* A turn costs 25 µs of CPU all the same. Who knows that work takes long asks for its promise only when it is nearly
* due (`Gpu.idle`): until then nothing polls, and the thread sleeps as any server's does.
*/
/** The longest that one turn of the event loop is held up, in ms. */
const MAX_SLEEP_MS = 1;
/** A turn beyond its sleep that took this long did somebody else's work, in ms. A turn of Dawn's polling takes 0.01. */
const BUSY_TURN_MS = .15;
/** After a busy turn sleeps are short for this long, since work comes in bursts, in ms. */
const QUIET_AFTER_MS = 2;
const SHORT_SLEEP_MS = .1;
const cell = new Int32Array(new SharedArrayBuffer(4));
let waiting = 0;
let turning = false;
let since = 0;
let turnEnd = 0;
let busyUntil = 0;
function turn() {
	if (waiting === 0) {
		turning = false;
		return;
	}
	const now = performance.now();
	if (now - turnEnd > BUSY_TURN_MS) busyUntil = now + QUIET_AFTER_MS;
	const sleep = Math.min(now < busyUntil ? SHORT_SLEEP_MS : MAX_SLEEP_MS, (now - since) / 8);
	if (sleep > 0) Atomics.wait(cell, 0, 0, sleep);
	turnEnd = performance.now();
	setImmediate(turn);
}
/**
* Awaits a promise of Dawn's (`mapAsync`, `onSubmittedWorkDone`, `createComputePipelineAsync`, …) while letting the
* thread sleep. Resolves or rejects as `promise` does. Any number may wait at once; they share one loop, which ends
* with the last of them.
*/
async function settle(promise) {
	waiting += 1;
	since = performance.now();
	if (!turning) {
		turning = true;
		turnEnd = since;
		setImmediate(turn);
	}
	try {
		return await promise;
	} finally {
		waiting -= 1;
	}
}
//#endregion
//#region src/gpu/adapter.ts
/**
* Choosing a GPU, and opening a device on it.
*
* An *adapter* is a GPU together with its driver, as Dawn (the WebGPU implementation behind npm's `webgpu`) offers it;
* a *device* is a connection to one. On Linux Dawn speaks Vulkan, and where no usable driver is installed
* `requestAdapter()` gives null: then a software driver is brought along (`software-driver.ts`) and said so in
* `AdapterFacts.note`. On macOS and Windows Dawn speaks Metal and D3D12, and nothing needs to be brought.
*
* Buffers, pipelines and read-back are not here but in `device.ts`.
*/
/**
* Dawn's toggles (names from its Toggles.cpp; a misspelt one is ignored without a word). They are given to `create()`,
* which hands them on to every adapter and device made from it.
*/
const DAWN_FLAGS = ["enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia", "disable-dawn-features=timestamp_quantization"];
/** Features asked for where the adapter has them. None is required: each has a kernel that does without. */
const FEATURES = [
	"shader-f16",
	"subgroups",
	"subgroup-size-control",
	"timestamp-query",
	"chromium-experimental-subgroup-matrix"
];
/** Limits of which the adapter's own is asked for; WebGPU gives the (small) defaults otherwise. */
const LIMITS = [
	"maxBufferSize",
	"maxStorageBufferBindingSize",
	"maxUniformBufferBindingSize",
	"maxStorageBuffersPerShaderStage",
	"maxBindingsPerBindGroup",
	"maxDynamicStorageBuffersPerPipelineLayout",
	"maxDynamicUniformBuffersPerPipelineLayout",
	"maxImmediateSize",
	"maxComputeWorkgroupStorageSize",
	"maxComputeInvocationsPerWorkgroup",
	"maxComputeWorkgroupSizeX",
	"maxComputeWorkgroupSizeY",
	"maxComputeWorkgroupSizeZ",
	"maxComputeWorkgroupsPerDimension",
	"minStorageBufferOffsetAlignment",
	"minUniformBufferOffsetAlignment"
];
const kept = /* @__PURE__ */ new Map();
/**
* An entry into Dawn with our flags and these. Dawn's library is loaded here and not by importing this file, so that a
* machine that cannot load it is told why, by `doctor` among others.
*/
async function dawn(flags) {
	let create;
	try {
		({create} = await import("webgpu"));
	} catch (error) {
		throw new AdapterError(`Dawn (npm package webgpu) cannot be loaded on this machine: ${error instanceof Error ? error.message : String(error)}`, [], error);
	}
	const key = JSON.stringify([
		flags,
		process.env.VK_DRIVER_FILES,
		process.env.VK_ICD_FILENAMES
	]);
	let gpu = kept.get(key);
	if (gpu === void 0) {
		gpu = create([...DAWN_FLAGS, ...flags]);
		kept.set(key, gpu);
	}
	return gpu;
}
/** Asked for an adapter by a name that none has, dawn.node lists in its message those that it sees. */
const LISTING_FLAG = "adapter=?";
/** Reads the message that {@link LISTING_FLAG} leads to. */
function parseListing(message) {
	return [...message.matchAll(/backend: '([^']*)', name: '(.*)'$/gm)].map(([, backend = "", name = ""]) => ({
		backend,
		name
	}));
}
/** The adapters that Dawn sees, the most powerful first. WebGPU has no call for it. */
async function listAdapters() {
	const gpu = await dawn([LISTING_FLAG]);
	try {
		await settle(gpu.requestAdapter({ powerPreference: "high-performance" }));
	} catch (error) {
		return parseListing(error instanceof Error ? error.message : String(error));
	}
	return [];
}
function softwareDriverOf(info) {
	if (/swiftshader/i.test(`${info.architecture} ${info.device} ${info.description}`)) return "swiftshader";
	if (/llvmpipe|lavapipe/i.test(`${info.device} ${info.description}`)) return "lavapipe";
}
/** The facts of an adapter, from its own description and Dawn's listing of it. */
function factsOf(adapter, listed) {
	const { info } = adapter;
	const driver = softwareDriverOf(info);
	const software = driver !== void 0 || info.isFallbackAdapter;
	const features = [...adapter.features].sort();
	const { subgroupMinSize, subgroupMaxSize } = info;
	const subgroups = features.includes("subgroups") ? {
		subgroupMinSize,
		subgroupMaxSize
	} : {};
	return {
		kind: software ? "software" : "hardware",
		name: listed.name,
		vendor: info.vendor,
		architecture: info.architecture,
		description: info.description,
		backend: listed.backend,
		...driver === void 0 ? {} : { driver },
		...subgroups,
		features
	};
}
function isNamed(facts, adapter, part) {
	const { info } = adapter;
	return [
		facts.name,
		info.description,
		info.vendor,
		info.device,
		info.architecture
	].some((text) => text.toLowerCase().includes(part.toLowerCase()));
}
/** Hardware before software, lavapipe (several times faster, and has f16) before the rest; else Dawn's own order. */
function rank(facts) {
	if (facts.kind === "hardware") return 0;
	return facts.driver === "lavapipe" ? 1 : facts.driver === "swiftshader" ? 3 : 2;
}
/** The adapters of the drivers that are in force now, best first. */
async function offered() {
	const listed = await listAdapters();
	const open = [];
	const names = /* @__PURE__ */ new Set();
	for (const entry of listed) {
		if (names.has(entry.name)) continue;
		names.add(entry.name);
		const gpu = await dawn([`adapter=${entry.name}`]);
		const adapter = await settle(gpu.requestAdapter({ powerPreference: "high-performance" }));
		if (adapter !== null) open.push({
			adapter,
			gpu,
			facts: factsOf(adapter, entry)
		});
	}
	return open.sort((a, b) => rank(a.facts) - rank(b.facts));
}
function fits(choice, { facts, adapter }) {
	const prefer = choice.prefer ?? "auto";
	if (prefer !== "auto" && facts.kind !== prefer) return false;
	if (choice.driver !== void 0 && facts.driver !== choice.driver) return false;
	return choice.name === void 0 || isNamed(facts, adapter, choice.name);
}
function describe(choice) {
	const prefer = choice.prefer ?? "auto";
	const words = [prefer === "auto" ? "GPU" : `${prefer} GPU`];
	if (choice.driver !== void 0) words.push(`with driver "${choice.driver}"`);
	if (choice.name !== void 0) words.push(`named like "${choice.name}"`);
	return words.join(" ");
}
/** What to tell a user of the adapter that was taken. */
function noteOn(facts, brought, asked) {
	const parts = [];
	const called = facts.driver === "swiftshader" ? "SwiftShader" : facts.driver === "lavapipe" ? "lavapipe" : facts.name;
	if (facts.kind === "software" && !asked) parts.push(brought === void 0 ? `no hardware GPU was found: using ${called}, a software GPU` : `no usable GPU driver was found: using ${called}, a software GPU`);
	const lacking = [facts.features.includes("shader-f16") ? "" : "f16", facts.features.includes("subgroups") ? "" : "subgroups"].filter((word) => word !== "");
	if (lacking.length > 0) parts.push(`it has no ${lacking.join(" and no ")}, so slower kernels are used`);
	if (facts.driver === "swiftshader") parts.push("Mesa's lavapipe is several times faster (see: daguerre doctor)");
	return parts.length === 0 ? void 0 : parts.join("; ");
}
let queue = Promise.resolve();
/** The drivers that were in force when the process started; those that we chose later do not count as the user's. */
const usersDriverFiles = chosenDriverFiles();
/**
* Opens the adapter that fits `choice` best.
*
* Drivers are tried in this order: those of `VK_DRIVER_FILES` or of the machine; then, unless `hardware` is asked for,
* an installed lavapipe; then SwiftShader. If it is one of the latter two, `VK_DRIVER_FILES` stays set to it: a later
* worker thread, which cannot change the process's environment, then finds the same one.
*
* Each call gives a fresh adapter, of which one device can be made.
* @throws AdapterError where none fits: the message lists what was found.
*/
function openAdapter(choice = {}) {
	const opening = queue.then(() => open$1(choice));
	queue = opening.catch(() => void 0);
	return opening;
}
async function open$1(choice) {
	const found = /* @__PURE__ */ new Set();
	const problems = [];
	const asked = choice.prefer === "software" || choice.driver !== void 0 || choice.name !== void 0;
	const attempt = async (brought) => {
		const adapters = await offered();
		if (adapters.length === 0 && brought !== void 0) problems.push(`${brought} was refused by Dawn`);
		for (const { facts } of adapters) found.add(`${facts.name} (${facts.kind})`);
		const fitting = adapters.find((a) => fits(choice, a));
		if (fitting === void 0) return void 0;
		const note = noteOn(fitting.facts, brought, asked);
		return note === void 0 ? fitting : {
			...fitting,
			facts: {
				...fitting.facts,
				note
			}
		};
	};
	if (process.platform !== "linux") {
		const opened = await attempt();
		if (opened !== void 0) return opened;
		throw refusal(choice, found, problems);
	}
	keepMesaShaders();
	if (await ensureLoader().catch((error) => {
		problems.push(`unpacking SwiftShader failed: ${String(error)}`);
	}) === void 0) problems.push("the Vulkan loader (libvulkan.so.1) is missing");
	if (isMainThread) chooseDriverFiles(usersDriverFiles);
	const opened = await attempt();
	if (opened !== void 0) return opened;
	if (choice.prefer === "hardware") throw refusal(choice, found, problems);
	for (const driver of ["lavapipe", "swiftshader"]) {
		if (choice.driver !== void 0 && choice.driver !== driver) continue;
		const file = await bring(driver, problems);
		if (file === void 0) continue;
		chooseDriverFiles([file]);
		const software = await attempt(driver);
		if (software !== void 0) return software;
	}
	chooseDriverFiles(usersDriverFiles);
	if (!isMainThread) problems.push("a worker thread cannot change the Vulkan driver: open an adapter in the main thread first");
	throw refusal(choice, found, problems);
}
async function bring(driver, problems) {
	if (driver === "lavapipe") {
		const file = lavapipeDriver();
		if (file === void 0) problems.push("lavapipe is not installed");
		return file;
	}
	try {
		const file = await swiftShaderDriver();
		if (file === void 0) {
			const reason = process.arch === "x64" || swiftShaderPackage() ? "is not installed" : "is made for x64 only";
			problems.push(`the optional package @sparticuz/chromium (SwiftShader) ${reason}`);
		}
		return file;
	} catch (error) {
		problems.push(`unpacking SwiftShader failed: ${error instanceof Error ? error.message : String(error)}`);
		return;
	}
}
function refusal(choice, found, problems) {
	const list = found.size === 0 ? "no adapter at all" : [...found].join(", ");
	const because = problems.length === 0 ? "" : ` (${[...new Set(problems)].join("; ")})`;
	return new AdapterError(`no ${describe(choice)} was found; there is ${list}${because}. Run "daguerre doctor": it says how to mend it.`, [...found]);
}
/**
* Opens a device with the adapter's own limits and every feature of ours that it has.
* @throws GpuError where the driver refuses.
*/
async function requestDevice(adapter, label = "daguerre") {
	const limits = adapter.limits;
	const requiredLimits = {};
	for (const name of LIMITS) {
		const value = limits[name];
		if (value !== void 0) requiredLimits[name] = value;
	}
	const requiredFeatures = FEATURES.filter((name) => adapter.features.has(name));
	try {
		return await settle(adapter.requestDevice({
			label,
			requiredFeatures,
			requiredLimits,
			defaultQueue: { label }
		}));
	} catch (error) {
		throw toGpuError(error, `opening a device on ${adapter.info.description || adapter.info.device}`);
	}
}
//#endregion
//#region src/gpu/faults.ts
/**
* Watches a device, so that nothing it reports goes unheard.
*
* Errors that no scope captured arrive as events, some turns after the call that caused them; loss arrives as a promise.
* Both are kept here as typed errors until somebody who can act on them asks: `check()` after a run, or `lost`.
*/
/** One fault in a loop would otherwise grow the log for ever. */
const MAX_ERRORS = 32;
/**
* Starts watching `device`; to be called once, right after it was made. `onError` is told of each uncaptured error as it
* arrives (for the log); what it throws is not caught.
*/
function watchDevice(device, onError) {
	let errors = [];
	let loss;
	device.addEventListener("uncapturederror", (event) => {
		event.preventDefault();
		const error = toGpuError(event.error);
		if (errors.length < MAX_ERRORS) errors.push(error);
		onError?.(error);
	});
	return {
		check() {
			if (loss !== void 0) throw loss;
			const first = errors[0];
			errors = [];
			if (first !== void 0) throw first;
		},
		get errors() {
			return errors;
		},
		lost: device.lost.then((info) => {
			loss = new DeviceLostError(info.reason, `GPU device lost (${info.reason}): ${info.message || "no reason given"}`);
			return loss;
		}),
		get loss() {
			return loss;
		}
	};
}
//#endregion
export { toGpuError as S, DeviceLostError as _, openAdapter as a, GpuValidationError as b, settle as c, ensureLoader as d, installedDrivers as f, AdapterError as g, swiftShaderPackage as h, factsOf as i, cacheDirectory as l, swiftShaderDriver as m, DAWN_FLAGS as n, parseListing as o, readDriver as p, LISTING_FLAG as r, requestDevice as s, watchDevice as t, chosenDriverFiles as u, GpuError as v, MemoryLimitError as x, GpuOutOfMemoryError as y };

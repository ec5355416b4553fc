import { a as openAdapter, c as settle, d as ensureLoader, f as installedDrivers, h as swiftShaderPackage, i as factsOf, m as swiftShaderDriver, n as DAWN_FLAGS, o as parseListing, p as readDriver, r as LISTING_FLAG, s as requestDevice, t as watchDevice, u as chosenDriverFiles } from "./faults-D86CbdmA.js";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { accessSync, constants, existsSync, readFileSync, readdirSync } from "node:fs";
import { totalmem } from "node:os";
import { execFile } from "node:child_process";
//#region src/gpu/driver-probe.ts
/**
* Trying Vulkan drivers without risk: in a child process, since a broken driver takes its process with it.
*
* Not for opening a GPU to work with (that is `adapter.ts`) but for finding out, for `daguerre doctor`, what each driver
* is good for and, where Dawn refuses it, why. Dawn says why on stderr, which only a child's parent can read.
*/
const CHILD = `
import { readFileSync } from "node:fs";
import { constants } from "node:os";
const { webgpu, flags, listingFlag, pattern, loader, library } = JSON.parse(process.argv[1]);
const report = { listing: "", adapters: [] };
function open(path) {
  try {
    process.dlopen({ exports: {} }, path, constants.dlopen.RTLD_NOW | constants.dlopen.RTLD_GLOBAL | 0x1000);
  } catch (error) {
    if (!/did not self-register/.test(error.message)) return error.message;
  }
}
if (loader) open(loader);
if (library) {
  report.libraryProblem = open(library);
  const name = library.slice(library.lastIndexOf("/") + 1).replace(/\\.so.*/, ".so");
  const maps = readFileSync("/proc/self/maps", "utf8");
  report.libraryPath = maps.split("\\n").map((l) => l.slice(l.indexOf("/"))).find((path) => path.includes(name));
}
const { create } = await import(webgpu);
const kept = [];
const request = (flag) => {
  const gpu = create([...flags, flag]);
  kept.push(gpu);
  return gpu.requestAdapter({ powerPreference: "high-performance" });
};
await request(listingFlag).catch((error) => { report.listing = error.message; });
for (const [, name] of report.listing.matchAll(new RegExp(pattern, "gm"))) {
  const adapter = await request("adapter=" + name);
  if (adapter === null) continue;
  const { vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize } = adapter.info;
  const { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage } = adapter.limits;
  report.adapters.push({
    info: { vendor, architecture, device, description, isFallbackAdapter, subgroupMinSize, subgroupMaxSize },
    features: [...adapter.features],
    limits: { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage },
  });
  (await adapter.requestDevice()).destroy();
}
process.stdout.write(JSON.stringify(report), () => process.exit(0));
`;
/** Dawn's complaint among what it printed: the first line of the last warning that is one. */
function complaintIn(stderr) {
	return [...stderr.matchAll(/^(?:Warning|Error): (.*)$/gm)].map(([, text = ""]) => text).filter((text) => !/artificially reduced/.test(text)).at(-1);
}
/** Tries one driver, or all that the machine offers, in a child process. Never throws. */
function probeDriver(options = {}) {
	const argument = JSON.stringify({
		webgpu: pathToFileURL(createRequire(import.meta.url).resolve("webgpu")).href,
		flags: DAWN_FLAGS,
		listingFlag: LISTING_FLAG,
		pattern: "name: '(.*)'$",
		loader: options.loader,
		library: options.library
	});
	const env = { ...process.env };
	if (options.driverFile !== void 0) {
		env.VK_DRIVER_FILES = options.driverFile;
		env.VK_ICD_FILENAMES = options.driverFile;
	}
	const timeout = options.timeoutMs ?? 3e4;
	return new Promise((resolve) => {
		const args = [
			"--input-type=module",
			"-e",
			CHILD,
			argument
		];
		execFile(process.execPath, args, {
			env,
			timeout,
			killSignal: "SIGKILL"
		}, (error, stdout, stderr) => {
			if (error !== null) {
				resolve({
					adapters: [],
					failed: true,
					reason: reasonOfDeath(error, stderr, timeout)
				});
				return;
			}
			const report = JSON.parse(stdout);
			const listed = parseListing(report.listing);
			const adapters = report.adapters.map((adapter, i) => ({
				facts: factsOf(adapter, listed[i] ?? {
					name: adapter.info.description,
					backend: "unknown"
				}),
				maxBufferSize: adapter.limits.maxBufferSize ?? 0,
				maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize ?? 0,
				maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage ?? 0
			}));
			const reason = report.libraryProblem ?? complaintIn(stderr);
			resolve({
				adapters,
				failed: false,
				...adapters.length > 0 || reason === void 0 ? {} : { reason },
				...report.libraryPath === void 0 ? {} : { libraryPath: report.libraryPath }
			});
		});
	});
}
function reasonOfDeath(error, stderr, timeout) {
	if (error.killed) return `no answer within ${timeout / 1e3} s`;
	if (error.signal) return `the process died (${String(error.signal)})`;
	return /^(?:\w*Error): (.*)$/m.exec(stderr)?.[1] ?? stderr.trim().split("\n").at(-1) ?? error.message;
}
/** The version in a driver library of Mesa's, such as "25.0.7"; undefined where it is not Mesa's. */
async function mesaVersionIn(library) {
	try {
		return /Mesa (\d+\.\d+\.\d+)/.exec(await readFile(library, "latin1"))?.[1];
	} catch {
		return;
	}
}
//#endregion
//#region src/cli/mending.ts
/** Reads the text of `/etc/os-release`. */
function readDistribution(text) {
	const fields = /* @__PURE__ */ new Map();
	for (const [, key = "", quoted, plain] of text.matchAll(/^([A-Z_]+)=(?:["'](.*)["']|(.*))$/gm)) fields.set(key, quoted ?? plain ?? "");
	const field = (key) => fields.get(key) ?? "";
	return {
		id: field("ID"),
		like: field("ID_LIKE").split(" ").filter(Boolean),
		version: field("VERSION_ID"),
		codename: field("VERSION_CODENAME"),
		name: field("PRETTY_NAME") || field("NAME") || "an unknown Linux"
	};
}
const FAMILY = {
	debian: "debian",
	ubuntu: "debian",
	fedora: "fedora",
	rhel: "fedora",
	centos: "fedora",
	arch: "arch",
	suse: "suse",
	opensuse: "suse",
	alpine: "alpine"
};
function familyOf(distribution) {
	for (const id of [distribution.id, ...distribution.like]) if (FAMILY[id]) return FAMILY[id];
}
const APT = "apt-get update && apt-get install -y mesa-vulkan-drivers libvulkan1";
/**
* The command that installs Mesa's Vulkan drivers (lavapipe among them, and those for AMD and Intel GPUs) and the Vulkan
* loader, in a version that Dawn accepts. `deb822` says whether Debian's sources are in `debian.sources` (as since
* Debian 12) or in `sources.list`. Undefined for a distribution unknown here.
*/
function installMesa(distribution, deb822 = true) {
	if (distribution.id === "debian" && distribution.codename === "bookworm") return `${deb822 ? "cd /etc/apt/sources.list.d && sed '/^$/,$d; s/^Suites:.*/Suites: bookworm-backports/' debian.sources > backports.sources" : "sed -n 's/^deb \\(.*\\) bookworm main.*/deb \\1 bookworm-backports main/p' /etc/apt/sources.list > /etc/apt/sources.list.d/backports.list"} && apt-get update && apt-get install -y -t bookworm-backports mesa-vulkan-drivers libvulkan1`;
	switch (familyOf(distribution)) {
		case "debian": return APT;
		case "fedora": return "dnf install -y mesa-vulkan-drivers vulkan-loader";
		case "arch": return "pacman -S --needed vulkan-swrast vulkan-icd-loader";
		case "suse": return "zypper install -y libvulkan_lvp libvulkan1";
		case "alpine": return "apk add mesa-vulkan-swrast vulkan-loader";
		case void 0: return;
	}
}
/** What is missing when a GPU of this vendor is in the machine and Vulkan does not show it. */
function installGpuDriver(vendor, distribution, deb822 = true) {
	if (vendor === "NVIDIA") return "install NVIDIA's driver with its Vulkan part (its ICD file is nvidia_icd.json); in a container, start it with NVIDIA_DRIVER_CAPABILITIES=all, since \"compute\" alone leaves Vulkan out";
	const family = familyOf(distribution);
	if (family === "arch") return `install its driver: pacman -S --needed ${vendor === "AMD" ? "vulkan-radeon" : "vulkan-intel"} vulkan-icd-loader`;
	if (family === "suse") return `install its driver: zypper install -y ${vendor === "AMD" ? "libvulkan_radeon" : "libvulkan_intel"} libvulkan1`;
	if (family === "alpine") return `install its driver: apk add ${vendor === "AMD" ? "mesa-vulkan-ati" : "mesa-vulkan-intel"} vulkan-loader`;
	const command = installMesa(distribution, deb822);
	return command === void 0 ? "install Mesa's Vulkan driver for it" : `install its driver: ${command}`;
}
//#endregion
//#region src/cli/doctor.ts
/**
* `daguerre doctor`: what this machine has to compute on, whether it works, and the command that mends what does not.
*
* Everything that could crash (a driver) is tried in a child process first; the GPU that a run would take is then
* opened in this one, by the very code that a run uses, and has to compute something.
*/
const MIN_NODE = [20, 19];
/**
* Examines this machine and says in one line what to do, the last that is written.
* @param write is given one line at a time, without its end.
* @returns the exit code: 0 if there is something usable, else 1.
*/
async function doctor(write) {
	write("Machine");
	const distribution = describeMachine(write);
	const gpus = gpusOnBus();
	const forbidden = forbiddenDevice();
	const base = {
		distribution,
		deb822: existsSync("/etc/apt/sources.list.d/debian.sources"),
		gpus: [...new Set(gpus.map((gpu) => gpu.vendor).filter((vendor) => vendor !== void 0))],
		forbidden,
		platform: process.platform,
		dawnProblem: await whyDawnFails()
	};
	let loader;
	let drivers = {
		crashing: [],
		working: [],
		lavapipe: void 0,
		swiftShader: "impossible",
		adapters: []
	};
	if (base.dawnProblem !== void 0) {
		write(`  Dawn (npm package webgpu) cannot be loaded: ${base.dawnProblem}`);
		write("");
		write(advise({
			...base,
			...drivers,
			chosen: void 0
		}));
		return 1;
	}
	if (process.platform === "linux") {
		write(`  GPUs on the PCI bus: ${gpus.length === 0 ? "none" : gpus.map((gpu) => gpu.text).join(", ")}`);
		if (forbidden !== void 0) write(`  ${forbidden} cannot be opened by this user`);
		loader = await describeLoader(write);
		write("");
		write("Vulkan drivers");
		drivers = await describeDrivers(write, loader);
	}
	write("");
	write("Adapters that Dawn offers");
	const everything = await probeDriver(await loaderOption(loader));
	describeAdapters(write, everything.adapters);
	if (everything.adapters.length === 0) write(`  none by itself${everything.reason === void 0 ? "" : `: ${everything.reason}`}`);
	const names = new Set(everything.adapters.map((adapter) => adapter.facts.name));
	describeAdapters(write, drivers.adapters.filter((adapter) => !names.has(adapter.facts.name)), ", if its driver is chosen");
	write("");
	write("Trial");
	const chosen = everything.failed ? void 0 : await tryOut(write);
	if (everything.failed) write(`  not opened: ${everything.reason}`);
	write("");
	write(advise({
		...base,
		...drivers,
		chosen
	}));
	return chosen === void 0 ? 1 : 0;
}
function describeMachine(write) {
	let distribution = readDistribution("");
	try {
		distribution = readDistribution(readFileSync("/etc/os-release", "utf8"));
	} catch {}
	const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
	const old = major < MIN_NODE[0] || major === MIN_NODE[0] && minor < MIN_NODE[1];
	const parts = [`Node ${process.versions.node}${old ? ` (too old: ${MIN_NODE.join(".")} is needed)` : ""}`];
	parts.push(`${process.platform} ${process.arch}`);
	if (process.platform === "linux") {
		const glibc = glibcVersion();
		parts.push(distribution.name, glibc === void 0 ? "no glibc (Dawn's build for Node needs it)" : `glibc ${glibc}`);
	}
	parts.push(`${Math.round(totalmem() / 2 ** 30)} GiB of memory`);
	write(`  ${parts.join(", ")}`);
	return distribution;
}
/** The version of glibc that this process runs on; undefined with musl or off Linux. */
function glibcVersion() {
	const { header } = process.report.getReport();
	return header.glibcVersionRuntime;
}
/** Loads Dawn in a child process with no driver at all: what goes wrong then is no driver's fault. */
async function whyDawnFails() {
	const probe = await probeDriver({ driverFile: "/no-driver.json" });
	if (!probe.failed) return void 0;
	const reason = probe.reason ?? "for no reason given";
	if (process.platform !== "linux") return reason;
	if (glibcVersion() === void 0) return `${reason} (its build for Node needs glibc, which this Linux lacks)`;
	return /GLIBC/.test(reason) ? `${reason} (it needs glibc 2.34 and libstdc++ of GCC 12, or later)` : reason;
}
const VENDORS = {
	"0x10de": "NVIDIA",
	"0x1002": "AMD",
	"0x8086": "Intel"
};
/** Display controllers (PCI class 3) as the kernel lists them, driver or no driver. */
function gpusOnBus() {
	const root = "/sys/bus/pci/devices";
	const read = (device, file) => readFileSync(join(root, device, file), "utf8").trim();
	try {
		return readdirSync(root).filter((device) => read(device, "class").startsWith("0x03")).map((device) => {
			const id = read(device, "vendor");
			const vendor = VENDORS[id];
			return {
				vendor,
				text: `${vendor ?? `vendor ${id}`} ${read(device, "device")}`
			};
		});
	} catch {
		return [];
	}
}
/** A GPU's device file that exists and that this user may not open. */
function forbiddenDevice() {
	let names;
	try {
		names = readdirSync("/dev/dri").filter((name) => name.startsWith("renderD"));
	} catch {
		return;
	}
	return names.map((name) => join("/dev/dri", name)).find((path) => {
		try {
			accessSync(path, constants.R_OK | constants.W_OK);
			return false;
		} catch {
			return true;
		}
	});
}
async function describeLoader(write) {
	let loader;
	try {
		loader = await ensureLoader();
	} catch (error) {
		write(`  unpacking SwiftShader failed: ${error instanceof Error ? error.message : String(error)}`);
	}
	write(`  Vulkan loader (libvulkan.so.1): ${loader === void 0 ? "missing" : loader === "system" ? "the system's" : `missing; the one in ${loader} is used`}`);
	const files = chosenDriverFiles();
	if (files !== void 0) write(`  VK_DRIVER_FILES restricts Vulkan to: ${files.join(", ")}`);
	return loader;
}
/** Where a child finds the loader that the system lacks. */
async function loaderOption(loader) {
	if (loader !== "@sparticuz/chromium") return {};
	const icd = await swiftShaderDriver();
	return icd === void 0 ? {} : { loader: join(dirname(icd), "libvulkan.so.1") };
}
async function describeDrivers(write, loader) {
	const findings = {
		crashing: [],
		working: [],
		lavapipe: void 0,
		swiftShader: "installed",
		adapters: []
	};
	const option = await loaderOption(loader);
	const listed = (chosenDriverFiles() ?? []).map(readDriver);
	const swiftShader = await swiftShaderDriver().catch(() => void 0);
	const candidates = [
		...installedDrivers(),
		...listed,
		...swiftShader === void 0 ? [] : [readDriver(swiftShader)]
	];
	const seen = /* @__PURE__ */ new Set();
	for (const driver of candidates) {
		if (seen.has(driver.file)) continue;
		seen.add(driver.file);
		write(`  ${driver.file}: ${await examine(driver, option, findings)}`);
	}
	if (seen.size === 0) write("  none installed");
	if (swiftShader === void 0) {
		findings.swiftShader = process.arch === "x64" ? "missing" : "impossible";
		write(`  SwiftShader (optional npm package @sparticuz/chromium): ${process.arch === "x64" ? "not installed" : "not for this processor: its package is for x64 only"}`);
	} else {
		const version = swiftShaderPackage()?.version;
		if (version !== void 0) write(`  SwiftShader: @sparticuz/chromium ${version} is installed`);
	}
	return findings;
}
async function examine(driver, option, findings) {
	if ("problem" in driver) return `unusable: ${driver.problem}`;
	const probe = await probeDriver({
		...option,
		driverFile: driver.file,
		library: driver.library
	});
	const version = probe.libraryPath === void 0 ? void 0 : await mesaVersionIn(probe.libraryPath);
	const accepted = probe.adapters.length > 0;
	if (driver.software === "lavapipe" && !findings.lavapipe?.accepted) findings.lavapipe = {
		version,
		accepted
	};
	const what = [driver.software === "swiftshader" ? "SwiftShader" : driver.software, version === void 0 ? void 0 : `Mesa ${version}`].filter(Boolean).join(", ");
	const prefix = what === "" ? "" : `${what}: `;
	if (accepted) {
		findings.working.push(driver.file);
		findings.adapters.push(...probe.adapters);
		return `${prefix}accepted (${probe.adapters.map((a) => a.facts.name).join(", ")})`;
	}
	if (probe.failed) {
		findings.crashing.push(driver.file);
		return `${prefix}BROKEN: ${probe.reason}`;
	}
	if (probe.reason === void 0 || /vkEnumeratePhysicalDevices|no drivers|INCOMPATIBLE_DRIVER/i.test(probe.reason)) return `${prefix}finds no GPU of its kind`;
	return `${prefix}refused by Dawn: ${probe.reason}`;
}
function mebibytes(bytes) {
	return `${Math.round(bytes / 2 ** 20)} MiB`;
}
function describeAdapters(write, adapters, condition = "") {
	for (const { facts, ...limits } of adapters) {
		const has = (feature) => facts.features.includes(feature) ? "yes" : "no";
		const { subgroupMinSize: min, subgroupMaxSize: max } = facts;
		const subgroups = min === void 0 ? "no" : min === max ? `${min} lanes` : `${min} to ${max} lanes`;
		write(`  ${facts.name} (${facts.kind}, ${facts.backend}${condition})`);
		write(`    ${facts.description || "no description"}`);
		write(`    f16 ${has("shader-f16")}; subgroups ${subgroups}; timestamps ${has("timestamp-query")}; tensor cores ${has("chromium-experimental-subgroup-matrix")}`);
		write(`    largest buffer ${mebibytes(limits.maxBufferSize)}, of which a kernel sees ${mebibytes(limits.maxStorageBufferBindingSize)} at once; ${limits.maxStorageBuffersPerShaderStage} buffers a kernel`);
	}
}
/** Opens what a run would open and lets it compute. */
async function tryOut(write) {
	let opened;
	try {
		opened = await openAdapter();
	} catch (error) {
		write(`  ${(error instanceof Error ? error.message : String(error)).replace(/ Run "daguerre doctor".*$/, "")}`);
		return;
	}
	const { facts } = opened;
	write(`  a run would use ${facts.name} (${facts.kind})${facts.note === void 0 ? "" : `: ${facts.note}`}`);
	try {
		const device = await requestDevice(opened.adapter, "doctor");
		try {
			const { firstMs, againMs } = await computeSquares(device);
			write(`  1024 squares came out right: ${firstMs.toFixed(1)} ms with compiling, ${againMs.toFixed(1)} ms again`);
			return facts;
		} finally {
			device.destroy();
		}
	} catch (error) {
		write(`  it does not work: ${error instanceof Error ? error.message : String(error)}`);
		return;
	}
}
const SQUARES = `
@group(0) @binding(0) var<storage, read_write> values: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  values[id.x] = values[id.x] * values[id.x];
}`;
const MAP_READ = 1;
const COPY_SRC = 4;
const COPY_DST = 8;
/**
* Squares 0 … 1023 on the device, twice, and checks each.
* @throws GpuError what the device reported; Error where a value is wrong.
*/
async function computeSquares(device) {
	const watch = watchDevice(device);
	const input = Uint32Array.from({ length: 1024 }, (_, i) => i);
	const module = device.createShaderModule({
		label: "squares",
		code: SQUARES
	});
	const pipeline = device.createComputePipeline({
		label: "squares",
		layout: "auto",
		compute: { module }
	});
	const values = device.createBuffer({
		label: "values",
		size: input.byteLength,
		usage: COPY_SRC | 136
	});
	const staging = device.createBuffer({
		label: "staging",
		size: input.byteLength,
		usage: MAP_READ | COPY_DST
	});
	const layout = pipeline.getBindGroupLayout(0);
	const group = device.createBindGroup({
		layout,
		entries: [{
			binding: 0,
			resource: { buffer: values }
		}]
	});
	const times = [];
	for (let round = 0; round < 2; round++) {
		const start = performance.now();
		device.queue.writeBuffer(values, 0, input);
		const encoder = device.createCommandEncoder({ label: "doctor" });
		const pass = encoder.beginComputePass({ label: "squares" });
		pass.setPipeline(pipeline);
		pass.setBindGroup(0, group);
		pass.dispatchWorkgroups(input.length / 64);
		pass.end();
		encoder.copyBufferToBuffer(values, 0, staging, 0, input.byteLength);
		device.queue.submit([encoder.finish()]);
		try {
			await settle(staging.mapAsync(MAP_READ));
		} catch (error) {
			watch.check();
			throw error;
		}
		watch.check();
		const output = new Uint32Array(staging.getMappedRange());
		const wrong = input.findIndex((value, i) => output[i] !== value * value);
		if (wrong >= 0) throw new Error(`it computes wrongly: ${wrong}² gave ${output[wrong]}`);
		staging.unmap();
		times.push(performance.now() - start);
	}
	return {
		firstMs: times[0] ?? 0,
		againMs: times[1] ?? 0
	};
}
/** One line: what is the matter and what to do, the most useful first. */
function advise(findings) {
	const { distribution, deb822, chosen, gpus, crashing, working, lavapipe } = findings;
	const mesa = installMesa(distribution, deb822);
	const asRoot = mesa === void 0 ? "install Mesa's lavapipe (version 25 or later)" : `as root: ${mesa}`;
	if (findings.dawnProblem !== void 0) return "Not usable: Dawn cannot be loaded. Run `npm ci` again on this machine, or use a Linux that is recent enough, such as Debian 12.";
	if (crashing.length > 0 && chosen === void 0) return `Not usable: a Vulkan driver breaks the process. To go round it: ${working.length > 0 ? `export VK_DRIVER_FILES=${working.join(":")}` : `remove or mend ${crashing.join(", ")}`}`;
	if (chosen === void 0) {
		if (findings.platform !== "linux") return "Not usable: Dawn offers no GPU here. Update the graphics driver.";
		if (lavapipe !== void 0 && !lavapipe.accepted) return `Not usable: Dawn refuses this Mesa${lavapipe.version === void 0 ? "" : ` (${lavapipe.version})`}. ${upper(asRoot)}`;
		const without = findings.swiftShader === "missing" ? "; or, without root: npm install @sparticuz/chromium" : "";
		return `Not usable: there is no GPU driver. ${upper(asRoot)}${without}`;
	}
	if (chosen.kind === "hardware") return `Ready: ${chosen.name}. There is nothing to mend.`;
	const ready = `Ready, on a software GPU (${chosen.name}).`;
	const vendor = gpus[0];
	if (vendor !== void 0) {
		if (findings.forbidden !== void 0) return `${ready} This machine has a GPU (${vendor}) whose ${findings.forbidden} is not open to this user: add the user to the group "render".`;
		return `${ready} This machine has a GPU (${vendor}) that Vulkan does not show: ${installGpuDriver(vendor, distribution, deb822)}`;
	}
	if (chosen.driver === "swiftshader") return `${ready} ${lavapipe === void 0 ? "Mesa's lavapipe is several times faster" : `Dawn refuses this machine's Mesa${lavapipe.version === void 0 ? "" : ` (${lavapipe.version})`}; a newer one is several times faster`}, ${asRoot}`;
	return `${ready} It is the fastest there is without a GPU: nothing to mend.`;
}
function upper(text) {
	return text.charAt(0).toUpperCase() + text.slice(1);
}
//#endregion
export { doctor };

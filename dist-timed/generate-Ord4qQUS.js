import { t as progressBar } from "./progress-bar-Ci6L2ji0.js";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
//#region src/cli/generate.ts
/** `daguerre generate`: a prompt becomes a file, with the step it is at on the screen meanwhile. */
/**
* Runs `job` and writes its files. Folders that are missing are made, before anything is computed.
*
* @returns the names of the pictures written
* @throws what the runtime throws; the system's error when a file cannot be read or written
*/
async function generate(runtime, job, screen, signal) {
	const { input, output, image, previewDir } = job;
	await mkdir(path.dirname(output.file), { recursive: true });
	if (previewDir !== void 0) await mkdir(previewDir, { recursive: true });
	const events = image === void 0 ? runtime.textToImage(input, { signal }) : runtime.imageToImage({
		...input,
		image: new Uint8Array(await readFile(image.file)),
		strength: image.strength
	}, { signal });
	const files = [];
	let encoding;
	const encoder = () => encoding ??= import("./encode-4S43Ag4_.js");
	const progress = screen.isTTY ? bar(screen) : lines(screen);
	try {
		for await (const event of events) {
			progress.show(event);
			encoder().catch(() => {});
			if (event.type === "preview" && previewDir !== void 0) {
				const { encodePicture, PREVIEW_QUALITY } = await encoder();
				const { bytes } = await encodePicture(event.picture, { quality: PREVIEW_QUALITY });
				await writeFile(path.join(previewDir, `preview-${String(event.step).padStart(3, "0")}.jpg`), bytes);
			}
			if (event.type === "result") {
				progress.end();
				const { encodePicture } = await encoder();
				for (const [index, picture] of event.pictures.entries()) {
					const file = numbered(output.file, index);
					await writeFile(file, (await encodePicture(picture, { format: output.format })).bytes);
					files.push(file);
				}
				screen.write(summary(event, files, runtime.adapter));
			}
		}
	} finally {
		progress.end();
	}
	return files;
}
/** `out.png`, `out-2.png`, `out-3.png` */
function numbered(file, index) {
	if (index === 0) return file;
	const { dir, name, ext } = path.parse(file);
	return path.join(dir, `${name}-${index + 1}${ext}`);
}
function summary(result, files, adapter) {
	const { width, height } = result.pictures[0] ?? {
		width: 0,
		height: 0
	};
	const { total } = result.timings;
	const took = total === void 0 ? "" : ` in ${(total / 1e3).toFixed(1)} s`;
	const where = `${adapter.name}${adapter.kind === "software" ? ", a software GPU" : ""}`;
	return `${(result.warnings ?? []).map((warning) => `warning: ${warning}\n`).join("")}${files.join(", ")}: ${width}x${height}, seed ${result.seed}${took} (${where})\n`;
}
function bar(screen) {
	const single = progressBar(screen, "{bar} step {value}/{total}  {duration_formatted}");
	let started = false;
	return {
		show(event) {
			if (event.type !== "progress") return;
			if (!started) single.start(event.steps, event.step);
			started = true;
			single.update(event.step);
		},
		end() {
			if (started) single.stop();
			started = false;
		}
	};
}
/** Lines enough to see that it moves, not so many that a log drowns. */
const LINES = 10;
function lines(screen) {
	let shown = 0;
	return {
		show(event) {
			if (event.type !== "progress") return;
			const due = Math.floor(event.progress * LINES);
			if (due === shown && event.step < event.steps) return;
			shown = due;
			screen.write(`step ${event.step}/${event.steps}  ${(event.elapsed_ms / 1e3).toFixed(1)} s\n`);
		},
		end() {}
	};
}
//#endregion
export { generate };

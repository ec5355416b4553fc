import { a as readWinners, h as openGpu, i as tunableParts, l as tune, o as rememberWinners, p as loadDiffusionModel, r as precisionOn, s as tuningFile, t as builtInModel } from "./runtime-DWW_EOyq.js";
//#region src/cli/tune.ts
/** `daguerre tune`: times the variants of the heavy kernels on a model's own shapes, and remembers the winners. */
/** Prints a row for each shape as it is timed, and remembers them all at the end. */
async function tuneModel(options, write) {
	const gpu = await openGpu({ adapter: options.adapter });
	try {
		const precision = precisionOn(gpu, options.precision);
		const model = await loadDiffusionModel(gpu, options.model ?? builtInModel(), { precision });
		const { width, height } = options.size ?? model.defaults;
		const file = await tuningFile(gpu.facts);
		const remembered = options.again ? /* @__PURE__ */ new Map() : await readWinners(file);
		write(`${model.name} at ${width}x${height}, ${precision}, on ${gpu.facts.name}`);
		const shapes = await tune(gpu, tunableParts(model, {
			width,
			height
		}), {
			known: new Set(remembered.keys()),
			onShape(shape, done, total) {
				if (done === 1) write(`${total} shapes that more than one kernel can do; a run of each, ms:`);
				write(row(shape));
			}
		});
		if (shapes.length === 0) {
			write(remembered.size > 0 ? "every shape is remembered; --again times them again" : "no shape that more than one kernel can do");
			return;
		}
		await rememberWinners(file, gpu.facts, new Map(shapes.map(({ shape, winner }) => [shape, winner])));
		const changed = shapes.filter(({ candidates, winner }) => winner !== candidates[0].variant).length;
		write(`${changed} of ${shapes.length} take another kernel than by rule; remembered in ${file}`);
	} finally {
		gpu.close();
	}
}
function row({ shape, layers, candidates, winner }) {
	const times = candidates.map(({ variant, milliseconds }) => `${variant} ${milliseconds.toFixed(3)}`).join("  ");
	return `  ${shape.padEnd(64)} ${String(layers).padStart(3)} ×  ${times}  → ${winner}`;
}
//#endregion
export { tuneModel };

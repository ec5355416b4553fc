import { A as record$1, C as boolean, D as looseObject, E as literal, M as string, N as tuple, O as number, P as union, S as array, i as parseGeneration, k as object, l as RequestError, x as _null, y as _enum } from "./request-Cv9RgteD.js";
import { S as toGpuError, a as openAdapter, c as settle, l as cacheDirectory, s as requestDevice, t as watchDevice, x as MemoryLimitError, y as GpuOutOfMemoryError } from "./faults-D86CbdmA.js";
import { createHash, randomInt, randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { access, mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Tokenizer } from "@huggingface/tokenizers";
//#region src/graph/plan-cache.ts
/** `maxBytes`: of arenas, inputs and states together; plans in use are kept even beyond it. */
function createPlanCache(maxBytes) {
	const plans = /* @__PURE__ */ new Map();
	const users = /* @__PURE__ */ new Map();
	const bytes = () => [...plans.values()].reduce((sum, plan) => sum + plan.bytes, 0);
	const evict = () => {
		for (const [key, plan] of plans) {
			if (bytes() <= maxBytes) return;
			if (users.has(plan)) continue;
			plans.delete(key);
			plan.destroy();
		}
	};
	return {
		borrow() {
			const borrowed = /* @__PURE__ */ new Set();
			return {
				async get(key, make) {
					const plan = plans.get(key) ?? await make();
					plans.delete(key);
					plans.set(key, plan);
					if (!borrowed.has(plan)) users.set(plan, (users.get(plan) ?? 0) + 1);
					borrowed.add(plan);
					evict();
					return plan;
				},
				giveBack() {
					for (const plan of borrowed) {
						const left = users.get(plan) - 1;
						if (left === 0) users.delete(plan);
						else users.set(plan, left);
					}
					borrowed.clear();
					evict();
				}
			};
		},
		drop(prefix) {
			for (const [key, plan] of plans) {
				if (!key.startsWith(prefix)) continue;
				plans.delete(key);
				plan.destroy();
			}
		},
		dropUnused(prefix) {
			let dropped = false;
			for (const [key, plan] of plans) {
				if (!key.startsWith(prefix) || users.has(plan)) continue;
				plans.delete(key);
				plan.destroy();
				dropped = true;
			}
			return dropped;
		},
		isUsed: (prefix) => [...plans].some(([key, plan]) => key.startsWith(prefix) && users.has(plan)),
		get bytes() {
			return bytes();
		},
		get size() {
			return plans.size;
		}
	};
}
//#endregion
//#region src/graph/tensor.ts
/** The numbers of `shaders/prelude/activation.wgsl`. */
const activationCode = {
	none: 0,
	silu: 1,
	gelu: 2,
	quick_gelu: 3,
	relu: 4,
	tanh: 5
};
/** Channels in quads. */
function quads(channels) {
	return Math.ceil(channels / 4);
}
function channelsOf(tensor) {
	return tensor.shape[tensor.shape.length - 1];
}
/** Pixels or tokens: the product of all dimensions but the last. */
function rowsOf(tensor) {
	return tensor.shape.slice(0, -1).reduce((product, size) => product * size, 1);
}
/** Bytes that a tensor takes on the device. */
function tensorBytes(tensor, storage) {
	if (tensor.element === "u32") return tensor.shape.reduce((product, size) => product * size, 1) * 4;
	const quadBytes = tensor.element === "f32" || storage === "f32" ? 16 : 8;
	return rowsOf(tensor) * quads(channelsOf(tensor)) * quadBytes;
}
/** The tensors that an operation reads (concatenations as their parts). */
function readsOf$1(operation) {
	switch (operation.kind) {
		case "convolution": return [...partsOf(operation.input), ...present(operation.perImage?.tensor, operation.residual)];
		case "group-norm-apply": return [...partsOf(operation.input), ...operation.joined ? [] : [operation.statistics.output]];
		case "group-norm-stats":
		case "upsample-nearest": return partsOf(operation.input);
		case "geglu": return [operation.value.tensor, operation.gate.tensor];
		case "attention": return [
			operation.query.tensor,
			operation.key.tensor,
			operation.value.tensor
		];
		case "elementwise": return present(operation.input, operation.addend);
		case "embedding": return [operation.ids];
		case "concatenate": return [operation.first, operation.second];
		case "gather-rows": return [operation.input, operation.rows];
		case "latent-to-rgb": return [operation.input, operation.matrix];
		case "model-input": return [operation.latents, operation.rows];
		case "philox-normals": return [operation.draws];
		case "scheduler-step": return [
			operation.latents,
			operation.model,
			operation.noise,
			operation.history,
			operation.rows
		];
		case "layer-norm":
		case "softmax":
		case "pack-picture": return [operation.input];
		default: return operation;
	}
}
/** Whether the addend is one row an image, and not of the shape of what it is added to. */
function addsPerImage({ input, addend }) {
	return addend !== void 0 && (rowsOf(addend) !== rowsOf(input) || channelsOf(addend) !== channelsOf(input));
}
/** The tensors that are stored: those of a concatenation, else the tensor itself. */
function partsOf(tensor) {
	return tensor.concatenated ?? [tensor];
}
function present(...values) {
	return values.filter((value) => value !== void 0);
}
//#endregion
//#region src/graph/recorder.ts
/**
* Records a model as a list of operations. Model code calls these methods in the order of the paper's diagram; nothing
* runs. Shapes are checked here, so that a mistake names the layer and not a buffer.
*
* The recorder also collects the parameters that the model wants, with their names and shapes in the checkpoint: that
* list is the one truth that a weight file is checked against.
*/
/** A model asked for something its tensors do not allow. */
var GraphError = class extends Error {
	name = "GraphError";
};
/** Width of a head and the multiple of four that it is stored with. */
function headPadding(width) {
	return {
		width,
		padded: quads(width) * 4
	};
}
const PHILOX_DRAW_WORDS = 6;
const MIN_CHUNK_PIXELS = 64;
const MAX_CHUNKS = 16;
var Recorder = class {
	operations = [];
	parameters = /* @__PURE__ */ new Map();
	inputs = /* @__PURE__ */ new Map();
	states = /* @__PURE__ */ new Map();
	outputs = /* @__PURE__ */ new Map();
	/** Of group norms whose statistics are measured or given, by layer: the picture's size, and channels. */
	norms = /* @__PURE__ */ new Map();
	#statistics;
	#scopes = [];
	#nextId = 0;
	constructor(options = {}) {
		this.#statistics = options.statistics ?? {};
	}
	/** Runs `build` with `name` added to the layers' names. */
	scope(name, build) {
		this.#scopes.push(name);
		try {
			return build();
		} finally {
			this.#scopes.pop();
		}
	}
	/** A tensor that the caller writes before a replay. `constant`: it changes with the prompt, not with the step. */
	input(name, shape, options = {}) {
		const tensor = this.#tensor(name, shape, {
			role: "input",
			...options
		});
		this.inputs.set(name, tensor);
		return tensor;
	}
	/** An f32 tensor that lives from one replay to the next. */
	state(name, shape) {
		const tensor = this.#tensor(name, shape, {
			role: "state",
			element: "f32"
		});
		this.states.set(name, tensor);
		return tensor;
	}
	/** Names a tensor as a result of the plan, to be read after a replay. */
	output(name, tensor) {
		this.outputs.set(name, tensor);
	}
	/** `[n, h, w, c]` → `[n, h′, w′, outputs]`. Weight `<name>.weight` `[outputs, c, k, k]`. */
	conv2d(x, name, options) {
		const { outputs, kernel = 3, stride = 1, padding = 0, bias = true } = options;
		const [n, h, w, c] = this.#picture(x, name);
		const before = typeof padding === "number" ? padding : padding.before;
		const after = typeof padding === "number" ? padding : padding.after;
		const outHeight = Math.floor((h + before + after - kernel) / stride) + 1;
		const outWidth = Math.floor((w + before + after - kernel) / stride) + 1;
		if (outHeight < 1 || outWidth < 1) throw this.#error(name, `a picture of ${h} × ${w} is too small`);
		const weight = this.#matrix({
			parts: [{
				name: this.#path(name, "weight"),
				shape: [
					outputs,
					c,
					kernel,
					kernel
				]
			}],
			partChannels: [outputs],
			taps: kernel * kernel,
			inputs: c
		});
		return this.#convolution(x, name, weight, bias ? this.#vector(name, "bias", outputs) : void 0, {
			shape: [
				n,
				outHeight,
				outWidth,
				outputs
			],
			picture: {
				images: n,
				inHeight: h,
				inWidth: w,
				outHeight,
				outWidth
			},
			kernel: {
				height: kernel,
				width: kernel,
				stride,
				top: before,
				left: before
			}
		});
	}
	/**
	* `[…, c]` → `[…, Σ outputs]`: one or several linear layers of the same input, side by side.
	* Weight `<name>.weight` `[outputs, c]`.
	*/
	linear(x, names, options) {
		const layers = typeof names === "string" ? [names] : names;
		const outputs = typeof options.outputs === "number" ? layers.map(() => options.outputs) : options.outputs;
		const { bias = true, outputHead, inputHead, aliases } = options;
		const stored = outputs.map((size) => outputHead ? size / outputHead.width * outputHead.padded : size);
		const c = channelsOf(x);
		const inputs = inputHead ? c / inputHead.padded * inputHead.width : c;
		const total = stored.reduce((sum, size) => sum + size, 0);
		if (layers.length > 1 && stored.slice(0, -1).some((size) => size % 4 !== 0)) throw this.#error(layers[0], `layers side by side need multiples of four channels, not ${outputs}`);
		const suffix = options.asConvolution ? [1, 1] : [];
		const weight = this.#matrix({
			parts: layers.map((name, i) => ({
				name: this.#path(name, "weight"),
				shape: [
					outputs[i],
					inputs,
					...suffix
				],
				...aliases ? { aliases: aliases.map((alias) => this.#path(alias, "weight")) } : {}
			})),
			partChannels: stored,
			taps: 1,
			inputs,
			outputHead: paddedOnly(outputHead),
			inputHead: paddedOnly(inputHead)
		});
		const biasParameter = bias ? this.#register({
			kind: "vector",
			key: layers.map((name) => this.#path(name, "bias")).join("+"),
			parts: layers.map((name, i) => ({
				name: this.#path(name, "bias"),
				shape: [outputs[i]],
				...aliases ? { aliases: aliases.map((alias) => this.#path(alias, "bias")) } : {}
			})),
			partChannels: stored,
			quads: quads(total),
			head: paddedOnly(outputHead)
		}) : void 0;
		const rows = rowsOf(x);
		const images = x.shape.length > 1 ? x.shape[0] : 1;
		return this.#convolution(x, options.name ?? layers.join("+"), weight, biasParameter, {
			shape: [...x.shape.slice(0, -1), total],
			picture: {
				images,
				inHeight: 1,
				inWidth: rows / images,
				outHeight: 1,
				outWidth: rows / images
			},
			kernel: {
				height: 1,
				width: 1,
				stride: 1,
				top: 0,
				left: 0
			}
		});
	}
	/** Group normalisation over `[n, h, w, c]` or `[n, tokens, c]`; weights `<name>.weight`, `<name>.bias` `[c]`. */
	groupNorm(x, name, options) {
		const c = channelsOf(x);
		if (c % options.groups !== 0) throw this.#error(name, `${c} channels do not divide into ${options.groups} groups`);
		const statistics = this.#statistics.given ? this.#givenStatistics(x, name) : this.#ownStatistics(x, name);
		if (this.#statistics.measured) this.#measureRows(x, name);
		return this.#push({
			kind: "group-norm-apply",
			name: this.#path(name),
			input: x,
			statistics,
			groupChannels: c / options.groups,
			firstQuad: 0,
			eps: options.eps,
			gamma: this.#vector(name, "weight", c),
			beta: this.#vector(name, "bias", c),
			activation: "none",
			output: this.#tensor(this.#path(name), x.shape)
		}).output;
	}
	#ownStatistics(x, name) {
		const pixels = rowsOf(x) / x.shape[0];
		return this.#pushStatistics(x, name, Math.max(MIN_CHUNK_PIXELS, Math.ceil(pixels / MAX_CHUNKS)));
	}
	#pushStatistics(x, name, chunkPixels) {
		const images = x.shape[0];
		const chunks = Math.ceil(rowsOf(x) / images / chunkPixels);
		const shape = [images * chunks * quads(channelsOf(x)), 8];
		return this.#push({
			kind: "group-norm-stats",
			name: this.#path(name),
			input: x,
			chunks,
			chunkPixels,
			output: this.#tensor(`${this.#path(name)} statistics`, shape, { element: "f32" })
		});
	}
	#measureRows(x, name) {
		const [, height, width, channels] = this.#picture(x, name);
		this.norms.set(this.#path(name), {
			height,
			width,
			channels
		});
		this.output(`measured ${this.#path(name)}`, this.#pushStatistics(x, name, width).output);
	}
	#givenStatistics(x, name) {
		const [images, height, width, channels] = this.#picture(x, name);
		const chunkPixels = height * width;
		this.norms.set(this.#path(name), {
			height,
			width,
			channels
		});
		const output = this.input(`given ${this.#path(name)}`, [images * quads(channels), 8], { element: "f32" });
		return {
			kind: "group-norm-stats",
			name: this.#path(name),
			input: x,
			chunks: 1,
			chunkPixels,
			output
		};
	}
	/** Layer normalisation over the last dimension; weights `<name>.weight`, `<name>.bias` `[c]`. */
	layerNorm(x, name, options) {
		const c = channelsOf(x);
		return this.#push({
			kind: "layer-norm",
			name: this.#path(name),
			input: x,
			eps: options.eps,
			gamma: this.#vector(name, "weight", c),
			beta: this.#vector(name, "bias", c),
			output: this.#tensor(this.#path(name), x.shape)
		}).output;
	}
	/** Scaled dot-product attention: `[n, queries, …]`, `[n, keys, …]` → `[n, queries, heads · head.padded]`. */
	attention(name, views, options) {
		const { query, key, value } = views;
		const images = query.tensor.shape[0];
		if (key.tensor.shape[0] !== images || value.tensor.shape[0] !== images || rowsOf(key.tensor) !== rowsOf(value.tensor)) throw this.#error(name, `keys ${key.tensor.shape} do not fit queries ${query.tensor.shape}`);
		const channels = options.heads * options.head.padded;
		return this.#push({
			kind: "attention",
			name: this.#path(name),
			query,
			key,
			value,
			heads: options.heads,
			head: options.head,
			causal: options.causal ?? false,
			output: this.#tensor(this.#path(name), [
				images,
				rowsOf(query.tensor) / images,
				channels
			])
		}).output;
	}
	/** `[…, 2c]` → `[…, c]`: the first half times the GELU of the second. */
	geglu(x, name) {
		const channels = channelsOf(x) / 2;
		if (channels % 4 !== 0) throw this.#error(name, `${channels * 2} channels do not split into two halves of quads`);
		const output = this.#tensor(this.#path(name), [...x.shape.slice(0, -1), channels]);
		const [value, gate] = [{
			tensor: x,
			offset: 0
		}, {
			tensor: x,
			offset: channels
		}];
		return this.#push({
			kind: "geglu",
			name: this.#path(name),
			value,
			gate,
			output
		}).output;
	}
	activation(x, activation) {
		return this.#elementwise(x, activation, { activation });
	}
	/** `activation(x · inputScale) · scale + shift` */
	affine(x, name, options) {
		return this.#elementwise(x, name, options);
	}
	/** `x + y`; y has x's shape, or is one row an image: `[n, c]` or `[n, 1, c]`, or c channels of such rows. */
	add(x, y, name = "add") {
		const { tensor, offset } = "tensor" in y ? y : {
			tensor: y,
			offset: 0
		};
		const [wanted, given] = [channelsOf(x), channelsOf(tensor)];
		if (!((given === wanted || "tensor" in y && offset % 4 === 0 && offset + wanted <= given) && rowsOf(tensor) === x.shape[0]) && (rowsOf(tensor) !== rowsOf(x) || given !== wanted)) throw this.#error(name, `shapes ${x.shape} and ${tensor.shape} do not add`);
		return this.#elementwise(x, name, {
			addend: tensor,
			firstAddendQuad: offset / 4
		});
	}
	/** Nearest-neighbour resize of `[n, h, w, c]`. */
	upsampleNearest(x, name, size) {
		const [n, , , c] = this.#picture(x, name);
		const output = this.#tensor(this.#path(name), [
			n,
			size.height,
			size.width,
			c
		]);
		return this.#push({
			kind: "upsample-nearest",
			name: this.#path(name),
			input: x,
			firstQuad: 0,
			output
		}).output;
	}
	softmax(x, name) {
		return this.#push({
			kind: "softmax",
			name: this.#path(name),
			input: x,
			output: this.#tensor(this.#path(name), x.shape)
		}).output;
	}
	/** Token plus position embedding: ids u32 `[n · tokens]` → `[n, tokens, channels]`. */
	embedding(ids, names, sizes) {
		const table = (name, rows) => this.#register({
			kind: "table",
			key: this.#path(name, "weight"),
			parts: [{
				name: this.#path(name, "weight"),
				shape: [rows, sizes.channels]
			}],
			rows,
			channels: sizes.channels
		});
		if (sizes.tokens > sizes.positions) throw this.#error(names.positions, `${sizes.tokens} tokens, but only ${sizes.positions} positions`);
		return this.#push({
			kind: "embedding",
			name: this.#path(names.table),
			ids,
			table: table(names.table, sizes.vocabulary),
			positions: table(names.positions, sizes.positions),
			output: this.#tensor(this.#path(names.table), [
				sizes.images,
				sizes.tokens,
				sizes.channels
			])
		}).output;
	}
	/** `[n, tokens, c]` (or `[1, tokens, c]`, for all images), rows u32 `[n]` → `[n, c]`. */
	gatherRows(x, rows, name) {
		const [images] = rows.shape;
		if (x.shape.length !== 3 || x.shape[0] !== images && x.shape[0] !== 1) throw this.#error(name, `wants [${images} or 1, tokens, c], not [${x.shape}]`);
		const output = this.#tensor(this.#path(name), [images, channelsOf(x)]);
		return this.#push({
			kind: "gather-rows",
			name: this.#path(name),
			input: x,
			rows,
			output
		}).output;
	}
	/** The same elements under another shape with the same channels. */
	reshape(x, shape) {
		const reshaped = {
			...x,
			shape: [...shape]
		};
		if (rowsOf(reshaped) !== rowsOf(x) || channelsOf(reshaped) !== channelsOf(x)) throw this.#error("reshape", `[${x.shape}] does not hold [${shape}]`);
		return reshaped;
	}
	/** Two tensors as one along the channels; only group norm and convolutions read such a tensor. */
	concat(x, y) {
		const shape = [...x.shape.slice(0, -1), channelsOf(x) + channelsOf(y)];
		if (rowsOf(x) !== rowsOf(y)) throw this.#error("concat", `shapes ${x.shape} and ${y.shape} do not stand side by side`);
		if (channelsOf(x) % 4 !== 0) {
			const output = this.#tensor(this.#path("concat"), shape);
			return this.#push({
				kind: "concatenate",
				name: this.#path("concat"),
				first: x,
				second: y,
				output
			}).output;
		}
		return {
			...this.#tensor(this.#path("concat"), shape),
			concatenated: [x, y]
		};
	}
	/** `[n, h, w, ≥3]` in [-1, 1] → RGBA8, u32 `[n · h · w]`. */
	packPicture(x, name) {
		const output = this.#tensor(this.#path(name), [rowsOf(x)], { element: "u32" });
		return this.#push({
			kind: "pack-picture",
			name: this.#path(name),
			input: x,
			output
		}).output;
	}
	/** f32 latents `[n, h, w, c]` and matrix `[4 · ⌈c/4⌉ + 1, 4]` → `[n, h, w, 3]`. */
	latentToRgb(latents, matrix, name) {
		const output = this.#tensor(this.#path(name), [...latents.shape.slice(0, -1), 3]);
		return this.#push({
			kind: "latent-to-rgb",
			name: this.#path(name),
			input: latents,
			matrix,
			output
		}).output;
	}
	/** f32 latents `[n, h, w, c]` → the model's input `[n · branches, h, w, c]`, scaled by each image's row. */
	modelInput(latents, rows, branches, name) {
		const shape = [latents.shape[0] * branches, ...latents.shape.slice(1)];
		const output = this.#tensor(this.#path(name), shape);
		return this.#push({
			kind: "model-input",
			name: this.#path(name),
			latents,
			rows,
			output
		}).output;
	}
	/**
	* f32 noise `[n, h, w, c]` as `torch.randn` draws it on CUDA. draws, u32 `[n · 6]`, for each image: the key's low and
	* high word, the call's, the launch's threads (`PhiloxDraw`), and which element of the draw (NCHW) is the image's first.
	*/
	philoxNormals(draws, shape, name) {
		if (draws.element !== "u32" || draws.shape[0] !== shape[0] * PHILOX_DRAW_WORDS) throw this.#error(name, `wants u32 [${shape[0] * PHILOX_DRAW_WORDS}], not ${draws.element} [${draws.shape}]`);
		const output = this.#tensor(this.#path(name), shape, { element: "f32" });
		return this.#push({
			kind: "philox-normals",
			name: this.#path(name),
			draws,
			output
		}).output;
	}
	/** Advances the latents in place by one row of a scheduler's table; gives the denoised prediction, f32. */
	schedulerStep(operands, name) {
		const output = this.#tensor(`${this.#path(name)} denoised`, operands.latents.shape, { element: "f32" });
		return this.#push({
			kind: "scheduler-step",
			name: this.#path(name),
			...operands,
			output
		}).output;
	}
	#convolution(x, name, weight, bias, geometry) {
		const { picture, kernel, shape } = geometry;
		return this.#push({
			kind: "convolution",
			name: this.#path(name),
			input: x,
			weight,
			bias,
			picture,
			virtual: {
				height: picture.inHeight,
				width: picture.inWidth
			},
			kernel,
			firstOutputQuad: 0,
			activation: "none",
			activationAfterResidual: true,
			output: this.#tensor(this.#path(name), shape)
		}).output;
	}
	#elementwise(x, name, options) {
		return this.#push({
			kind: "elementwise",
			name: this.#path(name),
			input: x,
			addend: options.addend,
			firstAddendQuad: options.firstAddendQuad ?? 0,
			activation: options.activation ?? "none",
			inputScale: options.inputScale ?? 1,
			scale: options.scale ?? 1,
			shift: options.shift ?? 0,
			output: this.#tensor(this.#path(name), x.shape)
		}).output;
	}
	#matrix(options) {
		const { inputs, inputHead, partChannels } = options;
		const storedInputs = inputHead ? inputs / inputHead.width * inputHead.padded : inputs;
		return this.#register({
			kind: "matrix",
			key: options.parts.map((part) => part.name).join("+"),
			...options,
			inputQuads: quads(storedInputs),
			outputQuads: quads(partChannels.reduce((sum, size) => sum + size, 0))
		});
	}
	#vector(name, suffix, channels) {
		const path = this.#path(name, suffix);
		return this.#register({
			kind: "vector",
			key: path,
			parts: [{
				name: path,
				shape: [channels]
			}],
			partChannels: [channels],
			quads: quads(channels)
		});
	}
	#register(parameter) {
		const known = this.parameters.get(parameter.key);
		if (known) return known;
		this.parameters.set(parameter.key, parameter);
		return parameter;
	}
	#tensor(name, shape, options = {}) {
		if (shape.some((size) => !Number.isInteger(size) || size < 1)) throw this.#error(name, `impossible shape [${shape}]`);
		const { element = "stored", role = "computed", constant = false } = options;
		return {
			id: this.#nextId++,
			name,
			shape: [...shape],
			element,
			role,
			constant
		};
	}
	#push(operation) {
		this.operations.push(operation);
		return operation;
	}
	#picture(x, name) {
		if (x.shape.length !== 4) throw this.#error(name, `wants [n, h, w, c], not [${x.shape}]`);
		return x.shape;
	}
	#path(...names) {
		return [...this.#scopes, ...names].filter((name) => name !== "").join(".");
	}
	#error(name, reason) {
		return new GraphError(`${this.#path(name)}: ${reason}`);
	}
};
/** Heads that are a multiple of four wide need no padding, and their layers no special packing. */
function paddedOnly(head) {
	return head && head.width !== head.padded ? head : void 0;
}
//#endregion
//#region src/models/config.ts
/** A component's `config.json`, checked: an option we do not build is refused by name rather than ignored. */
/** A model's configuration is wrong, or asks for something that is not supported. Safe to show to a client. */
var ModelConfigError = class extends Error {
	name = "ModelConfigError";
	code = "model-config";
	component;
	field;
	constructor(component, field, reason) {
		super(`${component}/config.json: ${field}: ${reason}`);
		this.component = component;
		this.field = field;
	}
};
/**
* Sizes in a config, with bounds far beyond any model there is: a folder is untrusted, and a billion layers would be
* recorded for ever.
*/
const size = {
	channels: number().int().positive().max(65536),
	vocabulary: number().int().positive().max(4e6),
	layers: number().int().positive().max(256),
	/** Of resolutions: beyond this the latents of no picture could be halved so often. */
	levels: (entry) => array(entry).min(1).max(12)
};
/** `config` as `schema` describes it. Throws `ModelConfigError` naming the first field at fault. */
function parseConfig(component, schema, config) {
	const parsed = schema.safeParse(config);
	if (parsed.success) return parsed.data;
	const [issue] = parsed.error.issues;
	throw new ModelConfigError(component, issue.path.join(".") || "(root)", issue.message);
}
//#endregion
//#region src/models/autoencoder-kl.ts
/**
* AutoencoderKL: pictures to latents and back.
*
* Rombach et al. 2022 (arXiv 2112.10752, appendix G); names are those of diffusers. Every group norm here has eps 1e-6. The
* encoder pads below and right only before its stride-2 convolutions.
*/
const configSchema$4 = object({
	in_channels: size.channels.default(3),
	out_channels: size.channels.default(3),
	latent_channels: size.channels.default(4),
	block_out_channels: size.levels(size.channels),
	layers_per_block: size.layers.default(1),
	norm_num_groups: size.channels.default(32),
	act_fn: literal("silu").default("silu"),
	down_block_types: array(literal("DownEncoderBlock2D")).optional(),
	up_block_types: array(literal("UpDecoderBlock2D")).optional(),
	mid_block_add_attention: boolean().default(true),
	use_quant_conv: boolean().default(true),
	use_post_quant_conv: boolean().default(true),
	scaling_factor: number().default(.18215),
	shift_factor: number().nullish(),
	/** The model overflows in f16: activations stay f32. */
	force_upcast: boolean().default(true),
	latents_mean: _null().default(null),
	latents_std: _null().default(null)
});
/** Throws `ModelConfigError` naming the field. */
function parseAutoencoderKlConfig(config) {
	return parseConfig("vae", configSchema$4, config);
}
const EPS = 1e-6;
/** The half of `decodeKl` at the latents' size, attention among it: `[n, h, w, latent]` → `[n, h, w, c]`. */
function decodeKlInner(g, config, latents) {
	const outputs = config.block_out_channels.at(-1);
	let x = latents;
	if (config.use_post_quant_conv) x = g.conv2d(x, "post_quant_conv", {
		outputs: config.latent_channels,
		kernel: 1
	});
	return g.scope("decoder", () => {
		x = g.conv2d(x, "conv_in", {
			outputs,
			padding: 1
		});
		x = middle(g, x, config);
		return g.scope("up_blocks.0", () => resnets(g, x, outputs, config.layers_per_block + 1, config));
	});
}
/** The half of `decodeKl` beyond the latents' size, convolutions and group norms: `[n, h, w, c]` → `[n, 8h, 8w, 3]`. */
function decodeKlOuter(g, config, inner) {
	const levels = [...config.block_out_channels].reverse();
	return g.scope("decoder", () => {
		let x = inner;
		levels.forEach((outputs, level) => {
			g.scope(`up_blocks.${level}`, () => {
				if (level > 0) x = resnets(g, x, outputs, config.layers_per_block + 1, config);
				if (level === levels.length - 1) return;
				const [, height, width] = x.shape;
				x = g.upsampleNearest(x, "upsamplers.0", {
					height: height * 2,
					width: width * 2
				});
				x = g.conv2d(x, "upsamplers.0.conv", {
					outputs,
					padding: 1
				});
			});
		});
		return head(g, x, config.out_channels, config);
	});
}
/** The half of `encodeKl` beyond the latents' size, convolutions and group norms: `[n, h, w, 3]` → `[n, h/8, w/8, c]`. */
function encodeKlOuter(g, config, picture) {
	const levels = config.block_out_channels.slice(0, -1);
	return g.scope("encoder", () => {
		let x = g.conv2d(picture, "conv_in", {
			outputs: config.block_out_channels[0],
			padding: 1
		});
		levels.forEach((outputs, level) => {
			g.scope(`down_blocks.${level}`, () => {
				x = resnets(g, x, outputs, config.layers_per_block, config);
				x = g.conv2d(x, "downsamplers.0.conv", {
					outputs,
					stride: 2,
					padding: {
						before: 0,
						after: 1
					}
				});
			});
		});
		return x;
	});
}
/** The half of `encodeKl` at the latents' size, attention among it: `[n, h, w, c]` → `[n, h, w, 2 · latent]`. */
function encodeKlInner(g, config, outer) {
	const outputs = config.block_out_channels.at(-1);
	const last = config.block_out_channels.length - 1;
	const moments = g.scope("encoder", () => {
		return head(g, middle(g, g.scope(`down_blocks.${last}`, () => resnets(g, outer, outputs, config.layers_per_block, config)), config), 2 * config.latent_channels, config);
	});
	if (!config.use_quant_conv) return moments;
	return g.conv2d(moments, "quant_conv", {
		outputs: 2 * config.latent_channels,
		kernel: 1
	});
}
function resnets(g, x, outputs, count, config) {
	for (let layer = 0; layer < count; layer++) x = resnetBlock$1(g, x, `resnets.${layer}`, outputs, config);
	return x;
}
function head(g, x, outputs, config) {
	const norm = g.groupNorm(x, "conv_norm_out", {
		groups: config.norm_num_groups,
		eps: EPS
	});
	return g.conv2d(g.activation(norm, "silu"), "conv_out", {
		outputs,
		padding: 1
	});
}
function middle(g, x, config) {
	const channels = channelsOf(x);
	return g.scope("mid_block", () => {
		let h = resnetBlock$1(g, x, "resnets.0", channels, config);
		if (config.mid_block_add_attention) h = attention(g, h, "attentions.0", config);
		return resnetBlock$1(g, h, "resnets.1", channels, config);
	});
}
function resnetBlock$1(g, x, name, outputs, config) {
	const norm = {
		groups: config.norm_num_groups,
		eps: EPS
	};
	return g.scope(name, () => {
		let h = g.activation(g.groupNorm(x, "norm1", norm), "silu");
		h = g.conv2d(h, "conv1", {
			outputs,
			padding: 1
		});
		h = g.activation(g.groupNorm(h, "norm2", norm), "silu");
		h = g.conv2d(h, "conv2", {
			outputs,
			padding: 1
		});
		const shortcut = channelsOf(x) === outputs ? x : g.conv2d(x, "conv_shortcut", {
			outputs,
			kernel: 1
		});
		return g.add(shortcut, h);
	});
}
/** One head as wide as the channels, over all pixels. Old files name its layers query, key, value, proj_attn. */
function attention(g, x, name, config) {
	const channels = channelsOf(x);
	const head = headPadding(channels);
	const project = (input, layer, old) => g.linear(input, layer, {
		outputs: channels,
		aliases: [old]
	});
	return g.scope(name, () => {
		const h = g.groupNorm(x, "group_norm", {
			groups: config.norm_num_groups,
			eps: EPS
		});
		const attended = g.attention("", {
			query: {
				tensor: project(h, "to_q", "query"),
				offset: 0
			},
			key: {
				tensor: project(h, "to_k", "key"),
				offset: 0
			},
			value: {
				tensor: project(h, "to_v", "value"),
				offset: 0
			}
		}, {
			heads: 1,
			head
		});
		return g.reshape(g.add(project(attended, "to_out.0", "proj_attn"), x), x.shape);
	});
}
//#endregion
//#region src/models/autoencoder-tiny.ts
/**
* AutoencoderTiny: a small decoder (and encoder) for previews, after TAESD (Ollin Boer Bohan, github.com/madebyollin/taesd).
* Layer names are those of diffusers: `decoder.layers.N` counts every layer of the sequence, those without weights too.
*/
const configSchema$3 = object({
	in_channels: size.channels.default(3),
	out_channels: size.channels.default(3),
	latent_channels: size.channels.default(4),
	encoder_block_out_channels: size.levels(size.channels),
	decoder_block_out_channels: size.levels(size.channels),
	num_encoder_blocks: size.levels(size.layers),
	num_decoder_blocks: size.levels(size.layers),
	act_fn: literal("relu").default("relu"),
	upsampling_scaling_factor: literal(2).default(2),
	upsample_fn: literal("nearest").default("nearest"),
	latent_magnitude: number().default(3),
	latent_shift: number().default(.5),
	scaling_factor: number().default(1),
	shift_factor: number().nullish()
});
/** Throws `ModelConfigError` naming the field. */
function parseAutoencoderTinyConfig(config) {
	return parseConfig("vae", configSchema$3, config);
}
/** The half of `decodeTiny` at the latents' size: `[n, h, w, latent]` → `[n, h, w, c]`. */
function decodeTinyInner(g, config, latents) {
	const outputs = config.decoder_block_out_channels[0];
	const next = layerNames();
	return g.scope("decoder", () => {
		let x = g.affine(latents, "clamp", {
			inputScale: 1 / 3,
			activation: "tanh",
			scale: 3
		});
		x = g.activation(g.conv2d(x, next(), {
			outputs,
			padding: 1
		}), "relu");
		next();
		return residualBlocks(g, x, next, outputs, config.num_decoder_blocks[0]);
	});
}
/** The half of `decodeTiny` beyond the latents' size: `[n, h, w, c]` → `[n, 8h, 8w, 3]`. */
function decodeTinyOuter(g, config, inner) {
	const channels = config.decoder_block_out_channels;
	const next = layerNames(2 + config.num_decoder_blocks[0]);
	return g.scope("decoder", () => {
		let x = inner;
		config.num_decoder_blocks.forEach((blocks, level) => {
			const isLast = level === config.num_decoder_blocks.length - 1;
			if (level > 0) x = residualBlocks(g, x, next, channels[level], blocks);
			if (!isLast) {
				const [, height, width] = x.shape;
				x = g.upsampleNearest(x, next(), {
					height: height * 2,
					width: width * 2
				});
			}
			const outputs = isLast ? config.out_channels : channels[level];
			x = g.conv2d(x, next(), {
				outputs,
				padding: 1,
				bias: isLast
			});
		});
		return g.affine(x, "to_signed", {
			scale: 2,
			shift: -1
		});
	});
}
/** The half of `encodeTiny` down to the latents' size: `[n, h, w, 3]` → `[n, h/8, w/8, c]`. */
function encodeTinyOuter(g, config, picture) {
	const channels = config.encoder_block_out_channels;
	const next = layerNames();
	return g.scope("encoder", () => {
		let x = g.affine(picture, "to_unsigned", {
			scale: .5,
			shift: .5
		});
		channels.forEach((outputs, level) => {
			const options = level === 0 ? {
				outputs,
				padding: 1
			} : {
				outputs,
				padding: 1,
				stride: 2,
				bias: false
			};
			x = g.conv2d(x, next(), options);
			if (level < channels.length - 1) x = residualBlocks(g, x, next, outputs, config.num_encoder_blocks[level]);
		});
		return x;
	});
}
/** The half of `encodeTiny` at the latents' size: `[n, h, w, c]` → `[n, h, w, latent]`. */
function encodeTinyInner(g, config, outer) {
	const blocks = config.num_encoder_blocks;
	const next = layerNames(blocks.length + blocks.slice(0, -1).reduce((sum, count) => sum + count, 0));
	return g.scope("encoder", () => {
		const x = residualBlocks(g, outer, next, config.encoder_block_out_channels.at(-1), blocks.at(-1));
		return g.conv2d(x, next(), {
			outputs: config.latent_channels,
			padding: 1
		});
	});
}
/** `layers.N` from `first` on. */
function layerNames(first = 0) {
	let layer = first;
	return () => `layers.${layer++}`;
}
function residualBlocks(g, x, next, outputs, count) {
	for (let block = 0; block < count; block++) x = residualBlock(g, x, next(), outputs);
	return x;
}
function residualBlock(g, x, name, outputs) {
	return g.scope(name, () => {
		const options = {
			outputs,
			padding: 1
		};
		let h = g.activation(g.conv2d(x, "conv.0", options), "relu");
		h = g.activation(g.conv2d(h, "conv.2", options), "relu");
		h = g.conv2d(h, "conv.4", options);
		const skip = channelsOf(x) === outputs ? x : g.conv2d(x, "skip", {
			outputs,
			kernel: 1,
			bias: false
		});
		return g.activation(g.add(h, skip), "relu");
	});
}
//#endregion
//#region src/models/autoencoder.ts
/** Throws `ModelConfigError` naming the field. */
function autoencoder(component) {
	if (component.className === "AutoencoderTiny") {
		const config = parseAutoencoderTinyConfig(component.config);
		return ofHalves({
			kind: "tiny",
			latentChannels: config.latent_channels,
			downscale: 2 ** (config.num_decoder_blocks.length - 1),
			scalingFactor: config.scaling_factor,
			shiftFactor: config.shift_factor ?? 0,
			forceUpcast: false
		}, {
			decodeInner: (g, latents) => decodeTinyInner(g, config, latents),
			decodeOuter: (g, inner) => decodeTinyOuter(g, config, inner),
			encodeOuter: (g, picture) => encodeTinyOuter(g, config, picture),
			encodeInner: (g, outer) => encodeTinyInner(g, config, outer)
		});
	}
	const config = parseAutoencoderKlConfig(component.config);
	return ofHalves({
		kind: "kl",
		latentChannels: config.latent_channels,
		downscale: 2 ** (config.block_out_channels.length - 1),
		scalingFactor: config.scaling_factor,
		shiftFactor: config.shift_factor ?? 0,
		forceUpcast: config.force_upcast
	}, {
		decodeInner: (g, latents) => decodeKlInner(g, config, latents),
		decodeOuter: (g, inner) => decodeKlOuter(g, config, inner),
		encodeOuter: (g, picture) => encodeKlOuter(g, config, picture),
		encodeInner: (g, outer) => encodeKlInner(g, config, outer)
	});
}
function ofHalves(facts, halves) {
	return {
		...facts,
		...halves,
		decode: (g, latents) => halves.decodeOuter(g, halves.decodeInner(g, latents)),
		encode: (g, picture) => halves.encodeInner(g, halves.encodeOuter(g, picture))
	};
}
//#endregion
//#region src/weights/element-types.ts
/**
* The element types a safetensors file can hold, and how the floating ones become numbers.
*
* Names are the format's own. Types of less than a byte (F4, F6_…) are left out: no model here uses them, and a file that
* holds them is refused as an unknown type. All multi-byte values are little-endian, as is every machine WebGPU runs on.
*
* This is for small tensors, tests and tools. Model weights go from disk to the GPU as they are.
*/
/** Bytes of one element. From `Dtype` of the reference implementation (huggingface/safetensors, `tensor.rs`). */
const ELEMENT_BYTES = {
	BOOL: 1,
	U8: 1,
	I8: 1,
	F8_E5M2: 1,
	F8_E4M3: 1,
	F8_E8M0: 1,
	I16: 2,
	U16: 2,
	F16: 2,
	BF16: 2,
	I32: 4,
	U32: 4,
	F32: 4,
	C64: 8,
	F64: 8,
	I64: 8,
	U64: 8
};
function isElementType(name) {
	return typeof name === "string" && Object.hasOwn(ELEMENT_BYTES, name);
}
function isFloatType(name) {
	return name === "F32" || name === "F16" || name === "BF16";
}
/**
* The value of a half (IEEE 754 binary16) given by its 16 bits, exactly: subnormals, infinities and NaN too.
*/
function float16BitsToFloat32(bits) {
	const sign = bits & 32768 ? -1 : 1;
	const exponent = bits >> 10 & 31;
	const fraction = bits & 1023;
	if (exponent === 0) return sign * fraction * 2 ** -24;
	if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
	return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
const word = new Uint32Array(1);
const wordAsFloat = new Float32Array(word.buffer);
/**
* The 16 bits of the half nearest to `value` (taken as a float32), ties to even, as the GPU's own conversion rounds.
* Keeps subnormals; overflows to infinity from 65520 on; a NaN stays a NaN (quiet, payload dropped).
*/
function float32ToFloat16Bits(value) {
	wordAsFloat[0] = value;
	const bits = word[0];
	const sign = bits >>> 16 & 32768;
	const magnitude = bits & 2147483647;
	if (magnitude > 2139095040) return sign | 32256;
	if (magnitude >= 1199566848) return sign | 31744;
	if (magnitude >= 947912704) {
		const odd = magnitude >>> 13 & 1;
		return sign | magnitude - (112 << 23) + 4095 + odd >>> 13;
	}
	if (magnitude <= 855638016) return sign;
	const shift = 126 - (magnitude >>> 23);
	const significand = magnitude & 8388607 | 8388608;
	const whole = significand >>> shift;
	const rest = significand & (1 << shift) - 1;
	const half = 1 << shift - 1;
	return sign | whole + (rest > half || rest === half && whole & 1 ? 1 : 0);
}
let halves;
/** Every half there is, by its bits: 256 KiB, made when first needed, and some ten times faster than computing. */
function halfTable() {
	halves ??= Float32Array.from({ length: 65536 }, (_, bits) => float16BitsToFloat32(bits));
	return halves;
}
/** The same bytes as a typed array's elements; copied only where they do not lie on the element's alignment. */
function elements(bytes, View) {
	const size = View.BYTES_PER_ELEMENT;
	if (bytes.byteLength % size !== 0) throw new RangeError(`${bytes.byteLength} bytes are no whole number of ${size}-byte elements`);
	const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
	return new View(aligned.buffer, aligned.byteOffset, bytes.byteLength / size);
}
/**
* A new array of the values in `bytes`.
* @throws RangeError where `bytes` is no whole number of elements.
*/
function toFloat32(bytes, type) {
	switch (type) {
		case "F32": return elements(bytes, Float32Array).slice();
		case "F16": {
			const table = halfTable();
			return Float32Array.from(elements(bytes, Uint16Array), (bits) => table[bits]);
		}
		case "BF16": {
			const upper = elements(bytes, Uint16Array);
			const out = new Uint32Array(upper.length);
			for (let i = 0; i < upper.length; i++) out[i] = upper[i] << 16;
			return new Float32Array(out.buffer);
		}
		default: throw new RangeError(`${String(type)} is no floating type`);
	}
}
//#endregion
//#region src/weights/errors.ts
var WeightsError = class extends Error {
	code;
	file;
	tensor;
	reason;
	constructor(code, reason, details = {}) {
		const place = [details.file === void 0 ? void 0 : printable(details.file), details.tensor === void 0 ? void 0 : `tensor ${quoted(details.tensor)}`].filter((part) => part !== void 0);
		super([...place, reason].join(": "), details.cause === void 0 ? void 0 : { cause: details.cause });
		this.name = "WeightsError";
		this.code = code;
		this.file = details.file;
		this.tensor = details.tensor;
		this.reason = reason;
	}
};
/** Longest piece of a file's own text in a message. Real tensor names stay under 120 characters. */
const LONGEST_QUOTE = 160;
/** Text out of an untrusted file, fit for a message: quoted, without characters that act on a terminal, cut short. */
function quoted(text) {
	const cut = text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}…` : text;
	return JSON.stringify(cut).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
}
function printable(name) {
	return quoted(name).slice(1, -1);
}
/** `a, b, c and 4 more`: at most `limit` of them. */
function listed(items, limit = 10) {
	const shown = items.slice(0, limit).join(", ");
	return items.length > limit ? `${shown} and ${items.length - limit} more` : shown;
}
/** An error of node:fs as ours. The path in its message stays in `cause`, for the log. */
function toWeightsError(error, file) {
	if (error instanceof WeightsError) return error;
	const code = error?.code;
	if (code === "ENOENT" || code === "ENOTDIR") return new WeightsError("weights-not-found", "no such file", {
		file,
		cause: error
	});
	return new WeightsError("weights-io", `cannot be read or written (${typeof code === "string" ? code : "unknown"})`, {
		file,
		cause: error
	});
}
//#endregion
//#region src/weights/manifest.ts
/**
* The tensors a model needs against the tensors a file has, before anything is allocated for them.
*
* A model says what it needs (its manifest: names and shapes); this finds each of them under its name or an older one,
* and reports everything that does not fit at once, so that a wrong file is understood at one look.
*/
/** Problems that one message names. */
const MOST_LISTED = 10;
/**
* Finds every expected tensor.
*
* A matrix may be saved as a 1×1 convolution and the other way round: `[c, d]` and `[c, d, 1, 1]` are taken for each
* other. Weights are F32, F16 or BF16. Extra tensors are an error, except whole-number tables of positions
* (`….position_ids`), which transformers used to save beside the weights.
* @returns the entries by their expected names, in the order expected.
* @throws WeightsError "weights-mismatch" naming up to ten tensors that are missing, extra, or of a wrong shape or type.
*/
function checkTensors(set, expected, options) {
	const found = /* @__PURE__ */ new Map();
	const used = /* @__PURE__ */ new Set();
	const problems = [];
	for (const { name, shape, aliases = [] } of expected) {
		const entry = [name, ...aliases].map((alias) => set.get(alias)).find((candidate) => candidate !== void 0);
		if (entry === void 0) {
			problems.push(`${quoted(name)} [${shape.join(", ")}] is missing`);
			continue;
		}
		used.add(entry.name);
		if (!isFloatType(entry.dtype)) problems.push(`${quoted(entry.name)} is ${entry.dtype}, where F32, F16 or BF16 is expected`);
		else if (!sameWeight(entry.shape, shape)) problems.push(`${quoted(entry.name)} is [${brief(entry.shape)}], where [${shape.join(", ")}] is expected`);
		else found.set(name, entry);
	}
	for (const name of set.names()) {
		if (used.has(name) || isPositionTable(set.get(name)) || options.ignore?.(name)) continue;
		problems.push(`${quoted(name)} is not part of the model`);
	}
	if (problems.length > 0) throw new WeightsError("weights-mismatch", `${problems.length === 1 ? "a tensor does" : `${problems.length} tensors do`} not fit the config of ${options.component}: ${listed(problems, MOST_LISTED)}`, { file: set.source });
	return found;
}
/** Whether two shapes describe one weight: equal, or a matrix and its 1×1 convolution. */
function sameWeight(a, b) {
	const [short, long] = a.length <= b.length ? [a, b] : [b, a];
	if (!short.every((size, i) => size === long[i])) return false;
	return short.length === long.length || short.length === 2 && long.slice(2).every((size) => size === 1);
}
function isPositionTable(entry) {
	return !isFloatType(entry.dtype) && (entry.name === "position_ids" || entry.name.endsWith(".position_ids"));
}
function brief(shape) {
	return shape.length > 8 ? `${shape.slice(0, 8).join(", ")}, …` : shape.join(", ");
}
//#endregion
//#region shaders/pack_table.wgsl
var pack_table_default = "// An embedding table as a checkpoint stores it into rows of quads:  packed[row, quad] = source[row, 4·quad …], zero-padded.\nstruct Params { rows: u32, channels: u32, quads: u32, format: u32, first_row: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> source: array<u32>;\n@group(0) @binding(2) var<storage, read_write> packed: array<TableQuad>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let row = index / params.quads;\n  let quad = index % params.quads;\n  if (row >= params.rows) { return; }\n  var values = vec4f(0.0);\n  for (var i = 0u; i < 4u; i++) {\n    if (quad * 4u + i < params.channels) { values[i] = element(row * params.channels + quad * 4u + i, params.format); }\n  }\n  packed[(params.first_row + row) * params.quads + quad] = narrow_table(values);\n}\n";
//#endregion
//#region shaders/pack_weights.wgsl
var pack_weights_default = "// Weights as a checkpoint stores them into the tiles that the kernels read.\n//\n// source: [out, in, tap] as F32, F16 or BF16 (a linear layer has one tap), a run of whole output rows.\n// packed: tiles [tap][input quad][output quad], as f32 or as f16 pairs. Several sources may stand side by side along\n// the output channels (query ‖ key ‖ value). Heads may be widened to a multiple of four channels, on the output side\n// (query, key, value) or on the input side (output projection): what is between two heads then is zero.\nstruct Params {\n  outputs: u32, inputs: u32, taps: u32, format: u32,                       // of the source\n  out_quads: u32, in_quads: u32, first_packed_quad: u32, packed_quads: u32, // of the packed tensor; the output quads this run fills\n  first_channel: u32, first_source_row: u32,                               // of this run: first channel of this source, padded; row that source begins with\n  out_head: u32, out_head_padded: u32, in_head: u32, in_head_padded: u32,   // widths of a head; 0: no heads\n  grid_width: u32,\n}\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> source: array<u32>;\n@group(0) @binding(2) var<storage, read_write> packed: array<TableQuad>;\n\nconst PADDING = 0xffffffffu;\n\n// The source's channel that lands on a packed channel.\nfn unpadded(channel: u32, head: u32, padded: u32) -> u32 {\n  if (head == 0u) { return channel; }\n  let within = channel % padded;\n  return select(PADDING, channel / padded * head + within, within < head);\n}\n\n// One invocation writes one row of one tile: one input channel, four output channels.\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let row = index % 4u;\n  let column = index / 4u % params.packed_quads;\n  let in_quad = index / 4u / params.packed_quads % params.in_quads;\n  let tap = index / 4u / params.packed_quads / params.in_quads;\n  if (tap >= params.taps) { return; }\n  let input = unpadded(in_quad * 4u + row, params.in_head, params.in_head_padded);\n  var values = vec4f(0.0);\n  for (var i = 0u; i < 4u; i++) {\n    let output = unpadded(params.first_channel + column * 4u + i, params.out_head, params.out_head_padded);\n    if (output < params.outputs && input < params.inputs) {\n      values[i] = element(((output - params.first_source_row) * params.inputs + input) * params.taps + tap, params.format);\n    }\n  }\n  packed[((tap * params.in_quads + in_quad) * params.out_quads + params.first_packed_quad + column) * 4u + row] = narrow_table(values);\n}\n";
//#endregion
//#region shaders/prelude/checkpoint.wgsl
var checkpoint_default = "// Elements of a checkpoint's tensor, bound as raw words.\nconst F32 = 0u;\nconst F16 = 1u;\nconst BF16 = 2u;\n\nfn element(index: u32, format: u32) -> f32 {\n  if (format == F32) { return bitcast<f32>(source[index]); }\n  let half = (source[index / 2u] >> (16u * (index % 2u))) & 0xffffu;\n  if (format == BF16) { return bitcast<f32>(half << 16u); }\n  return unpack2x16float(half).x;\n}\n";
//#endregion
//#region src/gpu/matrix-unit.ts
const SIDE = 32;
/** The largest one of halves and f32 sums of which a whole number fills the kernel's tiles; undefined where there is none. */
function chooseMatrixUnit(configs) {
	const usable = [...configs].filter((config) => config.componentType === "f16" && config.resultComponentType === "f32").map(({ M, N, K }) => ({
		rows: M,
		columns: N,
		inner: K
	})).filter(({ rows, columns, inner }) => [
		rows,
		columns,
		inner
	].every((side) => SIDE % side === 0 && side % 4 === 0));
	const size = ({ rows, columns, inner }) => rows * columns * inner;
	return usable.sort((a, b) => size(b) - size(a))[0];
}
//#endregion
//#region src/gpu/device.ts
/**
* An open GPU: buffers with labels and owners, pipelines compiled once, submission, read-back, memory accounts, faults.
*
* Everything above works through this one object; it knows buffers and kernels, never tensors or pictures. Errors that
* WebGPU reports late come out of `submit`'s promise and `read` as typed errors (`errors.ts`).
*/
const BufferUsage = {
	MAP_READ: 1,
	COPY_SRC: 4,
	COPY_DST: 8,
	UNIFORM: 64,
	STORAGE: 128,
	QUERY_RESOLVE: 512
};
const TextureUsage = {
	COPY_SRC: 1,
	COPY_DST: 2,
	STORAGE_BINDING: 8
};
const MAP_MODE_READ = 1;
const KNOWN_LANES = [
	4,
	8,
	16,
	32,
	64
];
const DEFAULT_USAGE = BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST;
/** Opens an adapter and its device. Throws `AdapterError` where there is none that fits. */
async function openGpu(options = {}) {
	const { adapter, gpu, facts } = await openAdapter(options.adapter);
	const device = await requestDevice(adapter, "daguerre");
	const watch = watchDevice(device);
	const pipelines = /* @__PURE__ */ new Map();
	let bytes = 0;
	let peakBytes = 0;
	let largestBytes = 0;
	const live = /* @__PURE__ */ new Map();
	const { maxBytes } = options;
	const admit = (label, size) => {
		if (maxBytes === void 0 || bytes + size <= maxBytes) return;
		throw new MemoryLimitError(`${label}: ${`${size} bytes beside the ${bytes} in use are over the limit of ${maxBytes}`}`, size, maxBytes);
	};
	const account = (made, size) => {
		live.set(made, size);
		bytes += size;
		peakBytes = Math.max(peakBytes, bytes);
		largestBytes = Math.max(largestBytes, size);
	};
	const release = (made) => {
		const size = live.get(made);
		if (size === void 0) return;
		live.delete(made);
		bytes -= size;
		made.destroy();
	};
	const fixed = facts.subgroupMinSize !== void 0 && facts.subgroupMinSize === facts.subgroupMaxSize;
	const lanes = !options.withoutSubgroups && device.features.has("subgroups") && fixed && KNOWN_LANES.includes(facts.subgroupMinSize ?? 0) ? facts.subgroupMinSize : void 0;
	const info = adapter.info;
	const hasMatrices = ["chromium-experimental-subgroup-matrix", "shader-f16"].every((name) => device.features.has(name));
	const awaitingLoss = /* @__PURE__ */ new Set();
	watch.lost.then(() => {
		for (const release of awaitingLoss) release();
	});
	const doneOrLost = async () => {
		let release = () => {};
		const lost = new Promise((resolve) => {
			release = resolve;
		});
		awaitingLoss.add(release);
		try {
			await Promise.race([device.queue.onSubmittedWorkDone(), lost]);
		} finally {
			awaitingLoss.delete(release);
		}
	};
	const self = {
		keptAlive: gpu,
		device,
		facts,
		lanes,
		matrixUnit: lanes && hasMatrices ? chooseMatrixUnit(info.subgroupMatrixConfigs ?? []) : void 0,
		hasTimestamps: device.features.has("timestamp-query"),
		maxBindingBytes: Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize),
		storageAlignment: device.limits.minStorageBufferOffsetAlignment,
		uniformAlignment: device.limits.minUniformBufferOffsetAlignment,
		get memory() {
			return {
				bytes,
				peakBytes,
				buffers: live.size,
				largestBytes
			};
		},
		maxBytes,
		checkRoom: admit,
		get lost() {
			return watch.loss !== void 0;
		},
		createBuffer(label, size, usage = DEFAULT_USAGE) {
			const padded = Math.max(16, Math.ceil(size / 16) * 16);
			if (padded > device.limits.maxBufferSize) throw new GpuOutOfMemoryError(`${label}: a buffer of ${padded} bytes is over this adapter's limit of ${device.limits.maxBufferSize}`);
			if (usage & BufferUsage.STORAGE && padded > self.maxBindingBytes) throw new GpuOutOfMemoryError(`${label}: a storage buffer of ${padded} bytes is over the ${self.maxBindingBytes} that this adapter binds at once`);
			admit(label, padded);
			const buffer = device.createBuffer({
				label,
				size: padded,
				usage
			});
			account(buffer, padded);
			return buffer;
		},
		destroyBuffer: release,
		createTexture(label, { width, height, format }) {
			const usage = TextureUsage.COPY_SRC | TextureUsage.COPY_DST | TextureUsage.STORAGE_BINDING;
			admit(label, width * height * 16);
			const texture = device.createTexture({
				label,
				size: {
					width,
					height
				},
				format,
				usage
			});
			account(texture, width * height * 16);
			return texture;
		},
		destroyTexture: release,
		pipeline(label, code) {
			const known = pipelines.get(code);
			if (known) return known;
			const compiling = settle(compilePipeline(device, label, code)).catch((error) => {
				pipelines.delete(code);
				watch.check();
				throw error;
			});
			compiling.catch(() => {});
			pipelines.set(code, compiling);
			return compiling;
		},
		async idle(likely = 0) {
			watch.check();
			if (likely > 1) await setTimeout(likely);
			await settle(doneOrLost());
			watch.check();
		},
		stagingBuffer: (label, size) => self.createBuffer(label, size, BufferUsage.MAP_READ | BufferUsage.COPY_DST),
		async read(buffer, offset, size, given) {
			const isFree = given?.mapState === "unmapped";
			const staging = isFree ? given : self.stagingBuffer("read-back", size);
			try {
				const encoder = device.createCommandEncoder({ label: "read-back" });
				encoder.copyBufferToBuffer(buffer, offset, staging, 0, Math.ceil(size / 4) * 4);
				device.queue.submit([encoder.finish()]);
				try {
					await settle(staging.mapAsync(MAP_MODE_READ, 0, Math.ceil(size / 4) * 4));
				} catch (error) {
					watch.check();
					throw toGpuError(error, "read-back");
				}
				watch.check();
				const copy = new Uint8Array(staging.getMappedRange(0, Math.ceil(size / 4) * 4)).slice(0, size);
				staging.unmap();
				return copy;
			} finally {
				if (!isFree) self.destroyBuffer(staging);
			}
		},
		check: () => watch.check(),
		close() {
			for (const made of [...live.keys()]) release(made);
			pipelines.clear();
			device.destroy();
		}
	};
	return self;
}
/** Throws a typed error with the compiler's lines. */
async function compilePipeline(device, label, code) {
	device.pushErrorScope("validation");
	const module = device.createShaderModule({
		label,
		code
	});
	device.popErrorScope().catch(() => {});
	try {
		return await device.createComputePipelineAsync({
			label,
			layout: "auto",
			compute: {
				module,
				entryPoint: "main"
			}
		});
	} catch (error) {
		const lines = (await module.getCompilationInfo()).messages.map((m) => `  ${m.lineNum}:${m.linePos} ${m.message}`);
		throw toGpuError(error, [`kernel ${label}`, ...lines].join("\n"));
	}
}
//#endregion
//#region shaders/prelude/activation.wgsl
var activation_default = "// Activations by number, as the graph's `activationCode` gives them.\nconst NO_ACTIVATION = 0u;\nconst SILU = 1u;        // x · σ(x)\nconst GELU = 2u;        // x · Φ(x), exact: not the tanh approximation\nconst QUICK_GELU = 3u;  // x · σ(1.702 x), CLIP's\nconst RELU = 4u;\nconst TANH = 5u;\n\nfn sigmoid(x: vec4f) -> vec4f { return 1.0 / (1.0 + exp(-clamp(x, vec4f(-80.0), vec4f(80.0)))); }\n\n// The standard normal's distribution function, Φ(x) = ½ erfc(−x/√2): Chebyshev form of Numerical Recipes' erfc (3rd ed.,\n// 6.2.2, `erfcc`), fractional error below 1.2e-7. The lower tail comes from erfc itself: 1 + erf would cancel there.\nfn normal_cdf(x: vec4f) -> vec4f {\n  let z = abs(x) * 0.70710678118;\n  let t = 1.0 / (1.0 + 0.5 * z);\n  let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806\n    + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));\n  let tail = 0.5 * t * exp(-min(z * z, vec4f(80.0)) + p);\n  return select(tail, 1.0 - tail, x > vec4f(0.0));\n}\n\nfn activate(x: vec4f, activation: u32) -> vec4f {\n  switch activation {\n    case SILU: { return x * sigmoid(x); }\n    case GELU: { return x * normal_cdf(x); }\n    case QUICK_GELU: { return x * sigmoid(1.702 * x); }\n    case RELU: { return max(x, vec4f(0.0)); }\n    case TANH: { return tanh(clamp(x, vec4f(-20.0), vec4f(20.0))); }\n    default: { return x; }\n  }\n}\n";
//#endregion
//#region shaders/prelude/storage_f16.wgsl
var storage_f16_default = "// Activations as f16 pairs in u32: a Quad is four neighbouring channels of one pixel or token.\n// Core WGSL, so it needs no shader-f16; arithmetic is f32. Values beyond f16 saturate instead of becoming undefined.\nalias Quad = vec2u;\nfn widen(stored: Quad) -> vec4f { return vec4f(unpack2x16float(stored.x), unpack2x16float(stored.y)); }\nfn narrow(value: vec4f) -> Quad {\n  let v = clamp(value, vec4f(-65504.0), vec4f(65504.0));\n  return vec2u(pack2x16float(v.xy), pack2x16float(v.zw));\n}\n";
//#endregion
//#region shaders/prelude/storage_f32.wgsl
var storage_f32_default = "// Activations as f32: a Quad is four neighbouring channels of one pixel or token.\nalias Quad = vec4f;\nfn widen(stored: Quad) -> vec4f { return stored; }\nfn narrow(value: vec4f) -> Quad { return value; }\n";
//#endregion
//#region shaders/prelude/weights_f16.wgsl
var weights_f16_default = "// Weights as f16 pairs in u32, widened on load. A Tile is 4 input channels × 4 output channels, row after row.\nalias Tile = array<vec4u, 2>;\nalias TableQuad = vec2u;\nstruct Outer { row0: vec4f, row1: vec4f, row2: vec4f, row3: vec4f }\nfn unpack_tile(tile: Tile) -> Outer {\n  return Outer(\n    vec4f(unpack2x16float(tile[0].x), unpack2x16float(tile[0].y)),\n    vec4f(unpack2x16float(tile[0].z), unpack2x16float(tile[0].w)),\n    vec4f(unpack2x16float(tile[1].x), unpack2x16float(tile[1].y)),\n    vec4f(unpack2x16float(tile[1].z), unpack2x16float(tile[1].w)),\n  );\n}\nfn widen_table(stored: TableQuad) -> vec4f { return vec4f(unpack2x16float(stored.x), unpack2x16float(stored.y)); }\nfn narrow_table(value: vec4f) -> TableQuad {\n  let v = clamp(value, vec4f(-65504.0), vec4f(65504.0));\n  return vec2u(pack2x16float(v.xy), pack2x16float(v.zw));\n}\n";
//#endregion
//#region shaders/prelude/weights_f32.wgsl
var weights_f32_default = "// Weights as f32. A Tile is 4 input channels × 4 output channels; row j holds what input channel j gives to each output.\nalias Tile = array<vec4f, 4>;\nalias TableQuad = vec4f;\nstruct Outer { row0: vec4f, row1: vec4f, row2: vec4f, row3: vec4f }\nfn unpack_tile(tile: Tile) -> Outer { return Outer(tile[0], tile[1], tile[2], tile[3]); }\nfn widen_table(stored: TableQuad) -> vec4f { return stored; }\nfn narrow_table(value: vec4f) -> TableQuad { return value; }\n";
//#endregion
//#region src/graph/dispatch.ts
/**
* What a lowered operation is: dispatches of kernels over tensors and parameters. Pipelines and buffers come later, in
* `plan.ts`.
*/
/** A uniform block of 32-bit fields. */
function params(...fields) {
	const bytes = /* @__PURE__ */ new ArrayBuffer(Math.ceil(fields.length / 4) * 16);
	const view = new DataView(bytes);
	fields.forEach((field, index) => {
		if (typeof field === "object") view.setFloat32(index * 4, field.f32, true);
		else view.setUint32(index * 4, Number(field), true);
	});
	return bytes;
}
const MAX_GRID_WIDTH = 32768;
/** One dimension of workgroups folded into two. */
function fold(count) {
	const width = Math.min(Math.max(count, 1), MAX_GRID_WIDTH);
	return {
		width,
		height: Math.ceil(Math.max(count, 1) / width)
	};
}
/** Workgroups of 64 for `invocations`, and the width to tell the kernel. */
function grid(invocations) {
	const { width, height } = fold(Math.ceil(invocations / 64));
	return {
		workgroups: [
			width,
			height,
			1
		],
		width
	};
}
/** The whole module of a kernel: constants of this pipeline, element types, shared functions, then its own file. */
function kernel(name, source, storage, options = {}) {
	const constants = {
		...options.constants,
		...options.subgroups ? { LANES: options.subgroups } : {}
	};
	return known(name, [
		...options.subgroups ? ["enable subgroups;"] : [],
		...(options.extensions ?? []).map((extension) => `enable ${extension};`),
		...Object.entries(constants).map(([constant, value]) => `const ${constant} = ${value}u;`),
		storage === "f16" ? storage_f16_default : storage_f32_default,
		...options.weights ? [options.weights === "f16" ? weights_f16_default : weights_f32_default] : [],
		activation_default,
		...options.preludes ?? [],
		source
	]);
}
const kernels = { next: /* @__PURE__ */ new Map() };
/** One kernel, and one string of its code, for the same parts: a plan may have tens of thousands of dispatches. */
function known(name, parts) {
	let step = kernels;
	for (const part of [name, ...parts]) {
		const next = step.next.get(part) ?? { next: /* @__PURE__ */ new Map() };
		step.next.set(part, next);
		step = next;
	}
	step.kernel ??= {
		name,
		code: parts.join("\n")
	};
	return step.kernel;
}
//#endregion
//#region src/graph/memory.ts
/**
* Where each computed tensor lives: planned once, by liveness, over a few arenas.
*
* WebGPU tracks use by whole buffers: a dispatch may not read one range of a buffer and write another. So an output
* never shares an arena with what its operation reads, and there are several arenas (three or four in practice). None is
* larger than a binding, so that every tensor can be bound wherever it lies.
*/
/**
* Places the outputs of `operations`, which run in this order. `kept` tensors are never overwritten once made.
* Throws `GraphError` for a tensor larger than an arena may be.
*/
function planMemory(operations, kept, limits) {
	const lastUse = /* @__PURE__ */ new Map();
	operations.forEach((operation, index) => {
		lastUse.set(operation.output.id, index);
		for (const tensor of readsOf$1(operation)) lastUse.set(tensor.id, index);
	});
	const places = /* @__PURE__ */ new Map();
	const arenas = [];
	operations.forEach((operation, index) => {
		const reads = readsOf$1(operation);
		const size = align(tensorBytes(operation.output, limits.storage), limits.alignment);
		if (size > limits.maxArenaBytes) throw new GraphError(`${operation.name}: a tensor [${operation.output.shape}] of ${size} bytes is over this adapter's limit of ${limits.maxArenaBytes} for one binding; ask for a smaller picture`);
		const taken = new Set(reads.map((tensor) => places.get(tensor.id)?.arena));
		places.set(operation.output.id, place(arenas, taken, size, limits.maxArenaBytes));
		for (const tensor of new Set([...reads, operation.output])) {
			const spot = places.get(tensor.id);
			if (spot && lastUse.get(tensor.id) === index && !kept.has(tensor.id)) release(arenas[spot.arena], spot);
		}
	});
	return {
		places,
		arenas: arenas.map((arena) => arena.end)
	};
}
/** The tightest free block, else the arena that has to grow least, else a new arena. */
function place(arenas, taken, size, maxBytes) {
	let best;
	let growth;
	arenas.forEach((arena, index) => {
		if (taken.has(index)) return;
		arena.free.forEach((block, at) => {
			const slack = block.size - size;
			if (slack >= 0 && (!best || slack < best.slack)) best = {
				arena: index,
				block: at,
				slack
			};
		});
		const bytes = size - tail(arena);
		if (arena.end + bytes <= maxBytes && (!growth || bytes < growth.bytes)) growth = {
			arena: index,
			bytes
		};
	});
	if (best) {
		const { free } = arenas[best.arena];
		const block = free[best.block];
		const spot = {
			arena: best.arena,
			offset: block.offset,
			size
		};
		if (best.slack === 0) free.splice(best.block, 1);
		else Object.assign(block, {
			offset: block.offset + size,
			size: best.slack
		});
		return spot;
	}
	if (!growth) {
		arenas.push({
			end: size,
			free: []
		});
		return {
			arena: arenas.length - 1,
			offset: 0,
			size
		};
	}
	const arena = arenas[growth.arena];
	const offset = arena.end - tail(arena);
	if (tail(arena) > 0) arena.free.pop();
	arena.end = offset + size;
	return {
		arena: growth.arena,
		offset,
		size
	};
}
/** Bytes free at the arena's end. */
function tail(arena) {
	const last = arena.free.at(-1);
	return last && last.offset + last.size === arena.end ? last.size : 0;
}
/** Gives a range back, joined with its free neighbours; `free` stays sorted by offset. */
function release(arena, { offset, size }) {
	const { free } = arena;
	let at = free.findIndex((block) => block.offset > offset);
	if (at < 0) at = free.length;
	free.splice(at, 0, {
		offset,
		size
	});
	for (const index of [at, at - 1]) {
		const block = free[index];
		const next = free[index + 1];
		if (block && next && block.offset + block.size === next.offset) {
			block.size += next.size;
			free.splice(index + 1, 1);
		}
	}
}
function align(size, alignment) {
	return Math.ceil(size / alignment) * alignment;
}
//#endregion
//#region src/graph/weights.ts
/** The same weights without a transformed form. */
function withoutTransformed(parameters) {
	return {
		storage: parameters.storage,
		get: (parameter) => parameters.get(parameter),
		texture: (matrix) => parameters.texture?.(matrix)
	};
}
/** Bytes of a texture of 16 bytes a texel. */
function textureBytes({ width, height }) {
	return width * height * TEXEL_BYTES$1;
}
const COPY_ALIGNMENT = 256;
const TEXEL_BYTES$1 = 16;
/**
* The texture that holds a matrix, undefined where a buffer does. lavapipe loads a texel for the lanes of a subgroup in
* half the time that it takes for as much of a buffer, whose bounds it checks lane by lane and component by component
* (docs/kernels.md). Elsewhere buffers are as fast, and every form of the kernels can read them.
*/
function matrixTexture(gpu, matrix, storage) {
	if (gpu.facts.driver !== "lavapipe" || gpu.lanes === void 0) return;
	return tilesTexture(matrix, matrix.taps, storage, gpu.device.limits.maxTextureDimension2D);
}
/**
* The texture that holds the weights of a 3 × 3 convolution transformed for Winograd's form: in f32 whatever the weights are
* stored as, so four or eight times as large. Undefined where no texture can, or no buffer on the way to it: on lavapipe,
* more than 930,000 pairs of channels.
*/
function transformedTexture(matrix, limits) {
	const texture = tilesTexture(matrix, 36, "f32", limits.maxTextureDimension);
	return texture && texture.bytesPerRow * texture.height <= limits.maxBindingBytes ? texture : void 0;
}
function tilesTexture({ outputQuads, inputQuads }, taps, storage, maxDimension) {
	const bytesPerRow = outputQuads * 4 * weightQuadBytes(storage);
	const [width, height] = [bytesPerRow / TEXEL_BYTES$1, taps * inputQuads];
	if (bytesPerRow % COPY_ALIGNMENT !== 0 || Math.max(width, height) > maxDimension) return;
	return {
		width,
		height,
		bytesPerRow,
		format: storage === "f32" ? "rgba32float" : "rgba32uint"
	};
}
/** A matrix's tiles from a buffer into a texture of its own, once `encoder` is submitted. */
function tilesToTexture(gpu, label, buffer, shape, encoder) {
	const texture = gpu.createTexture(label, shape);
	const { width, height, bytesPerRow } = shape;
	encoder.copyBufferToTexture({
		buffer,
		bytesPerRow,
		rowsPerImage: height
	}, { texture }, {
		width,
		height
	});
	return texture;
}
/** A matrix's tiles in a buffer, copied there where a texture holds them; `release` when done with it. */
function tilesInBuffer(gpu, label, parameters, matrix) {
	const texture = parameters.texture?.(matrix);
	if (!texture) return {
		buffer: parameters.get(matrix)[0],
		release() {}
	};
	const { width, height } = texture;
	const bytesPerRow = width * TEXEL_BYTES$1;
	const buffer = gpu.createBuffer(label, bytesPerRow * height);
	const encoder = gpu.device.createCommandEncoder({ label });
	encoder.copyTextureToBuffer({ texture }, {
		buffer,
		bytesPerRow,
		rowsPerImage: height
	}, {
		width,
		height
	});
	gpu.device.queue.submit([encoder.finish({ label })]);
	return {
		buffer,
		release: () => gpu.destroyBuffer(buffer)
	};
}
/** Bytes of four neighbouring weights. */
function weightQuadBytes(storage) {
	return storage === "f16" ? 8 : 16;
}
/** Rows of a table that fit into one binding each; all but a very large table are one piece. */
function tablePieces(table, limits) {
	const rowBytes = quads(table.channels) * weightQuadBytes(limits.weights);
	const rowsAPiece = Math.max(1, Math.floor(limits.maxBindingBytes / rowBytes));
	const pieces = [];
	for (let firstRow = 0; firstRow < table.rows; firstRow += rowsAPiece) pieces.push({
		firstRow,
		endRow: Math.min(firstRow + rowsAPiece, table.rows)
	});
	return pieces;
}
/** Bytes that each buffer of a parameter takes. Vectors are f32 whatever the storage. */
function parameterBytes(parameter, storage, gpu) {
	switch (parameter.kind) {
		case "matrix": return [parameter.taps * parameter.inputQuads * parameter.outputQuads * 4 * weightQuadBytes(storage)];
		case "vector": return [parameter.quads * 16];
		case "table": {
			const rowBytes = quads(parameter.channels) * weightQuadBytes(storage);
			return tablePieces(parameter, {
				weights: storage,
				maxBindingBytes: gpu.maxBindingBytes
			}).map(({ firstRow, endRow }) => (endRow - firstRow) * rowBytes);
		}
		default: return parameter;
	}
}
//#endregion
//#region shaders/prelude/winograd.wgsl
var winograd_default = "// Winograd's F(4×4, 3×3): 4 × 4 outputs from 6 × 6 inputs with 36 products, where 144 are taken otherwise (Lavin & Gray 2015,\n// arXiv 1509.09308). Interpolation points 0, ±2/3, ±3/2, ∞: with those of the paper (0, ±1, ±2, ∞) the error of f32 is twice\n// as large, and three times at worst; with these it is 1.7 times that of the plain sum (128 channels, normal values).\n// Results are stored as f32 whatever weights and activations are: as halves, transformed weights lose three digits.\nconst OUTPUTS = 4u;  // of a tile, along a side\nconst POINTS = 6u;   // inputs of a tile along a side, and frequencies\nconst P = 2.0 / 3.0;\nconst Q = 3.0 / 2.0;  // P · Q = 1\n\n// Bᵀ d, Aᵀ m and G g along one dimension.\nfn input_transform(d: array<vec4f, POINTS>) -> array<vec4f, POINTS> {\n  let near = d[4] - Q * Q * d[2];\n  let near_odd = P * d[3] - Q * d[1];\n  let far = d[4] - P * P * d[2];\n  let far_odd = Q * d[3] - P * d[1];\n  return array(\n    d[0] - (P * P + Q * Q) * d[2] + d[4],\n    near + near_odd,\n    near - near_odd,\n    far + far_odd,\n    far - far_odd,\n    d[1] - (P * P + Q * Q) * d[3] + d[5],\n  );\n}\nfn output_transform(m: array<vec4f, POINTS>) -> array<vec4f, OUTPUTS> {\n  let near = m[1] + m[2];\n  let near_odd = m[1] - m[2];\n  let far = m[3] + m[4];\n  let far_odd = m[3] - m[4];\n  return array(\n    m[0] + near + far,\n    P * near_odd + Q * far_odd,\n    P * P * near + Q * Q * far,\n    P * P * P * near_odd + Q * Q * Q * far_odd + m[5],\n  );\n}\nfn weight_transform(g0: vec4f, g1: vec4f, g2: vec4f) -> array<vec4f, POINTS> {\n  const NEAR = 1.0 / (2.0 * P * P * (P * P - Q * Q));\n  const FAR = 1.0 / (2.0 * Q * Q * (Q * Q - P * P));\n  let near = NEAR * g0 + NEAR * P * P * g2;\n  let near_odd = NEAR * P * g1;\n  let far = FAR * g0 + FAR * Q * Q * g2;\n  let far_odd = FAR * Q * g1;\n  return array(g0, near + near_odd, near - near_odd, far + far_odd, far - far_odd, g2);\n}\n\n// Bᵀ and Aᵀ column by column: what one row of the operand gives to each row of the result.\nconst INPUT_COLUMNS = array(\n  array(1.0, 0.0, 0.0, 0.0, 0.0, 0.0),\n  array(0.0, -Q, Q, -P, P, 1.0),\n  array(-(P * P + Q * Q), -Q * Q, -Q * Q, -P * P, -P * P, 0.0),\n  array(0.0, P, -P, Q, -Q, -(P * P + Q * Q)),\n  array(1.0, 1.0, 1.0, 1.0, 1.0, 0.0),\n  array(0.0, 0.0, 0.0, 0.0, 0.0, 1.0),\n);\nconst OUTPUT_COLUMNS = array(\n  array(1.0, 0.0, 0.0, 0.0),\n  array(1.0, P, P * P, P * P * P),\n  array(1.0, -P, P * P, -P * P * P),\n  array(1.0, Q, Q * Q, Q * Q * Q),\n  array(1.0, -Q, Q * Q, -Q * Q * Q),\n  array(0.0, 0.0, 0.0, 1.0),\n);\n";
//#endregion
//#region shaders/winograd_weights.wgsl
var winograd_weights_default = "// Weights of a 3 × 3 convolution, transformed for Winograd's product:  transformed[f][i][o] = (G g Gᵀ)[f],  g the kernel of (i, o).\n// source: tiles [tap][input quad][output quad], f32 or f16; transformed: the same in f32, with frequencies for taps.\nstruct Params { in_quads: u32, out_quads: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> source: array<TableQuad>;\n@group(0) @binding(2) var<storage, read_write> transformed: array<vec4f>;\n\n// One invocation transforms one row of a tile: one input channel, four output channels.\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let row = id.x + id.y * params.grid_width * 64u;\n  let rows = params.in_quads * params.out_quads * 4u;\n  if (row >= rows) { return; }\n  var along_x: array<array<vec4f, POINTS>, 3>;\n  for (var y = 0u; y < 3u; y++) {\n    let tap = y * 3u * rows + row;\n    along_x[y] = weight_transform(\n      widen_table(source[tap]),\n      widen_table(source[tap + rows]),\n      widen_table(source[tap + 2u * rows]),\n    );\n  }\n  for (var x = 0u; x < POINTS; x++) {\n    let along_y = weight_transform(along_x[0][x], along_x[1][x], along_x[2][x]);\n    for (var y = 0u; y < POINTS; y++) { transformed[(y * POINTS + x) * rows + row] = along_y[y]; }\n  }\n}\n";
//#endregion
//#region src/models/transformed-weights.ts
/**
* Weights of 3 × 3 convolutions transformed for Winograd's form (`shaders/winograd_weights.wgsl`), beside the weights
* themselves: made when a plan first asks for them, and kept for the next.
*/
/** Transformed weights of what `parameters` hold; whoever makes this destroys it with them. */
function createTransformedWeights(gpu, label, parameters) {
	const made = /* @__PURE__ */ new Map();
	const making = /* @__PURE__ */ new Map();
	let destroyed = false;
	const make = async (matrix) => {
		try {
			const texture = await transform(gpu, `${label}: ${matrix.key} transformed`, parameters, matrix);
			if (destroyed) gpu.destroyTexture(texture);
			else made.set(matrix.key, texture);
			return texture;
		} finally {
			making.delete(matrix.key);
		}
	};
	const drop = () => {
		const any = made.size > 0;
		for (const texture of made.values()) gpu.destroyTexture(texture);
		made.clear();
		return any;
	};
	return {
		has: (matrix) => made.has(matrix.key),
		async get(matrix) {
			const known = made.get(matrix.key);
			if (known) return known;
			const begun = making.get(matrix.key) ?? make(matrix);
			if (!made.has(matrix.key)) making.set(matrix.key, begun);
			return begun;
		},
		drop,
		destroy() {
			destroyed = true;
			drop();
		}
	};
}
async function transform(gpu, label, parameters, matrix) {
	const { storage } = parameters;
	const shape = transformedTexture(matrix, {
		maxBindingBytes: gpu.maxBindingBytes,
		maxTextureDimension: gpu.device.limits.maxTextureDimension2D
	});
	const code = kernel("winograd_weights", winograd_weights_default, "f32", {
		weights: storage,
		preludes: [winograd_default]
	});
	const pipeline = await gpu.pipeline(code.name, code.code);
	const { workgroups, width } = grid(matrix.inputQuads * matrix.outputQuads * 4);
	const block = params(matrix.inputQuads, matrix.outputQuads, width);
	const source = tilesInBuffer(gpu, label, parameters, matrix);
	const owned = [gpu.createBuffer(label, block.byteLength, BufferUsage.UNIFORM | BufferUsage.COPY_DST), gpu.createBuffer(label, shape.bytesPerRow * shape.height)];
	try {
		const [uniforms, target] = owned;
		gpu.device.queue.writeBuffer(uniforms, 0, block);
		const group = gpu.device.createBindGroup({
			label,
			layout: pipeline.getBindGroupLayout(0),
			entries: [
				uniforms,
				source.buffer,
				target
			].map((buffer, binding) => ({
				binding,
				resource: { buffer }
			}))
		});
		const encoder = gpu.device.createCommandEncoder({ label });
		const pass = encoder.beginComputePass({ label });
		pass.setPipeline(pipeline);
		pass.setBindGroup(0, group);
		pass.dispatchWorkgroups(...workgroups);
		pass.end();
		const texture = tilesToTexture(gpu, label, target, shape, encoder);
		gpu.device.queue.submit([encoder.finish({ label })]);
		return texture;
	} finally {
		source.release();
		for (const buffer of owned) gpu.destroyBuffer(buffer);
	}
}
//#endregion
//#region src/models/load.ts
/**
* From a checkpoint's tensors to buffers on the device, in the layout that the kernels read.
*
* Tensors stream: pieces of at most `PIECE_BYTES` are read from disk, written to a staging buffer, and repacked by a
* kernel, so that neither the JavaScript heap nor the staging grows with the model. Small ones go as one: a submission
* costs as much as packing a hundred kilobytes.
*/
/** Bytes of a tensor read from disk at a time. */
const PIECE_BYTES = 16 * 2 ** 20;
/** Bytes of small tensors that are packed by one submission. */
const BATCH_BYTES = 2 * 2 ** 20;
/** Of the parameters of a packing kernel: 16 words. */
const BLOCK_BYTES$1 = 64;
const FORMAT = {
	F32: 0,
	F16: 1,
	BF16: 2
};
/**
* Uploads `parameters`, whose parts are found in `tensors` by their name in the model.
* The caller has checked names, shapes and types (`checkTensors`); nothing is allocated before that.
*/
async function loadParameters(gpu, parameters, tensors, options) {
	const buffers = /* @__PURE__ */ new Map();
	const textures = /* @__PURE__ */ new Map();
	const destroy = () => {
		for (const list of buffers.values()) for (const buffer of list) gpu.destroyBuffer(buffer);
		for (const texture of textures.values()) gpu.destroyTexture(texture);
		buffers.clear();
		textures.clear();
	};
	const together = [...tensors.values()].map(({ byteLength }) => align(byteLength, gpu.storageAlignment)).reduce((sum, size) => sum + size, 0);
	const oneByOne = gpu.maxBytes !== void 0;
	const batch = oneByOne ? 0 : Math.min(BATCH_BYTES, together);
	const uploader = createUploader(gpu, options, {
		stagingBytes: Math.max(pieceBytes(tensors), batch),
		oneByOne
	});
	const total = [...tensors.values()].reduce((sum, tensor) => sum + tensor.byteLength, 0);
	let done = 0;
	let bytes = 0;
	const all = [...parameters];
	try {
		for (const parameter of all) {
			const label = `${options.label}: ${parameter.key}`;
			const list = parameterBytes(parameter, options.storage, gpu).map((size) => gpu.createBuffer(label, size));
			buffers.set(parameter.key, list);
			bytes += list.reduce((sum, buffer) => sum + buffer.size, 0);
			const parts = parameter.parts.map((part) => tensors.get(part.name));
			if (parameter.kind === "matrix") {
				await uploader.matrix(parameter, parts, list[0]);
				const texture = matrixTexture(gpu, parameter, options.storage);
				if (texture) {
					uploader.afterwards((encoder) => {
						textures.set(parameter.key, tilesToTexture(gpu, label, list[0], texture, encoder));
						buffers.set(parameter.key, []);
						return list[0];
					});
					if (oneByOne) await uploader.flush();
				}
			}
			if (parameter.kind === "table") await uploader.table(parameter, parts[0], list);
			if (parameter.kind === "vector") await uploader.vector(parameter, parts, list[0]);
			done += parts.reduce((sum, part) => sum + part.byteLength, 0);
			options.onProgress?.(done, total);
		}
		await uploader.flush();
		if (oneByOne) await gpu.idle();
		else gpu.check();
	} catch (error) {
		destroy();
		throw error;
	} finally {
		uploader.close();
	}
	const held = {
		storage: options.storage,
		get: (parameter) => buffers.get(parameter.key),
		texture: (matrix) => textures.get(matrix.key)
	};
	const transformed = createTransformedWeights(gpu, options.label, held);
	return {
		...held,
		bytes,
		loadingBytes: loadingBytes(gpu, all, tensors, options.storage),
		transformed,
		dropTransformed: transformed.drop,
		destroy() {
			transformed.destroy();
			destroy();
		}
	};
}
/**
* Bytes of device memory that loading takes at the most where memory is limited: weights, a piece on its way with its
* packing's parameters, and for a moment a matrix both as a buffer and as a texture.
*/
function loadingBytes(gpu, parameters, tensors, storage) {
	let held = 0;
	let most = 0;
	for (const parameter of parameters) {
		const size = parameterBytes(parameter, storage, gpu).reduce((sum, bytes) => sum + align(bytes, 16), 0);
		held += size;
		const twice = parameter.kind === "matrix" && matrixTexture(gpu, parameter, storage) !== void 0;
		most = Math.max(most, twice ? held + size : held);
	}
	return most + align(pieceBytes(tensors), 16) + align(BLOCK_BYTES$1, gpu.uniformAlignment);
}
/** As long as the longest tensor, where that is shorter than a piece. */
function pieceBytes(tensors) {
	const longest = [...tensors.values()].reduce((most, tensor) => Math.max(most, tensor.byteLength), 4);
	return Math.min(PIECE_BYTES, Math.ceil(longest / 4) * 4);
}
function createUploader(gpu, { label, storage }, { stagingBytes, oneByOne }) {
	const { queue } = gpu.device;
	const kernels = {
		matrix: kernel("pack_weights", pack_weights_default, "f32", {
			weights: storage,
			preludes: [checkpoint_default]
		}),
		table: kernel("pack_table", pack_table_default, "f32", {
			weights: storage,
			preludes: [checkpoint_default]
		})
	};
	let host = new Uint8Array(stagingBytes);
	let staging = gpu.createBuffer(`${label}: staging`, stagingBytes);
	let used = 0;
	let packings = [];
	let endings = [];
	let submitted = 0;
	/** Reads rows of a tensor to where they will be in the staging buffer. */
	const stage = async (tensor, offset, size) => {
		const padded = align(size, 4);
		if (oneByOne || used + padded > host.byteLength) await flush();
		if (padded > host.byteLength) {
			host = new Uint8Array(padded);
			gpu.destroyBuffer(staging);
			staging = gpu.createBuffer(`${label}: staging`, padded);
		}
		const at = used;
		await tensor.read(host.subarray(at, at + size), offset);
		used = align(at + padded, gpu.storageAlignment);
		return {
			at,
			size: padded
		};
	};
	const flush = async () => {
		const [due, after] = [packings, endings];
		[packings, endings] = [[], []];
		if (due.length === 0 && after.length === 0) return;
		const name = `${label}: packing`;
		const stride = align(BLOCK_BYTES$1, gpu.uniformAlignment);
		const blocks = new Uint8Array(Math.max(1, due.length) * stride);
		for (const [index, { block }] of due.entries()) blocks.set(new Uint8Array(block), index * stride);
		const uniforms = gpu.createBuffer(name, blocks.byteLength, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
		const done = [uniforms];
		try {
			queue.writeBuffer(uniforms, 0, blocks);
			queue.writeBuffer(staging, 0, host, 0, Math.min(used, host.byteLength));
			const encoder = gpu.device.createCommandEncoder({ label: name });
			const pass = encoder.beginComputePass({ label: name });
			for (const [index, { packer, block, staged, target, workgroups }] of due.entries()) {
				const pipeline = await gpu.pipeline(packer.name, packer.code);
				const group = gpu.device.createBindGroup({
					label: `${label}: ${packer.name}`,
					layout: pipeline.getBindGroupLayout(0),
					entries: [
						{
							binding: 0,
							resource: {
								buffer: uniforms,
								offset: index * stride,
								size: block.byteLength
							}
						},
						{
							binding: 1,
							resource: {
								buffer: staging,
								offset: staged.at,
								size: staged.size
							}
						},
						{
							binding: 2,
							resource: { buffer: target }
						}
					]
				});
				pass.setPipeline(pipeline);
				pass.setBindGroup(0, group);
				pass.dispatchWorkgroups(...workgroups);
			}
			pass.end();
			for (const encode of after) done.push(encode(encoder));
			queue.submit([encoder.finish({ label: name })]);
		} finally {
			for (const buffer of done) gpu.destroyBuffer(buffer);
		}
		submitted += used;
		used = 0;
		if (submitted > 4 * PIECE_BYTES) {
			submitted = 0;
			await gpu.idle();
		}
	};
	return {
		async matrix(parameter, parts, buffer) {
			const { outputHead, inputHead, taps, inputs } = parameter;
			let firstQuad = 0;
			for (const [index, tensor] of parts.entries()) {
				const format = tensor.dtype;
				const outputs = tensor.shape[0];
				const rowBytes = inputs * taps * ELEMENT_BYTES[format];
				const unit = outputHead ? outputHead.width : 4;
				const padded = outputHead ? outputHead.padded : 4;
				const rowsARun = Math.max(1, Math.floor(PIECE_BYTES / rowBytes / unit)) * unit;
				for (let first = 0; first < outputs; first += rowsARun) {
					const rows = Math.min(rowsARun, outputs - first);
					const firstChannel = first / unit * padded;
					const packedQuads = outputHead ? rows / unit * padded / 4 : quads(rows);
					const staged = await stage(tensor, first * rowBytes, rows * rowBytes);
					const { workgroups, width } = grid(taps * parameter.inputQuads * packedQuads * 4);
					const block = params(...[
						outputs,
						inputs,
						taps,
						FORMAT[format]
					], ...[
						parameter.outputQuads,
						parameter.inputQuads,
						firstQuad + firstChannel / 4,
						packedQuads
					], ...[firstChannel, first], ...[
						outputHead?.width ?? 0,
						outputHead?.padded ?? 0,
						inputHead?.width ?? 0,
						inputHead?.padded ?? 0
					], width);
					packings.push({
						packer: kernels.matrix,
						block,
						staged,
						target: buffer,
						workgroups
					});
				}
				firstQuad += quads(parameter.partChannels[index]);
			}
		},
		async vector(parameter, parts, buffer) {
			const values = new Float32Array(parameter.quads * 4);
			let start = 0;
			for (const [index, tensor] of parts.entries()) {
				const bytes = new Uint8Array(tensor.byteLength);
				await tensor.read(bytes);
				const source = toFloat32(bytes, tensor.dtype);
				const { width, padded } = parameter.head ?? {
					width: source.length,
					padded: source.length
				};
				for (let head = 0; head * width < source.length; head++) values.set(source.subarray(head * width, (head + 1) * width), start + head * padded);
				start += parameter.partChannels[index];
			}
			queue.writeBuffer(buffer, 0, values);
		},
		async table(parameter, tensor, buffers) {
			const format = tensor.dtype;
			const rowBytes = parameter.channels * ELEMENT_BYTES[format];
			const limits = {
				weights: storage,
				maxBindingBytes: gpu.maxBindingBytes
			};
			for (const [piece, { firstRow, endRow }] of tablePieces(parameter, limits).entries()) {
				const rowsARun = Math.max(2, Math.floor(PIECE_BYTES / rowBytes / 2) * 2);
				for (let first = firstRow; first < endRow; first += rowsARun) {
					const rows = Math.min(rowsARun, endRow - first);
					const staged = await stage(tensor, first * rowBytes, rows * rowBytes);
					const { workgroups, width } = grid(rows * quads(parameter.channels));
					const block = params(rows, parameter.channels, quads(parameter.channels), FORMAT[format], first - firstRow, width);
					packings.push({
						packer: kernels.table,
						block,
						staged,
						target: buffers[piece],
						workgroups
					});
				}
			}
		},
		afterwards: (encode) => endings.push(encode),
		flush,
		close: () => gpu.destroyBuffer(staging)
	};
}
//#endregion
//#region src/models/streamed-weights.ts
/** `load` is called now, and again whenever they are brought back. */
async function streamedWeights(load) {
	let held = await load();
	let loading;
	const { storage, bytes, loadingBytes, finer } = held;
	const present = () => {
		if (!held) throw new Error("these weights were evicted; bring() them first");
		return held;
	};
	const evict = () => {
		held?.destroy();
		held = void 0;
	};
	return {
		storage,
		bytes,
		loadingBytes,
		get: (parameter) => present().get(parameter),
		texture: (matrix) => present().texture?.(matrix),
		get transformed() {
			return present().transformed;
		},
		dropTransformed: () => held?.dropTransformed() ?? false,
		...finer && { finer },
		get resident() {
			return held !== void 0;
		},
		async bring() {
			if (held) return;
			loading ??= load().finally(() => {
				loading = void 0;
			});
			held = await loading;
		},
		evict,
		destroy: evict
	};
}
//#endregion
//#region src/models/component.ts
/**
* How activations are stored where a model runs at this precision. f16 halves the traffic that a GPU waits for. A software
* adapter computes as fast with f32, and f16 would double the error that the weights' own rounding leaves (docs/kernels.md).
*/
function activationStorage(gpu, precision) {
	return precision === "f16" && gpu.facts.kind === "hardware" ? "f16" : "f32";
}
/**
* Loads what a recorded model wants (`Recorder.parameters`) from a component's files.
*
* Weights are stored as f16 where `precision` asks for it or where the file has nothing finer, else as f32.
* Throws `WeightsError` naming file, tensor and reason, and `MemoryLimitError` for what can never fit, before anything is
* allocated.
*/
function loadComponent(gpu, component, parameters, options) {
	return streamedWeights(() => loadOnce(gpu, component, parameters, options));
}
async function loadOnce(gpu, component, parameters, options) {
	const { tensors, halves, close } = await openTensors(component, parameters);
	try {
		const storage = options.precision === "f16" || halves ? "f16" : "f32";
		checkLimit(gpu, component.name, storage, (as) => loadingBytes(gpu, parameters, tensors, as));
		const loaded = await loadParameters(gpu, parameters, tensors, {
			label: component.name,
			storage,
			onProgress: options.onProgress
		});
		if (storage === "f32" || halves) return loaded;
		return {
			...loaded,
			finer: (parameter) => loadFiner(gpu, component, parameter)
		};
	} finally {
		await close();
	}
}
/** Throws where a component alone is over the limit, and says whether its other precision would not be. */
function checkLimit(gpu, name, storage, bytesIn) {
	if (gpu.maxBytes === void 0) return;
	const limit = gpu.maxBytes;
	const wanted = bytesIn(storage);
	if (wanted <= limit) return;
	const halved = bytesIn("f16");
	const mebibytes = (bytes) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
	const hope = storage === "f16" ? "" : `; in f16 it takes ${mebibytes(halved)}${halved <= limit ? " (--precision f16)" : ", which is too much as well"}`;
	throw new MemoryLimitError(`the weights of ${name} take ${mebibytes(wanted)} of device memory in ${storage} while they are loaded, and ${mebibytes(limit)} may be used (max_gpu_memory)${hope}`, wanted, limit);
}
/** One parameter in f32, of a component whose files have been checked as a whole. */
async function loadFiner(gpu, component, parameter) {
	const { tensors, close } = await openTensors(component, [parameter], () => true);
	try {
		return await loadParameters(gpu, [parameter], tensors, {
			label: component.name,
			storage: "f32"
		});
	} finally {
		await close();
	}
}
/** The tensors that `parameters` are made of, checked; `ignore` says which others may stand in the files. */
async function openTensors(component, parameters, ignore) {
	const weights = await component.weights();
	const close = () => weights.close();
	try {
		const tensors = checkTensors(weights, parameters.flatMap((parameter) => parameter.parts), {
			component: component.name,
			ignore
		});
		return {
			tensors,
			halves: [...tensors.values()].every(({ dtype }) => dtype === "F16"),
			close
		};
	} catch (error) {
		await close();
		throw error;
	}
}
//#endregion
//#region src/models/unet.ts
/**
* UNet2DConditionModel: the denoiser of Stable Diffusion 1.x, 2.x, XL and of latent consistency models.
*
* Rombach et al. 2022 (arXiv 2112.10752); block and layer names are those of diffusers, and so are the shapes, in NHWC.
* Reads like its diagram: down blocks, middle, up blocks with the skips taken from the other side. What the blocks add for
* the timestep does not depend on the sample, and is a network of its own: `timeProjections`.
*/
const perBlock = union([size.channels, size.levels(size.channels)]);
const configSchema$2 = object({
	in_channels: size.channels,
	out_channels: size.channels,
	block_out_channels: size.levels(size.channels),
	down_block_types: array(_enum(["DownBlock2D", "CrossAttnDownBlock2D"])),
	up_block_types: array(_enum(["UpBlock2D", "CrossAttnUpBlock2D"])),
	mid_block_type: literal("UNetMidBlock2DCrossAttn").default("UNetMidBlock2DCrossAttn"),
	layers_per_block: size.layers.default(2),
	attention_head_dim: perBlock.default(8),
	num_attention_heads: perBlock.nullish(),
	transformer_layers_per_block: union([size.layers, size.levels(size.layers)]).default(1),
	cross_attention_dim: size.channels,
	norm_num_groups: size.channels.default(32),
	norm_eps: number().positive().default(1e-5),
	act_fn: literal("silu").default("silu"),
	use_linear_projection: boolean().default(false),
	flip_sin_to_cos: boolean().default(true),
	freq_shift: number().default(0),
	downsample_padding: literal(1).default(1),
	mid_block_scale_factor: literal(1).default(1),
	center_input_sample: literal(false).default(false),
	time_cond_proj_dim: size.channels.nullish(),
	addition_embed_type: _enum(["text_time"]).nullish(),
	addition_time_embed_dim: size.channels.nullish(),
	projection_class_embeddings_input_dim: size.channels.nullish(),
	sample_size: union([number().int().positive(), array(number())]).nullish(),
	only_cross_attention: literal(false).default(false),
	dual_cross_attention: literal(false).default(false),
	class_embed_type: _null().default(null),
	encoder_hid_dim: _null().default(null),
	encoder_hid_dim_type: _null().default(null),
	resnet_time_scale_shift: literal("default").default("default"),
	time_embedding_type: literal("positional").default("positional"),
	conv_in_kernel: literal(3).default(3),
	conv_out_kernel: literal(3).default(3),
	attention_type: literal("default").default("default"),
	reverse_transformer_layers_per_block: _null().default(null),
	resnet_skip_time_act: literal(false).default(false),
	resnet_out_scale_factor: literal(1).default(1),
	cross_attention_norm: _null().default(null),
	time_embedding_act_fn: _null().default(null),
	timestep_post_act: _null().default(null)
}).superRefine((config, context) => {
	const levels = config.block_out_channels.length;
	const fault = (field, message) => context.addIssue({
		code: "custom",
		path: [field],
		message
	});
	for (const field of ["down_block_types", "up_block_types"]) if (config[field].length !== levels) fault(field, `names ${config[field].length} blocks for ${levels} levels`);
	for (const field of [
		"attention_head_dim",
		"num_attention_heads",
		"transformer_layers_per_block"
	]) {
		const value = config[field];
		if (Array.isArray(value) && value.length !== levels) fault(field, `has ${value.length} entries for ${levels} levels`);
	}
	const heads = config.num_attention_heads ?? config.attention_head_dim;
	config.block_out_channels.forEach((channels, level) => {
		const crossed = level === levels - 1 || /^Cross/.test(config.down_block_types[level] ?? "");
		const count = Array.isArray(heads) ? heads[level] : heads;
		if (crossed && count && channels % count !== 0) fault("attention_head_dim", `${channels} channels do not divide into ${count} heads`);
	});
	if (config.addition_embed_type === "text_time") {
		for (const field of ["addition_time_embed_dim", "projection_class_embeddings_input_dim"]) if (!config[field]) fault(field, "is needed for text_time conditions");
	}
});
/** Throws `ModelConfigError` naming the field that is wrong or not supported. */
function parseUnetConfig(config) {
	return parseConfig("unet", configSchema$2, config);
}
/** SDXL: pooled text and sizes are added to the time embedding. */
function hasAddedConditions(config) {
	return config.addition_embed_type === "text_time";
}
/** `sample` → the prediction, `[rows, h, w, out_channels]`. */
function unet(g, config, inputs) {
	const { block_out_channels: channels, layers_per_block: layers } = config;
	const levels = channels.length;
	const time = additionsOf(inputs.time, config).values();
	const nextTime = () => time.next().value;
	let x = g.conv2d(inputs.sample, "conv_in", {
		outputs: channels[0],
		padding: 1
	});
	const skips = [x];
	config.down_block_types.forEach((type, level) => {
		g.scope(`down_blocks.${level}`, () => {
			for (let layer = 0; layer < layers; layer++) {
				x = resnetBlock(g, x, nextTime(), `resnets.${layer}`, channels[level], config);
				if (type === "CrossAttnDownBlock2D") x = transformer(g, x, inputs.text, `attentions.${layer}`, level, config);
				skips.push(x);
			}
			if (level < levels - 1) {
				x = g.conv2d(x, "downsamplers.0.conv", {
					outputs: channels[level],
					stride: 2,
					padding: 1
				});
				skips.push(x);
			}
		});
	});
	g.scope("mid_block", () => {
		const deepest = channels[levels - 1];
		x = resnetBlock(g, x, nextTime(), "resnets.0", deepest, config);
		x = transformer(g, x, inputs.text, "attentions.0", levels - 1, config);
		x = resnetBlock(g, x, nextTime(), "resnets.1", deepest, config);
	});
	config.up_block_types.forEach((type, block) => {
		const level = levels - 1 - block;
		g.scope(`up_blocks.${block}`, () => {
			for (let layer = 0; layer < layers + 1; layer++) {
				x = resnetBlock(g, g.concat(x, skips.pop()), nextTime(), `resnets.${layer}`, channels[level], config);
				if (type === "CrossAttnUpBlock2D") x = transformer(g, x, inputs.text, `attentions.${layer}`, level, config);
			}
			if (level > 0) {
				const [, height, width] = skips.at(-1).shape;
				x = g.upsampleNearest(x, "upsamplers.0", {
					height,
					width
				});
				x = g.conv2d(x, "upsamplers.0.conv", {
					outputs: channels[level],
					padding: 1
				});
			}
		});
	});
	x = g.groupNorm(x, "conv_norm_out", {
		groups: config.norm_num_groups,
		eps: config.norm_eps
	});
	return g.conv2d(g.activation(x, "silu"), "conv_out", {
		outputs: config.out_channels,
		padding: 1
	});
}
/**
* What each ResNet block adds to its channels for a timestep: `[…, Σ channels]` of timesteps `[…, block_out_channels[0]]`,
* the blocks side by side in their order.
*/
function timeProjections(g, config, inputs) {
	const embedding = g.activation(timeEmbedding(g, config, inputs), "silu");
	const blocks = resnetBlocks(config);
	const layers = blocks.map(({ name }) => `${name}.time_emb_proj`);
	return g.linear(embedding, layers, {
		outputs: blocks.map(({ channels }) => channels),
		name: "time_emb_proj"
	});
}
/** The ResNet blocks in the order that they run in, and the channels that each gives. */
function resnetBlocks({ block_out_channels: levels, layers_per_block: layers }) {
	const blocks = (scope, count, channels) => Array.from({ length: count }, (_, layer) => ({
		name: `${scope}.resnets.${layer}`,
		channels
	}));
	return [
		...levels.flatMap((channels, level) => blocks(`down_blocks.${level}`, layers, channels)),
		...blocks("mid_block", 2, levels.at(-1)),
		...[...levels].reverse().flatMap((channels, block) => blocks(`up_blocks.${block}`, layers + 1, channels))
	];
}
/** Each block's part of `timeProjections`. */
function additionsOf(tensor, config) {
	let end = 0;
	return resnetBlocks(config).map(({ channels }) => {
		const offset = end;
		end += channels;
		return {
			tensor,
			offset
		};
	});
}
/** Timestep, guidance scale and added conditions into one vector each, `[…, 4 · block_out_channels[0]]`. */
function timeEmbedding(g, config, { timesteps, guidance, added }) {
	const outputs = config.block_out_channels[0] * 4;
	let x = timesteps;
	if (guidance) {
		const projected = g.linear(guidance, "time_embedding.cond_proj", {
			outputs: channelsOf(timesteps),
			bias: false
		});
		x = g.add(timesteps, projected, "time_embedding.cond_proj");
	}
	const perceptron = (input, name) => {
		const hidden = g.activation(g.linear(input, `${name}.linear_1`, { outputs }), "silu");
		return g.linear(hidden, `${name}.linear_2`, { outputs });
	};
	const time = perceptron(x, "time_embedding");
	return added ? g.add(time, perceptron(added, "add_embedding"), "add_embedding") : time;
}
function resnetBlock(g, x, time, name, outputs, config) {
	const norm = {
		groups: config.norm_num_groups,
		eps: config.norm_eps
	};
	return g.scope(name, () => {
		let h = g.activation(g.groupNorm(x, "norm1", norm), "silu");
		h = g.conv2d(h, "conv1", {
			outputs,
			padding: 1
		});
		h = g.add(h, time, "time_emb_proj");
		h = g.activation(g.groupNorm(h, "norm2", norm), "silu");
		h = g.conv2d(h, "conv2", {
			outputs,
			padding: 1
		});
		const shortcut = channelsOf(x) === outputs ? x : g.conv2d(x, "conv_shortcut", {
			outputs,
			kernel: 1
		});
		return g.add(shortcut, h);
	});
}
/** Transformer2DModel: a picture's pixels as tokens, through blocks of self-attention, cross-attention and feed-forward. */
function transformer(g, x, text, name, level, config) {
	const channels = channelsOf(x);
	const heads = at(config.num_attention_heads ?? config.attention_head_dim, level);
	const [n, h, w] = x.shape;
	const asConvolution = !config.use_linear_projection;
	return g.scope(name, () => {
		let tokens = g.groupNorm(x, "norm", {
			groups: config.norm_num_groups,
			eps: 1e-6
		});
		tokens = g.linear(tokens, "proj_in", {
			outputs: channels,
			asConvolution
		});
		for (let block = 0; block < at(config.transformer_layers_per_block, level); block++) tokens = g.scope(`transformer_blocks.${block}`, () => transformerBlock(g, tokens, text, heads));
		tokens = g.linear(tokens, "proj_out", {
			outputs: channels,
			asConvolution
		});
		return g.reshape(g.add(tokens, x), [
			n,
			h,
			w,
			channels
		]);
	});
}
function transformerBlock(g, x, text, heads) {
	const channels = channelsOf(x);
	const head = headPadding(channels / heads);
	const inner = heads * head.padded;
	const norm = { eps: 1e-5 };
	let h = g.layerNorm(x, "norm1", norm);
	const qkv = g.scope("attn1", () => g.linear(h, [
		"to_q",
		"to_k",
		"to_v"
	], {
		outputs: [
			channels,
			channels,
			channels
		],
		bias: false,
		outputHead: head
	}));
	h = g.attention("attn1", {
		query: {
			tensor: qkv,
			offset: 0
		},
		key: {
			tensor: qkv,
			offset: inner
		},
		value: {
			tensor: qkv,
			offset: 2 * inner
		}
	}, {
		heads,
		head
	});
	x = g.add(g.linear(h, "attn1.to_out.0", {
		outputs: channels,
		inputHead: head
	}), x);
	h = g.layerNorm(x, "norm2", norm);
	const query = g.linear(h, "attn2.to_q", {
		outputs: channels,
		bias: false,
		outputHead: head
	});
	const kv = g.scope("attn2", () => g.linear(text, ["to_k", "to_v"], {
		outputs: [channels, channels],
		bias: false,
		outputHead: head
	}));
	h = g.attention("attn2", {
		query: {
			tensor: query,
			offset: 0
		},
		key: {
			tensor: kv,
			offset: 0
		},
		value: {
			tensor: kv,
			offset: inner
		}
	}, {
		heads,
		head
	});
	x = g.add(g.linear(h, "attn2.to_out.0", {
		outputs: channels,
		inputHead: head
	}), x);
	h = g.layerNorm(x, "norm3", norm);
	h = g.geglu(g.linear(h, "ff.net.0.proj", { outputs: channels * 8 }), "ff.net.0");
	return g.add(g.linear(h, "ff.net.2", { outputs: channels }), x);
}
function at(value, level) {
	return typeof value === "number" ? value : value[level];
}
/**
* Sinusoids of timesteps, `[timesteps, width]`: `cos(t·f_i) ‖ sin(t·f_i)` where `flip` (as all these models have it),
* `f_i = 10000^(−i / (width/2 − freqShift))` (Vaswani et al. 2017; diffusers' `get_timestep_embedding`).
* Rounded to f32 where the reference rounds: at t = 999 an f32 angle is 3e-5 away from the exact one.
*/
function timestepSinusoids(timesteps, width, { flip = true, freqShift = 0 } = {}) {
	const f32 = Math.fround;
	const half = Math.floor(width / 2);
	const values = new Float32Array(timesteps.length * width);
	for (let row = 0; row < timesteps.length; row++) for (let i = 0; i < half; i++) {
		const exponent = f32(f32(f32(-Math.log(1e4)) * i) / (half - freqShift));
		const angle = f32(f32(timesteps[row]) * f32(Math.exp(exponent)));
		values[row * width + i] = flip ? Math.cos(angle) : Math.sin(angle);
		values[row * width + half + i] = flip ? Math.sin(angle) : Math.cos(angle);
	}
	return values;
}
/**
* LCM's embedding of the guidance scale w = scale − 1, `[1, width]`: `sin ‖ cos` of `1000 · w · f_i`,
* `f_i = 10000^(−i / (width/2 − 1))` (Luo et al. 2023, arXiv 2310.04378; diffusers' `get_guidance_scale_embedding`).
*/
function guidanceEmbedding(guidanceScale, width) {
	return timestepSinusoids([1e3 * (guidanceScale - 1)], width, {
		flip: false,
		freqShift: 1
	});
}
//#endregion
//#region src/text/prompt-words.ts
/** CJK ideographs, which are words of their own (the ranges of BERT's tokenizer; kana and hangul are not among them). */
const IDEOGRAPH = /[\u{4e00}-\u{9fff}\u{3400}-\u{4dbf}\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b820}-\u{2ceaf}\u{f900}-\u{faff}\u{2f800}-\u{2fa1f}]/gu;
/** Unicode's "other" characters but for the three that are white space, and the replacement character. */
const DROPPED = /(?![\t\n\r])[\p{C}\u{fffd}]/gu;
/**
* CLIP's words, of lower-case text. The special tokens are among them because a prompt may spell them in capitals. The
* long s is the one letter that the reference's case-blind match of the endings takes for another.
*/
const WORD = /<\|startoftext\|>|<\|endoftext\|>|'[s\u017f]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;
/** The words of `text`, in order, cleaned up and in lower case. */
function promptWords(text) {
	return text.replace(DROPPED, "").replace(IDEOGRAPH, " $& ").normalize("NFC").split(/\s+/).map((part) => part.toLowerCase()).join(" ").match(WORD) ?? [];
}
//#endregion
//#region src/text/tokenizer-error.ts
/** Thrown by `loadClipTokenizer` and `createClipTokenizer`. */
var TokenizerError = class extends Error {
	name = "TokenizerError";
	/** The file's name, such as `vocab.json`. */
	file;
	constructor(file, reason, options) {
		super(`tokenizer: ${file}: ${reason}`, options);
		this.file = file;
	}
};
//#endregion
//#region src/text/tokenizer-files.ts
/** CLIP's own context length, for folders that name none. */
const CLIP_CONTEXT = 77;
/** Above this `model_max_length` is the placeholder the reference writes for "not set" (10³⁰). */
const LONGEST_CONTEXT = 1e6;
/** The reference reads no more merges than CLIP's vocabulary of 49,152 has room for: 256 bytes and 2 special tokens off. */
const MOST_MERGES = 48894;
/** More than any vocabulary file; nothing larger is read. */
const LARGEST_FILE = 64 * 1024 * 1024;
const DEFAULT_BOS = "<|startoftext|>";
const DEFAULT_EOS = "<|endoftext|>";
/**
* Reads the tokenizer in `folder`.
* @throws TokenizerError naming the file that is missing or wrong.
*/
async function readClipTokenizerFiles(folder) {
	const [vocabText, mergesText, fastText, configText, mapText] = await Promise.all([
		"vocab.json",
		"merges.txt",
		"tokenizer.json",
		"tokenizer_config.json",
		"special_tokens_map.json"
	].map((file) => readOptional(folder, file)));
	const config = configText === void 0 ? {} : parseObject("tokenizer_config.json", configText);
	const map = mapText === void 0 ? {} : parseObject("special_tokens_map.json", mapText);
	if (vocabText !== void 0 && mergesText !== void 0) {
		const vocab = checkVocab("vocab.json", parseObject("vocab.json", vocabText));
		return {
			vocab,
			merges: parseMerges(mergesText),
			...specials("vocab.json", vocab, [], config, map)
		};
	}
	if (fastText !== void 0) return fromTokenizerJson(parseObject("tokenizer.json", fastText), config, map);
	throw new TokenizerError(vocabText !== void 0 ? "merges.txt" : "vocab.json", "is missing, and there is no tokenizer.json in its place");
}
async function readOptional(folder, file) {
	try {
		const bytes = await readFile(join(folder, file));
		if (bytes.length > LARGEST_FILE) throw new TokenizerError(file, `is larger than ${LARGEST_FILE} bytes`);
		return bytes.toString("utf8");
	} catch (error) {
		if (error instanceof TokenizerError) throw error;
		const code = error.code;
		if (code === "ENOENT" || code === "ENOTDIR") return void 0;
		throw new TokenizerError(file, `cannot be read (${code ?? "unknown reason"})`, { cause: error });
	}
}
function parseObject(file, text) {
	let parsed;
	try {
		parsed = JSON.parse(text);
	} catch (error) {
		throw new TokenizerError(file, "is not valid JSON", { cause: error });
	}
	return asObject(parsed) ?? fail(file, "must hold a JSON object");
}
function asObject(value) {
	return typeof value === "object" && value !== null && !Array.isArray(value) ? value : void 0;
}
function fail(file, reason) {
	throw new TokenizerError(file, reason);
}
function checkVocab(file, vocab) {
	const seen = /* @__PURE__ */ new Set();
	for (const [piece, id] of Object.entries(vocab)) {
		if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > 2147483647) fail(file, `the id of ${JSON.stringify(piece)} must be a non-negative integer`);
		if (seen.has(id)) fail(file, `the id ${id} is given to two pieces`);
		seen.add(id);
	}
	if (seen.size === 0) fail(file, "holds no pieces");
	return vocab;
}
/** `merges.txt`: a version line, which is skipped whatever it says, then a pair a line. */
function parseMerges(text) {
	return text.trim().split(/\r?\n/).slice(1, MOST_MERGES + 1).map((line, index) => ({
		pair: line.trim().split(/\s+/),
		number: index + 2
	})).filter(({ pair }) => pair[0] !== "").map(({ pair, number }) => pair.length === 2 ? pair : fail("merges.txt", `line ${number} must hold two pieces`));
}
/**
* `tokenizer.json` of the Rust tokenizers library. Its byte-pair model and added tokens are used; its text clean-up is
* not, so that a prompt gives the same ids from either kind of folder.
*/
function fromTokenizerJson(json, config, map) {
	const file = "tokenizer.json";
	const model = asObject(json.model) ?? fail(file, "model is missing");
	if (model.type !== "BPE") fail(file, `model.type ${JSON.stringify(model.type)} is not supported; BPE is`);
	if (model.end_of_word_suffix !== "</w>") fail(file, "model.end_of_word_suffix must be </w>, as CLIP's is");
	const vocab = checkVocab(file, asObject(model.vocab) ?? fail(file, "model.vocab is missing"));
	if (!Array.isArray(model.merges)) fail(file, "model.merges is missing");
	return {
		vocab,
		merges: model.merges.map((entry, index) => {
			const pair = typeof entry === "string" ? entry.split(" ") : entry;
			return Array.isArray(pair) && pair.length === 2 && pair.every((piece) => typeof piece === "string") ? pair : fail(file, `model.merges[${index}] must hold two pieces`);
		}),
		...specials(file, vocab, Array.isArray(json.added_tokens) ? json.added_tokens : [], config, map)
	};
}
function specials(vocabFile, vocab, addedTokens, config, map) {
	const tokens = /* @__PURE__ */ new Map();
	const add = (file, content, id, flags) => {
		if (typeof content !== "string" || content === "") fail(file, "an added token has no content");
		const known = Object.hasOwn(vocab, content) ? vocab[content] : void 0;
		const chosen = id ?? known;
		if (typeof chosen !== "number" || !Number.isInteger(chosen) || chosen < 0) fail(file, `the special token ${JSON.stringify(content)} has no id and is not in ${vocabFile}`);
		const flag = (name) => flags[name] === true;
		tokens.set(content, {
			content,
			id: chosen,
			lstrip: flag("lstrip"),
			rstrip: flag("rstrip"),
			singleWord: flag("single_word")
		});
	};
	for (const entry of addedTokens) {
		const token = asObject(entry) ?? fail("tokenizer.json", "added_tokens must hold objects");
		add("tokenizer.json", token.content, token.id, token);
	}
	for (const [id, entry] of Object.entries(asObject(config.added_tokens_decoder) ?? {})) {
		const file = "tokenizer_config.json";
		const token = asObject(entry) ?? fail(file, `added_tokens_decoder.${id} must be an object`);
		add(file, token.content, Number(id), token);
	}
	/** A role's token: from the configuration, the map, or CLIP's default; either a string or an object with flags. */
	const role = (name, fallback) => {
		const [file, source] = (config[name] ?? void 0) !== void 0 ? ["tokenizer_config.json", config] : ["special_tokens_map.json", map];
		const value = source[name] ?? fallback;
		const object = asObject(value);
		const content = object ? object.content : value;
		if (typeof content !== "string") fail(file, `${name} must be a string or hold content`);
		if (!tokens.has(content)) add(file, content, void 0, object ?? {});
		return content;
	};
	const bos = role("bos_token", DEFAULT_BOS);
	const eos = role("eos_token", DEFAULT_EOS);
	const pad = role("pad_token", DEFAULT_EOS);
	const unknown = role("unk_token", DEFAULT_EOS);
	const idOf = (content) => tokens.get(content).id;
	return {
		specialTokens: [...tokens.values()],
		bos: idOf(bos),
		eos: idOf(eos),
		pad: idOf(pad),
		unknown,
		modelMaxLength: modelMaxLength(config)
	};
}
function modelMaxLength(config) {
	const length = config.model_max_length;
	if (length === void 0 || length === null || typeof length === "number" && length > LONGEST_CONTEXT) return CLIP_CONTEXT;
	return typeof length === "number" && Number.isInteger(length) && length >= 2 ? length : fail("tokenizer_config.json", "model_max_length must be an integer of at least 2");
}
//#endregion
//#region src/text/clip-tokenizer.ts
const END_OF_WORD = "</w>";
/**
* Loads the tokenizer in `folder`: `vocab.json` with `merges.txt`, or `tokenizer.json`; special tokens and length from
* `tokenizer_config.json` and `special_tokens_map.json` where present.
* @throws TokenizerError naming the file that is missing or wrong.
*/
async function loadClipTokenizer(folder) {
	return createClipTokenizer(await readClipTokenizerFiles(folder));
}
/** The tokenizer of files already read. */
function createClipTokenizer(files) {
	const { bos, eos, pad, modelMaxLength } = files;
	const bytePairs = bytePairEncoder(files);
	const split = specialTokenSplitter(files.specialTokens);
	const idOf = (piece) => Object.hasOwn(files.vocab, piece) ? files.vocab[piece] : unknownId;
	const unknownId = files.specialTokens.find(({ content }) => content === files.unknown).id;
	const wholeWords = new Set(["<|startoftext|>", "<|endoftext|>"]);
	const words = (text) => split(text).flatMap((part) => typeof part === "string" ? promptWords(part) : []).filter((word) => /^\p{L}+$/u.test(word)).map((word) => ({
		word,
		pieces: bytePairs(word).map((piece) => piece.endsWith(END_OF_WORD) ? piece.slice(0, -4) : piece)
	}));
	return {
		modelMaxLength,
		bos,
		eos,
		pad,
		words,
		unknownWords: (text) => words(text).filter(({ word, pieces }) => word.length > 1 && pieces.every((p) => p.length === 1 || p === files.unknown)).map(({ word }) => word),
		encode(text) {
			const tokens = split(text).flatMap((part) => typeof part === "string" ? promptWords(part).flatMap((word) => (wholeWords.has(word) ? [word] : bytePairs(word)).map(idOf)) : [part.id]);
			const kept = tokens.slice(0, modelMaxLength - 2);
			const ids = new Int32Array(modelMaxLength).fill(pad);
			ids.set([
				bos,
				...kept,
				eos
			]);
			return {
				ids,
				tokenCount: tokens.length + 2,
				truncated: kept.length < tokens.length
			};
		}
	};
}
/** A function from one word to its pieces; pieces outside the vocabulary come back as the unknown token. */
function bytePairEncoder({ vocab, merges, unknown }) {
	const tokenizer = new Tokenizer({
		version: "1.0",
		added_tokens: [],
		normalizer: null,
		pre_tokenizer: {
			type: "ByteLevel",
			add_prefix_space: false,
			trim_offsets: true,
			use_regex: false
		},
		post_processor: null,
		decoder: null,
		model: {
			type: "BPE",
			vocab,
			merges,
			unk_token: unknown,
			end_of_word_suffix: END_OF_WORD
		}
	}, {});
	return (word) => tokenizer.tokenize(word);
}
/** Cuts a text at its special tokens, the longest first where several begin at one place. */
function specialTokenSplitter(tokens) {
	const byContent = new Map(tokens.map((token) => [token.content, token]));
	const longestFirst = [...byContent.keys()].sort((a, b) => b.length - a.length);
	const pattern = new RegExp(`(${longestFirst.map(escapeRegExp).join("|")})`);
	return (text) => {
		const texts = text.split(pattern);
		const parts = [...texts];
		for (let i = 1; i < texts.length; i += 2) {
			const token = byContent.get(texts[i]);
			const left = texts[i - 1];
			const right = texts[i + 1];
			parts[i] = token;
			if (token.rstrip) texts[i + 1] = right.trimStart();
			if (token.lstrip) texts[i - 1] = left.trimEnd();
			if (token.singleWord && left !== "" && !left.endsWith(" ")) {
				texts[i - 1] += token.content;
				parts[i] = "";
			} else if (token.singleWord && right !== "" && !right.startsWith(" ")) {
				texts[i + 1] = token.content + texts[i + 1];
				parts[i] = "";
			}
		}
		return parts.map((part, i) => i % 2 === 0 ? texts[i] : part);
	};
}
function escapeRegExp(text) {
	return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
//#endregion
//#region src/weights/json-file.ts
/**
* JSON files of a model folder: bounded in length, an object at the top, and errors that do not show where they lie.
*/
/** Config files are a few kilobytes. */
const LONGEST_CONFIG = 2 ** 20;
/**
* The object in a JSON file.
* @param name the file's name in messages.
* @throws WeightsError "weights-not-found" where it is missing, "model-config" where it is too long or no JSON object.
*/
async function readJson(path, name, longest = LONGEST_CONFIG) {
	let handle;
	let text;
	try {
		if (!(await stat(path)).isFile()) throw new WeightsError("weights-not-found", "is not a regular file", { file: name });
		handle = await open(path, "r");
		const { size } = await handle.stat();
		if (size > longest) throw new WeightsError("model-config", `is ${size} bytes long, more than the ${longest} allowed`, { file: name });
		text = await handle.readFile("utf8");
	} catch (error) {
		throw toWeightsError(error, name);
	} finally {
		await handle?.close();
	}
	let value;
	try {
		value = JSON.parse(text);
	} catch (cause) {
		throw new WeightsError("model-config", "is not JSON", {
			file: name,
			cause
		});
	}
	if (typeof value !== "object" || value === null || Array.isArray(value)) throw new WeightsError("model-config", "is not a JSON object", { file: name });
	return value;
}
//#endregion
//#region src/weights/model-classes.ts
/**
* The classes of diffusers and transformers that a model folder may name, by those libraries' own names.
*
* A folder is refused when it names another, since nothing here could run it. Knowing a class means that its config and
* weights may be read; whether a particular config can be run is for the model's own code to say.
*/
/** Pipeline classes, each with the components it cannot do without. */
const PIPELINES = {
	StableDiffusionPipeline: [
		"unet",
		"vae",
		"text_encoder",
		"tokenizer",
		"scheduler"
	],
	StableDiffusionImg2ImgPipeline: [
		"unet",
		"vae",
		"text_encoder",
		"tokenizer",
		"scheduler"
	],
	StableDiffusionXLPipeline: [
		"unet",
		"vae",
		"text_encoder_2",
		"tokenizer_2",
		"scheduler"
	],
	StableDiffusionXLImg2ImgPipeline: [
		"unet",
		"vae",
		"text_encoder_2",
		"tokenizer_2",
		"scheduler"
	],
	LatentConsistencyModelPipeline: [
		"unet",
		"vae",
		"text_encoder",
		"tokenizer",
		"scheduler"
	],
	LatentConsistencyModelImg2ImgPipeline: [
		"unet",
		"vae",
		"text_encoder",
		"tokenizer",
		"scheduler"
	]
};
const COMPONENTS$1 = {
	UNet2DConditionModel: "denoiser",
	AutoencoderKL: "autoencoder",
	AutoencoderTiny: "autoencoder",
	CLIPTextModel: "text encoder",
	CLIPTextModelWithProjection: "text encoder",
	CLIPTokenizer: "tokenizer",
	CLIPTokenizerFast: "tokenizer",
	DDIMScheduler: "scheduler",
	DPMSolverMultistepScheduler: "scheduler",
	EulerAncestralDiscreteScheduler: "scheduler",
	EulerDiscreteScheduler: "scheduler",
	FlowMatchEulerDiscreteScheduler: "scheduler",
	LCMScheduler: "scheduler",
	PNDMScheduler: "scheduler"
};
/** What the usual places in a pipeline hold. */
const PLACES = {
	unet: "denoiser",
	vae: "autoencoder",
	text_encoder: "text encoder",
	text_encoder_2: "text encoder",
	tokenizer: "tokenizer",
	tokenizer_2: "tokenizer",
	scheduler: "scheduler"
};
/** Places whose component is not looked at, whatever its class: no picture depends on them. */
const IGNORED_PLACES = new Set([
	"safety_checker",
	"feature_extractor",
	"image_encoder"
]);
//#endregion
//#region src/weights/safetensors-header.ts
/**
* The header of a safetensors file: JSON that names each tensor's type, shape and place.
*
*     u64 n (little-endian) | n bytes of JSON | data
*     {"__metadata__": {"format": "pt"}, "conv_in.weight": {"dtype": "F16", "shape": [320, 4, 3, 3], "data_offsets": [0, 23040]}}
*
* Rules are those of the reference implementation (huggingface/safetensors, `tensor.rs`, `Metadata::validate`): tensors
* sorted by place follow each other without hole or overlap and end with the file; the bytes of each are exactly its
* shape's. Two more, because the file may be hostile: names may not repeat (the format says so; the reference lets the
* last one win), and the JSON may not hold many times the values of any model, which would take gigabytes of heap and
* seconds of time before any of them is looked at.
*/
/** `MAX_HEADER_SIZE` of the reference implementation. */
const LONGEST_HEADER = 1e8;
/** A tensor needs some ten values; the largest models have a few thousand tensors a file. */
const MOST_VALUES = 5e5;
/**
* Parses and checks a header.
* @param bytes the JSON, without its length.
* @param dataBytes bytes of the file after the header.
* @param file name for messages.
* @throws WeightsError for anything the format does not allow.
*/
function parseHeader(bytes, dataBytes, file) {
	const metadata = /* @__PURE__ */ new Map();
	const tensors = [];
	for (const [name, value] of Object.entries(parseJson$1(bytes, file))) if (name !== "__metadata__") tensors.push(readPlace(name, value, file));
	else if (value !== null) {
		if (!isRecord(value) || !Object.values(value).every((text) => typeof text === "string")) throw new WeightsError("weights-header", "__metadata__ must map names to text", { file });
		for (const [key, text] of Object.entries(value)) metadata.set(key, text);
	}
	tensors.sort((a, b) => a.start - b.start || a.byteLength - b.byteLength);
	checkPlaces(tensors, dataBytes, file);
	return {
		tensors,
		metadata
	};
}
function parseJson$1(bytes, file) {
	const broken = (reason, cause) => new WeightsError("weights-header", reason, {
		file,
		cause
	});
	let text;
	try {
		text = new TextDecoder("utf-8", {
			fatal: true,
			ignoreBOM: true
		}).decode(bytes);
	} catch (cause) {
		throw broken("the header is not UTF-8", cause);
	}
	scan(text, broken);
	let value;
	try {
		value = JSON.parse(text);
	} catch (cause) {
		throw broken("the header is not JSON", cause);
	}
	if (!isRecord(value)) throw broken("the header is not a JSON object");
	return value;
}
/** What `JSON.parse` cannot tell: how much there is, before it is built; and names that repeat within an object. */
function scan(text, broken) {
	const open = [];
	let values = 0;
	for (let i = 0; i < text.length; i++) {
		const char = text[i];
		if (char === "{" || char === "[" || char === ",") {
			if (++values > MOST_VALUES) throw broken(`the header holds more than ${MOST_VALUES} values`);
			if (char !== ",") open.push(char === "{" ? /* @__PURE__ */ new Set() : void 0);
		} else if (char === "}" || char === "]") open.pop();
		else if (char === "\"") {
			const end = endOfString(text, i);
			if (end === -1) throw broken("the header is not JSON: a string does not end");
			const names = open.at(-1);
			if (names !== void 0 && nextVisible(text, end + 1) === ":") {
				const name = unescaped(text.slice(i, end + 1));
				if (names.has(name)) throw broken(`the name ${quoted(name)} occurs twice`);
				names.add(name);
			}
			i = end;
		}
	}
}
function endOfString(text, start) {
	for (let end = text.indexOf("\"", start + 1); end !== -1; end = text.indexOf("\"", end + 1)) {
		let first = end;
		while (text[first - 1] === "\\") first--;
		if ((end - first) % 2 === 0) return end;
	}
	return -1;
}
function nextVisible(text, from) {
	let i = from;
	while (text[i] === " " || text[i] === "\n" || text[i] === "\r" || text[i] === "	") i++;
	return text[i];
}
function unescaped(literal) {
	if (!literal.includes("\\")) return literal.slice(1, -1);
	try {
		return JSON.parse(literal);
	} catch {
		return literal;
	}
}
function readPlace(name, value, file) {
	const details = {
		file,
		tensor: name
	};
	if (!isRecord(value)) throw new WeightsError("weights-header", "its entry in the header is not an object", details);
	const { dtype, shape, data_offsets: offsets } = value;
	if (typeof dtype !== "string") throw new WeightsError("weights-header", "has no dtype", details);
	if (!isElementType(dtype)) throw new WeightsError("weights-dtype", `unknown dtype ${quoted(dtype)}`, details);
	if (!Array.isArray(shape)) throw new WeightsError("weights-header", "has no shape", details);
	if (!shape.every(isCount)) throw new WeightsError("weights-shape", "a dimension is not a whole number of 0 to 2^53 - 1", details);
	if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) throw new WeightsError("weights-offsets", "data_offsets is not a pair of whole numbers of 0 to 2^53 - 1", details);
	const [start, end] = offsets;
	if (end < start) throw new WeightsError("weights-offsets", `data_offsets end (${end}) before they start`, details);
	let bytes = ELEMENT_BYTES[dtype];
	for (const size of shape) {
		bytes *= size;
		if (!Number.isSafeInteger(bytes)) throw new WeightsError("weights-shape", "the product of the shape overflows", details);
	}
	if (end - start !== bytes) throw new WeightsError("weights-shape", `has ${end - start} bytes where ${dtype} [${shape.slice(0, 8).join(", ")}] takes ${bytes}`, details);
	return {
		name,
		type: dtype,
		shape,
		start,
		byteLength: bytes
	};
}
function checkPlaces(tensors, dataBytes, file) {
	let end = 0;
	for (const { name: tensor, start, byteLength } of tensors) {
		const details = {
			file,
			tensor
		};
		if (start + byteLength > dataBytes) throw new WeightsError("weights-truncated", `lies at bytes ${start} to ${start + byteLength} of the data, and the file has ${dataBytes}`, details);
		if (start < end) throw new WeightsError("weights-offsets", `overlaps the tensor before it, at byte ${start}`, details);
		if (start > end) throw new WeightsError("weights-offsets", `bytes ${end} to ${start}, before it, belong to no tensor`, details);
		end = start + byteLength;
	}
	if (end !== dataBytes) throw new WeightsError("weights-offsets", `the last ${dataBytes - end} bytes belong to no tensor`, { file });
}
function isCount(value) {
	return Number.isSafeInteger(value) && value >= 0;
}
function isRecord(value) {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}
//#endregion
//#region src/weights/safetensors.ts
/**
* Reading and writing safetensors files, in pieces.
*
* Opening reads the header and nothing else. A tensor's bytes are then read into memory that the caller owns, from any
* place in the tensor, so that a model of any size passes through one buffer. There is no mapping into memory and no
* tensor object: what the bytes mean is the caller's business.
*
* The format, and what is refused: `safetensors-header.ts`.
*/
/**
* Opens a safetensors file and checks its header against its length. The caller closes it.
* @param options.name how messages call the file, such as "unet/model.safetensors"; its base name where not given.
* @throws WeightsError where the file is missing or is not a sound safetensors file.
*/
async function openSafetensors(path, options = {}) {
	const file = options.name ?? basename(path);
	let handle;
	try {
		if (!(await stat(path)).isFile()) throw new WeightsError("weights-not-found", "is not a regular file", { file });
		handle = await open(path, "r");
		const fileBytes = (await handle.stat()).size;
		const headerBytes = await readHeaderLength(handle, fileBytes, file);
		const json = new Uint8Array(headerBytes);
		await readExactly(handle, json, 8, file);
		const dataStart = 8 + headerBytes;
		const header = parseHeader(json, fileBytes - dataStart, file);
		return tensorsOf(handle, file, dataStart, header.tensors, header.metadata);
	} catch (error) {
		await handle?.close();
		throw toWeightsError(error, file);
	}
}
async function readHeaderLength(handle, fileBytes, file) {
	if (fileBytes < 8) throw new WeightsError("weights-truncated", `is ${fileBytes} bytes long, too short for a safetensors file`, { file });
	const prefix = new Uint8Array(8);
	await readExactly(handle, prefix, 0, file);
	const length = new DataView(prefix.buffer).getBigUint64(0, true);
	if (length > BigInt(1e8)) throw new WeightsError("weights-header", `claims a header of ${length} bytes, more than the ${LONGEST_HEADER} allowed; is it a safetensors file?`, { file });
	if (length > BigInt(fileBytes - 8)) throw new WeightsError("weights-truncated", `claims a header of ${length} bytes, and is ${fileBytes} bytes long`, { file });
	return Number(length);
}
function tensorsOf(handle, file, dataStart, places, metadata) {
	let closed = false;
	const read = throughBlocks(handle, dataStart + places.reduce((end, place) => Math.max(end, place.start + place.byteLength), 0), file);
	const entries = /* @__PURE__ */ new Map();
	let totalBytes = 0;
	for (const { name, type, shape, start, byteLength } of places) {
		totalBytes += byteLength;
		entries.set(name, {
			name,
			dtype: type,
			shape,
			byteLength,
			file,
			async read(into, byteOffset = 0) {
				if (closed) throw new WeightsError("weights-closed", "was closed before it was read", {
					file,
					tensor: name
				});
				if (!(byteOffset >= 0 && byteOffset + into.byteLength <= byteLength)) throw new RangeError(`${into.byteLength} bytes from ${byteOffset} on do not lie in the ${byteLength} of ${name}`);
				await read(into, dataStart + start + byteOffset, name);
			}
		});
	}
	return {
		source: file,
		metadata,
		totalBytes,
		names: () => entries.keys(),
		get: (name) => entries.get(name),
		async close() {
			closed = true;
			await handle.close();
		}
	};
}
/** Reads shorter than this go by way of blocks of this size, in bytes. A read costs as much as copying a megabyte. */
const BLOCK_BYTES = 2 ** 20;
/** Blocks that are kept: a model's layers are not asked for quite in the order in which they lie. */
const MOST_BLOCKS = 4;
/** A file up to `end`, of which a model has many tensors of a few hundred bytes, read a block at a time. */
function throughBlocks(handle, end, file) {
	const blocks = /* @__PURE__ */ new Map();
	const block = (index, tensor) => {
		const bytes = blocks.get(index) ?? load(index, tensor);
		blocks.delete(index);
		blocks.set(index, bytes);
		const [oldest] = blocks.keys();
		if (blocks.size > MOST_BLOCKS) blocks.delete(oldest);
		return bytes;
	};
	const load = async (index, tensor) => {
		const position = index * BLOCK_BYTES;
		const bytes = new Uint8Array(Math.min(BLOCK_BYTES, end - position));
		await readExactly(handle, bytes, position, file, tensor);
		return bytes;
	};
	return async (into, position, tensor) => {
		if (into.byteLength >= BLOCK_BYTES) return readExactly(handle, into, position, file, tensor);
		for (let done = 0; done < into.byteLength;) {
			const index = Math.floor((position + done) / BLOCK_BYTES);
			const from = position + done - index * BLOCK_BYTES;
			const piece = (await block(index, tensor)).subarray(from, from + into.byteLength - done);
			into.set(piece, done);
			done += piece.byteLength;
		}
	};
}
/** One read call takes at most 2 GiB. */
const MOST_AT_ONCE = 2 ** 30;
async function readExactly(handle, into, position, file, tensor) {
	let done = 0;
	while (done < into.byteLength) {
		let bytesRead;
		try {
			({bytesRead} = await handle.read(into, done, Math.min(into.byteLength - done, MOST_AT_ONCE), position + done));
		} catch (error) {
			throw toWeightsError(error, file);
		}
		if (bytesRead === 0) throw new WeightsError("weights-truncated", `ends at byte ${position + done}, while it is being read`, {
			file,
			tensor
		});
		done += bytesRead;
	}
}
//#endregion
//#region src/weights/weight-files.ts
/**
* Which files of a component's folder hold its weights, and the tensors in them.
*
* A component saves its weights as one file or as shards with an index, and may do so several times over in variants
* ("fp16", "ema"). Names in use, for a stem of `diffusion_pytorch_model` (diffusers) or `model` (transformers):
*
*     <stem>.safetensors                       <stem>.fp16.safetensors
*     <stem>.safetensors.index.json            <stem>.safetensors.index.fp16.json   (what both libraries write)
*                                              <stem>.fp16.safetensors.index.json   (diffusers before 0.30, and by hand)
*
* What an index names is a file of the same folder: a name with a separator in it is refused, so that an index cannot
* lead out of the folder. A symbolic link on disk is followed, wherever it leads: hub caches are made of links to
* `../../blobs`, and a link was put there by whoever may write to the disk, not by the author of the model.
*/
const STEMS = ["diffusion_pytorch_model", "model"];
const SINGLE = /^(?:diffusion_pytorch_model|model)(?:\.([A-Za-z0-9_-]+))?\.safetensors$/;
const INDEX = /^(?:diffusion_pytorch_model|model)(?:\.([A-Za-z0-9_-]+))?\.safetensors\.index(?:\.([A-Za-z0-9_-]+))?\.json$/;
const PICKLE = /\.(?:bin|ckpt|pt|pth|pkl|pickle)$/i;
/** Bounds of what an index may make us do. The largest public models have a few hundred shards. */
const LONGEST_INDEX = 64 * 2 ** 20;
const MOST_SHARDS = 1024;
/**
* Opens the weights in a folder; the caller closes them.
* @param options.name the folder's name in messages, "" for the model folder itself.
* @param options.variant such as "fp16". Without it the plain weights are taken, else "fp16".
* @throws WeightsError where there are none, only pickles, not the wished variant, or where they are not sound.
*/
async function openWeights(folder, options) {
	const { name } = options;
	let present;
	try {
		present = (await readdir(folder)).sort();
	} catch (error) {
		throw toWeightsError(error, name);
	}
	const file = chooseFile(present, options.variant, name || "the component's folder");
	const inFolder = (base) => name === "" ? base : `${name}/${base}`;
	if (file.endsWith(".safetensors")) return openSafetensors(join(folder, file), { name: inFolder(file) });
	return openShards(folder, file, inFolder);
}
function chooseFile(present, wished, folder) {
	const found = /* @__PURE__ */ new Map();
	for (const pattern of [SINGLE, INDEX]) for (const stem of STEMS) for (const name of present) {
		const match = name.startsWith(`${stem}.`) ? pattern.exec(name) : null;
		if (match === null || match[1] !== void 0 && match[2] !== void 0) continue;
		const variant = match[1] ?? match[2] ?? "";
		if (!found.has(variant)) found.set(variant, name);
	}
	const file = wished === void 0 ? found.get("") ?? found.get("fp16") : found.get(wished);
	if (file !== void 0) return file;
	if (found.size > 0) {
		const there = listed([...found.keys()].sort().map((variant) => variant === "" ? "plain weights" : quoted(variant)));
		throw new WeightsError("weights-variant", wished === void 0 ? `has no plain weights, only ${there}: ask for that variant` : `has no variant ${quoted(wished)}, only ${there}`, { file: folder });
	}
	const pickles = present.filter((name) => PICKLE.test(name));
	if (pickles.length > 0) throw new WeightsError("weights-pickle", `holds its weights only as pickles (${listed(pickles.map((pickle) => quoted(pickle)), 3)}), which are never opened, since opening one can run any program. Get the model's .safetensors files, or convert it where you trust it: load it with diffusers in Python and call save_pretrained(folder, safe_serialization=True)`, { file: folder });
	throw new WeightsError("weights-not-found", `holds no weights: neither ${STEMS.map((stem) => `${stem}.safetensors`).join(" nor ")}, nor an index of shards`, { file: folder });
}
const indexSchema$1 = object({ weight_map: record$1(string(), string()) });
async function openShards(folder, index, inFolder) {
	const source = inFolder(index);
	const parsed = indexSchema$1.safeParse(await readJson(join(folder, index), source, LONGEST_INDEX));
	if (!parsed.success) throw new WeightsError("weights-index", "must have a weight_map from tensor names to file names", {
		file: source,
		cause: parsed.error
	});
	const shardOf = new Map(Object.entries(parsed.data.weight_map));
	const names = new Set(shardOf.values());
	for (const [tensor, shard] of shardOf) checkShardName(shard, source, tensor);
	if (names.size > MOST_SHARDS) throw new WeightsError("weights-index", `names ${names.size} files, more than the ${MOST_SHARDS} allowed`, { file: source });
	const shards = [];
	try {
		for (const shard of names) shards.push(await openSafetensors(join(folder, shard), { name: inFolder(shard) }));
		const entries = /* @__PURE__ */ new Map();
		for (const shard of shards) for (const tensor of shard.names()) {
			const mapped = shardOf.get(tensor);
			if (mapped === void 0 || inFolder(mapped) !== shard.source) throw new WeightsError("weights-index", `is in this file, while the index ${mapped === void 0 ? "does not name it" : `has it in ${quoted(mapped)}`}`, {
				file: shard.source,
				tensor
			});
			entries.set(tensor, shard.get(tensor));
		}
		for (const [tensor, shard] of shardOf) if (!entries.has(tensor)) throw new WeightsError("weights-index", `is not in ${quoted(shard)}, where the index has it`, {
			file: source,
			tensor
		});
		return {
			source,
			totalBytes: shards.reduce((sum, shard) => sum + shard.totalBytes, 0),
			names: () => entries.keys(),
			get: (name) => entries.get(name),
			close: () => closeAll(shards)
		};
	} catch (error) {
		await closeAll(shards);
		throw error;
	}
}
function checkShardName(shard, source, tensor) {
	if (!shard.endsWith(".safetensors") || !/^[^/\\:\p{Cc}]+$/u.test(shard)) throw new WeightsError("weights-index", `is said to be in ${quoted(shard)}, which is no name of a .safetensors file in the same folder`, {
		file: source,
		tensor
	});
}
async function closeAll(shards) {
	await Promise.all(shards.map((shard) => shard.close()));
}
//#endregion
//#region src/weights/model-directory.ts
/**
* A model folder as diffusers saves it: `model_index.json`, and a folder for each component.
*
*     model_index.json            {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"], …}
*     unet/config.json            what the class was built with
*     unet/diffusion_pytorch_model.safetensors
*     scheduler/scheduler_config.json
*     tokenizer/tokenizer_config.json, vocab.json, merges.txt
*
* Opening reads and checks the JSON; weights are opened when asked for (`weight-files.ts`). Everything in the folder is
* untrusted. Nothing here knows what a UNet is: configs are handed on as they were found.
*/
const INDEX_FILE = "model_index.json";
const componentSchema = union([
	tuple([string(), string()]),
	tuple([_null(), _null()]).transform(() => null),
	_null()
]);
const indexSchema = looseObject({ _class_name: string() });
/**
* Opens a model folder: reads `model_index.json` and the config of each component.
* @throws WeightsError where the index or a config is missing or not sound, or names a class that is not known.
*/
async function openModelDirectory(path, options = {}) {
	const index = indexSchema.safeParse(await readJson(join(path, INDEX_FILE), INDEX_FILE));
	if (!index.success) throw new WeightsError("model-config", "has no _class_name", { file: INDEX_FILE });
	const pipelineClass = index.data._class_name;
	const required = Object.hasOwn(PIPELINES, pipelineClass) ? PIPELINES[pipelineClass] : void 0;
	if (required === void 0) throw new WeightsError("model-class", `unknown pipeline class ${quoted(pipelineClass)}; known are ${Object.keys(PIPELINES).join(", ")}`, { file: INDEX_FILE });
	const flags = {};
	const ignored = [];
	const components = /* @__PURE__ */ new Map();
	for (const [name, value] of Object.entries(index.data)) {
		if (name.startsWith("_")) continue;
		if (!Array.isArray(value) && !(value === null && Object.hasOwn(PLACES, name))) {
			flags[name] = value;
			continue;
		}
		const entry = componentSchema.safeParse(value);
		if (!entry.success) throw new WeightsError("model-config", `component ${quoted(name)} is not a pair of library and class`, { file: INDEX_FILE });
		if (entry.data === null) continue;
		if (IGNORED_PLACES.has(name)) {
			ignored.push(name);
			continue;
		}
		const [library, className] = entry.data;
		const kind = kindOf(name, library, className);
		components.set(name, await readComponent(join(path, name), {
			name,
			className,
			kind,
			prefix: `${name}/`
		}, options));
	}
	for (const name of required) if (!components.has(name)) throw new WeightsError("model-config", `a ${pipelineClass} needs a component "${name}", and none is named`, { file: INDEX_FILE });
	return {
		pipelineClass,
		flags,
		components,
		ignored,
		component: (name) => components.get(name)
	};
}
/**
* Opens a folder that holds one component by itself, such as a VAE: its class is what its config says.
* @throws WeightsError where the config is missing or not sound, or names a class that is not known.
*/
async function openComponentFolder(path, options = {}) {
	for (const file of [
		"config.json",
		"scheduler_config.json",
		"tokenizer_config.json"
	]) {
		if (!await exists(join(path, file))) continue;
		const config = await readJson(join(path, file), file);
		const className = classIn(config);
		if (className === void 0) throw new WeightsError("model-config", "names no class: neither _class_name nor architectures", { file });
		const kind = Object.hasOwn(COMPONENTS$1, className) ? COMPONENTS$1[className] : void 0;
		if (kind === void 0) throw unknownComponent(className, file);
		return component(path, {
			name: basename(path),
			className,
			kind,
			prefix: ""
		}, config, options);
	}
	throw new WeightsError("weights-not-found", "no such file; a component's folder must have one", { file: "config.json" });
}
function kindOf(name, library, className) {
	const file = INDEX_FILE;
	if (!/^[A-Za-z0-9_-]+$/.test(name)) throw new WeightsError("model-config", `component ${quoted(name)}: the name may have letters, digits, - and _`, { file });
	if (!((library === "diffusers" || library === "transformers") && Object.hasOwn(COMPONENTS$1, className))) throw unknownComponent(className, file, name, library);
	const kind = COMPONENTS$1[className];
	const wanted = Object.hasOwn(PLACES, name) ? PLACES[name] : kind;
	if (kind !== wanted) throw new WeightsError("model-class", `component ${quoted(name)} must be of kind ${wanted}, and ${className} is of kind ${kind}`, { file });
	return kind;
}
function unknownComponent(className, file, name, library) {
	return new WeightsError("model-class", `unknown class ${library === void 0 ? quoted(className) : `${quoted(className)} of ${quoted(library)}`}${name === void 0 ? "" : ` for component ${quoted(name)}`}; known are ${listed(Object.keys(COMPONENTS$1), Infinity)}`, { file });
}
const CONFIG_FILES = {
	denoiser: "config.json",
	autoencoder: "config.json",
	"text encoder": "config.json",
	tokenizer: "tokenizer_config.json",
	scheduler: "scheduler_config.json"
};
async function readComponent(folder, place, options) {
	const file = CONFIG_FILES[place.kind];
	return component(folder, place, await readJson(join(folder, file), `${place.prefix}${file}`), options);
}
function component(folder, { name, className, kind, prefix }, config, options) {
	return {
		name,
		className,
		kind,
		config,
		folder,
		async weights() {
			if (kind === "tokenizer" || kind === "scheduler") throw new WeightsError("weights-not-found", `a ${kind} has no weights`, { file: name });
			return openWeights(folder, {
				name: prefix === "" ? "" : name,
				variant: options.variant
			});
		}
	};
}
function classIn(config) {
	const { _class_name: own, architectures, tokenizer_class: tokenizer } = config;
	const named = own ?? (Array.isArray(architectures) ? architectures[0] : void 0) ?? tokenizer;
	return typeof named === "string" ? named : void 0;
}
async function exists(path) {
	return access(path).then(() => true, () => false);
}
//#endregion
//#region shaders/model_input.wgsl
var model_input_default = "// The model's input from the latents:  out[b] = latents[b mod n] · input_scale[b mod n]\n// With classifier-free guidance the batch is [negative…, positive…] of the same latents. latents: f32; rows: see scheduler_step.wgsl.\nstruct Params { images: u32, image_quads: u32, batch: u32, row_quads: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> latents: array<vec4f>;\n@group(0) @binding(2) var<storage, read> rows: array<vec4f>;\n@group(0) @binding(3) var<storage, read_write> out: array<Quad>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  if (index >= params.batch * params.image_quads) { return; }\n  let image = index / params.image_quads % params.images;\n  out[index] = narrow(latents[image * params.image_quads + index % params.image_quads] * rows[image * params.row_quads].x);\n}\n";
//#endregion
//#region shaders/philox_normal.wgsl
var philox_normal_default = "// Standard normals as torch.randn draws them on CUDA: Philox4x32-10 (Salmon et al. 2011) and Box–Muller as in cuRAND.\n// src/diffusion/philox.ts defines which words make which element; this file follows it.\n//\n//   out[n, pixel, channel] = element first[n] + channel · pixels + pixel of draw n   (a draw is laid out NCHW)\n//\n// draws: per image key (low, high), call (low, high), threads, first. out: [image, pixel, channel], f32, padding zero.\n//\n// The logarithm, sine and cosine are computed here: WGSL's own may be off by 2⁻²¹ near 1 and by 2⁻¹¹ (SwiftShader's sine is\n// off by 2·10⁻⁴), and a seed should mean the same picture everywhere.\nstruct Params { images: u32, pixels: u32, channels: u32, quads: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> draws: array<u32>;\n@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;\n\nconst DRAW_WORDS = 6u;\n\n// High word of a product, by halves (WGSL has 32-bit integers only).\nfn multiply_high(a: u32, b: u32) -> u32 {\n  let low = (a & 0xffffu) * (b & 0xffffu);\n  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);\n  let cross = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);\n  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (cross >> 16u);\n}\n\nfn philox(first_counter: vec4u, first_key: vec2u) -> vec4u {\n  var c = first_counter;\n  var key = first_key;\n  for (var round = 0u; round < 10u; round++) {\n    c = vec4u(\n      multiply_high(0xcd9e8d57u, c.z) ^ c.y ^ key.x, 0xcd9e8d57u * c.z,\n      multiply_high(0xd2511f53u, c.x) ^ c.w ^ key.y, 0xd2511f53u * c.x,\n    );\n    key += vec2u(0x9e3779b9u, 0xbb67ae85u);\n  }\n  return c;\n}\n\n// ln x for normal x > 0, to a few units in the last place also near 1:  x = m·2ᵉ, √½ ≤ m < √2, ln m = 2 artanh((m−1)/(m+1)).\nfn natural_log(x: f32) -> f32 {\n  let bits = bitcast<u32>(x) - 0x3f3504f3u;  // √½\n  let exponent = f32(bitcast<i32>(bits) >> 23u);\n  let m = bitcast<f32>((bits & 0x7fffffu) + 0x3f3504f3u);\n  let s = (m - 1.0) / (m + 1.0);\n  let t = s * s;\n  let series = t * (0.33333333333 + t * (0.2 + t * (0.14285714286 + t * (0.11111111111 + t * 0.09090909091))));\n  return exponent * 0.693359375 + (2.0 * s * (1.0 + series) - exponent * 2.12194440e-4);  // ln 2 in two parts\n}\n\n// Sine and cosine for 0 ≤ v ≤ 2π: reduced to ±π/4 by ½π in three parts, then their Taylor polynomials.\nfn sine_and_cosine(v: f32) -> vec2f {\n  let quadrant = floor(v * 0.63661977237 + 0.5);\n  let r = ((v - quadrant * 1.5703125) - quadrant * 4.837512969970703125e-4) - quadrant * 7.549789948768648e-8;\n  let t = r * r;\n  let sine = r + r * t * (-0.16666666667 + t * (0.0083333333333 + t * (-1.9841269841e-4 + t * 2.7557319224e-6)));\n  let cosine = 1.0 + t * (-0.5 + t * (0.041666666667 + t * (-0.0013888888889 + t * (2.4801587302e-5 - t * 2.7557319224e-7))));\n  switch u32(quadrant) & 3u {\n    case 1u: { return vec2f(cosine, -sine); }\n    case 2u: { return vec2f(-sine, -cosine); }\n    case 3u: { return vec2f(-cosine, sine); }\n    default: { return vec2f(sine, cosine); }\n  }\n}\n\n// The float nearest to an integer: both halves are exact, so their sum is rounded once. (SwiftShader's own conversion of\n// 32 bits is not the nearest, and the radius of a rare draw is made of exactly that difference from 2³².)\nfn nearest_float(x: u32) -> f32 { return f32(x >> 16u) * 65536.0 + f32(x & 0xffffu); }\n\nfn normal(draw: u32, element: u32) -> f32 {\n  let threads = draws[draw + 4u];\n  let row = element / threads;\n  let lane = row % 4u;\n  let turn = row / 4u;\n  let low = draws[draw + 2u] + turn;\n  let high = draws[draw + 3u] + select(0u, 1u, low < turn);\n  let words = philox(vec4u(low, high, element % threads, 0u), vec2u(draws[draw], draws[draw + 1u]));\n  let pair = select(words.zw, words.xy, lane < 2u);\n  let u = nearest_float(pair.x) * 2.3283064365386963e-10 + 1.16415321826934814e-10;  // 2⁻³², 2⁻³³\n  let v = fma(nearest_float(pair.y), 1.462918119976564e-9, 7.31459059988282e-10);    // 2π·2⁻³² as cuRAND rounds it, and half\n  let both = sine_and_cosine(v) * sqrt(max(-2.0 * natural_log(u), 0.0));\n  return select(both.y, both.x, lane % 2u == 0u);\n}\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let quad = index % params.quads;\n  let pixel = index / params.quads % params.pixels;\n  let image = index / params.quads / params.pixels;\n  if (image >= params.images) { return; }\n  let draw = image * DRAW_WORDS;\n  var values = vec4f(0.0);\n  for (var i = 0u; i < 4u; i++) {\n    let channel = quad * 4u + i;\n    if (channel < params.channels) { values[i] = normal(draw, draws[draw + 5u] + channel * params.pixels + pixel); }\n  }\n  out[index] = values;\n}\n";
//#endregion
//#region shaders/scheduler_step.wgsl
var scheduler_step_default = "// One row of a scheduler's table for each image of a batch (src/diffusion/schedulers/schedule.ts defines the row):\n//\n//   model    = negative + guidance · (positive − negative), or the model's output as it is where there is one branch\n//   x0       = clamp(a · sample + b · model, ±c)\n//   next     = n · (sample, model, x0) + Σ_k h_k · history_k + s · noise\n//   denoised = d · (sample, model, x0)\n//   history[slot] ← p · (sample, model, x0)\n//\n// The latents are advanced in place. A coefficient of 0 skips its tensor, which may hold anything. All f32 but the model's output.\n// Row of an image, in vec4: (input_scale, guidance, a, b) (n, s) (d, slot or −1) (p, c) (h0…h3) (h4, –, –, –).\nstruct Params { images: u32, image_quads: u32, branches: u32, row_quads: u32, slots: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read_write> latents: array<vec4f>;\n@group(0) @binding(2) var<storage, read> output: array<Quad>;\n@group(0) @binding(3) var<storage, read> noise: array<vec4f>;\n@group(0) @binding(4) var<storage, read_write> history: array<vec4f>;\n@group(0) @binding(5) var<storage, read> rows: array<vec4f>;\n@group(0) @binding(6) var<storage, read_write> denoised: array<vec4f>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let count = params.images * params.image_quads;\n  if (index >= count) { return; }\n  let row = index / params.image_quads * params.row_quads;\n  let first = rows[row];\n  let n = rows[row + 1u];\n  let d = rows[row + 2u];\n  let p = rows[row + 3u];\n\n  let sample = latents[index];\n  var model = widen(output[index]);\n  if (params.branches == 2u) { model += first.y * (widen(output[count + index]) - model); }\n  let x0 = clamp(first.z * sample + first.w * model, vec4f(-p.w), vec4f(p.w));\n\n  var next = n.x * sample + n.y * model + n.z * x0;\n  for (var slot = 0u; slot < params.slots; slot++) {\n    let h = rows[row + 4u + slot / 4u][slot % 4u];\n    if (h != 0.0) { next += h * history[slot * count + index]; }\n  }\n  if (n.w != 0.0) { next += n.w * noise[index]; }\n  latents[index] = next;\n  denoised[index] = d.x * sample + d.y * model + d.z * x0;\n  if (d.w >= 0.0) { history[u32(d.w) * count + index] = p.x * sample + p.y * model + p.z * x0; }\n}\n";
function imageQuads(latents) {
	return rowsOf(latents) / latents.shape[0] * quads(channelsOf(latents));
}
function lowerModelInput(operation, target) {
	const { latents, rows, output } = operation;
	const { workgroups, width } = grid(output.shape[0] * imageQuads(latents));
	return [{
		kernel: kernel("model_input", model_input_default, target.storage),
		label: operation.name,
		params: params(latents.shape[0], imageQuads(latents), output.shape[0], 6, width),
		bindings: [
			{ tensor: latents },
			{ tensor: rows },
			{ tensor: output }
		],
		workgroups
	}];
}
function lowerSchedulerStep(operation, target) {
	const { latents, model, noise, history, rows, output } = operation;
	const images = latents.shape[0];
	const { workgroups, width } = grid(images * imageQuads(latents));
	return [{
		kernel: kernel("scheduler_step", scheduler_step_default, target.storage),
		label: operation.name,
		params: params(...[
			images,
			imageQuads(latents),
			model.shape[0] / images,
			6
		], ...[history.shape[0] / images, width]),
		bindings: [
			latents,
			model,
			noise,
			history,
			rows,
			output
		].map((tensor) => ({ tensor })),
		workgroups
	}];
}
function lowerPhiloxNormals(operation, target) {
	const { draws, output } = operation;
	const images = output.shape[0];
	const pixels = rowsOf(output) / images;
	const channels = channelsOf(output);
	const { workgroups, width } = grid(rowsOf(output) * quads(channels));
	return [{
		kernel: kernel("philox_normal", philox_normal_default, target.storage),
		label: operation.name,
		params: params(images, pixels, channels, quads(channels), width),
		bindings: [{ tensor: draws }, { tensor: output }],
		workgroups
	}];
}
//#endregion
//#region src/graph/fuse.ts
/**
* Fusion: passes over the recorded operations that save passes over memory.
*
* An addition or activation right after a convolution (or linear layer) becomes its epilogue; an activation after group
* normalisation becomes part of it; a nearest resize before a convolution becomes the way the convolution reads its
* input. Each applies only where the value in between has no other reader.
*/
/** The operations with what can be fused fused, and what nobody reads left out. `outputs` are read from outside. */
function fuse(operations, outputs) {
	const list = [...operations];
	const results = [...outputs];
	const makers = new Map(list.map((operation, index) => [operation.output.id, index]));
	const readers = /* @__PURE__ */ new Map();
	const count = (tensor, by) => readers.set(tensor.id, (readers.get(tensor.id) ?? 0) + by);
	for (const operation of operations) for (const tensor of readsOf$1(operation)) count(tensor, 1);
	for (const tensor of results) count(tensor, 1);
	/** The operation that makes a tensor which only one other reads. */
	const soleMaker = (tensor) => {
		const index = makers.get(tensor.id);
		const operation = index === void 0 ? void 0 : list[index];
		return operation && readers.get(tensor.id) === 1 ? {
			index,
			operation
		} : void 0;
	};
	/** Puts `fused` in the place of the operation at `at`, and drops the one that it swallowed. */
	const replace = (at, swallowed, fused) => {
		list[swallowed] = void 0;
		list[at] = fused;
		makers.set(fused.output.id, at);
	};
	for (let at = 0; at < list.length; at++) {
		const operation = list[at];
		if (operation?.kind === "convolution") {
			const maker = soleMaker(operation.input);
			if (maker?.operation.kind === "upsample-nearest" && readsPicture(operation, maker.operation.output)) replace(at, maker.index, readResized(operation, maker.operation.input));
		} else if (operation?.kind === "elementwise") {
			if (operation.inputScale !== 1 || operation.scale !== 1 || operation.shift !== 0) continue;
			if (operation.addend === void 0) {
				const maker = soleMaker(operation.input);
				const fused = maker && withActivation(maker.operation, operation);
				if (fused) replace(at, maker.index, fused);
			} else if (operation.activation === "none") {
				const fused = [operation.input, operation.addend].map((tensor) => ({
					tensor,
					maker: soleMaker(tensor)
				})).sort((a, b) => (b.maker?.index ?? -1) - (a.maker?.index ?? -1)).map(({ tensor, maker }) => maker && {
					index: maker.index,
					made: withAddend(maker.operation, operation, tensor)
				}).find((candidate) => candidate?.made !== void 0);
				if (fused) replace(at, fused.index, fused.made);
			}
		}
	}
	return live(list.filter((operation) => operation !== void 0), results);
}
/** Whether a convolution sees a tensor `[n, h, w, c]` as such; a linear layer takes each image's pixels as one row. */
function readsPicture({ virtual }, { shape }) {
	return virtual.height === shape[1] && virtual.width === shape[2];
}
function readResized(convolution, input) {
	const [, inHeight, inWidth] = input.shape;
	return {
		...convolution,
		input,
		picture: {
			...convolution.picture,
			inHeight,
			inWidth
		}
	};
}
function withActivation(maker, activation) {
	if (maker.kind !== "convolution" && maker.kind !== "group-norm-apply") return;
	if (maker.activation !== "none") return;
	return {
		...maker,
		activation: activation.activation,
		output: activation.output
	};
}
function withAddend(maker, addition, made) {
	if (maker.kind !== "convolution" || maker.residual) return;
	const other = made === addition.input ? addition.addend : addition.input;
	if (!addsPerImage(addition)) return {
		...maker,
		residual: other,
		activationAfterResidual: maker.activation === "none",
		output: addition.output
	};
	if (made !== addition.input || maker.perImage || maker.activation !== "none") return;
	return {
		...maker,
		perImage: {
			tensor: other,
			offset: addition.firstAddendQuad * 4
		},
		output: addition.output
	};
}
/** Without the operations whose output nobody reads; the scheduler's step also changes a state and always stays. */
function live(operations, outputs) {
	const wanted = new Set([...outputs].map((tensor) => tensor.id));
	const kept = [];
	for (const operation of [...operations].reverse()) {
		if (!wanted.has(operation.output.id) && operation.kind !== "scheduler-step") continue;
		for (const tensor of readsOf$1(operation)) wanted.add(tensor.id);
		kept.push(operation);
	}
	return kept.reverse();
}
/**
* Group norms that `joins` says so of make their statistics themselves; the operations that did are gone. Not those whose
* statistics come from outside, or are among `outputs`.
*/
function joinGroupNorms(operations, outputs, joins) {
	const wanted = new Set([...outputs].map(({ id }) => id));
	const made = new Set(operations.map(({ output }) => output.id).filter((id) => !wanted.has(id)));
	const joined = operations.map((operation) => operation.kind === "group-norm-apply" && made.has(operation.statistics.output.id) && joins(operation) ? {
		...operation,
		joined: true
	} : operation);
	for (const tensor of joined.flatMap(readsOf$1)) wanted.add(tensor.id);
	return joined.filter(({ kind, output }) => kind !== "group-norm-stats" || wanted.has(output.id));
}
//#endregion
//#region shaders/attention_stage.wgsl
var attention_stage_default = "// Queries, keys and values into one texture, for attention_textured.wgsl: a texel is a quad, widened; a row is a token.\n// Columns: the heads' quads of the queries, then of the keys, then of the values. Rows: image · rows + token.\n@group(0) @binding(5) var staged: texture_storage_2d<rgba32float, write>;\n\n// One invocation copies one quad of each.\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let width = params.heads * HEAD_QUADS;\n  let quad = index % width;\n  let row = index / width;\n  let image = row / params.rows;\n  let token = row % params.rows;\n  if (image >= params.images) { return; }\n  if (token < params.queries) {\n    textureStore(staged, vec2u(quad, row), widen(query[query_quad(image, 0u, token) + quad]));\n  }\n  if (token < params.keys) {\n    textureStore(staged, vec2u(width + quad, row), widen(key[key_quad(image, 0u, token) + quad]));\n    textureStore(staged, vec2u(2u * width + quad, row), widen(value[value_quad(image, 0u, token) + quad]));\n  }\n}\n";
//#endregion
//#region shaders/attention_subgroup.wgsl
var attention_subgroup_default = "// Attention inside one subgroup: the form for software adapters (no workgroup memory, no barrier).\n//\n// One workgroup is one subgroup; a lane owns four queries, held as the four components of a vector, so that the whole\n// softmax happens inside the lane. Sixteen keys are worked on at a time: each lane loads the quads of the keys it owns\n// (l, l + LANES, …), which are then broadcast. The running maximum is rescaled once a block of keys.\nconst BLOCK = 16u;\nconst OWNED = (BLOCK + LANES - 1u) / LANES;\n\nvar<private> sums: array<vec4f, 4u * HEAD_QUADS>;  // per quad of the head, the four queries' weighted values\n\nfn score(k: vec4f, q0: vec4f, q1: vec4f, q2: vec4f, q3: vec4f) -> vec4f {\n  return vec4f(dot(k, q0), dot(k, q1), dot(k, q2), dot(k, q3));\n}\n\nfn masked(score: vec4f, token: u32, queries: vec4u) -> vec4f {\n  let seen = vec4<bool>(token < params.keys) & (vec4<bool>(params.causal == 0u) | (vec4u(token) <= queries));\n  return select(vec4f(NEVER), score * params.scale, seen);\n}\n\n@compute @workgroup_size(LANES)\nfn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {\n  let head = workgroup.y;\n  let image = workgroup.z;\n  let first_query = (workgroup.x * LANES + lane) * 4u;\n  let tokens = first_query + vec4u(0u, 1u, 2u, 3u);\n  let query0 = query_quad(image, head, tokens.x);\n  let query1 = query_quad(image, head, tokens.y);\n  let query2 = query_quad(image, head, tokens.z);\n  let query3 = query_quad(image, head, tokens.w);\n  for (var i = 0u; i < 4u * HEAD_QUADS; i++) { sums[i] = vec4f(0.0); }\n  var maximum = vec4f(NEVER);\n  var total = vec4f(0.0);\n  let owned = lane % BLOCK;\n  var loaded: array<vec4f, 4>;\n\n  for (var first = 0u; first < params.keys; first += BLOCK) {\n    var s = array<vec4f, BLOCK>();  // said outright: Dawn does not clear a bare `var` again on each turn of a loop\n    let key0 = key_quad(image, head, first + owned);\n    let key1 = key_quad(image, head, first + owned + LANES);\n    let key2 = key_quad(image, head, first + owned + 2u * LANES);\n    let key3 = key_quad(image, head, first + owned + 3u * LANES);\n    for (var d = 0u; d < HEAD_QUADS; d++) {\n      let q0 = widen(query[query0 + d]);\n      let q1 = widen(query[query1 + d]);\n      let q2 = widen(query[query2 + d]);\n      let q3 = widen(query[query3 + d]);\n      loaded[0] = widen(key[key0 + d]);\n      if (OWNED > 1u) { loaded[1] = widen(key[key1 + d]); }\n      if (OWNED > 2u) { loaded[2] = widen(key[key2 + d]); loaded[3] = widen(key[key3 + d]); }\n      s[0] += score(subgroupBroadcast(loaded[0u / LANES], 0u % LANES), q0, q1, q2, q3);\n      s[1] += score(subgroupBroadcast(loaded[1u / LANES], 1u % LANES), q0, q1, q2, q3);\n      s[2] += score(subgroupBroadcast(loaded[2u / LANES], 2u % LANES), q0, q1, q2, q3);\n      s[3] += score(subgroupBroadcast(loaded[3u / LANES], 3u % LANES), q0, q1, q2, q3);\n      s[4] += score(subgroupBroadcast(loaded[4u / LANES], 4u % LANES), q0, q1, q2, q3);\n      s[5] += score(subgroupBroadcast(loaded[5u / LANES], 5u % LANES), q0, q1, q2, q3);\n      s[6] += score(subgroupBroadcast(loaded[6u / LANES], 6u % LANES), q0, q1, q2, q3);\n      s[7] += score(subgroupBroadcast(loaded[7u / LANES], 7u % LANES), q0, q1, q2, q3);\n      s[8] += score(subgroupBroadcast(loaded[8u / LANES], 8u % LANES), q0, q1, q2, q3);\n      s[9] += score(subgroupBroadcast(loaded[9u / LANES], 9u % LANES), q0, q1, q2, q3);\n      s[10] += score(subgroupBroadcast(loaded[10u / LANES], 10u % LANES), q0, q1, q2, q3);\n      s[11] += score(subgroupBroadcast(loaded[11u / LANES], 11u % LANES), q0, q1, q2, q3);\n      s[12] += score(subgroupBroadcast(loaded[12u / LANES], 12u % LANES), q0, q1, q2, q3);\n      s[13] += score(subgroupBroadcast(loaded[13u / LANES], 13u % LANES), q0, q1, q2, q3);\n      s[14] += score(subgroupBroadcast(loaded[14u / LANES], 14u % LANES), q0, q1, q2, q3);\n      s[15] += score(subgroupBroadcast(loaded[15u / LANES], 15u % LANES), q0, q1, q2, q3);\n    }\n    s[0] = masked(s[0], first + 0u, tokens);\n    s[1] = masked(s[1], first + 1u, tokens);\n    s[2] = masked(s[2], first + 2u, tokens);\n    s[3] = masked(s[3], first + 3u, tokens);\n    s[4] = masked(s[4], first + 4u, tokens);\n    s[5] = masked(s[5], first + 5u, tokens);\n    s[6] = masked(s[6], first + 6u, tokens);\n    s[7] = masked(s[7], first + 7u, tokens);\n    s[8] = masked(s[8], first + 8u, tokens);\n    s[9] = masked(s[9], first + 9u, tokens);\n    s[10] = masked(s[10], first + 10u, tokens);\n    s[11] = masked(s[11], first + 11u, tokens);\n    s[12] = masked(s[12], first + 12u, tokens);\n    s[13] = masked(s[13], first + 13u, tokens);\n    s[14] = masked(s[14], first + 14u, tokens);\n    s[15] = masked(s[15], first + 15u, tokens);\n    let block_maximum = max(\n      max(max(max(s[0], s[1]), max(s[2], s[3])), max(max(s[4], s[5]), max(s[6], s[7]))),\n      max(max(max(s[8], s[9]), max(s[10], s[11])), max(max(s[12], s[13]), max(s[14], s[15]))),\n    );\n    let new_maximum = max(maximum, block_maximum);\n    let rescale = exp(maximum - new_maximum);\n    maximum = new_maximum;\n    s[0] = exp(s[0] - maximum);\n    s[1] = exp(s[1] - maximum);\n    s[2] = exp(s[2] - maximum);\n    s[3] = exp(s[3] - maximum);\n    s[4] = exp(s[4] - maximum);\n    s[5] = exp(s[5] - maximum);\n    s[6] = exp(s[6] - maximum);\n    s[7] = exp(s[7] - maximum);\n    s[8] = exp(s[8] - maximum);\n    s[9] = exp(s[9] - maximum);\n    s[10] = exp(s[10] - maximum);\n    s[11] = exp(s[11] - maximum);\n    s[12] = exp(s[12] - maximum);\n    s[13] = exp(s[13] - maximum);\n    s[14] = exp(s[14] - maximum);\n    s[15] = exp(s[15] - maximum);\n    total = total * rescale + (((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])))\n      + (((s[8] + s[9]) + (s[10] + s[11])) + ((s[12] + s[13]) + (s[14] + s[15])));\n\n    let value0 = value_quad(image, head, first + owned);\n    let value1 = value_quad(image, head, first + owned + LANES);\n    let value2 = value_quad(image, head, first + owned + 2u * LANES);\n    let value3 = value_quad(image, head, first + owned + 3u * LANES);\n    for (var d = 0u; d < HEAD_QUADS; d++) {\n      loaded[0] = widen(value[value0 + d]);\n      if (OWNED > 1u) { loaded[1] = widen(value[value1 + d]); }\n      if (OWNED > 2u) { loaded[2] = widen(value[value2 + d]); loaded[3] = widen(value[value3 + d]); }\n      var sum0 = sums[4u * d] * rescale.x;\n      var sum1 = sums[4u * d + 1u] * rescale.y;\n      var sum2 = sums[4u * d + 2u] * rescale.z;\n      var sum3 = sums[4u * d + 3u] * rescale.w;\n      var v: vec4f;\n      v = subgroupBroadcast(loaded[0u / LANES], 0u % LANES); sum0 += s[0].x * v; sum1 += s[0].y * v; sum2 += s[0].z * v; sum3 += s[0].w * v;\n      v = subgroupBroadcast(loaded[1u / LANES], 1u % LANES); sum0 += s[1].x * v; sum1 += s[1].y * v; sum2 += s[1].z * v; sum3 += s[1].w * v;\n      v = subgroupBroadcast(loaded[2u / LANES], 2u % LANES); sum0 += s[2].x * v; sum1 += s[2].y * v; sum2 += s[2].z * v; sum3 += s[2].w * v;\n      v = subgroupBroadcast(loaded[3u / LANES], 3u % LANES); sum0 += s[3].x * v; sum1 += s[3].y * v; sum2 += s[3].z * v; sum3 += s[3].w * v;\n      v = subgroupBroadcast(loaded[4u / LANES], 4u % LANES); sum0 += s[4].x * v; sum1 += s[4].y * v; sum2 += s[4].z * v; sum3 += s[4].w * v;\n      v = subgroupBroadcast(loaded[5u / LANES], 5u % LANES); sum0 += s[5].x * v; sum1 += s[5].y * v; sum2 += s[5].z * v; sum3 += s[5].w * v;\n      v = subgroupBroadcast(loaded[6u / LANES], 6u % LANES); sum0 += s[6].x * v; sum1 += s[6].y * v; sum2 += s[6].z * v; sum3 += s[6].w * v;\n      v = subgroupBroadcast(loaded[7u / LANES], 7u % LANES); sum0 += s[7].x * v; sum1 += s[7].y * v; sum2 += s[7].z * v; sum3 += s[7].w * v;\n      v = subgroupBroadcast(loaded[8u / LANES], 8u % LANES); sum0 += s[8].x * v; sum1 += s[8].y * v; sum2 += s[8].z * v; sum3 += s[8].w * v;\n      v = subgroupBroadcast(loaded[9u / LANES], 9u % LANES); sum0 += s[9].x * v; sum1 += s[9].y * v; sum2 += s[9].z * v; sum3 += s[9].w * v;\n      v = subgroupBroadcast(loaded[10u / LANES], 10u % LANES); sum0 += s[10].x * v; sum1 += s[10].y * v; sum2 += s[10].z * v; sum3 += s[10].w * v;\n      v = subgroupBroadcast(loaded[11u / LANES], 11u % LANES); sum0 += s[11].x * v; sum1 += s[11].y * v; sum2 += s[11].z * v; sum3 += s[11].w * v;\n      v = subgroupBroadcast(loaded[12u / LANES], 12u % LANES); sum0 += s[12].x * v; sum1 += s[12].y * v; sum2 += s[12].z * v; sum3 += s[12].w * v;\n      v = subgroupBroadcast(loaded[13u / LANES], 13u % LANES); sum0 += s[13].x * v; sum1 += s[13].y * v; sum2 += s[13].z * v; sum3 += s[13].w * v;\n      v = subgroupBroadcast(loaded[14u / LANES], 14u % LANES); sum0 += s[14].x * v; sum1 += s[14].y * v; sum2 += s[14].z * v; sum3 += s[14].w * v;\n      v = subgroupBroadcast(loaded[15u / LANES], 15u % LANES); sum0 += s[15].x * v; sum1 += s[15].y * v; sum2 += s[15].z * v; sum3 += s[15].w * v;\n      sums[4u * d] = sum0;\n      sums[4u * d + 1u] = sum1;\n      sums[4u * d + 2u] = sum2;\n      sums[4u * d + 3u] = sum3;\n    }\n  }\n\n  let norm = 1.0 / total;\n  for (var d = 0u; d < HEAD_QUADS; d++) {\n    if (tokens.x < params.queries) { out[out_quad(image, head, tokens.x) + d] = narrow(sums[4u * d] * norm.x); }\n    if (tokens.y < params.queries) { out[out_quad(image, head, tokens.y) + d] = narrow(sums[4u * d + 1u] * norm.y); }\n    if (tokens.z < params.queries) { out[out_quad(image, head, tokens.z) + d] = narrow(sums[4u * d + 2u] * norm.z); }\n    if (tokens.w < params.queries) { out[out_quad(image, head, tokens.w) + d] = narrow(sums[4u * d + 3u] * norm.w); }\n  }\n}\n";
//#endregion
//#region shaders/attention_textured.wgsl
var attention_textured_default = "// Attention inside one subgroup, of operands in a texture (attention_stage.wgsl): the form for lavapipe where keys are many.\n// Loads of a texture take little time and little code there, so that this is two outer products in the manner of\n// conv2d_subgroup.wgsl.\n//\n// One workgroup is one subgroup and owns 16 queries of one head. It takes 4·LANES keys at a time. For the scores, lane l\n// has keys 4l … 4l + 3 of them as the components of a vector; for the weighted values it has quads l, l + LANES, … of the\n// head. The running maximum is rescaled once a block of keys.\n@group(0) @binding(5) var staged: texture_storage_2d<rgba32float, read>;\n\nconst ROWS = 16u;\nconst OWNED = (ROWS + LANES - 1u) / LANES;               // queries that one lane loads\nconst QUADS = (HEAD_QUADS + LANES - 1u) / LANES;         // quads of the head that one lane adds up: 1, 2 or 3\n\nstruct Values { key0: vec4f, key1: vec4f, key2: vec4f, key3: vec4f }\n\nfn values(column: u32, row: u32, last: u32) -> Values {\n  return Values(\n    textureLoad(staged, vec2u(column, min(row, last))),\n    textureLoad(staged, vec2u(column, min(row + 1u, last))),\n    textureLoad(staged, vec2u(column, min(row + 2u, last))),\n    textureLoad(staged, vec2u(column, min(row + 3u, last))),\n  );\n}\n\nfn multiply(p: vec4f, v: Values) -> vec4f {\n  return p.x * v.key0 + p.y * v.key1 + p.z * v.key2 + p.w * v.key3;\n}\n\nfn masked(score: vec4f, tokens: vec4u, query_token: u32) -> vec4f {\n  let seen = (tokens < vec4u(params.keys)) & (vec4<bool>(params.causal == 0u) | (tokens <= vec4u(query_token)));\n  return select(vec4f(NEVER), score * params.scale, seen);\n}\n\n@compute @workgroup_size(LANES)\nfn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {\n  let first_query = workgroup.x * ROWS;\n  let head = workgroup.y;\n  let first_row = workgroup.z * params.rows;\n  let query_column = head * HEAD_QUADS;\n  let key_column = (params.heads + head) * HEAD_QUADS;\n  let value_column = (2u * params.heads + head) * HEAD_QUADS + lane;\n  let last_query = first_row + params.queries - 1u;\n  let last_key = first_row + params.keys - 1u;\n  let query_row = first_row + first_query + lane % ROWS;\n\n  var maximum: array<f32, ROWS>;\n  var total: array<vec4f, ROWS>;\n  var sum0: array<vec4f, ROWS>;\n  var sum1: array<vec4f, ROWS>;\n  var sum2: array<vec4f, ROWS>;\n  for (var r = 0u; r < ROWS; r++) { maximum[r] = NEVER; }\n\n  for (var first = 0u; first < params.keys; first += 4u * LANES) {\n    var s = array<vec4f, ROWS>();  // said outright: Dawn does not clear a bare `var` again on each turn of a loop\n    let tokens = first + 4u * lane + vec4u(0u, 1u, 2u, 3u);\n    for (var d = 0u; d < HEAD_QUADS; d++) {\n      let k = values(key_column + d, first_row + tokens.x, last_key);\n      let k0 = k.key0;\n      let k1 = k.key1;\n      let k2 = k.key2;\n      let k3 = k.key3;\n      var a: array<vec4f, OWNED>;\n      a[0] = textureLoad(staged, vec2u(query_column + d, min(query_row, last_query)));\n      if (OWNED > 1u) { a[1u % OWNED] = textureLoad(staged, vec2u(query_column + d, min(query_row + LANES, last_query))); }\n      if (OWNED > 2u) {\n        a[2u % OWNED] = textureLoad(staged, vec2u(query_column + d, min(query_row + 2u * LANES, last_query)));\n        a[3u % OWNED] = textureLoad(staged, vec2u(query_column + d, min(query_row + 3u * LANES, last_query)));\n      }\n      var q: vec4f;\n      q = subgroupBroadcast(a[0u / LANES % OWNED], 0u % LANES); s[0] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[1u / LANES % OWNED], 1u % LANES); s[1] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[2u / LANES % OWNED], 2u % LANES); s[2] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[3u / LANES % OWNED], 3u % LANES); s[3] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[4u / LANES % OWNED], 4u % LANES); s[4] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[5u / LANES % OWNED], 5u % LANES); s[5] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[6u / LANES % OWNED], 6u % LANES); s[6] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[7u / LANES % OWNED], 7u % LANES); s[7] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[8u / LANES % OWNED], 8u % LANES); s[8] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[9u / LANES % OWNED], 9u % LANES); s[9] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[10u / LANES % OWNED], 10u % LANES); s[10] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[11u / LANES % OWNED], 11u % LANES); s[11] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[12u / LANES % OWNED], 12u % LANES); s[12] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[13u / LANES % OWNED], 13u % LANES); s[13] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[14u / LANES % OWNED], 14u % LANES); s[14] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n      q = subgroupBroadcast(a[15u / LANES % OWNED], 15u % LANES); s[15] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));\n    }\n    var x: vec4f;\n    var highest: f32;\n    var rescale: f32;\n    x = masked(s[0], tokens, first_query + 0u);\n    highest = max(maximum[0], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[0] - highest);\n    maximum[0] = highest;\n    s[0] = exp(x - highest);\n    total[0] = total[0] * rescale + s[0];\n    sum0[0] *= rescale;\n    if (QUADS > 1u) { sum1[0] *= rescale; }\n    if (QUADS > 2u) { sum2[0] *= rescale; }\n    x = masked(s[1], tokens, first_query + 1u);\n    highest = max(maximum[1], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[1] - highest);\n    maximum[1] = highest;\n    s[1] = exp(x - highest);\n    total[1] = total[1] * rescale + s[1];\n    sum0[1] *= rescale;\n    if (QUADS > 1u) { sum1[1] *= rescale; }\n    if (QUADS > 2u) { sum2[1] *= rescale; }\n    x = masked(s[2], tokens, first_query + 2u);\n    highest = max(maximum[2], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[2] - highest);\n    maximum[2] = highest;\n    s[2] = exp(x - highest);\n    total[2] = total[2] * rescale + s[2];\n    sum0[2] *= rescale;\n    if (QUADS > 1u) { sum1[2] *= rescale; }\n    if (QUADS > 2u) { sum2[2] *= rescale; }\n    x = masked(s[3], tokens, first_query + 3u);\n    highest = max(maximum[3], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[3] - highest);\n    maximum[3] = highest;\n    s[3] = exp(x - highest);\n    total[3] = total[3] * rescale + s[3];\n    sum0[3] *= rescale;\n    if (QUADS > 1u) { sum1[3] *= rescale; }\n    if (QUADS > 2u) { sum2[3] *= rescale; }\n    x = masked(s[4], tokens, first_query + 4u);\n    highest = max(maximum[4], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[4] - highest);\n    maximum[4] = highest;\n    s[4] = exp(x - highest);\n    total[4] = total[4] * rescale + s[4];\n    sum0[4] *= rescale;\n    if (QUADS > 1u) { sum1[4] *= rescale; }\n    if (QUADS > 2u) { sum2[4] *= rescale; }\n    x = masked(s[5], tokens, first_query + 5u);\n    highest = max(maximum[5], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[5] - highest);\n    maximum[5] = highest;\n    s[5] = exp(x - highest);\n    total[5] = total[5] * rescale + s[5];\n    sum0[5] *= rescale;\n    if (QUADS > 1u) { sum1[5] *= rescale; }\n    if (QUADS > 2u) { sum2[5] *= rescale; }\n    x = masked(s[6], tokens, first_query + 6u);\n    highest = max(maximum[6], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[6] - highest);\n    maximum[6] = highest;\n    s[6] = exp(x - highest);\n    total[6] = total[6] * rescale + s[6];\n    sum0[6] *= rescale;\n    if (QUADS > 1u) { sum1[6] *= rescale; }\n    if (QUADS > 2u) { sum2[6] *= rescale; }\n    x = masked(s[7], tokens, first_query + 7u);\n    highest = max(maximum[7], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[7] - highest);\n    maximum[7] = highest;\n    s[7] = exp(x - highest);\n    total[7] = total[7] * rescale + s[7];\n    sum0[7] *= rescale;\n    if (QUADS > 1u) { sum1[7] *= rescale; }\n    if (QUADS > 2u) { sum2[7] *= rescale; }\n    x = masked(s[8], tokens, first_query + 8u);\n    highest = max(maximum[8], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[8] - highest);\n    maximum[8] = highest;\n    s[8] = exp(x - highest);\n    total[8] = total[8] * rescale + s[8];\n    sum0[8] *= rescale;\n    if (QUADS > 1u) { sum1[8] *= rescale; }\n    if (QUADS > 2u) { sum2[8] *= rescale; }\n    x = masked(s[9], tokens, first_query + 9u);\n    highest = max(maximum[9], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[9] - highest);\n    maximum[9] = highest;\n    s[9] = exp(x - highest);\n    total[9] = total[9] * rescale + s[9];\n    sum0[9] *= rescale;\n    if (QUADS > 1u) { sum1[9] *= rescale; }\n    if (QUADS > 2u) { sum2[9] *= rescale; }\n    x = masked(s[10], tokens, first_query + 10u);\n    highest = max(maximum[10], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[10] - highest);\n    maximum[10] = highest;\n    s[10] = exp(x - highest);\n    total[10] = total[10] * rescale + s[10];\n    sum0[10] *= rescale;\n    if (QUADS > 1u) { sum1[10] *= rescale; }\n    if (QUADS > 2u) { sum2[10] *= rescale; }\n    x = masked(s[11], tokens, first_query + 11u);\n    highest = max(maximum[11], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[11] - highest);\n    maximum[11] = highest;\n    s[11] = exp(x - highest);\n    total[11] = total[11] * rescale + s[11];\n    sum0[11] *= rescale;\n    if (QUADS > 1u) { sum1[11] *= rescale; }\n    if (QUADS > 2u) { sum2[11] *= rescale; }\n    x = masked(s[12], tokens, first_query + 12u);\n    highest = max(maximum[12], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[12] - highest);\n    maximum[12] = highest;\n    s[12] = exp(x - highest);\n    total[12] = total[12] * rescale + s[12];\n    sum0[12] *= rescale;\n    if (QUADS > 1u) { sum1[12] *= rescale; }\n    if (QUADS > 2u) { sum2[12] *= rescale; }\n    x = masked(s[13], tokens, first_query + 13u);\n    highest = max(maximum[13], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[13] - highest);\n    maximum[13] = highest;\n    s[13] = exp(x - highest);\n    total[13] = total[13] * rescale + s[13];\n    sum0[13] *= rescale;\n    if (QUADS > 1u) { sum1[13] *= rescale; }\n    if (QUADS > 2u) { sum2[13] *= rescale; }\n    x = masked(s[14], tokens, first_query + 14u);\n    highest = max(maximum[14], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[14] - highest);\n    maximum[14] = highest;\n    s[14] = exp(x - highest);\n    total[14] = total[14] * rescale + s[14];\n    sum0[14] *= rescale;\n    if (QUADS > 1u) { sum1[14] *= rescale; }\n    if (QUADS > 2u) { sum2[14] *= rescale; }\n    x = masked(s[15], tokens, first_query + 15u);\n    highest = max(maximum[15], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));\n    rescale = exp(maximum[15] - highest);\n    maximum[15] = highest;\n    s[15] = exp(x - highest);\n    total[15] = total[15] * rescale + s[15];\n    sum0[15] *= rescale;\n    if (QUADS > 1u) { sum1[15] *= rescale; }\n    if (QUADS > 2u) { sum2[15] *= rescale; }\n    for (var j = 0u; j < LANES; j++) {\n      let row = first_row + first + 4u * j;\n      let v0 = values(value_column, row, last_key);\n      var v1 = v0;\n      var v2 = v0;\n      if (QUADS > 1u) { v1 = values(value_column + LANES, row, last_key); }\n      if (QUADS > 2u) { v2 = values(value_column + 2u * LANES, row, last_key); }\n      var p: vec4f;\n      p = subgroupShuffle(s[0], j);\n      sum0[0] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[0] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[0] += multiply(p, v2); }\n      p = subgroupShuffle(s[1], j);\n      sum0[1] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[1] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[1] += multiply(p, v2); }\n      p = subgroupShuffle(s[2], j);\n      sum0[2] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[2] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[2] += multiply(p, v2); }\n      p = subgroupShuffle(s[3], j);\n      sum0[3] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[3] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[3] += multiply(p, v2); }\n      p = subgroupShuffle(s[4], j);\n      sum0[4] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[4] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[4] += multiply(p, v2); }\n      p = subgroupShuffle(s[5], j);\n      sum0[5] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[5] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[5] += multiply(p, v2); }\n      p = subgroupShuffle(s[6], j);\n      sum0[6] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[6] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[6] += multiply(p, v2); }\n      p = subgroupShuffle(s[7], j);\n      sum0[7] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[7] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[7] += multiply(p, v2); }\n      p = subgroupShuffle(s[8], j);\n      sum0[8] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[8] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[8] += multiply(p, v2); }\n      p = subgroupShuffle(s[9], j);\n      sum0[9] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[9] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[9] += multiply(p, v2); }\n      p = subgroupShuffle(s[10], j);\n      sum0[10] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[10] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[10] += multiply(p, v2); }\n      p = subgroupShuffle(s[11], j);\n      sum0[11] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[11] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[11] += multiply(p, v2); }\n      p = subgroupShuffle(s[12], j);\n      sum0[12] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[12] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[12] += multiply(p, v2); }\n      p = subgroupShuffle(s[13], j);\n      sum0[13] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[13] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[13] += multiply(p, v2); }\n      p = subgroupShuffle(s[14], j);\n      sum0[14] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[14] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[14] += multiply(p, v2); }\n      p = subgroupShuffle(s[15], j);\n      sum0[15] += multiply(p, v0);\n      if (QUADS > 1u) { sum1[15] += multiply(p, v1); }\n      if (QUADS > 2u) { sum2[15] += multiply(p, v2); }\n    }\n  }\n\n  // Not unrolled, for the reason that conv2d_subgroup.wgsl gives.\n  var totals = total;\n  var done0 = sum0;\n  var done1 = sum1;\n  var done2 = sum2;\n  let count = min(ROWS, params.queries - first_query);\n  for (var r = 0u; r < count; r++) {\n    let norm = 1.0 / subgroupAdd(dot(totals[r], vec4f(1.0)));\n    let quad = out_quad(workgroup.z, head, first_query + r) + lane;\n    if (lane < HEAD_QUADS) { out[quad] = narrow(done0[r] * norm); }\n    if (lane + LANES < HEAD_QUADS) { out[quad + LANES] = narrow(done1[r] * norm); }\n    if (lane + 2u * LANES < HEAD_QUADS) { out[quad + 2u * LANES] = narrow(done2[r] * norm); }\n  }\n}\n";
//#endregion
//#region shaders/attention_tiled.wgsl
var attention_tiled_default = "// Attention over tiles in workgroup memory: the form for GPUs, and for any adapter whose subgroup size is not known\n// before the pipeline is made.\n//\n// A workgroup of 64 invocations owns 64 queries of one head, one each; BLOCK keys, then their values, are staged in\n// workgroup memory (BLOCK · HEAD_QUADS ≤ 1024 quads, 16 KiB) and read by all. The running maximum is rescaled once a block.\nconst BLOCK = clamp(1024u / HEAD_QUADS, 1u, 32u);\n\nvar<workgroup> staged: array<vec4f, BLOCK * HEAD_QUADS>;\nvar<private> sums: array<vec4f, HEAD_QUADS>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) index: u32) {\n  let head = workgroup.y;\n  let image = workgroup.z;\n  let token = workgroup.x * 64u + index;\n  let own_query = query_quad(image, head, token);\n  for (var d = 0u; d < HEAD_QUADS; d++) { sums[d] = vec4f(0.0); }\n  var maximum = NEVER;\n  var total = 0.0;\n  var scores: array<f32, BLOCK>;\n\n  for (var first = 0u; first < params.keys; first += BLOCK) {\n    for (var i = index; i < BLOCK * HEAD_QUADS; i += 64u) {\n      staged[i] = widen(key[key_quad(image, head, first + i / HEAD_QUADS) + i % HEAD_QUADS]);\n    }\n    workgroupBarrier();\n    var block_maximum = maximum;\n    for (var k = 0u; k < BLOCK; k++) { scores[k] = 0.0; }\n    for (var d = 0u; d < HEAD_QUADS; d++) {\n      let q = widen(query[own_query + d]);\n      for (var k = 0u; k < BLOCK; k++) { scores[k] += dot(q, staged[k * HEAD_QUADS + d]); }\n    }\n    for (var k = 0u; k < BLOCK; k++) {\n      let seen = first + k < params.keys && (params.causal == 0u || first + k <= token);\n      scores[k] = select(NEVER, scores[k] * params.scale, seen);\n      block_maximum = max(block_maximum, scores[k]);\n    }\n    workgroupBarrier();\n    for (var i = index; i < BLOCK * HEAD_QUADS; i += 64u) {\n      staged[i] = widen(value[value_quad(image, head, first + i / HEAD_QUADS) + i % HEAD_QUADS]);\n    }\n    workgroupBarrier();\n    let rescale = exp(maximum - block_maximum);\n    maximum = block_maximum;\n    total *= rescale;\n    for (var k = 0u; k < BLOCK; k++) {\n      scores[k] = exp(scores[k] - maximum);\n      total += scores[k];\n    }\n    for (var d = 0u; d < HEAD_QUADS; d++) {\n      var sum = sums[d] * rescale;\n      for (var k = 0u; k < BLOCK; k++) { sum += scores[k] * staged[k * HEAD_QUADS + d]; }\n      sums[d] = sum;\n    }\n    workgroupBarrier();\n  }\n\n  if (token >= params.queries) { return; }\n  for (var d = 0u; d < HEAD_QUADS; d++) { out[out_quad(image, head, token) + d] = narrow(sums[d] / total); }\n}\n";
//#endregion
//#region shaders/prelude/attention.wgsl
var attention_default = "// What the variants of attention share.\n//\n//   out[q, h] = Σ_k softmax_k( scale · ⟨query[q, h], key[k, h]⟩ ) · value[k, h]      (k ≤ q only, where causal)\n//\n// query, key, value: [image, token, …], read at an offset inside rows of any width, so that one product can make all\n// three; a head is HEAD_QUADS quads, zero-padded where the head's width is not a multiple of four. out: [image, token, head, HEAD_QUADS].\n// The softmax runs online (Milakov & Gimelshein 2018): no score matrix is ever stored.\nstruct Params {\n  images: u32, heads: u32, queries: u32, keys: u32,\n  query_row: u32, query_offset: u32, key_row: u32, key_offset: u32,\n  value_row: u32, value_offset: u32, causal: u32, scale: f32,\n  rows: u32, grid_width: u32,  // tokens of an image in a texture: the more of queries and keys\n}\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> query: array<Quad>;\n@group(0) @binding(2) var<storage, read> key: array<Quad>;\n@group(0) @binding(3) var<storage, read> value: array<Quad>;\n@group(0) @binding(4) var<storage, read_write> out: array<Quad>;\n\nconst NEVER = -1e30;  // a score that no softmax notices; finite, so that differences of two of them are not NaN\n\nfn query_quad(image: u32, head: u32, token: u32) -> u32 {\n  return (image * params.queries + min(token, params.queries - 1u)) * params.query_row + params.query_offset + head * HEAD_QUADS;\n}\nfn key_quad(image: u32, head: u32, token: u32) -> u32 {\n  return (image * params.keys + min(token, params.keys - 1u)) * params.key_row + params.key_offset + head * HEAD_QUADS;\n}\nfn value_quad(image: u32, head: u32, token: u32) -> u32 {\n  return (image * params.keys + min(token, params.keys - 1u)) * params.value_row + params.value_offset + head * HEAD_QUADS;\n}\nfn out_quad(image: u32, head: u32, token: u32) -> u32 {\n  return ((image * params.queries + token) * params.heads + head) * HEAD_QUADS;\n}\n";
//#endregion
//#region src/graph/variants.ts
/** Of convolutions, and of linear layers, which are convolutions too. */
const CONVOLUTION_VARIANTS = [
	"winograd",
	"narrow",
	"subgroup",
	"tiled",
	"matrix"
];
const ATTENTION_VARIANTS = [
	"textured",
	"subgroup",
	"tiled"
];
/** One dispatch, or one for the statistics and one for the rest. */
const GROUP_NORM_VARIANTS = ["joined", "apart"];
/** All names, of whatever family. */
const VARIANTS = [...new Set([
	...CONVOLUTION_VARIANTS,
	...ATTENTION_VARIANTS,
	...GROUP_NORM_VARIANTS
])];
/** The variants that can do a convolution on this adapter, by rule the best first. Never empty. */
function convolutionVariants(operation, target) {
	if (target.lanes === void 0) return ["tiled"];
	const rest = canMatrix(target) ? ["tiled", "matrix"] : ["tiled"];
	if (canNarrow(operation, target)) return savesByNarrow(operation, target.lanes) ? [
		"narrow",
		"subgroup",
		...rest
	] : [
		"subgroup",
		"narrow",
		...rest
	];
	if (!canWinograd(operation, target)) return ["subgroup", ...rest];
	return savesByWinograd(operation, target.lanes) ? [
		"winograd",
		"subgroup",
		...rest
	] : [
		"subgroup",
		"winograd",
		...rest
	];
}
/** Its operands are halves: activations and weights that are stored as such lose nothing. */
function canMatrix({ matrixUnit, storage, weights }) {
	return matrixUnit !== void 0 && storage === "f16" && weights === "f16";
}
const NARROW_LANES$1 = 3;
const NARROW_COST = .25;
function canNarrow(operation, target) {
	const { weight } = operation;
	return target.lanes !== void 0 && target.lanes >= NARROW_LANES$1 && weight.outputQuads < target.lanes && isSquare(operation) && target.textured?.(weight) !== true;
}
/** Whether so few of the lanes would have channels of their own that it is better to give them pixels: not of four lanes. */
function savesByNarrow({ weight }, lanes) {
	return lanes > 4 && weight.outputQuads * NARROW_COST < Math.ceil(weight.outputQuads / lanes);
}
function isSquare({ kernel }) {
	return kernel.height === 3 && kernel.width === 3 && kernel.stride === 1;
}
function canWinograd(operation, target) {
	const { weight } = operation;
	const wide = Math.min(weight.inputQuads, weight.outputQuads) >= WINOGRAD_MIN_QUADS;
	return target.winograd === true && isSquare(operation) && wide && transformedTexture(weight, target) !== void 0;
}
const WINOGRAD_MIN_QUADS = 8;
const WINOGRAD_TILES = [{
	rows: 16,
	quads: 2,
	cost: 1
}, {
	rows: 32,
	quads: 1,
	cost: 1.2
}];
const TRANSFORM_COST = 90;
/** The tile that costs least for so many output quads, and the quads that they take then, those without a channel too. */
function winogradTile(outQuads, lanes) {
	return WINOGRAD_TILES.map((tile) => {
		const unit = tile.quads * lanes;
		return {
			...tile,
			productQuads: Math.ceil(outQuads / unit) * unit
		};
	}).reduce((best, next) => next.productQuads * next.cost < best.productQuads * best.cost ? next : best);
}
/** Whether fewer products pay for the transforms: where there are many channels, and enough pixels to fill the tiles. */
function savesByWinograd({ weight, picture }, lanes) {
	const [inputs, outputs] = [weight.inputQuads * 4, weight.outputQuads * 4];
	const pixels = picture.images * picture.outHeight * picture.outWidth;
	const tiles = picture.images * Math.ceil(picture.outHeight / 4) * Math.ceil(picture.outWidth / 4);
	const atOnce = winogradTile(weight.outputQuads, lanes).rows;
	const rows = Math.ceil(tiles / atOnce) * atOnce;
	const direct = pixels * 9 * inputs * outputs;
	return rows * 36 * inputs * outputs + pixels * (inputs + outputs) * TRANSFORM_COST < direct;
}
/** The variants that can do an attention on this adapter, by rule the best first. Never empty. */
function attentionVariants(operation, target) {
	const { lanes, maxTextureDimension } = target;
	if (lanes === void 0) return ["tiled"];
	const { query, key, heads, head } = operation;
	const images = query.tensor.shape[0];
	if (!(Math.max(rowsOf(query.tensor), rowsOf(key.tensor)) <= maxTextureDimension && 3 * heads * head.padded / 4 <= maxTextureDimension) || head.padded / 4 > MAX_HEAD_QUADS_A_LANE * lanes) return ["subgroup", "tiled"];
	return rowsOf(key.tensor) / images >= MANY_KEYS && lanes >= MANY_LANES ? [
		"textured",
		"subgroup",
		"tiled"
	] : [
		"subgroup",
		"textured",
		"tiled"
	];
}
const MAX_HEAD_QUADS_A_LANE = 3;
const MANY_KEYS = 256;
const MANY_LANES = 8;
/** The variants that can do a group norm on this adapter, by rule the best first. Never empty. */
function groupNormVariants(operation, { lanes, storage }) {
	const { input, statistics } = operation;
	const isWhole = channelsOf(input) === channelsOf(statistics.input) && partsOf(input).length <= 2;
	if (lanes === void 0 || !isWhole) return ["apart"];
	return tensorBytes(input, storage) / input.shape[0] * (groupNormUnit(operation) / channelsOf(input)) <= MAX_UNIT_BYTES ? ["joined", "apart"] : ["apart", "joined"];
}
const MAX_UNIT_BYTES = 2 ** 19;
/** Channels of the fewest whole groups that are whole quads. */
function groupNormUnit({ groupChannels }) {
	return [
		1,
		2,
		4
	].map((groups) => groups * groupChannels).find((channels) => channels % 4 === 0);
}
function groupNormVariant(operation, target) {
	return chosen(operation, groupNormVariants(operation, target), target);
}
function convolutionVariant(operation, target) {
	return chosen(operation, convolutionVariants(operation, target), target);
}
function attentionVariant(operation, target) {
	return chosen(operation, attentionVariants(operation, target), target);
}
function chosen(operation, candidates, target) {
	const choice = target.choose?.(operation, candidates, target);
	return candidates.find((candidate) => candidate === choice) ?? candidates[0];
}
//#endregion
//#region src/graph/kernels/attention.ts
/** Attention: `shaders/attention_*.wgsl`. */
const QUERIES_A_LANE = 4;
const TILED_QUERIES = 64;
const TEXTURED_QUERIES = 16;
function lowerAttention(operation, target) {
	const { query, key, value, heads, head, output } = operation;
	const images = query.tensor.shape[0];
	const queries = rowsOf(query.tensor) / images;
	const keys = rowsOf(key.tensor) / images;
	const rows = Math.max(queries, keys);
	const headQuads = head.padded / 4;
	const constants = { HEAD_QUADS: headQuads };
	const block = (gridWidth) => params(...[
		images,
		heads,
		queries,
		keys
	], ...[
		quads(channelsOf(query.tensor)),
		query.offset / 4,
		quads(channelsOf(key.tensor)),
		key.offset / 4
	], ...[
		quads(channelsOf(value.tensor)),
		value.offset / 4,
		operation.causal,
		{ f32: 1 / Math.sqrt(head.width) }
	], ...[rows, gridWidth]);
	const operands = [
		{ tensor: query.tensor },
		{ tensor: key.tensor },
		{ tensor: value.tensor }
	];
	const form = attentionVariant(operation, target);
	if (form === "textured") {
		const staged = {
			name: "staged",
			width: 3 * heads * headQuads,
			height: images * rows
		};
		const { workgroups, width } = grid(images * rows * heads * headQuads);
		return [{
			kernel: kernel("attention_stage", attention_stage_default, target.storage, {
				preludes: [attention_default],
				constants
			}),
			label: operation.name,
			params: block(width),
			bindings: [
				...operands,
				"unused",
				{ scratch: staged }
			],
			workgroups
		}, {
			kernel: kernel("attention_textured", attention_textured_default, target.storage, {
				subgroups: target.lanes,
				preludes: [attention_default],
				constants
			}),
			label: operation.name,
			params: block(0),
			bindings: [
				"unused",
				"unused",
				"unused",
				{ tensor: output },
				{ scratch: staged }
			],
			workgroups: [
				Math.ceil(queries / TEXTURED_QUERIES),
				heads,
				images
			]
		}];
	}
	const variant = form === "subgroup" ? {
		name: "attention_subgroup",
		source: attention_subgroup_default,
		queries: target.lanes * QUERIES_A_LANE
	} : {
		name: "attention_tiled",
		source: attention_tiled_default,
		queries: TILED_QUERIES
	};
	return [{
		kernel: kernel(variant.name, variant.source, target.storage, {
			subgroups: form === "subgroup" ? target.lanes : void 0,
			preludes: [attention_default],
			constants
		}),
		label: operation.name,
		params: block(0),
		bindings: [...operands, { tensor: output }],
		workgroups: [
			Math.ceil(queries / variant.queries),
			heads,
			images
		]
	}];
}
//#endregion
//#region shaders/conv2d_matrix.wgsl
var conv2d_matrix_default = "// Convolution and matrix product on the matrix unit of a GPU (prelude/matrix_unit.wgsl): operands in f16, sums in f32.\n//\n// A workgroup of four subgroups owns 64 output pixels × 64 output channels, a subgroup 32 × 32 of them. For 32 input channels\n// at a time the workgroup stages 64 × 32 of the input and 32 × 64 of the weights, as halves; sums go by way of workgroup\n// memory to the epilogue, a matrix of each subgroup at a time. Not run on hardware yet: see docs/kernels.md.\nconst SUBGROUPS = 4u;\nconst SIDE = 32u;            // pixels, and channels, of a subgroup\nconst TILE_ROWS = 2u * SIDE;\nconst TILE_CHANNELS = 2u * SIDE;\nconst TILE_QUADS = TILE_CHANNELS / 4u;\nconst STEP = 32u;            // input channels staged at a time\nconst STEP_QUADS = STEP / 4u;\nconst DOWN = SIDE / MATRIX_ROWS;       // matrices of a subgroup below each other\nconst ACROSS = SIDE / MATRIX_COLUMNS;  // and beside each other\nconst MATRIX_SIZE = MATRIX_ROWS * MATRIX_COLUMNS;\nconst MATRIX_QUADS = MATRIX_COLUMNS / 4u;\n\nvar<workgroup> staged_input: array<f16, TILE_ROWS * STEP>;\nvar<workgroup> staged_weights: array<f16, STEP * TILE_CHANNELS>;\nvar<workgroup> staged_sums: array<f32, SUBGROUPS * MATRIX_SIZE>;\n\nfn stage_row(first: u32, row: vec4f) {\n  staged_weights[first] = f16(row.x);\n  staged_weights[first + 1u] = f16(row.y);\n  staged_weights[first + 2u] = f16(row.z);\n  staged_weights[first + 3u] = f16(row.w);\n}\n\n@compute @workgroup_size(SUBGROUPS * LANES)\nfn main(\n  @builtin(workgroup_id) workgroup: vec3u,\n  @builtin(local_invocation_index) index: u32,\n  @builtin(subgroup_id) subgroup: u32,\n  @builtin(subgroup_invocation_id) lane: u32,\n) {\n  let first_row = (workgroup.x + workgroup.z * params.grid_width) * TILE_ROWS;\n  let first_column = workgroup.y * TILE_QUADS;\n  let own_row = subgroup / 2u * SIDE;\n  let own_channel = subgroup % 2u * SIDE;\n\n  var sums: array<array<Sum, ACROSS>, DOWN>;\n  for (var ky = 0u; ky < params.kernel_height; ky++) {\n    for (var kx = 0u; kx < params.kernel_width; kx++) {\n      let line = first_line(ky, kx);\n      for (var k = 0u; k < params.in_quads; k += STEP_QUADS) {\n        for (var i = index; i < TILE_ROWS * STEP_QUADS; i += SUBGROUPS * LANES) {\n          let quad = k + i % STEP_QUADS;\n          var value = vec4f(0.0);\n          if (quad < params.in_quads) {\n            value = load_input(input_quad(output_pixel(first_row + i / STEP_QUADS), ky, kx), quad);\n          }\n          staged_input[i * 4u] = f16(value.x);\n          staged_input[i * 4u + 1u] = f16(value.y);\n          staged_input[i * 4u + 2u] = f16(value.z);\n          staged_input[i * 4u + 3u] = f16(value.w);\n        }\n        for (var i = index; i < STEP_QUADS * TILE_QUADS; i += SUBGROUPS * LANES) {\n          let step = i / TILE_QUADS;\n          let column = i % TILE_QUADS;\n          var tile = Outer();\n          if (k + step < params.in_quads) {\n            tile = weight_tile(line + k + step, params.first_out_quad + min(first_column + column, params.out_quads - 1u));\n          }\n          let first = step * 4u * TILE_CHANNELS + column * 4u;\n          stage_row(first, tile.row0);\n          stage_row(first + TILE_CHANNELS, tile.row1);\n          stage_row(first + 2u * TILE_CHANNELS, tile.row2);\n          stage_row(first + 3u * TILE_CHANNELS, tile.row3);\n        }\n        workgroupBarrier();\n        for (var step = 0u; step < STEP; step += MATRIX_INNER) {\n          for (var down = 0u; down < DOWN; down++) {\n            let left = load_left((own_row + down * MATRIX_ROWS) * STEP + step);\n            for (var across = 0u; across < ACROSS; across++) {\n              let right = load_right(step * TILE_CHANNELS + own_channel + across * MATRIX_COLUMNS);\n              sums[down][across] = multiply_add(left, right, sums[down][across]);\n            }\n          }\n        }\n        workgroupBarrier();\n      }\n    }\n  }\n  let first_sum = subgroup * MATRIX_SIZE;\n  for (var down = 0u; down < DOWN; down++) {\n    for (var across = 0u; across < ACROSS; across++) {\n      store_sum(sums[down][across], first_sum);\n      workgroupBarrier();\n      for (var i = lane; i < MATRIX_SIZE / 4u; i += LANES) {\n        let at = first_sum + i * 4u;\n        let row = first_row + own_row + down * MATRIX_ROWS + i / MATRIX_QUADS;\n        let column = first_column + (own_channel + across * MATRIX_COLUMNS) / 4u + i % MATRIX_QUADS;\n        finish(row, column, vec4f(staged_sums[at], staged_sums[at + 1u], staged_sums[at + 2u], staged_sums[at + 3u]));\n      }\n      workgroupBarrier();\n    }\n  }\n}\n";
//#endregion
//#region shaders/conv2d_subgroup.wgsl
var conv2d_subgroup_default = "// Convolution and matrix product as an outer product inside one subgroup: the form for software adapters, where a\n// subgroup is a vector register and workgroup memory and barriers are dear (see docs/kernels.md).\n//\n// One workgroup is one subgroup and owns ROWS output pixels × QUADS·LANES quads of output channels. For four input channels\n// at a time, lane l loads its own tiles of weights (columns l and l + LANES) and the quads of the pixels it owns (l,\n// l + LANES, …); each pixel's quad is then broadcast and accumulated. No element is loaded twice.\n//\n// A load is far more code than a product here, and code that outgrows the instruction cache is what limits the size of a\n// tile: hence 16 pixels × 2 quads a lane, and 8 × 2 or 32 × 1 where pixels or channels are few. Weights are loaded before\n// the input: a load from a texture is a call, over which no register lives.\nconst OWNED = (ROWS + LANES - 1u) / LANES;  // pixels whose input one lane loads: 8, 4, 2 or 1\n\nfn multiply(a: vec4f, b: Outer) -> vec4f {\n  return a.x * b.row0 + a.y * b.row1 + a.z * b.row2 + a.w * b.row3;\n}\n\n@compute @workgroup_size(LANES)\nfn main(\n  @builtin(workgroup_id) workgroup: vec3u,\n  @builtin(subgroup_invocation_id) lane: u32,\n) {\n  let first_row = (workgroup.x + workgroup.z * params.grid_width) * ROWS;\n  let column0 = workgroup.y * QUADS * LANES + lane;\n  let column1 = column0 + LANES;\n  let weights0 = params.first_out_quad + min(column0, params.out_quads - 1u);\n  let weights1 = params.first_out_quad + min(column1, params.out_quads - 1u);\n\n  let owned = lane % ROWS;\n  let pixel0 = output_pixel(first_row + owned);\n  let pixel1 = output_pixel(first_row + owned + LANES);\n  let pixel2 = output_pixel(first_row + owned + 2u * LANES);\n  let pixel3 = output_pixel(first_row + owned + 3u * LANES);\n  let pixel4 = output_pixel(first_row + owned + 4u * LANES);\n  let pixel5 = output_pixel(first_row + owned + 5u * LANES);\n  let pixel6 = output_pixel(first_row + owned + 6u * LANES);\n  let pixel7 = output_pixel(first_row + owned + 7u * LANES);\n\n  var sum0: array<vec4f, ROWS>;\n  var sum1: array<vec4f, ROWS>;\n  var input: array<vec4f, OWNED>;\n  for (var ky = 0u; ky < params.kernel_height; ky++) {\n    for (var kx = 0u; kx < params.kernel_width; kx++) {\n      var line = first_line(ky, kx);\n      let source0 = input_quad(pixel0, ky, kx);\n      var source1 = 0u;\n      var source2 = 0u;\n      var source3 = 0u;\n      var source4 = 0u;\n      var source5 = 0u;\n      var source6 = 0u;\n      var source7 = 0u;\n      if (OWNED > 1u) { source1 = input_quad(pixel1, ky, kx); }\n      if (OWNED > 2u) { source2 = input_quad(pixel2, ky, kx); source3 = input_quad(pixel3, ky, kx); }\n      if (OWNED > 4u) {\n        source4 = input_quad(pixel4, ky, kx);\n        source5 = input_quad(pixel5, ky, kx);\n        source6 = input_quad(pixel6, ky, kx);\n        source7 = input_quad(pixel7, ky, kx);\n      }\n      for (var k = 0u; k < params.in_quads; k++) {\n        let b0 = weight_tile(line, weights0);\n        var b1 = b0;\n        if (QUADS > 1u) { b1 = weight_tile(line, weights1); }\n        line++;\n        input[0] = load_input(source0, k);\n        if (OWNED > 1u) { input[1u % OWNED] = load_input(source1, k); }\n        if (OWNED > 2u) { input[2u % OWNED] = load_input(source2, k); input[3u % OWNED] = load_input(source3, k); }\n        if (OWNED > 4u) {\n          input[4u % OWNED] = load_input(source4, k);\n          input[5u % OWNED] = load_input(source5, k);\n          input[6u % OWNED] = load_input(source6, k);\n          input[7u % OWNED] = load_input(source7, k);\n        }\n        var a: vec4f;\n        a = subgroupBroadcast(input[0u / LANES % OWNED], 0u % LANES);\n        sum0[0u % ROWS] += multiply(a, b0);\n        if (QUADS > 1u) { sum1[0u % ROWS] += multiply(a, b1); }\n        a = subgroupBroadcast(input[1u / LANES % OWNED], 1u % LANES);\n        sum0[1u % ROWS] += multiply(a, b0);\n        if (QUADS > 1u) { sum1[1u % ROWS] += multiply(a, b1); }\n        a = subgroupBroadcast(input[2u / LANES % OWNED], 2u % LANES);\n        sum0[2u % ROWS] += multiply(a, b0);\n        if (QUADS > 1u) { sum1[2u % ROWS] += multiply(a, b1); }\n        a = subgroupBroadcast(input[3u / LANES % OWNED], 3u % LANES);\n        sum0[3u % ROWS] += multiply(a, b0);\n        if (QUADS > 1u) { sum1[3u % ROWS] += multiply(a, b1); }\n        a = subgroupBroadcast(input[4u / LANES % OWNED], 4u % LANES);\n        sum0[4u % ROWS] += multiply(a, b0);\n        if (QUADS > 1u) { sum1[4u % ROWS] += multiply(a, b1); }\n        a = subgroupBroadcast(input[5u / LANES % OWNED], 5u % LANES);\n        sum0[5u % ROWS] += multiply(a, b0);\n        if (QUADS > 1u) { sum1[5u % ROWS] += multiply(a, b1); }\n        a = subgroupBroadcast(input[6u / LANES % OWNED], 6u % LANES);\n        sum0[6u % ROWS] += multiply(a, b0);\n        if (QUADS > 1u) { sum1[6u % ROWS] += multiply(a, b1); }\n        a = subgroupBroadcast(input[7u / LANES % OWNED], 7u % LANES);\n        sum0[7u % ROWS] += multiply(a, b0);\n        if (QUADS > 1u) { sum1[7u % ROWS] += multiply(a, b1); }\n        if (ROWS > 8u) {\n          a = subgroupBroadcast(input[8u / LANES % OWNED], 8u % LANES);\n          sum0[8u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[8u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[9u / LANES % OWNED], 9u % LANES);\n          sum0[9u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[9u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[10u / LANES % OWNED], 10u % LANES);\n          sum0[10u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[10u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[11u / LANES % OWNED], 11u % LANES);\n          sum0[11u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[11u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[12u / LANES % OWNED], 12u % LANES);\n          sum0[12u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[12u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[13u / LANES % OWNED], 13u % LANES);\n          sum0[13u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[13u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[14u / LANES % OWNED], 14u % LANES);\n          sum0[14u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[14u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[15u / LANES % OWNED], 15u % LANES);\n          sum0[15u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[15u % ROWS] += multiply(a, b1); }\n        }\n        if (ROWS > 16u) {\n          a = subgroupBroadcast(input[16u / LANES % OWNED], 16u % LANES);\n          sum0[16u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[16u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[17u / LANES % OWNED], 17u % LANES);\n          sum0[17u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[17u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[18u / LANES % OWNED], 18u % LANES);\n          sum0[18u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[18u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[19u / LANES % OWNED], 19u % LANES);\n          sum0[19u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[19u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[20u / LANES % OWNED], 20u % LANES);\n          sum0[20u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[20u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[21u / LANES % OWNED], 21u % LANES);\n          sum0[21u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[21u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[22u / LANES % OWNED], 22u % LANES);\n          sum0[22u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[22u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[23u / LANES % OWNED], 23u % LANES);\n          sum0[23u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[23u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[24u / LANES % OWNED], 24u % LANES);\n          sum0[24u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[24u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[25u / LANES % OWNED], 25u % LANES);\n          sum0[25u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[25u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[26u / LANES % OWNED], 26u % LANES);\n          sum0[26u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[26u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[27u / LANES % OWNED], 27u % LANES);\n          sum0[27u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[27u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[28u / LANES % OWNED], 28u % LANES);\n          sum0[28u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[28u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[29u / LANES % OWNED], 29u % LANES);\n          sum0[29u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[29u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[30u / LANES % OWNED], 30u % LANES);\n          sum0[30u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[30u % ROWS] += multiply(a, b1); }\n          a = subgroupBroadcast(input[31u / LANES % OWNED], 31u % LANES);\n          sum0[31u % ROWS] += multiply(a, b0);\n          if (QUADS > 1u) { sum1[31u % ROWS] += multiply(a, b1); }\n        }\n      }\n    }\n  }\n  // A loop of a length that no compiler knows: unrolled, the epilogue ROWS times over is most of the kernel's code, and\n  // lavapipe compiles it for half a minute instead of a second. Indexed by the loop, `done` lies in memory; sum does not.\n  var done0 = sum0;\n  var done1 = sum1;\n  let count = min(ROWS, params.rows - first_row);\n  for (var i = 0u; i < count * QUADS; i++) {\n    let row = i / QUADS;\n    let second = i % QUADS == 1u;\n    finish(first_row + row, select(column0, column1, second), select(done0[row], done1[row], second));\n  }\n}\n";
//#endregion
//#region shaders/conv2d_subgroup_quad.wgsl
var conv2d_subgroup_quad_default = "// Convolution and matrix product as an outer product inside one subgroup of four: conv2d_subgroup.wgsl for SwiftShader, which\n// keeps values in memory rather than in registers whatever the kernel does (see docs/kernels.md).\n//\n// One workgroup is one subgroup and owns ROWS output pixels × QUADS·LANES quads of output channels. For four input channels\n// at a time, lane l loads its own tiles of weights (columns l, l + LANES, …) and the quads of the pixels that it owns (l,\n// l + LANES, …); a pixel's quad then goes round the lanes. What costs are the loads, each a branch and a check of bounds\n// for each lane and component: hence 32 pixels × 4 quads a lane, and fewer where pixels or channels are few.\nconst OWNED = ROWS / LANES;  // pixels whose input one lane loads: 8 or 2\n\n@compute @workgroup_size(LANES)\nfn main(\n  @builtin(workgroup_id) workgroup: vec3u,\n  @builtin(subgroup_invocation_id) lane: u32,\n) {\n  let first_row = (workgroup.x + workgroup.z * params.grid_width) * ROWS;\n  let first_column = workgroup.y * QUADS * LANES + lane;\n  let last = params.out_quads - 1u;\n  let weights0 = params.first_out_quad + min(first_column, last);\n  let weights1 = params.first_out_quad + min(first_column + LANES, last);\n  let weights2 = params.first_out_quad + min(first_column + 2u * LANES, last);\n  let weights3 = params.first_out_quad + min(first_column + 3u * LANES, last);\n\n  let pixel0 = output_pixel(first_row + lane);\n  let pixel1 = output_pixel(first_row + lane + LANES);\n  let pixel2 = output_pixel(first_row + lane + 2u * LANES);\n  let pixel3 = output_pixel(first_row + lane + 3u * LANES);\n  let pixel4 = output_pixel(first_row + lane + 4u * LANES);\n  let pixel5 = output_pixel(first_row + lane + 5u * LANES);\n  let pixel6 = output_pixel(first_row + lane + 6u * LANES);\n  let pixel7 = output_pixel(first_row + lane + 7u * LANES);\n\n  var sum0: array<Four, OWNED>;\n  var sum1: array<Four, OWNED>;\n  var sum2: array<Four, OWNED>;\n  var sum3: array<Four, OWNED>;\n  for (var ky = 0u; ky < params.kernel_height; ky++) {\n    for (var kx = 0u; kx < params.kernel_width; kx++) {\n      var line = first_line(ky, kx);\n      let source0 = input_quad(pixel0, ky, kx);\n      let source1 = input_quad(pixel1, ky, kx);\n      var source2 = 0u;\n      var source3 = 0u;\n      var source4 = 0u;\n      var source5 = 0u;\n      var source6 = 0u;\n      var source7 = 0u;\n      if (OWNED > 2u) {\n        source2 = input_quad(pixel2, ky, kx);\n        source3 = input_quad(pixel3, ky, kx);\n        source4 = input_quad(pixel4, ky, kx);\n        source5 = input_quad(pixel5, ky, kx);\n        source6 = input_quad(pixel6, ky, kx);\n        source7 = input_quad(pixel7, ky, kx);\n      }\n      for (var k = 0u; k < params.in_quads; k++) {\n        let b0 = weight_tile(line, weights0);\n        var b1 = b0;\n        var b2 = b0;\n        var b3 = b0;\n        if (QUADS > 1u) { b1 = weight_tile(line, weights1); }\n        if (QUADS > 2u) { b2 = weight_tile(line, weights2); b3 = weight_tile(line, weights3); }\n        line++;\n        var a: Four;\n        a = swapped(load_input(source0, k));\n        sum0[0] = add_products(sum0[0], a, b0);\n        if (QUADS > 1u) { sum1[0] = add_products(sum1[0], a, b1); }\n        if (QUADS > 2u) { sum2[0] = add_products(sum2[0], a, b2); sum3[0] = add_products(sum3[0], a, b3); }\n        a = swapped(load_input(source1, k));\n        sum0[1] = add_products(sum0[1], a, b0);\n        if (QUADS > 1u) { sum1[1] = add_products(sum1[1], a, b1); }\n        if (QUADS > 2u) { sum2[1] = add_products(sum2[1], a, b2); sum3[1] = add_products(sum3[1], a, b3); }\n        if (OWNED > 2u) {\n          a = swapped(load_input(source2, k));\n          sum0[2u % OWNED] = add_products(sum0[2u % OWNED], a, b0);\n          if (QUADS > 1u) { sum1[2u % OWNED] = add_products(sum1[2u % OWNED], a, b1); }\n          if (QUADS > 2u) { sum2[2u % OWNED] = add_products(sum2[2u % OWNED], a, b2); sum3[2u % OWNED] = add_products(sum3[2u % OWNED], a, b3); }\n          a = swapped(load_input(source3, k));\n          sum0[3u % OWNED] = add_products(sum0[3u % OWNED], a, b0);\n          if (QUADS > 1u) { sum1[3u % OWNED] = add_products(sum1[3u % OWNED], a, b1); }\n          if (QUADS > 2u) { sum2[3u % OWNED] = add_products(sum2[3u % OWNED], a, b2); sum3[3u % OWNED] = add_products(sum3[3u % OWNED], a, b3); }\n          a = swapped(load_input(source4, k));\n          sum0[4u % OWNED] = add_products(sum0[4u % OWNED], a, b0);\n          if (QUADS > 1u) { sum1[4u % OWNED] = add_products(sum1[4u % OWNED], a, b1); }\n          if (QUADS > 2u) { sum2[4u % OWNED] = add_products(sum2[4u % OWNED], a, b2); sum3[4u % OWNED] = add_products(sum3[4u % OWNED], a, b3); }\n          a = swapped(load_input(source5, k));\n          sum0[5u % OWNED] = add_products(sum0[5u % OWNED], a, b0);\n          if (QUADS > 1u) { sum1[5u % OWNED] = add_products(sum1[5u % OWNED], a, b1); }\n          if (QUADS > 2u) { sum2[5u % OWNED] = add_products(sum2[5u % OWNED], a, b2); sum3[5u % OWNED] = add_products(sum3[5u % OWNED], a, b3); }\n          a = swapped(load_input(source6, k));\n          sum0[6u % OWNED] = add_products(sum0[6u % OWNED], a, b0);\n          if (QUADS > 1u) { sum1[6u % OWNED] = add_products(sum1[6u % OWNED], a, b1); }\n          if (QUADS > 2u) { sum2[6u % OWNED] = add_products(sum2[6u % OWNED], a, b2); sum3[6u % OWNED] = add_products(sum3[6u % OWNED], a, b3); }\n          a = swapped(load_input(source7, k));\n          sum0[7u % OWNED] = add_products(sum0[7u % OWNED], a, b0);\n          if (QUADS > 1u) { sum1[7u % OWNED] = add_products(sum1[7u % OWNED], a, b1); }\n          if (QUADS > 2u) { sum2[7u % OWNED] = add_products(sum2[7u % OWNED], a, b2); sum3[7u % OWNED] = add_products(sum3[7u % OWNED], a, b3); }\n        }\n      }\n    }\n  }\n  // In memory, so that the epilogue can be a loop instead of being compiled ROWS · QUADS times over. No division: it is done\n  // lane by lane.\n  var done: array<array<Four, OWNED>, 4>;\n  done[0] = sum0;\n  if (QUADS > 1u) { done[1] = sum1; }\n  if (QUADS > 2u) { done[2] = sum2; done[3] = sum3; }\n  let count = min(ROWS, (params.rows - first_row + 3u) & ~3u);\n  for (var quad = 0u; quad < QUADS; quad++) {\n    for (var row = 0u; row < count; row++) {\n      finish(first_row + (row ^ lane), first_column + quad * LANES, done[quad][row >> 2u][row & 3u]);\n    }\n  }\n}\n";
//#endregion
//#region shaders/conv2d_tiled.wgsl
var conv2d_tiled_default = "// Convolution and matrix product over tiles in workgroup memory: the form for GPUs, and for any adapter whose subgroup\n// size is not known before the pipeline is made.\n//\n// A workgroup of 16 × 16 invocations owns 64 output pixels × 64 output channels; an invocation owns 4 pixels × 1 quad.\n// For 16 input channels at a time it stages 64 × 4 quads of input and 4 × 16 tiles of weights.\nconst TILE_ROWS = 64u;\nconst TILE_QUADS = 16u;  // output channels, in quads\nconst STEP_QUADS = 4u;   // input channels staged at a time, in quads\n\nvar<workgroup> staged_input: array<array<vec4f, STEP_QUADS>, TILE_ROWS>;\nvar<workgroup> staged_weights: array<array<array<vec4f, 4>, TILE_QUADS>, STEP_QUADS>;\n\n@compute @workgroup_size(16, 16)\nfn main(\n  @builtin(workgroup_id) workgroup: vec3u,\n  @builtin(local_invocation_id) local: vec3u,\n  @builtin(local_invocation_index) index: u32,\n) {\n  let first_row = (workgroup.x + workgroup.z * params.grid_width) * TILE_ROWS;\n  let first_column = workgroup.y * TILE_QUADS;\n\n  // What this invocation stages: one quad of input, one row of a tile of weights.\n  let input_row = index / STEP_QUADS;\n  let input_step = index % STEP_QUADS;\n  let pixel = output_pixel(first_row + input_row);\n  let weight_step = index / 64u;\n  let weight_column = index % 16u;\n  let weight_row = (index / 16u) % 4u;\n  let weight_quad = params.first_out_quad + min(first_column + weight_column, params.out_quads - 1u);\n\n  var sum: array<vec4f, 4>;\n  for (var ky = 0u; ky < params.kernel_height; ky++) {\n    for (var kx = 0u; kx < params.kernel_width; kx++) {\n      let line = first_line(ky, kx);\n      let source = input_quad(pixel, ky, kx);\n      for (var k = 0u; k < params.in_quads; k += STEP_QUADS) {\n        var quad = vec4f(0.0);\n        if (k + input_step < params.in_quads) { quad = load_input(source, k + input_step); }\n        staged_input[input_row][input_step] = quad;\n        var row = vec4f(0.0);\n        if (k + weight_step < params.in_quads) {\n          let outer = weight_tile(line + k + weight_step, weight_quad);\n          row = select(select(outer.row0, outer.row1, weight_row == 1u), select(outer.row2, outer.row3, weight_row == 3u), weight_row > 1u);\n        }\n        staged_weights[weight_step][weight_column][weight_row] = row;\n        workgroupBarrier();\n        for (var step = 0u; step < STEP_QUADS; step++) {\n          let b0 = staged_weights[step][local.x][0];\n          let b1 = staged_weights[step][local.x][1];\n          let b2 = staged_weights[step][local.x][2];\n          let b3 = staged_weights[step][local.x][3];\n          let a0 = staged_input[local.y][step];\n          let a1 = staged_input[local.y + 16u][step];\n          let a2 = staged_input[local.y + 32u][step];\n          let a3 = staged_input[local.y + 48u][step];\n          sum[0] += a0.x * b0 + a0.y * b1 + a0.z * b2 + a0.w * b3;\n          sum[1] += a1.x * b0 + a1.y * b1 + a1.z * b2 + a1.w * b3;\n          sum[2] += a2.x * b0 + a2.y * b1 + a2.z * b2 + a2.w * b3;\n          sum[3] += a3.x * b0 + a3.y * b1 + a3.z * b2 + a3.w * b3;\n        }\n        workgroupBarrier();\n      }\n    }\n  }\n  let column = first_column + local.x;\n  finish(first_row + local.y, column, sum[0]);\n  finish(first_row + local.y + 16u, column, sum[1]);\n  finish(first_row + local.y + 32u, column, sum[2]);\n  finish(first_row + local.y + 48u, column, sum[3]);\n}\n";
//#endregion
//#region shaders/prelude/convolution.wgsl
var convolution_default = "// What the variants of convolution share: parameters, bindings, addresses and the epilogue.\n//\n//   out[m, o] = act₂( act₁( Σ_taps Σ_i x[pixel(m, tap), i] · w[tap, i, o] + bias[o] + per_image[image(m), o] ) + residual[m, o] )\n//\n// m counts output pixels over images, rows and columns. A matrix product is a convolution of kernel 1×1 over\n// pictures one pixel high. x, residual, out: NHWC, channels in quads. Weights: tiles [tap][input quad][output quad].\n// The input may be read as if it had been resized by nearest neighbour to virtual_height × virtual_width first.\n// x may be a part of the layer's input channels, from first_in_quad on: then the first part's dispatch leaves its sum in\n// out, the others add to it (accumulate), and the last one does the epilogue. residual and out may be a slice of the\n// layer's output channels, from first_out_quad on; bias has all of them, and\n// per_image too, as columns of rows that may be longer: from first_per_image_quad on. Binding 2 is the weights: tiles_*.wgsl.\n// What of the epilogue a dispatch has is told by epilogue_*.wgsl.\nstruct Params {\n  in_height: u32, in_width: u32, in_quads: u32, first_in_quad: u32,\n  virtual_height: u32, virtual_width: u32, out_height: u32, out_width: u32,\n  rows: u32, out_quads: u32, first_out_quad: u32, stride: u32,\n  kernel_height: u32, kernel_width: u32, pad_top: u32, pad_left: u32,\n  layer_in_quads: u32, layer_out_quads: u32, accumulate: u32, has_bias: u32,\n  has_per_image: u32, has_residual: u32, activation: u32, activation_after_residual: u32,\n  grid_width: u32,\n  first_tile: u32, tile_count: u32, tile_stride: u32, product_quads: u32,   // Winograd's tiles: tile_corner\n  tiles_high: u32, tiles_wide: u32, tile_side: u32, tile_pixels: u32,\n  per_image_quads: u32, first_per_image_quad: u32,\n}\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> x: array<Quad>;\n@group(0) @binding(3) var<storage, read> bias: array<vec4f>;\n@group(0) @binding(4) var<storage, read> per_image: array<Quad>;\n@group(0) @binding(5) var<storage, read> residual: array<Quad>;\n@group(0) @binding(6) var<storage, read_write> out: array<Quad>;\n\nconst HALO = 0xffffffffu;\n\nstruct Pixel { image: u32, y: u32, x: u32 }\n\nfn output_pixel(row: u32) -> Pixel {\n  let m = min(row, params.rows - 1u);\n  let line = m / params.out_width;\n  return Pixel(line / params.out_height, line % params.out_height, m % params.out_width);\n}\n\n// The output pixel in the upper left corner of a tile of tile_side × tile_side pixels.\nfn tile_corner(tile: u32) -> Pixel {\n  let line = tile / params.tiles_wide;\n  return Pixel(line / params.tiles_high, line % params.tiles_high * params.tile_side, tile % params.tiles_wide * params.tile_side);\n}\n\n// Row and column of the input that `pixel` sees at tap ky or kx, or HALO outside the picture.\nfn source_row(pixel: Pixel, ky: u32) -> u32 {\n  let y = pixel.y * params.stride + ky - params.pad_top;  // wraps below zero, and is then too large\n  return select(y * params.in_height / params.virtual_height, HALO, y >= params.virtual_height);\n}\nfn source_column(pixel: Pixel, kx: u32) -> u32 {\n  let x = pixel.x * params.stride + kx - params.pad_left;\n  return select(x * params.in_width / params.virtual_width, HALO, x >= params.virtual_width);\n}\n\n// Index of the first quad of an input pixel, or HALO where row or column is.\nfn source_quad(image: u32, row: u32, column: u32) -> u32 {\n  let quad = ((image * params.in_height + row) * params.in_width + column) * params.in_quads;\n  return select(quad, HALO, row == HALO || column == HALO);\n}\n\nfn input_quad(pixel: Pixel, ky: u32, kx: u32) -> u32 {\n  return source_quad(pixel.image, source_row(pixel, ky), source_column(pixel, kx));\n}\n\nfn load_input(first: u32, quad: u32) -> vec4f {\n  return select(vec4f(0.0), widen(x[select(first, 0u, first == HALO) + quad]), first != HALO);\n}\n\n// The line of tiles of weights (one tile for each output quad of the layer) that begins this dispatch's inputs at a tap.\nfn first_line(ky: u32, kx: u32) -> u32 {\n  return (ky * params.kernel_width + kx) * params.layer_in_quads + params.first_in_quad;\n}\n\nstruct Epilogue {\n  accumulate: bool, has_bias: bool, has_per_image: bool, has_residual: bool,\n  activation: u32, activation_after_residual: bool,\n}\n\nfn finish(row: u32, column: u32, sum: vec4f) {\n  if (row >= params.rows || column >= params.out_quads) { return; }\n  let wanted = epilogue();\n  let index = row * params.out_quads + column;\n  let layer_column = params.first_out_quad + column;\n  var value = sum;\n  if (wanted.accumulate) { value += widen(out[index]); }\n  if (wanted.has_bias) { value += bias[layer_column]; }\n  if (wanted.has_per_image) {\n    let image = row / (params.out_height * params.out_width);\n    value += widen(per_image[image * params.per_image_quads + params.first_per_image_quad + layer_column]);\n  }\n  // `activate` stands here once: it is the longest part of the epilogue.\n  var added = vec4f(0.0);\n  if (wanted.has_residual) { added = widen(residual[index]); }\n  if (wanted.activation_after_residual) { value += added; }\n  value = activate(value, wanted.activation);\n  if (!wanted.activation_after_residual) { value += added; }\n  out[index] = narrow(value);\n}\n";
//#endregion
//#region shaders/prelude/epilogue_constant.wgsl
var epilogue_constant_default = "// What a convolution ends with, fixed for a pipeline: for SwiftShader, which goes through both sides of every branch.\nfn epilogue() -> Epilogue {\n  return Epilogue(\n    ACCUMULATE != 0u, HAS_BIAS != 0u, HAS_PER_IMAGE != 0u, HAS_RESIDUAL != 0u,\n    ACTIVATION, ACTIVATION_AFTER_RESIDUAL != 0u,\n  );\n}\n";
//#endregion
//#region shaders/prelude/epilogue_uniform.wgsl
var epilogue_uniform_default = "// What a convolution ends with, told by its parameters: one pipeline does for all layers.\nfn epilogue() -> Epilogue {\n  return Epilogue(\n    params.accumulate != 0u, params.has_bias != 0u, params.has_per_image != 0u, params.has_residual != 0u,\n    params.activation, params.activation_after_residual != 0u,\n  );\n}\n";
//#endregion
//#region shaders/prelude/matrix_unit.wgsl
var matrix_unit_default = "// The matrix unit (tensor cores) as the chromium_experimental_subgroup_matrix extension of WGSL has it: a subgroup multiplies\n// matrices of MATRIX_ROWS × MATRIX_INNER by MATRIX_INNER × MATRIX_COLUMNS halves and adds in f32. No lane knows which elements\n// it holds; they come from workgroup memory and go back there. Types name columns before rows.\nalias Left = subgroup_matrix_left<f16, MATRIX_INNER, MATRIX_ROWS>;\nalias Right = subgroup_matrix_right<f16, MATRIX_COLUMNS, MATRIX_INNER>;\nalias Sum = subgroup_matrix_result<f32, MATRIX_COLUMNS, MATRIX_ROWS>;\n\nfn load_left(first: u32) -> Left { return subgroupMatrixLoad<Left, row_major>(&staged_input, first, STEP); }\nfn load_right(first: u32) -> Right { return subgroupMatrixLoad<Right, row_major>(&staged_weights, first, TILE_CHANNELS); }\nfn multiply_add(left: Left, right: Right, sum: Sum) -> Sum { return subgroupMatrixMultiplyAccumulate(left, right, sum); }\nfn store_sum(sum: Sum, first: u32) { subgroupMatrixStore<row_major>(&staged_sums, first, sum, MATRIX_COLUMNS); }\n";
//#endregion
//#region shaders/prelude/quad_product.wgsl
var quad_product_default = "// An outer product inside a subgroup of four lanes, as SwiftShader's are: four pixels, one a lane, by a tile of weights a lane.\n//\n// A broadcast is twenty instructions there, for each component, and a swap within a quad is one. So the pixels change\n// places instead: lane l adds to the sums of pixels l, l ^ 1, l ^ 2 and l ^ 3, in this order.\nalias Four = array<vec4f, 4>;\n\nfn swapped(own: vec4f) -> Four { return Four(own, quadSwapX(own), quadSwapY(own), quadSwapDiagonal(own)); }\n\nfn add_products(sums: Four, pixels: Four, weights: Outer) -> Four {\n  return Four(\n    add_product(sums[0], pixels[0], weights), add_product(sums[1], pixels[1], weights),\n    add_product(sums[2], pixels[2], weights), add_product(sums[3], pixels[3], weights),\n  );\n}\n\n// Component by component: code is made operation by operation, and products of whole vectors would all have to be kept\n// until they are added.\nfn add_product(sum: vec4f, a: vec4f, b: Outer) -> vec4f {\n  return vec4f(\n    sum.x + a.x * b.row0.x + a.y * b.row1.x + a.z * b.row2.x + a.w * b.row3.x,\n    sum.y + a.x * b.row0.y + a.y * b.row1.y + a.z * b.row2.y + a.w * b.row3.y,\n    sum.z + a.x * b.row0.z + a.y * b.row1.z + a.z * b.row2.z + a.w * b.row3.z,\n    sum.w + a.x * b.row0.w + a.y * b.row1.w + a.z * b.row2.w + a.w * b.row3.w,\n  );\n}\n";
//#endregion
//#region shaders/prelude/tiles_buffer.wgsl
var tiles_buffer_default = "// Weights in a buffer: lines of layer_out_quads tiles, a line for each tap and input quad.\n@group(0) @binding(2) var<storage, read> weights: array<Tile>;\nfn weight_tile(line: u32, column: u32) -> Outer { return unpack_tile(weights[line * params.layer_out_quads + column]); }\n";
//#endregion
//#region shaders/prelude/tiles_texture_f16.wgsl
var tiles_texture_f16_default = "// Weights in a texture, as f16 pairs: a row of texels is a line of tiles, a texel half a tile (two input channels × 4 outputs).\n@group(0) @binding(2) var weights: texture_storage_2d<rgba32uint, read>;\nfn weight_tile(line: u32, column: u32) -> Outer {\n  let x = column * 2u;\n  return unpack_tile(Tile(textureLoad(weights, vec2u(x, line)), textureLoad(weights, vec2u(x + 1u, line))));\n}\n";
//#endregion
//#region shaders/prelude/tiles_texture_f32.wgsl
var tiles_texture_f32_default = "// Weights in a texture: a row of texels is a line of tiles, a texel a row of a tile (one input channel × 4 outputs).\n@group(0) @binding(2) var weights: texture_storage_2d<rgba32float, read>;\nfn weight_tile(line: u32, column: u32) -> Outer {\n  let x = column * 4u;\n  return Outer(\n    textureLoad(weights, vec2u(x, line)),\n    textureLoad(weights, vec2u(x + 1u, line)),\n    textureLoad(weights, vec2u(x + 2u, line)),\n    textureLoad(weights, vec2u(x + 3u, line)),\n  );\n}\n";
//#endregion
//#region shaders/conv2d_narrow.wgsl
var conv2d_narrow_default = "// 3 × 3 convolution, stride 1, to few output channels (the last layer of a decoder has three): a lane owns pixels, where\n// conv2d_subgroup.wgsl has it own channels, of which there would not be enough for the lanes.\n//\n// One workgroup is one subgroup. Each lane owns WIDTH neighbouring pixels of a row and one quad of output channels, the\n// workgroup's; the WIDTH + 2 input pixels that those see are loaded once for each row of the kernel. Lanes 0 to 2 load the\n// tiles of weights of that row's taps, and all get them by broadcast.\nconst WIDTH = 8u;\nconst TAPS = 3u;\n\nfn multiply(a: vec4f, b: Outer) -> vec4f {\n  return a.x * b.row0 + a.y * b.row1 + a.z * b.row2 + a.w * b.row3;\n}\n\n@compute @workgroup_size(LANES)\nfn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {\n  let index = (workgroup.x + workgroup.z * params.grid_width) * LANES + lane;\n  let owned = min(index, params.tile_count - 1u);\n  let line = owned / params.tiles_wide;\n  let first = Pixel(line / params.out_height, line % params.out_height, owned % params.tiles_wide * WIDTH);\n  let column = workgroup.y;\n  let weights_column = params.first_out_quad + column;\n\n  var columns: array<u32, WIDTH + TAPS - 1u>;\n  for (var x = 0u; x < WIDTH + TAPS - 1u; x++) { columns[x] = source_column(first, x); }\n  var sum: array<vec4f, WIDTH>;\n  for (var ky = 0u; ky < TAPS; ky++) {\n    let row = source_row(first, ky);\n    let weights_line = first_line(ky, min(lane, TAPS - 1u));\n    for (var k = 0u; k < params.in_quads; k++) {\n      let tile = weight_tile(weights_line + k, weights_column);\n      let left = Outer(\n        subgroupBroadcast(tile.row0, 0u), subgroupBroadcast(tile.row1, 0u),\n        subgroupBroadcast(tile.row2, 0u), subgroupBroadcast(tile.row3, 0u),\n      );\n      let middle = Outer(\n        subgroupBroadcast(tile.row0, 1u), subgroupBroadcast(tile.row1, 1u),\n        subgroupBroadcast(tile.row2, 1u), subgroupBroadcast(tile.row3, 1u),\n      );\n      let right = Outer(\n        subgroupBroadcast(tile.row0, 2u), subgroupBroadcast(tile.row1, 2u),\n        subgroupBroadcast(tile.row2, 2u), subgroupBroadcast(tile.row3, 2u),\n      );\n      var a = load_input(source_quad(first.image, row, columns[0]), k);\n      var b = load_input(source_quad(first.image, row, columns[1]), k);\n      for (var x = 0u; x < WIDTH; x++) {\n        let c = load_input(source_quad(first.image, row, columns[x + 2u]), k);\n        sum[x] += multiply(a, left) + multiply(b, middle) + multiply(c, right);\n        a = b;\n        b = c;\n      }\n    }\n  }\n  if (index >= params.tile_count) { return; }\n  // Not unrolled, for the reason that conv2d_subgroup.wgsl gives: params.tile_side is WIDTH, and no compiler knows it.\n  for (var x = 0u; x < params.tile_side; x++) {\n    if (first.x + x < params.out_width) { finish(line * params.out_width + first.x + x, column, sum[x]); }\n  }\n}\n";
//#endregion
//#region src/graph/kernels/narrow.ts
/** 3 × 3 convolutions to few output channels: `shaders/conv2d_narrow.wgsl`. */
const WIDTH = 8;
/** `operation` is one that `convolutionVariants` offers this form for. */
function lowerNarrow(operation, { storage, weights, lanes }) {
	const { picture, weight, bias, perImage, residual } = operation;
	const outQuads = quads(channelsOf(operation.output));
	const high = picture.outHeight;
	const wide = Math.ceil(picture.outWidth / WIDTH);
	const count = picture.images * high * wide;
	const { width, height } = fold(Math.ceil(count / lanes));
	const parts = partsOf(operation.input);
	let firstInQuad = 0;
	return parts.map((input, part) => {
		const isLast = part === parts.length - 1;
		const wanted = {
			accumulate: part > 0,
			epilogue: isLast
		};
		const ending = epilogueCode(operation, wanted, lanes);
		const block = convolutionParams(operation, {
			input,
			firstInQuad,
			...wanted,
			gridWidth: width,
			tiles: {
				first: 0,
				count,
				stride: 0,
				productQuads: 0,
				high,
				wide,
				side: WIDTH
			}
		});
		firstInQuad += quads(channelsOf(input));
		const epilogue = (tensor) => isLast && tensor ? { tensor } : "blank";
		return {
			kernel: kernel("conv2d_narrow", conv2d_narrow_default, storage, {
				weights,
				subgroups: lanes,
				preludes: [
					convolution_default,
					ending.prelude,
					tiles_buffer_default
				],
				constants: ending.constants
			}),
			label: operation.name,
			params: block,
			bindings: [
				{ tensor: input },
				{ parameter: weight },
				isLast && bias ? { parameter: bias } : "blank",
				epilogue(perImage?.tensor),
				epilogue(residual),
				{ tensor: operation.output }
			],
			workgroups: [
				width,
				outQuads,
				height
			]
		};
	});
}
//#endregion
//#region shaders/winograd_input.wgsl
var winograd_input_default = "// Winograd convolution, first of three: the tiles of the input, transformed.\n//\n//   transformed[frequency, tile, i] = Bᵀ d B,   d: the POINTS × POINTS inputs that OUTPUTS × OUTPUTS outputs see\n//\n// A texel is a quad of input channels. Frequency (i, j) of a tile: columns from i · layer_in_quads on, row j · tile_stride + tile.\n// One invocation transforms one quad of one tile; tiles count from first_tile over images, rows and columns. The loop over\n// rows is a loop on purpose: 36 loads of a buffer one after the other are more code than an instruction cache holds.\n@group(0) @binding(7) var transformed: texture_storage_2d<rgba32float, write>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let quad = index % params.in_quads;\n  let tile = index / params.in_quads;\n  if (tile >= params.tile_count) { return; }\n  let corner = tile_corner(params.first_tile + tile);\n\n  // Divisions are dear: once a column, not once a load.\n  var columns: array<u32, POINTS>;\n  for (var x = 0u; x < POINTS; x++) { columns[x] = source_column(corner, x); }\n  var sum: array<array<vec4f, POINTS>, POINTS>;\n  for (var y = 0u; y < POINTS; y++) {\n    let row = source_row(corner, y);\n    var d: array<vec4f, POINTS>;\n    for (var x = 0u; x < POINTS; x++) { d[x] = load_input(source_quad(corner.image, row, columns[x]), quad); }\n    let along_x = input_transform(d);\n    let along_y = INPUT_COLUMNS[y];\n    for (var i = 0u; i < POINTS; i++) {\n      for (var j = 0u; j < POINTS; j++) { sum[i][j] += along_y[i] * along_x[j]; }\n    }\n  }\n  for (var i = 0u; i < POINTS; i++) {\n    for (var j = 0u; j < POINTS; j++) {\n      let column = i * params.layer_in_quads + params.first_in_quad + quad;\n      textureStore(transformed, vec2u(column, j * params.tile_stride + tile), sum[i][j]);\n    }\n  }\n}\n";
//#endregion
//#region shaders/winograd_output.wgsl
var winograd_output_default = "// Winograd convolution, last of three: the products back into pixels, and the epilogue.\n//\n//   out[pixels of a tile, o] = epilogue( Aᵀ m A ),   m[frequency] = products[frequency, tile, o]\n//\n// A texel is a quad of output channels. Frequency (i, j) of a tile: columns from i · product_quads on, row j · tile_stride + tile. One invocation makes one\n// quad of the OUTPUTS × OUTPUTS pixels of one tile, of which some may lie outside the picture.\n@group(0) @binding(7) var products: texture_storage_2d<rgba32float, read>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let quad = index % params.out_quads;\n  let tile = index / params.out_quads;\n  if (tile >= params.tile_count) { return; }\n  let corner = tile_corner(params.first_tile + tile);\n\n  var sum: array<array<vec4f, OUTPUTS>, OUTPUTS>;\n  for (var y = 0u; y < POINTS; y++) {\n    var m: array<vec4f, POINTS>;\n    for (var x = 0u; x < POINTS; x++) {\n      m[x] = textureLoad(products, vec2u(y * params.product_quads + quad, x * params.tile_stride + tile));\n    }\n    let along_x = output_transform(m);\n    let along_y = OUTPUT_COLUMNS[y];\n    for (var i = 0u; i < OUTPUTS; i++) {\n      for (var j = 0u; j < OUTPUTS; j++) { sum[i][j] += along_y[i] * along_x[j]; }\n    }\n  }\n  var pixels: array<vec4f, OUTPUTS * OUTPUTS>;\n  for (var i = 0u; i < OUTPUTS; i++) { for (var j = 0u; j < OUTPUTS; j++) { pixels[i * OUTPUTS + j] = sum[i][j]; } }\n  // Not unrolled, for the reason that conv2d_subgroup.wgsl gives: params.tile_pixels is OUTPUTS², and no compiler knows it.\n  for (var i = 0u; i < params.tile_pixels; i++) {\n    let y = corner.y + i / OUTPUTS;\n    let x = corner.x + i % OUTPUTS;\n    if (y < params.out_height && x < params.out_width) {\n      finish((corner.image * params.out_height + y) * params.out_width + x, quad, pixels[i]);\n    }\n  }\n}\n";
//#endregion
//#region shaders/winograd_product.wgsl
var winograd_product_default = "// Winograd convolution, second of three: a matrix product for each frequency, as an outer product inside one subgroup.\n//\n//   products[f, tile, o] = Σ_i transformed[f, tile, i] · weights[f, i, o]\n//\n// One workgroup is one subgroup and owns ROWS tiles × QUADS·LANES quads of output channels of one frequency, in the manner of\n// conv2d_subgroup.wgsl: 16 × 2, or 32 × 1 where that leaves fewer lanes without a channel. Rows up to tile_stride, a multiple\n// of ROWS, are there whether or not a tile is in them, and so are columns up to product_quads, a multiple of QUADS·LANES:\n// nobody reads what is written there. Both operands lie as winograd_input.wgsl\n// and winograd_output.wgsl say. Weights: lines of tiles, as a convolution's whose taps are the frequencies.\nstruct Params { in_quads: u32, out_quads: u32, first_out_quad: u32, tile_stride: u32, product_quads: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var transformed: texture_storage_2d<rgba32float, read>;\n@group(0) @binding(3) var products: texture_storage_2d<rgba32float, write>;\n\nconst POINTS = 6u;\nconst OWNED = (ROWS + LANES - 1u) / LANES;\n\nfn multiply(a: vec4f, b: Outer) -> vec4f {\n  return a.x * b.row0 + a.y * b.row1 + a.z * b.row2 + a.w * b.row3;\n}\n\n@compute @workgroup_size(LANES)\nfn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {\n  let row = workgroup.z % POINTS * params.tile_stride + workgroup.x * ROWS;\n  let first_in = workgroup.z / POINTS * params.in_quads;\n  let first_product = workgroup.z / POINTS * params.product_quads;\n  let owned = row + lane % ROWS;\n  let column0 = workgroup.y * QUADS * LANES + lane;\n  let column1 = column0 + LANES;\n  let weights0 = params.first_out_quad + min(column0, params.out_quads - 1u);\n  let weights1 = params.first_out_quad + min(column1, params.out_quads - 1u);\n  var line = workgroup.z * params.in_quads;\n  var sum0: array<vec4f, ROWS>;\n  var sum1: array<vec4f, ROWS>;\n  var input: array<vec4f, OWNED>;\n  for (var k = 0u; k < params.in_quads; k++) {\n    let b0 = weight_tile(line, weights0);\n    var b1 = b0;\n    if (QUADS > 1u) { b1 = weight_tile(line, weights1); }\n    line++;\n    input[0] = textureLoad(transformed, vec2u(first_in + k, owned));\n    if (OWNED > 1u) { input[1u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + LANES)); }\n    if (OWNED > 2u) {\n      input[2u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 2u * LANES));\n      input[3u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 3u * LANES));\n    }\n    if (OWNED > 4u) {\n      input[4u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 4u * LANES));\n      input[5u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 5u * LANES));\n      input[6u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 6u * LANES));\n      input[7u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 7u * LANES));\n    }\n    var a: vec4f;\n    a = subgroupBroadcast(input[0u / LANES % OWNED], 0u % LANES);\n    sum0[0u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[0u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[1u / LANES % OWNED], 1u % LANES);\n    sum0[1u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[1u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[2u / LANES % OWNED], 2u % LANES);\n    sum0[2u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[2u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[3u / LANES % OWNED], 3u % LANES);\n    sum0[3u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[3u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[4u / LANES % OWNED], 4u % LANES);\n    sum0[4u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[4u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[5u / LANES % OWNED], 5u % LANES);\n    sum0[5u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[5u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[6u / LANES % OWNED], 6u % LANES);\n    sum0[6u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[6u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[7u / LANES % OWNED], 7u % LANES);\n    sum0[7u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[7u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[8u / LANES % OWNED], 8u % LANES);\n    sum0[8u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[8u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[9u / LANES % OWNED], 9u % LANES);\n    sum0[9u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[9u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[10u / LANES % OWNED], 10u % LANES);\n    sum0[10u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[10u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[11u / LANES % OWNED], 11u % LANES);\n    sum0[11u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[11u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[12u / LANES % OWNED], 12u % LANES);\n    sum0[12u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[12u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[13u / LANES % OWNED], 13u % LANES);\n    sum0[13u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[13u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[14u / LANES % OWNED], 14u % LANES);\n    sum0[14u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[14u % ROWS] += multiply(a, b1); }\n    a = subgroupBroadcast(input[15u / LANES % OWNED], 15u % LANES);\n    sum0[15u % ROWS] += multiply(a, b0);\n    if (QUADS > 1u) { sum1[15u % ROWS] += multiply(a, b1); }\n    if (ROWS > 16u) {\n      a = subgroupBroadcast(input[16u / LANES % OWNED], 16u % LANES);\n      sum0[16u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[16u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[17u / LANES % OWNED], 17u % LANES);\n      sum0[17u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[17u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[18u / LANES % OWNED], 18u % LANES);\n      sum0[18u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[18u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[19u / LANES % OWNED], 19u % LANES);\n      sum0[19u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[19u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[20u / LANES % OWNED], 20u % LANES);\n      sum0[20u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[20u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[21u / LANES % OWNED], 21u % LANES);\n      sum0[21u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[21u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[22u / LANES % OWNED], 22u % LANES);\n      sum0[22u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[22u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[23u / LANES % OWNED], 23u % LANES);\n      sum0[23u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[23u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[24u / LANES % OWNED], 24u % LANES);\n      sum0[24u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[24u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[25u / LANES % OWNED], 25u % LANES);\n      sum0[25u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[25u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[26u / LANES % OWNED], 26u % LANES);\n      sum0[26u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[26u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[27u / LANES % OWNED], 27u % LANES);\n      sum0[27u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[27u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[28u / LANES % OWNED], 28u % LANES);\n      sum0[28u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[28u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[29u / LANES % OWNED], 29u % LANES);\n      sum0[29u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[29u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[30u / LANES % OWNED], 30u % LANES);\n      sum0[30u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[30u % ROWS] += multiply(a, b1); }\n      a = subgroupBroadcast(input[31u / LANES % OWNED], 31u % LANES);\n      sum0[31u % ROWS] += multiply(a, b0);\n      if (QUADS > 1u) { sum1[31u % ROWS] += multiply(a, b1); }\n    }\n  }\n  textureStore(products, vec2u(first_product + column0, row + 0u), sum0[0u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 0u), sum1[0u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 1u), sum0[1u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 1u), sum1[1u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 2u), sum0[2u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 2u), sum1[2u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 3u), sum0[3u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 3u), sum1[3u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 4u), sum0[4u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 4u), sum1[4u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 5u), sum0[5u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 5u), sum1[5u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 6u), sum0[6u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 6u), sum1[6u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 7u), sum0[7u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 7u), sum1[7u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 8u), sum0[8u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 8u), sum1[8u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 9u), sum0[9u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 9u), sum1[9u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 10u), sum0[10u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 10u), sum1[10u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 11u), sum0[11u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 11u), sum1[11u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 12u), sum0[12u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 12u), sum1[12u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 13u), sum0[13u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 13u), sum1[13u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 14u), sum0[14u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 14u), sum1[14u % ROWS]); }\n  textureStore(products, vec2u(first_product + column0, row + 15u), sum0[15u % ROWS]);\n  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 15u), sum1[15u % ROWS]); }\n  if (ROWS > 16u) {\n    textureStore(products, vec2u(first_product + column0, row + 16u), sum0[16u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 16u), sum1[16u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 17u), sum0[17u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 17u), sum1[17u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 18u), sum0[18u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 18u), sum1[18u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 19u), sum0[19u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 19u), sum1[19u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 20u), sum0[20u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 20u), sum1[20u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 21u), sum0[21u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 21u), sum1[21u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 22u), sum0[22u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 22u), sum1[22u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 23u), sum0[23u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 23u), sum1[23u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 24u), sum0[24u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 24u), sum1[24u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 25u), sum0[25u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 25u), sum1[25u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 26u), sum0[26u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 26u), sum1[26u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 27u), sum0[27u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 27u), sum1[27u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 28u), sum0[28u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 28u), sum1[28u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 29u), sum0[29u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 29u), sum1[29u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 30u), sum0[30u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 30u), sum1[30u % ROWS]); }\n    textureStore(products, vec2u(first_product + column0, row + 31u), sum0[31u % ROWS]);\n    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 31u), sum1[31u % ROWS]); }\n  }\n}\n";
//#endregion
//#region src/graph/kernels/winograd.ts
/**
* 3 × 3 convolutions by Winograd's minimal filtering (Lavin & Gray 2015, arXiv 1509.09308): `shaders/winograd_*.wgsl`.
*
* Three steps: tiles of the input are transformed, multiplied with transformed weights frequency by frequency, and
* transformed back. What lies between them are textures that all such convolutions of a plan share; a large picture goes
* through them in parts.
*/
const POINTS = 6;
const MAX_SCRATCH_BYTES = 64 * 2 ** 20;
const TEXEL_BYTES = 16;
/** `operation` is one that `convolutionVariants` offers this form for. */
function lowerWinograd(operation, target) {
	const { picture, weight, perImage, residual, bias } = operation;
	const { storage } = target;
	const lanes = target.lanes;
	const outQuads = quads(channelsOf(operation.output));
	const tilesHigh = Math.ceil(picture.outHeight / 4);
	const tilesWide = Math.ceil(picture.outWidth / 4);
	const tiles = picture.images * tilesHigh * tilesWide;
	const { rows, quads: quadsALane, productQuads } = winogradTile(outQuads, lanes);
	const most = Math.min(target.maxTextureDimension / POINTS, MAX_SCRATCH_BYTES / (POINTS ** 2 * Math.max(weight.inputQuads, productQuads) * TEXEL_BYTES));
	const rowsAtOnce = Math.max(rows, Math.floor(most / rows) * rows);
	const parts = Math.ceil(tiles / rowsAtOnce);
	const stride = Math.ceil(tiles / parts / rows) * rows;
	const scratch = (name, columns) => ({
		name,
		width: POINTS * columns,
		height: POINTS * stride
	});
	const transformed = scratch("transformed", weight.inputQuads);
	const products = scratch("products", productQuads);
	const output = epilogueCode(operation, {
		accumulate: false,
		epilogue: true
	}, lanes);
	const block = (input, first, count, firstInQuad, epilogue, width) => convolutionParams(operation, {
		input,
		firstInQuad,
		accumulate: false,
		epilogue,
		gridWidth: width,
		tiles: {
			first,
			count,
			stride,
			productQuads,
			high: tilesHigh,
			wide: tilesWide,
			side: 4
		}
	});
	const dispatches = [];
	for (let first = 0; first < tiles; first += stride) {
		const count = Math.min(stride, tiles - first);
		let firstInQuad = 0;
		for (const input of partsOf(operation.input)) {
			const inQuads = quads(channelsOf(input));
			const { workgroups, width } = grid(count * inQuads);
			dispatches.push({
				kernel: kernel("winograd_input", winograd_input_default, storage, { preludes: [
					convolution_default,
					epilogue_uniform_default,
					winograd_default
				] }),
				label: operation.name,
				params: block(input, first, count, firstInQuad, false, width),
				bindings: [
					{ tensor: input },
					"unused",
					"unused",
					"unused",
					"unused",
					"unused",
					{ scratch: transformed }
				],
				workgroups
			});
			firstInQuad += inQuads;
		}
		dispatches.push({
			kernel: kernel("winograd_product", winograd_product_default, "f32", {
				weights: "f32",
				subgroups: lanes,
				preludes: [tiles_texture_f32_default],
				constants: {
					ROWS: rows,
					QUADS: quadsALane
				}
			}),
			label: operation.name,
			params: params(weight.inputQuads, outQuads, operation.firstOutputQuad, stride, productQuads),
			bindings: [
				{ scratch: transformed },
				{ winograd: weight },
				{ scratch: products }
			],
			workgroups: [
				Math.ceil(count / rows),
				productQuads / (quadsALane * lanes),
				POINTS ** 2
			]
		});
		const { workgroups, width } = grid(count * outQuads);
		const epilogue = (tensor) => tensor ? { tensor } : "blank";
		dispatches.push({
			kernel: kernel("winograd_output", winograd_output_default, storage, {
				preludes: [
					convolution_default,
					output.prelude,
					winograd_default
				],
				constants: output.constants
			}),
			label: operation.name,
			params: block(operation.output, first, count, 0, true, width),
			bindings: [
				"unused",
				"unused",
				bias ? { parameter: bias } : "blank",
				epilogue(perImage?.tensor),
				epilogue(residual),
				{ tensor: operation.output },
				{ scratch: products }
			],
			workgroups
		});
	}
	return dispatches;
}
//#endregion
//#region src/graph/kernels/convolution.ts
/**
* Convolutions and linear layers: `shaders/conv2d_*.wgsl` (and `winograd.ts`, `narrow.ts`). An input in several parts is
* one dispatch a part, each adding to what the one before left in the output.
*/
const SUBGROUP_TILES = {
	texture: [
		{
			rows: 16,
			quads: 2,
			cost: 1
		},
		{
			rows: 32,
			quads: 1,
			cost: 1.3
		},
		{
			rows: 8,
			quads: 2,
			cost: 1.4
		}
	],
	buffer: [
		{
			rows: 32,
			quads: 1,
			cost: 1
		},
		{
			rows: 16,
			quads: 1,
			cost: 1.15
		},
		{
			rows: 8,
			quads: 1,
			cost: 1.5
		}
	]
};
const QUAD_TILES = [
	{
		rows: 32,
		quads: 4,
		cost: 1
	},
	{
		rows: 32,
		quads: 2,
		cost: 1.15
	},
	{
		rows: 32,
		quads: 1,
		cost: 1.8
	},
	{
		rows: 8,
		quads: 4,
		cost: 2
	}
];
const QUAD_LANES = 4;
const TILED_ROWS = 64;
const TILED_QUADS = 16;
const MATRIX_TILE_ROWS = 64;
const MATRIX_TILE_QUADS = 16;
function lowerConvolution(operation, target) {
	const form = convolutionVariant(operation, target);
	if (form === "winograd") return lowerWinograd(operation, target);
	if (form === "narrow") return lowerNarrow(operation, target);
	const { picture, weight, bias, perImage, residual } = operation;
	const { storage, weights, lanes } = target;
	const outQuads = quads(channelsOf(operation.output));
	const rows = picture.images * picture.outHeight * picture.outWidth;
	const held = target.textured?.(weight) ? "texture" : "buffer";
	const variant = kernelOf(form, {
		rows,
		outQuads,
		held,
		target
	});
	const { width, height } = fold(Math.ceil(rows / variant.rows));
	const parts = partsOf(operation.input);
	let firstInQuad = 0;
	return parts.map((input, part) => {
		const isLast = part === parts.length - 1;
		const wanted = {
			accumulate: part > 0,
			epilogue: isLast
		};
		const block = convolutionParams(operation, {
			input,
			firstInQuad,
			...wanted,
			gridWidth: width
		});
		const ending = epilogueCode(operation, wanted, lanes);
		firstInQuad += quads(channelsOf(input));
		const epilogue = (tensor) => isLast && tensor ? { tensor } : "blank";
		return {
			kernel: kernel(variant.name, variant.source, storage, {
				...variant,
				weights,
				preludes: [
					convolution_default,
					ending.prelude,
					TILES[held][weights],
					...variant.preludes ?? []
				],
				constants: {
					...ending.constants,
					...variant.constants
				}
			}),
			label: operation.name,
			params: block,
			bindings: [
				{ tensor: input },
				{ parameter: weight },
				isLast && bias ? { parameter: bias } : "blank",
				epilogue(perImage?.tensor),
				epilogue(residual),
				{ tensor: operation.output }
			],
			workgroups: [
				width,
				Math.ceil(outQuads / variant.quads),
				height
			]
		};
	});
}
function kernelOf(form, of) {
	const { rows, outQuads, held, target } = of;
	if (form === "tiled") return {
		name: "conv2d_tiled",
		source: conv2d_tiled_default,
		rows: TILED_ROWS,
		quads: TILED_QUADS
	};
	const lanes = target.lanes;
	if (form === "matrix") {
		const { rows: down, columns: across, inner } = target.matrixUnit;
		return {
			name: "conv2d_matrix",
			source: conv2d_matrix_default,
			rows: MATRIX_TILE_ROWS,
			quads: MATRIX_TILE_QUADS,
			subgroups: lanes,
			extensions: ["f16", "chromium_experimental_subgroup_matrix"],
			preludes: [matrix_unit_default],
			constants: {
				MATRIX_ROWS: down,
				MATRIX_COLUMNS: across,
				MATRIX_INNER: inner
			}
		};
	}
	const inFours = lanes === QUAD_LANES;
	const tile = cheapestTile(inFours ? QUAD_TILES : SUBGROUP_TILES[held], rows, outQuads, lanes);
	return {
		...inFours ? {
			name: "conv2d_subgroup_quad",
			source: conv2d_subgroup_quad_default
		} : {
			name: "conv2d_subgroup",
			source: conv2d_subgroup_default
		},
		rows: tile.rows,
		quads: tile.quads * lanes,
		subgroups: lanes,
		preludes: inFours ? [quad_product_default] : [],
		constants: {
			ROWS: tile.rows,
			QUADS: tile.quads
		}
	};
}
/** The parameters of `shaders/prelude/convolution.wgsl`. */
function convolutionParams(operation, options) {
	const { picture, virtual, kernel: window, weight, perImage } = operation;
	const { input, firstInQuad, gridWidth, tiles } = options;
	const ending = epilogueFlags(operation, options);
	const rows = picture.images * picture.outHeight * picture.outWidth;
	return params(...[
		picture.inHeight,
		picture.inWidth,
		quads(channelsOf(input)),
		firstInQuad
	], ...[
		virtual.height,
		virtual.width,
		picture.outHeight,
		picture.outWidth
	], ...[
		rows,
		quads(channelsOf(operation.output)),
		operation.firstOutputQuad,
		window.stride
	], ...[
		window.height,
		window.width,
		window.top,
		window.left
	], ...[
		weight.inputQuads,
		weight.outputQuads,
		ending.ACCUMULATE,
		ending.HAS_BIAS
	], ...[
		ending.HAS_PER_IMAGE,
		ending.HAS_RESIDUAL,
		ending.ACTIVATION,
		ending.ACTIVATION_AFTER_RESIDUAL
	], ...[
		gridWidth,
		tiles?.first ?? 0,
		tiles?.count ?? 0,
		tiles?.stride ?? 0
	], ...[
		tiles?.productQuads ?? 0,
		tiles?.high ?? 0,
		tiles?.wide ?? 0,
		tiles?.side ?? 0,
		(tiles?.side ?? 0) ** 2
	], ...perImage ? [quads(channelsOf(perImage.tensor)), perImage.offset / 4] : [0, 0]);
}
function epilogueFlags(operation, { accumulate, epilogue }) {
	const { bias, perImage, residual, activation, activationAfterResidual } = operation;
	return {
		ACCUMULATE: Number(accumulate),
		HAS_BIAS: Number(epilogue && bias !== void 0),
		HAS_PER_IMAGE: Number(epilogue && perImage !== void 0),
		HAS_RESIDUAL: Number(epilogue && residual !== void 0),
		ACTIVATION: activationCode[epilogue ? activation : "none"],
		ACTIVATION_AFTER_RESIDUAL: Number(activationAfterResidual)
	};
}
/** How a kernel learns what it ends with: from its parameters, or from constants where both sides of a branch are gone through. */
function epilogueCode(operation, ending, lanes) {
	if (lanes !== QUAD_LANES) return {
		prelude: epilogue_uniform_default,
		constants: {}
	};
	return {
		prelude: epilogue_constant_default,
		constants: epilogueFlags(operation, ending)
	};
}
const TILES = {
	buffer: {
		f32: tiles_buffer_default,
		f16: tiles_buffer_default
	},
	texture: {
		f32: tiles_texture_f32_default,
		f16: tiles_texture_f16_default
	}
};
/** The tile that costs least for so many rows and output quads. */
function cheapestTile(tiles, rows, outQuads, lanes) {
	const up = (count, unit) => Math.ceil(count / unit) * unit;
	return tiles.map((tile) => ({
		tile,
		total: up(rows, tile.rows) * up(outQuads, tile.quads * lanes) * tile.cost
	})).reduce((best, next) => next.total < best.total ? next : best).tile;
}
//#endregion
//#region shaders/group_norm.wgsl
var group_norm_default = "// Group normalisation in one dispatch, with the activation that follows it: the form for software adapters, where a few\n// workgroups are enough and a dispatch is dear. Elsewhere, and where a unit is too large for a cache: group_norm_stats.wgsl.\n//\n//   out = act( (x − mean_group) / √(var_group + eps) · gamma + beta )\n//\n// One workgroup is one subgroup and owns a unit of one image: the fewest whole groups that are whole quads, at most four\n// groups. It goes over its channels three times (mean, squared deviations from it, result), its lanes over the pixels.\n// x is read from two sources one after the other along the channels, as in group_norm_stats.wgsl.\nstruct Params {\n  pixels: u32, quads: u32, first_source_quads: u32, unit_quads: u32,\n  channels: u32, group_channels: u32, eps: f32, activation: u32,\n}\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> first_source: array<Quad>;\n@group(0) @binding(2) var<storage, read> second_source: array<Quad>;\n@group(0) @binding(3) var<storage, read> gamma: array<vec4f>;\n@group(0) @binding(4) var<storage, read> beta: array<vec4f>;\n@group(0) @binding(5) var<storage, read_write> out: array<Quad>;\n\nfn load(row: u32, quad: u32) -> vec4f {\n  if (quad < params.first_source_quads) { return widen(first_source[row * params.first_source_quads + quad]); }\n  let rest = params.quads - params.first_source_quads;\n  return widen(second_source[row * rest + quad - params.first_source_quads]);\n}\n\n// For each of a quad's channels, which group of the unit it is in; channels beyond the layer's are in none.\nfn groups_of(quad: u32, first_quad: u32) -> vec4u {\n  let channel = quad * 4u + vec4u(0u, 1u, 2u, 3u);\n  return select(vec4u(4u), (channel - first_quad * 4u) / params.group_channels, channel < vec4u(params.channels));\n}\n\n// Adds each channel's value to its group.\nfn scattered(values: vec4f, groups: vec4u) -> vec4f {\n  var sum = vec4f(0.0);\n  sum += select(vec4f(0.0), vec4f(values.x), vec4u(groups.x) == vec4u(0u, 1u, 2u, 3u));\n  sum += select(vec4f(0.0), vec4f(values.y), vec4u(groups.y) == vec4u(0u, 1u, 2u, 3u));\n  sum += select(vec4f(0.0), vec4f(values.z), vec4u(groups.z) == vec4u(0u, 1u, 2u, 3u));\n  sum += select(vec4f(0.0), vec4f(values.w), vec4u(groups.w) == vec4u(0u, 1u, 2u, 3u));\n  return sum;\n}\n\n// Each channel's own of the groups' values.\nfn gathered(values: vec4f, groups: vec4u) -> vec4f {\n  var own = select(vec4f(values.w), vec4f(values.z), groups == vec4u(2u));\n  own = select(own, vec4f(values.y), groups == vec4u(1u));\n  return select(own, vec4f(values.x), groups == vec4u(0u));\n}\n\n@compute @workgroup_size(LANES)\nfn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {\n  let first_quad = workgroup.x * params.unit_quads;\n  let end_quad = min(first_quad + params.unit_quads, params.quads);\n  let first_row = workgroup.y * params.pixels;\n  let count = f32(params.pixels) * f32(params.group_channels);\n\n  var sums = vec4f(0.0);\n  for (var quad = first_quad; quad < end_quad; quad++) {\n    var sum = vec4f(0.0);\n    for (var pixel = lane; pixel < params.pixels; pixel += LANES) { sum += load(first_row + pixel, quad); }\n    sums += scattered(subgroupAdd(sum), groups_of(quad, first_quad));\n  }\n  let means = sums / count;\n\n  var squares = vec4f(0.0);\n  for (var quad = first_quad; quad < end_quad; quad++) {\n    let groups = groups_of(quad, first_quad);\n    let mean = gathered(means, groups);\n    var sum = vec4f(0.0);\n    for (var pixel = lane; pixel < params.pixels; pixel += LANES) {\n      let deviation = load(first_row + pixel, quad) - mean;\n      sum += deviation * deviation;\n    }\n    squares += scattered(subgroupAdd(sum), groups);\n  }\n  let scales = inverseSqrt(squares / count + params.eps);\n\n  for (var quad = first_quad; quad < end_quad; quad++) {\n    let groups = groups_of(quad, first_quad);\n    let mean = gathered(means, groups);\n    let scale = gathered(scales, groups) * gamma[quad];\n    let shift = beta[quad];\n    for (var pixel = lane; pixel < params.pixels; pixel += LANES) {\n      let row = first_row + pixel;\n      let normal = (load(row, quad) - mean) * scale + shift;\n      out[row * params.quads + quad] = narrow(activate(normal, params.activation));\n    }\n  }\n}\n";
//#endregion
//#region shaders/group_norm_apply.wgsl
var group_norm_apply_default = "// Group normalisation, second half, with the activation that follows it.\n//\n//   out = act( (x − mean_group) / √(var_group + eps) · gamma + beta )\n//\n// Merges the partial means and squared deviations of group_norm_stats.wgsl by Chan's formula\n// (Chan, Golub & LeVeque 1979): M2 = Σ M2ᵢ + Σ nᵢ (meanᵢ − mean)². One invocation owns one quad over a run of pixels.\n// The sources and out may be a part of the layer's channels, from first_quad on; partial, gamma and beta have all of them.\nstruct Params {\n  images: u32, pixels: u32, quads: u32, first_source_quads: u32,\n  chunks: u32, chunk_pixels: u32, run_pixels: u32, runs: u32,\n  layer_channels: u32, group_channels: u32, eps: f32, activation: u32,\n  first_quad: u32, layer_quads: u32, grid_width: u32,\n}\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> first_source: array<Quad>;\n@group(0) @binding(2) var<storage, read> second_source: array<Quad>;\n@group(0) @binding(3) var<storage, read> partial: array<vec4f>;\n@group(0) @binding(4) var<storage, read> gamma: array<vec4f>;\n@group(0) @binding(5) var<storage, read> beta: array<vec4f>;\n@group(0) @binding(6) var<storage, read_write> out: array<Quad>;\n\nfn load(row: u32, quad: u32) -> vec4f {\n  if (quad < params.first_source_quads) { return widen(first_source[row * params.first_source_quads + quad]); }\n  let rest = params.quads - params.first_source_quads;\n  return widen(second_source[row * rest + quad - params.first_source_quads]);\n}\n\n// Mean and 1/√(var + eps) of one group of one image.\nfn group_statistics(image: u32, group: u32) -> vec2f {\n  let begin = group * params.group_channels;\n  let end = begin + params.group_channels;\n  var sum = 0.0;\n  for (var chunk = 0u; chunk < params.chunks; chunk++) {\n    let count = f32(min(params.chunk_pixels, params.pixels - chunk * params.chunk_pixels));\n    let base = (image * params.chunks + chunk) * params.layer_quads;\n    for (var c = begin; c < end; c++) { sum += count * partial[(base + c / 4u) * 2u][c % 4u]; }\n  }\n  let total = f32(params.group_channels) * f32(params.pixels);\n  let mean = sum / total;\n  var squares = 0.0;\n  for (var chunk = 0u; chunk < params.chunks; chunk++) {\n    let count = f32(min(params.chunk_pixels, params.pixels - chunk * params.chunk_pixels));\n    let base = (image * params.chunks + chunk) * params.layer_quads;\n    for (var c = begin; c < end; c++) {\n      let deviation = partial[(base + c / 4u) * 2u][c % 4u] - mean;\n      squares += partial[(base + c / 4u) * 2u + 1u][c % 4u] + count * deviation * deviation;\n    }\n  }\n  return vec2f(mean, inverseSqrt(squares / total + params.eps));\n}\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let quad = index % params.quads;\n  let run = index / params.quads % params.runs;\n  let image = index / params.quads / params.runs;\n  if (image >= params.images) { return; }\n\n  let layer_quad = params.first_quad + quad;\n  var mean = vec4f(0.0);\n  var scale = vec4f(0.0);\n  var group = 0xffffffffu;\n  var statistics = vec2f(0.0);\n  for (var i = 0u; i < 4u; i++) {\n    let channel = layer_quad * 4u + i;\n    if (channel < params.layer_channels) {\n      if (channel / params.group_channels != group) {\n        group = channel / params.group_channels;\n        statistics = group_statistics(image, group);\n      }\n      mean[i] = statistics.x;\n      scale[i] = statistics.y;\n    }\n  }\n  scale *= gamma[layer_quad];\n  let shift = beta[layer_quad];\n\n  let begin = run * params.run_pixels;\n  let end = min(begin + params.run_pixels, params.pixels);\n  for (var pixel = begin; pixel < end; pixel++) {\n    let row = image * params.pixels + pixel;\n    out[row * params.quads + quad] = narrow(activate((load(row, quad) - mean) * scale + shift, params.activation));\n  }\n}\n";
//#endregion
//#region shaders/group_norm_stats.wgsl
var group_norm_stats_default = "// Group normalisation, first half: mean and sum of squared deviations of each channel over a chunk of pixels.\n//\n//   partial[image, chunk, quad] = ( mean[4], Σ (x − mean)²[4] )\n//\n// x: [image, pixel, channel], read from two sources one after the other along the channels (a skip connection is never\n// concatenated in memory); quads of the first source come first. Both together may be a part of the layer's channels,\n// from first_quad on; partial has all of them. One invocation reads one quad of one chunk twice:\n// the two-pass form keeps all digits where the mean is large. group_norm_apply.wgsl merges the chunks.\nstruct Params {\n  images: u32, pixels: u32, quads: u32, first_source_quads: u32,\n  chunks: u32, chunk_pixels: u32, first_quad: u32, layer_quads: u32,\n  grid_width: u32,\n}\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> first_source: array<Quad>;\n@group(0) @binding(2) var<storage, read> second_source: array<Quad>;\n@group(0) @binding(3) var<storage, read_write> partial: array<vec4f>;\n\nfn load(image: u32, pixel: u32, quad: u32) -> vec4f {\n  let row = image * params.pixels + pixel;\n  if (quad < params.first_source_quads) { return widen(first_source[row * params.first_source_quads + quad]); }\n  let rest = params.quads - params.first_source_quads;\n  return widen(second_source[row * rest + quad - params.first_source_quads]);\n}\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let quad = index % params.quads;\n  let chunk = index / params.quads % params.chunks;\n  let image = index / params.quads / params.chunks;\n  if (image >= params.images) { return; }\n  let begin = chunk * params.chunk_pixels;\n  let end = min(begin + params.chunk_pixels, params.pixels);\n  var sum = vec4f(0.0);\n  for (var pixel = begin; pixel < end; pixel++) { sum += load(image, pixel, quad); }\n  let mean = sum / f32(max(end, begin + 1u) - begin);\n  var squares = vec4f(0.0);\n  for (var pixel = begin; pixel < end; pixel++) {\n    let deviation = load(image, pixel, quad) - mean;\n    squares += deviation * deviation;\n  }\n  let place = (image * params.chunks + chunk) * params.layer_quads + params.first_quad + quad;\n  partial[place * 2u] = mean;\n  partial[place * 2u + 1u] = squares;\n}\n";
//#endregion
//#region shaders/layer_norm.wgsl
var layer_norm_default = "// Layer normalisation over the channels of each token:  out = (x − mean) / √(var + eps) · gamma + beta\n// x, out: [row, channel]. One invocation owns one row; the variance is a second pass, so that a large mean costs no digits.\nstruct Params { rows: u32, quads: u32, channels: u32, eps: f32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> x: array<Quad>;\n@group(0) @binding(2) var<storage, read> gamma: array<vec4f>;\n@group(0) @binding(3) var<storage, read> beta: array<vec4f>;\n@group(0) @binding(4) var<storage, read_write> out: array<Quad>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let row = id.x + id.y * params.grid_width * 64u;\n  if (row >= params.rows) { return; }\n  let base = row * params.quads;\n  var sum = vec4f(0.0);\n  for (var quad = 0u; quad < params.quads; quad++) { sum += widen(x[base + quad]); }\n  let channels = f32(params.channels);\n  let mean = (sum.x + sum.y + sum.z + sum.w) / channels;\n  var squares = vec4f(0.0);\n  for (var quad = 0u; quad < params.quads; quad++) {\n    let inside = vec4u(quad * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.channels);  // the last quad may be padded\n    let deviation = select(vec4f(0.0), widen(x[base + quad]) - mean, inside);\n    squares += deviation * deviation;\n  }\n  let variance = (squares.x + squares.y + squares.z + squares.w) / channels;\n  let scale = inverseSqrt(variance + params.eps);\n  for (var quad = 0u; quad < params.quads; quad++) {\n    out[base + quad] = narrow((widen(x[base + quad]) - mean) * scale * gamma[quad] + beta[quad]);\n  }\n}\n";
//#endregion
//#region shaders/softmax.wgsl
var softmax_default = "// Softmax over the channels of each row:  out = exp(x − max) / Σ exp(x − max).  x, out: [row, channel].\nstruct Params { rows: u32, quads: u32, channels: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> x: array<Quad>;\n@group(0) @binding(2) var<storage, read_write> out: array<Quad>;\n\nfn load(row: u32, quad: u32) -> vec4f {\n  let inside = vec4u(quad * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.channels);\n  return select(vec4f(-3.4e38), widen(x[row * params.quads + quad]), inside);\n}\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let row = id.x + id.y * params.grid_width * 64u;\n  if (row >= params.rows) { return; }\n  var maxima = vec4f(-3.4e38);\n  for (var quad = 0u; quad < params.quads; quad++) { maxima = max(maxima, load(row, quad)); }\n  let maximum = max(max(maxima.x, maxima.y), max(maxima.z, maxima.w));\n  var sums = vec4f(0.0);\n  for (var quad = 0u; quad < params.quads; quad++) { sums += exp(load(row, quad) - maximum); }\n  let norm = 1.0 / (sums.x + sums.y + sums.z + sums.w);\n  for (var quad = 0u; quad < params.quads; quad++) {\n    out[row * params.quads + quad] = narrow(exp(load(row, quad) - maximum) * norm);\n  }\n}\n";
//#endregion
//#region src/graph/kernels/normalisation.ts
/** Group norm, layer norm and softmax. */
const RUN_PIXELS = {
	wide: 64,
	narrow: 256
};
const NARROW_LANES = 16;
/** One or two sources, as the group norm kernels read them. */
function sources(first, second) {
	const firstQuads = quads(channelsOf(first));
	return {
		bindings: [{ tensor: first }, second ? { tensor: second } : "blank"],
		quads: firstQuads + (second ? quads(channelsOf(second)) : 0),
		firstQuads
	};
}
function lowerGroupNormStats(operation, target) {
	const { input, chunks, chunkPixels } = operation;
	const images = input.shape[0];
	const parts = partsOf(input);
	const dispatches = [];
	let firstQuad = 0;
	for (let part = 0; part < parts.length; part += 2) {
		const pair = sources(parts[part], parts[part + 1]);
		const { workgroups, width } = grid(images * chunks * pair.quads);
		dispatches.push({
			kernel: kernel("group_norm_stats", group_norm_stats_default, target.storage),
			label: operation.name,
			params: params(...[
				images,
				rowsOf(input) / images,
				pair.quads,
				pair.firstQuads
			], ...[
				chunks,
				chunkPixels,
				firstQuad,
				quads(channelsOf(input)),
				width
			]),
			bindings: [...pair.bindings, { tensor: operation.output }],
			workgroups
		});
		firstQuad += pair.quads;
	}
	return dispatches;
}
/** Both halves of group norm in one dispatch. */
function lowerJoinedGroupNorm(operation, target) {
	const { input, groupChannels, eps, activation } = operation;
	const images = input.shape[0];
	const channels = channelsOf(input);
	const unit = groupNormUnit(operation);
	const [first, second] = partsOf(input);
	const pair = sources(first, second);
	return {
		kernel: kernel("group_norm", group_norm_default, target.storage, { subgroups: target.lanes }),
		label: operation.name,
		params: params(...[
			rowsOf(input) / images,
			pair.quads,
			pair.firstQuads,
			unit / 4
		], ...[
			channels,
			groupChannels,
			{ f32: eps },
			activationCode[activation]
		]),
		bindings: [
			...pair.bindings,
			{ parameter: operation.gamma },
			{ parameter: operation.beta },
			{ tensor: operation.output }
		],
		workgroups: [
			Math.ceil(channels / unit),
			images,
			1
		]
	};
}
function lowerGroupNormApply(operation, target) {
	if (operation.joined) return [lowerJoinedGroupNorm(operation, target)];
	const { input, statistics } = operation;
	const images = input.shape[0];
	const pixels = rowsOf(input) / images;
	const layerChannels = channelsOf(statistics.input);
	const [first, second] = partsOf(input);
	const pair = sources(first, second);
	const runPixels = target.lanes !== void 0 && target.lanes <= NARROW_LANES ? RUN_PIXELS.narrow : RUN_PIXELS.wide;
	const runs = Math.ceil(pixels / runPixels);
	const { workgroups, width } = grid(images * runs * pair.quads);
	return [{
		kernel: kernel("group_norm_apply", group_norm_apply_default, target.storage),
		label: operation.name,
		params: params(...[
			images,
			pixels,
			pair.quads,
			pair.firstQuads
		], ...[
			statistics.chunks,
			statistics.chunkPixels,
			runPixels,
			runs
		], ...[
			layerChannels,
			operation.groupChannels,
			{ f32: operation.eps },
			activationCode[operation.activation]
		], ...[
			operation.firstQuad,
			quads(layerChannels),
			width
		]),
		bindings: [
			...pair.bindings,
			{ tensor: statistics.output },
			{ parameter: operation.gamma },
			{ parameter: operation.beta },
			{ tensor: operation.output }
		],
		workgroups
	}];
}
function lowerLayerNorm(operation, target) {
	const channels = channelsOf(operation.input);
	const rows = rowsOf(operation.input);
	const { workgroups, width } = grid(rows);
	return [{
		kernel: kernel("layer_norm", layer_norm_default, target.storage),
		label: operation.name,
		params: params(rows, quads(channels), channels, { f32: operation.eps }, width),
		bindings: [
			{ tensor: operation.input },
			{ parameter: operation.gamma },
			{ parameter: operation.beta },
			{ tensor: operation.output }
		],
		workgroups
	}];
}
function lowerSoftmax(operation, target) {
	const channels = channelsOf(operation.input);
	const rows = rowsOf(operation.input);
	const { workgroups, width } = grid(rows);
	return [{
		kernel: kernel("softmax", softmax_default, target.storage),
		label: operation.name,
		params: params(rows, quads(channels), channels, width),
		bindings: [{ tensor: operation.input }, { tensor: operation.output }],
		workgroups
	}];
}
//#endregion
//#region shaders/concatenate.wgsl
var concatenate_default = "// Two tensors side by side along the channels:  out[row] = first[row] ‖ second[row]\n// Only where the first's channels are no multiple of four, so that the second does not begin on a quad; elsewhere whoever\n// reads a concatenation reads the two tensors as they are.\nstruct Params { rows: u32, first_channels: u32, second_channels: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> first: array<Quad>;\n@group(0) @binding(2) var<storage, read> second: array<Quad>;\n@group(0) @binding(3) var<storage, read_write> out: array<Quad>;\n\nfn channel(row: u32, index: u32) -> f32 {\n  if (index < params.first_channels) {\n    return widen(first[row * ((params.first_channels + 3u) / 4u) + index / 4u])[index % 4u];\n  }\n  let rest = index - params.first_channels;\n  if (rest >= params.second_channels) { return 0.0; }\n  return widen(second[row * ((params.second_channels + 3u) / 4u) + rest / 4u])[rest % 4u];\n}\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let quads = (params.first_channels + params.second_channels + 3u) / 4u;\n  let row = index / quads;\n  if (row >= params.rows) { return; }\n  let first_channel = index % quads * 4u;\n  out[index] = narrow(vec4f(\n    channel(row, first_channel), channel(row, first_channel + 1u), channel(row, first_channel + 2u), channel(row, first_channel + 3u),\n  ));\n}\n";
//#endregion
//#region shaders/elementwise.wgsl
var elementwise_default = "// One pass over a tensor:  out = act( x · input_scale ) · scale + shift + y\n// y is left out, has x's shape, or is one row an image ([image, 1, channel], added to every pixel; of it, the channels\n// from first_row_quad on).\nstruct Params {\n  count: u32, quads: u32, image_quads: u32, addend: u32,\n  activation: u32, input_scale: f32, scale: f32, shift: f32,\n  channels: u32, row_quads: u32, first_row_quad: u32, grid_width: u32,\n}\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> x: array<Quad>;\n@group(0) @binding(2) var<storage, read> y: array<Quad>;\n@group(0) @binding(3) var<storage, read_write> out: array<Quad>;\n\nconst NO_ADDEND = 0u;\nconst SAME_SHAPE = 1u;\nconst PER_IMAGE = 2u;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  if (index >= params.count) { return; }\n  var value = activate(widen(x[index]) * params.input_scale, params.activation) * params.scale + params.shift;\n  if (params.addend == SAME_SHAPE) { value += widen(y[index]); }\n  if (params.addend == PER_IMAGE) { value += widen(y[index / params.image_quads * params.row_quads + params.first_row_quad + index % params.quads]); }\n  let channel = vec4u(index % params.quads * 4u) + vec4u(0u, 1u, 2u, 3u);\n  out[index] = narrow(select(vec4f(0.0), value, channel < vec4u(params.channels)));  // padding stays zero\n}\n";
//#endregion
//#region shaders/embedding.wgsl
var embedding_default = "// Token and position embedding:  out[t] = table[ids[t]] + positions[t mod length]\n// The table may be bound in ranges of rows when it is larger than one binding: a dispatch writes the tokens whose id\n// lies in first_id ≤ id < end_id. The first one writes zeros for all others; they stay for ids beyond the whole table.\nstruct Params { tokens: u32, length: u32, quads: u32, first_id: u32, end_id: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> ids: array<u32>;\n@group(0) @binding(2) var<storage, read> table: array<TableQuad>;\n@group(0) @binding(3) var<storage, read> positions: array<TableQuad>;\n@group(0) @binding(4) var<storage, read_write> out: array<Quad>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let token = index / params.quads;\n  let quad = index % params.quads;\n  if (token >= params.tokens) { return; }\n  let row = ids[token];\n  if (row < params.first_id || row >= params.end_id) {\n    if (params.first_id == 0u) { out[index] = narrow(vec4f(0.0)); }\n    return;\n  }\n  out[index] = narrow(widen_table(table[(row - params.first_id) * params.quads + quad])\n    + widen_table(positions[token % params.length * params.quads + quad]));\n}\n";
//#endregion
//#region shaders/gather_rows.wgsl
var gather_rows_default = "// One row an image:  out[n] = x[n, index[n]].  x: [image, token, channel], or [token, channel] for all images, whose rows are\n// then none apart (image_rows 0). CLIP's pooling takes the end token's row, a denoiser's step the row of its timestep.\nstruct Params { images: u32, tokens: u32, quads: u32, image_rows: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> x: array<Quad>;\n@group(0) @binding(2) var<storage, read> rows: array<u32>;\n@group(0) @binding(3) var<storage, read_write> out: array<Quad>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let image = id.x / params.quads;\n  if (image >= params.images) { return; }\n  out[id.x] = x[(image * params.image_rows + min(rows[image], params.tokens - 1u)) * params.quads + id.x % params.quads];\n}\n";
//#endregion
//#region shaders/geglu.wgsl
var geglu_default = "// Gated GELU (Shazeer 2020):  out = value · GELU(gate). value and gate: [row, …], each read at an offset inside rows of any\n// width, since they may be two halves of one tensor; out: [row, channel].\nstruct Params { rows: u32, out_quads: u32, value_row: u32, value_offset: u32, gate_row: u32, gate_offset: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> value: array<Quad>;\n@group(0) @binding(2) var<storage, read> gate: array<Quad>;\n@group(0) @binding(3) var<storage, read_write> out: array<Quad>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  if (index >= params.rows * params.out_quads) { return; }\n  let row = index / params.out_quads;\n  let quad = index % params.out_quads;\n  let gated = activate(widen(gate[row * params.gate_row + params.gate_offset + quad]), GELU);\n  out[index] = narrow(widen(value[row * params.value_row + params.value_offset + quad]) * gated);\n}\n";
//#endregion
//#region shaders/latent_to_rgb.wgsl
var latent_to_rgb_default = "// The cheapest preview: each latent pixel to RGB in [-1, 1] by a small matrix.\n//   out[p] = matrix · latents[p] + bias,  matrix given as one vec4 (r, g, b, 0) per latent channel, then the bias.\n// latents: [pixel, channel], f32.\nstruct Params { pixels: u32, quads: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> latents: array<vec4f>;\n@group(0) @binding(2) var<storage, read> matrix: array<vec4f>;\n@group(0) @binding(3) var<storage, read_write> out: array<Quad>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  if (index >= params.pixels) { return; }\n  var rgb = matrix[params.quads * 4u];\n  for (var quad = 0u; quad < params.quads; quad++) {\n    let z = latents[index * params.quads + quad];\n    rgb += z.x * matrix[quad * 4u] + z.y * matrix[quad * 4u + 1u] + z.z * matrix[quad * 4u + 2u] + z.w * matrix[quad * 4u + 3u];\n  }\n  out[index] = narrow(vec4f(rgb.xyz, 0.0));\n}\n";
//#endregion
//#region shaders/pack_picture.wgsl
var pack_picture_default = "// A picture for the encoder:  rgba8 = round(255 · clamp(x / 2 + ½, 0, 1)), half to even as NumPy rounds; alpha 255.\n// x: [pixel, channel ≥ 3] in [-1, 1]; out: one u32 a pixel, R in the lowest byte.\nstruct Params { pixels: u32, quads: u32, grid_width: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> x: array<Quad>;\n@group(0) @binding(2) var<storage, read_write> out: array<u32>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  if (index >= params.pixels) { return; }\n  let byte = vec3u(round(255.0 * clamp(widen(x[index * params.quads]).xyz * 0.5 + 0.5, vec3f(0.0), vec3f(1.0))));\n  out[index] = byte.x | (byte.y << 8u) | (byte.z << 16u) | 0xff000000u;\n}\n";
//#endregion
//#region shaders/upsample_nearest.wgsl
var upsample_nearest_default = "// Nearest-neighbour resize to any size:  out[n, y, x] = in[n, ⌊y · in_height / out_height⌋, ⌊x · in_width / out_width⌋]\n// NHWC; in and out may be parts of the channels, from first_in_quad and first_out_quad on. (Convolutions read their input resized without this pass; it is for a resize that no convolution follows.)\nstruct Params {\n  images: u32, in_height: u32, in_width: u32, out_height: u32, out_width: u32,\n  quads: u32, in_quads: u32, first_in_quad: u32, out_quads: u32, first_out_quad: u32, grid_width: u32,\n}\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> x: array<Quad>;\n@group(0) @binding(2) var<storage, read_write> out: array<Quad>;\n\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let quad = index % params.quads;\n  let pixel = index / params.quads;\n  let column = pixel % params.out_width;\n  let row = pixel / params.out_width % params.out_height;\n  let image = pixel / params.out_width / params.out_height;\n  if (image >= params.images) { return; }\n  let y = row * params.in_height / params.out_height;\n  let xx = column * params.in_width / params.out_width;\n  let source = ((image * params.in_height + y) * params.in_width + xx) * params.in_quads + params.first_in_quad + quad;\n  out[pixel * params.out_quads + params.first_out_quad + quad] = x[source];\n}\n";
//#endregion
//#region src/graph/kernels/pointwise.ts
/** Kernels that make each element from a few others: arithmetic, resizing, gathering, pictures. */
function lowerElementwise(operation, target) {
	const { input, addend } = operation;
	const quadCount = quads(channelsOf(input));
	const count = rowsOf(input) * quadCount;
	const mode = addend === void 0 ? 0 : addsPerImage(operation) ? 2 : 1;
	const { workgroups, width } = grid(count);
	return [{
		kernel: kernel("elementwise", elementwise_default, target.storage),
		label: operation.name,
		params: params(...[
			count,
			quadCount,
			count / input.shape[0],
			mode
		], activationCode[operation.activation], ...[
			{ f32: operation.inputScale },
			{ f32: operation.scale },
			{ f32: operation.shift }
		], ...[
			channelsOf(input),
			addend ? quads(channelsOf(addend)) : 0,
			operation.firstAddendQuad,
			width
		]),
		bindings: [
			{ tensor: input },
			addend ? { tensor: addend } : "blank",
			{ tensor: operation.output }
		],
		workgroups
	}];
}
function lowerGeglu(operation, target) {
	const { value, gate } = operation;
	const rows = rowsOf(operation.output);
	const outQuads = quads(channelsOf(operation.output));
	const { workgroups, width } = grid(rows * outQuads);
	return [{
		kernel: kernel("geglu", geglu_default, target.storage),
		label: operation.name,
		params: params(...[
			rows,
			outQuads,
			quads(channelsOf(value.tensor)),
			value.offset / 4
		], ...[
			quads(channelsOf(gate.tensor)),
			gate.offset / 4,
			width
		]),
		bindings: [
			{ tensor: value.tensor },
			{ tensor: gate.tensor },
			{ tensor: operation.output }
		],
		workgroups
	}];
}
function lowerUpsample(operation, target) {
	const { input, output, firstQuad } = operation;
	const [images, inHeight, inWidth] = input.shape;
	const [, outHeight, outWidth] = output.shape;
	const outQuads = quads(channelsOf(output));
	const dispatches = [];
	let partStart = 0;
	for (const part of partsOf(input)) {
		const inQuads = quads(channelsOf(part));
		const begin = Math.max(partStart, firstQuad);
		const count = Math.min(partStart + inQuads, firstQuad + outQuads) - begin;
		if (count > 0) {
			const { workgroups, width } = grid(rowsOf(output) * count);
			dispatches.push({
				kernel: kernel("upsample_nearest", upsample_nearest_default, target.storage),
				label: operation.name,
				params: params(...[
					images,
					inHeight,
					inWidth,
					outHeight,
					outWidth
				], ...[
					count,
					inQuads,
					begin - partStart,
					outQuads,
					begin - firstQuad,
					width
				]),
				bindings: [{ tensor: part }, { tensor: output }],
				workgroups
			});
		}
		partStart += inQuads;
	}
	return dispatches;
}
function lowerEmbedding(operation, target) {
	const { ids, table, positions, output } = operation;
	const tokens = ids.shape[0];
	const quadCount = quads(table.channels);
	const { workgroups, width } = grid(tokens * quadCount);
	return tablePieces(table, target).map(({ firstRow, endRow }, piece) => ({
		kernel: kernel("embedding", embedding_default, target.storage, { weights: target.weights }),
		label: operation.name,
		params: params(tokens, output.shape[1], quadCount, firstRow, endRow, width),
		bindings: [
			{ tensor: ids },
			{
				parameter: table,
				piece
			},
			{ parameter: positions },
			{ tensor: output }
		],
		workgroups
	}));
}
function lowerConcatenate(operation, target) {
	const { first, second, output } = operation;
	const { workgroups, width } = grid(rowsOf(output) * quads(channelsOf(output)));
	return [{
		kernel: kernel("concatenate", concatenate_default, target.storage),
		label: operation.name,
		params: params(rowsOf(output), channelsOf(first), channelsOf(second), width),
		bindings: [
			{ tensor: first },
			{ tensor: second },
			{ tensor: output }
		],
		workgroups
	}];
}
function lowerGatherRows(operation, target) {
	const [tables, tokens, channels] = operation.input.shape;
	const images = operation.output.shape[0];
	return [{
		kernel: kernel("gather_rows", gather_rows_default, target.storage),
		label: operation.name,
		params: params(images, tokens, quads(channels), tables === images ? tokens : 0),
		bindings: [
			{ tensor: operation.input },
			{ tensor: operation.rows },
			{ tensor: operation.output }
		],
		workgroups: [
			Math.ceil(images * quads(channels) / 64),
			1,
			1
		]
	}];
}
function lowerPackPicture(operation, target) {
	const pixels = rowsOf(operation.input);
	const { workgroups, width } = grid(pixels);
	return [{
		kernel: kernel("pack_picture", pack_picture_default, target.storage),
		label: operation.name,
		params: params(pixels, quads(channelsOf(operation.input)), width),
		bindings: [{ tensor: operation.input }, { tensor: operation.output }],
		workgroups
	}];
}
function lowerLatentToRgb(operation, target) {
	const pixels = rowsOf(operation.input);
	const { workgroups, width } = grid(pixels);
	return [{
		kernel: kernel("latent_to_rgb", latent_to_rgb_default, target.storage),
		label: operation.name,
		params: params(pixels, quads(channelsOf(operation.input)), width),
		bindings: [
			{ tensor: operation.input },
			{ tensor: operation.matrix },
			{ tensor: operation.output }
		],
		workgroups
	}];
}
//#endregion
//#region src/graph/lower.ts
function lower(operation, target) {
	switch (operation.kind) {
		case "convolution": return lowerConvolution(operation, target);
		case "group-norm-stats": return lowerGroupNormStats(operation, target);
		case "group-norm-apply": return lowerGroupNormApply(operation, target);
		case "layer-norm": return lowerLayerNorm(operation, target);
		case "attention": return lowerAttention(operation, target);
		case "geglu": return lowerGeglu(operation, target);
		case "elementwise": return lowerElementwise(operation, target);
		case "upsample-nearest": return lowerUpsample(operation, target);
		case "softmax": return lowerSoftmax(operation, target);
		case "embedding": return lowerEmbedding(operation, target);
		case "concatenate": return lowerConcatenate(operation, target);
		case "gather-rows": return lowerGatherRows(operation, target);
		case "pack-picture": return lowerPackPicture(operation, target);
		case "latent-to-rgb": return lowerLatentToRgb(operation, target);
		case "model-input": return lowerModelInput(operation, target);
		case "philox-normals": return lowerPhiloxNormals(operation, target);
		case "scheduler-step": return lowerSchedulerStep(operation, target);
		default: return operation;
	}
}
//#endregion
//#region src/graph/split.ts
/**
* Splitting: tensors that are too large for one binding become several **slices** along the channels, and the operations
* on them operations on slices. A layer's channels are nearly independent of each other: a convolution adds up over slices
* of its input, group normalisation needs only the statistics of all, everything elementwise does not notice.
*
* A sliced tensor is a concatenation like that of a skip connection (`Tensor.concatenated`), so that whoever reads a
* concatenation reads slices too. Tensors of one shape are sliced alike, so that residuals line up. Along the channels and
* not along rows of the picture, since a convolution would need the neighbouring rows of other slices.
*/
/**
* The operations with no tensor over the limit. `outputs` are read from outside and stay whole.
* Throws `GraphError` naming the layer where one is too large and the operation needs it whole.
*/
function split(operations, outputs, limits) {
	const whole = new Set([...outputs].map((tensor) => tensor.id));
	const gated = new Set(operations.flatMap((op) => op.kind === "geglu" ? [op.value.tensor.id, op.gate.tensor.id] : []));
	const slicings = /* @__PURE__ */ new Map();
	let nextId = 1 + Math.max(...operations.flatMap((op) => [op.output, ...readsOf$1(op)]).map((tensor) => tensor.id));
	const fits = (tensor) => tensorBytes(tensor, limits.storage) <= limits.maxTensorBytes;
	const tooLarge = (operation, tensor) => {
		const bytes = tensorBytes(tensor, limits.storage);
		const rows = Math.floor(rowsOf(tensor) * limits.maxTensorBytes / bytes);
		return new GraphError(`${operation.name}: ${operation.kind} needs [${tensor.shape}] in one piece of ${bytes} bytes, and this adapter binds at most ${limits.maxTensorBytes}; at most ${rows} of these ${rowsOf(tensor)} rows (pixels or tokens of the whole batch) fit: ask for a smaller picture or for fewer at a time`);
	};
	/** A tensor as it is stored after splitting: itself, or a concatenation of what fits. */
	const stored = (tensor) => {
		const parts = partsOf(tensor).flatMap((part) => slicings.get(part.id) ?? [part]);
		if (parts.length === 1) return parts[0].id === tensor.id ? tensor : reshaped(parts[0], tensor);
		return {
			...tensor,
			concatenated: parts.map((part) => reshaped(part, tensor))
		};
	};
	/** The only form that some operations read. */
	const inOnePiece = (operation) => {
		for (const tensor of readsOf$1(operation)) if (stored(tensor).concatenated) throw tooLarge(operation, tensor);
	};
	/** Slices an operation's output into parts of so many channels each; one part is the output itself. */
	const sliceInto = (operation, sizes) => {
		const { output } = operation;
		if (sizes.length === 1 && fits(output)) return [{
			tensor: output,
			firstQuad: 0
		}];
		if (sizes.length === 1 || whole.has(output.id)) throw tooLarge(operation, output);
		let first = 0;
		const slices = sizes.map((size) => {
			const range = `${first}…${first + size - 1}`;
			const shape = [...output.shape.slice(0, -1), size];
			const slice = {
				tensor: {
					...output,
					id: nextId++,
					shape,
					name: `${output.name} (channels ${range})`
				},
				firstQuad: first / 4
			};
			first += size;
			return slice;
		});
		const unfit = slices.find(({ tensor }) => !fits(tensor));
		if (unfit) throw tooLarge(operation, unfit.tensor);
		slicings.set(output.id, slices.map(({ tensor }) => tensor));
		return slices;
	};
	/** The output in as few slices of equal size as fit. A tensor that a gate reads in two halves is sliced by halves. */
	const sliceEvenly = (operation) => {
		const { output } = operation;
		if (fits(output) || output.element === "u32") return [{
			tensor: output,
			firstQuad: 0
		}];
		const channels = channelsOf(output);
		const quadBytes = tensorBytes({
			...output,
			shape: [...output.shape.slice(0, -1), 4]
		}, limits.storage);
		const most = Math.floor(limits.maxTensorBytes / quadBytes);
		if (most < 1) throw tooLarge(operation, output);
		if (!gated.has(output.id)) return sliceInto(operation, evenSizes(channels, most));
		const half = evenSizes(channels / 2, most);
		return sliceInto(operation, [...half, ...half]);
	};
	/** The parts of another operand of the layer that lie beside the slices. */
	const beside = (operation, slices, other) => {
		const parts = partsOf(stored(other));
		if (parts.length !== slices.length || parts.some((part, i) => channelsOf(part) !== channelsOf(slices[i].tensor))) throw tooLarge(operation, other);
		return parts;
	};
	const splitGroupNorm = (operation) => {
		const input = stored(operation.input);
		const parts = partsOf(input);
		if (fits(operation.output) && parts.length <= 2) return [{
			...operation,
			input
		}];
		return sliceInto(operation, parts.map(channelsOf)).map(({ tensor, firstQuad }, i) => ({
			...operation,
			input: parts[i],
			firstQuad,
			output: tensor
		}));
	};
	const splitGeglu = (operation) => {
		const { value, gate } = operation;
		const parts = partsOf(stored(value.tensor));
		if (parts.length === 1) {
			if (!fits(operation.output)) throw tooLarge(operation, operation.output);
			return [operation];
		}
		const values = parts.slice(0, parts.length / 2);
		const gates = partsOf(stored(gate.tensor)).slice(parts.length / 2);
		if (gates.length !== values.length || gates.some((part, i) => channelsOf(part) !== channelsOf(values[i]))) throw tooLarge(operation, value.tensor);
		return sliceInto(operation, values.map(channelsOf)).map(({ tensor }, i) => ({
			...operation,
			value: {
				tensor: values[i],
				offset: 0
			},
			gate: {
				tensor: gates[i],
				offset: 0
			},
			output: tensor
		}));
	};
	const splitOne = (operation) => {
		switch (operation.kind) {
			case "convolution": {
				const input = stored(operation.input);
				const perImage = operation.perImage?.tensor;
				if (perImage && stored(perImage).concatenated) throw tooLarge(operation, perImage);
				const slices = sliceEvenly(operation);
				const residuals = operation.residual && beside(operation, slices, operation.residual);
				return slices.map(({ tensor, firstQuad }, i) => ({
					...operation,
					input,
					residual: residuals?.[i],
					firstOutputQuad: firstQuad,
					output: tensor
				}));
			}
			case "group-norm-stats": return [{
				...operation,
				input: stored(operation.input)
			}];
			case "group-norm-apply": return splitGroupNorm(operation);
			case "elementwise": {
				const parts = partsOf(stored(operation.input));
				const slices = sliceInto(operation, parts.map(channelsOf));
				const { addend, firstAddendQuad } = operation;
				const isPerImage = addsPerImage(operation);
				if (addend && isPerImage && stored(addend).concatenated) throw tooLarge(operation, addend);
				const addends = addend && !isPerImage ? beside(operation, slices, addend) : void 0;
				return slices.map(({ tensor, firstQuad }, i) => ({
					...operation,
					input: parts[i],
					addend: addends ? addends[i] : addend,
					firstAddendQuad: isPerImage ? firstAddendQuad + firstQuad : 0,
					output: tensor
				}));
			}
			case "upsample-nearest": {
				const input = stored(operation.input);
				return sliceEvenly(operation).map(({ tensor, firstQuad }) => ({
					...operation,
					input,
					firstQuad,
					output: tensor
				}));
			}
			case "geglu": return splitGeglu(operation);
			case "layer-norm":
			case "attention":
			case "softmax":
			case "embedding":
			case "concatenate":
			case "gather-rows":
			case "pack-picture":
			case "latent-to-rgb":
			case "model-input":
			case "philox-normals":
			case "scheduler-step":
				inOnePiece(operation);
				if (!fits(operation.output)) throw tooLarge(operation, operation.output);
				return [operation];
			default: return operation;
		}
	};
	return operations.flatMap(splitOne);
}
/** `part` seen under the rows of `tensor`, which holds it: `[n, h, w, c]` may be read as `[n, h · w, c]`. */
function reshaped(part, tensor) {
	return {
		...part,
		shape: [...tensor.shape.slice(0, -1), channelsOf(part)]
	};
}
/** Channels in the fewest parts of at most `mostQuads` quads, all equal but the last. */
function evenSizes(channels, mostQuads) {
	const count = Math.ceil(quads(channels) / mostQuads);
	const size = Math.ceil(quads(channels) / count) * 4;
	return Array.from({ length: Math.ceil(channels / size) }, (_, i) => Math.min(size, channels - i * size));
}
/** Throws `GraphError` where a tensor does not fit. */
function layOut(gpu, recorder, target, options = {}) {
	const { storage } = target;
	const { ordered, isPrologue, memory } = arrange(gpu, recorder, {
		...options,
		storage,
		choose: target.choose
	});
	const lowered = ordered.map((operation) => ({
		prologue: isPrologue(operation),
		dispatches: lower(operation, target)
	}));
	const dispatches = lowered.flatMap((entry) => entry.dispatches);
	const bindings = dispatches.flatMap((dispatch) => dispatch.bindings);
	const external = [...recorder.inputs, ...recorder.states].map(([name, tensor]) => [name, {
		tensor,
		size: align(tensorBytes(tensor, storage), 16)
	}]);
	const results = new Map([...recorder.states, ...recorder.outputs]);
	return {
		lowered,
		memory,
		external: new Map(external),
		uniforms: placeUniforms(dispatches, gpu.uniformAlignment),
		scratch: scratchShapes(bindings),
		transformed: transformedMatrices(bindings, target),
		reads: new Map((options.reads ?? []).map((name) => [name, tensorBytes(results.get(name), storage)]))
	};
}
/**
* The bytes of a layout with weights stored as `target` says. `has`: those whose transformed form is there already.
* What is foretold here is what `compile` takes.
*/
function footprintOf(layout, target, has = () => false) {
	const sum = (sizes) => [...sizes].reduce((total, size) => total + size, 0);
	const arenas = sum(layout.memory.arenas);
	const scratch = sum([...layout.scratch.values()].map(textureBytes));
	const inputs = sum([...layout.external.values()].map(({ size }) => size));
	const readBack = sum([...layout.reads.values()].map((size) => align(size, 16)));
	const bytes = arenas + inputs + 256 + layout.uniforms.size + scratch + readBack;
	let transformed = 0;
	let peak = bytes;
	for (const [matrix, texture] of layout.transformed) {
		if (has(matrix)) continue;
		const size = textureBytes(texture);
		transformed += size;
		const source = target.textured?.(matrix) ? sum(parameterBytes(matrix, target.weights, target)) : 0;
		peak = Math.max(peak, bytes + transformed + size + source + TRANSFORM_BLOCK_BYTES);
	}
	return {
		bytes,
		arenas,
		scratch,
		transformed,
		peak
	};
}
const TRANSFORM_BLOCK_BYTES = 16;
/** The operations of a plan as they will run: fused, and split where they are too large. */
function runnableOperations(gpu, recorder, storage) {
	return arrange(gpu, recorder, { storage }).ordered;
}
function arrange(gpu, recorder, options) {
	const { storage, choose } = options;
	const outputs = new Set(recorder.outputs.values());
	const maxTensorBytes = Math.min(options.maxTensorBytes ?? Infinity, gpu.maxBindingBytes);
	const operations = joinGroupNorms(split(fuse(recorder.operations, outputs), outputs, {
		storage,
		maxTensorBytes
	}), outputs, (norm) => groupNormVariant(norm, {
		lanes: gpu.lanes,
		storage,
		choose
	}) === "joined");
	const isPrologue = prologueOf(operations);
	const ordered = [...operations.filter(isPrologue), ...operations.filter((operation) => !isPrologue(operation))];
	const steps = ordered.filter((operation) => !isPrologue(operation));
	const madeOnce = new Set(ordered.filter(isPrologue).map((operation) => operation.output.id));
	const readByStep = steps.flatMap(readsOf$1).map((tensor) => tensor.id);
	return {
		ordered,
		isPrologue,
		memory: planMemory(ordered, new Set([...[...outputs].map((tensor) => tensor.id), ...readByStep.filter((id) => madeOnce.has(id))]), {
			storage,
			alignment: Math.max(gpu.storageAlignment, 16),
			maxArenaBytes: gpu.maxBindingBytes
		})
	};
}
/** Which operations follow from constant inputs alone. */
function prologueOf(operations) {
	const constant = /* @__PURE__ */ new Set();
	const members = /* @__PURE__ */ new Set();
	for (const operation of operations) {
		if (!readsOf$1(operation).every((tensor) => tensor.constant || constant.has(tensor.id))) continue;
		constant.add(operation.output.id);
		members.add(operation);
	}
	return members.size === operations.length ? () => false : (operation) => members.has(operation);
}
function placeUniforms(dispatches, alignment) {
	const offsets = /* @__PURE__ */ new Map();
	let end = 0;
	for (const dispatch of dispatches) {
		offsets.set(dispatch, end);
		end = align(end + dispatch.params.byteLength, alignment);
	}
	return {
		offsets,
		size: Math.max(end, 16)
	};
}
/** A texture for each name of scratch, as large as the largest of that name. */
function scratchShapes(bindings) {
	const shapes = /* @__PURE__ */ new Map();
	for (const binding of bindings) {
		if (typeof binding === "string" || !("scratch" in binding)) continue;
		const { name, width, height } = binding.scratch;
		const known = shapes.get(name) ?? {
			width: 0,
			height: 0
		};
		shapes.set(name, {
			width: Math.max(known.width, width),
			height: Math.max(known.height, height)
		});
	}
	return shapes;
}
function transformedMatrices(bindings, target) {
	const matrices = /* @__PURE__ */ new Map();
	for (const binding of bindings) {
		if (typeof binding === "string" || !("winograd" in binding) || matrices.has(binding.winograd)) continue;
		matrices.set(binding.winograd, transformedTexture(binding.winograd, target));
	}
	return matrices;
}
//#endregion
//#region src/graph/plan.ts
/**
* A plan: a recorded model, fused, laid out in memory, and bound to buffers. Replaying it is a flat list of pipeline,
* bind group and workgroup counts; nothing is allocated, compiled or looked up.
*
* What follows from constant inputs alone (the prompt's keys and values, size embeddings) is the plan's **prologue**: it
* runs when such an input was written, and its results are kept until the next time.
*/
const choices = /* @__PURE__ */ new WeakMap();
/** Has every plan of this GPU that is compiled from now on take its variants by `choose`; undefined: by rule again. */
function setChoice(gpu, choose) {
	if (choose) choices.set(gpu, choose);
	else choices.delete(gpu);
}
/** Replays whose times are remembered, and the part of the shortest for which the next one is not asked about. */
const RECENT = 4;
const SURELY_BUSY = .9;
/** What kernels are chosen for where a plan with these parameters is compiled on this GPU. */
function targetOf(gpu, storage, parameters, choose) {
	return {
		...limitsOf(gpu),
		storage,
		weights: parameters.storage,
		winograd: parameters.transformed !== void 0,
		textured: (matrix) => parameters.texture?.(matrix) !== void 0,
		choose
	};
}
function limitsOf(gpu) {
	const { lanes, matrixUnit, maxBindingBytes, device } = gpu;
	return {
		lanes,
		matrixUnit,
		maxBindingBytes,
		maxTextureDimension: device.limits.maxTextureDimension2D
	};
}
/**
* What a plan of what `recorder` recorded would take, without making it, nor having the weights at hand.
* Throws `GraphError` where a tensor does not fit.
*/
function footprint(gpu, recorder, options) {
	const target = {
		...limitsOf(gpu),
		storage: options.storage,
		weights: options.weights,
		winograd: options.transformed ?? true,
		textured: (matrix) => matrixTexture(gpu, matrix, options.weights) !== void 0,
		choose: choices.get(gpu)
	};
	return footprintOf(layOut(gpu, recorder, target, options), target);
}
/**
* Compiles what `recorder` recorded. Throws `GraphError` where a tensor does not fit, `MemoryLimitError` before anything is
* made where the plan is more than the GPU's limit leaves, other GPU errors as typed errors.
*/
async function compile(gpu, recorder, options) {
	const { label, storage, transformed: transforms = true } = options;
	const parameters = transforms ? options.parameters : withoutTransformed(options.parameters);
	const target = targetOf(gpu, storage, parameters, options.choose ?? choices.get(gpu));
	const layout = layOut(gpu, recorder, target, options);
	const { memory, lowered } = layout;
	gpu.checkRoom(label, footprintOf(layout, target, (matrix) => parameters.transformed.has(matrix)).peak);
	const owned = [];
	const textures = [];
	const own = (name, size, usage) => {
		const buffer = gpu.createBuffer(`${label}: ${name}`, size, usage);
		owned.push(buffer);
		return buffer;
	};
	const external = /* @__PURE__ */ new Map();
	const destroy = () => {
		for (const buffer of owned) gpu.destroyBuffer(buffer);
		for (const texture of textures) gpu.destroyTexture(texture);
		owned.length = 0;
		textures.length = 0;
	};
	try {
		const arenas = memory.arenas.map((size, index) => own(`arena ${index}`, size));
		for (const [name, { tensor, size }] of layout.external) external.set(tensor.id, {
			buffer: own(name, size),
			offset: 0,
			size
		});
		const blank = own("blank", 256);
		const rangeOf = (tensor) => {
			const place = memory.places.get(tensor.id);
			if (place) return {
				buffer: arenas[place.arena],
				offset: place.offset,
				size: align(tensorBytes(tensor, storage), 16)
			};
			const range = external.get(tensor.id);
			if (!range) throw new GraphError(`${label}: nothing makes ${tensor.name}`);
			return range;
		};
		const uniforms = uniformBuffer(gpu, layout.uniforms, own);
		const scratch = new Map([...layout.scratch].map(([name, shape]) => {
			const texture = gpu.createTexture(`${label}: ${name}`, {
				...shape,
				format: "rgba32float"
			});
			textures.push(texture);
			return [name, texture];
		}));
		const stagings = /* @__PURE__ */ new Map();
		const stagingOf = (name, size) => {
			const staging = stagings.get(name) ?? gpu.stagingBuffer(`${label}: read-back of ${name}`, size);
			if (!stagings.has(name)) owned.push(staging);
			stagings.set(name, staging);
			return staging;
		};
		for (const [name, size] of layout.reads) stagingOf(name, size);
		const compiling = pipelinesOf(gpu, lowered.flatMap((entry) => entry.dispatches));
		compiling.catch(() => {});
		const transformed = /* @__PURE__ */ new Map();
		for (const matrix of layout.transformed.keys()) transformed.set(matrix, await parameters.transformed.get(matrix));
		const viewOf = remembered((texture) => texture.createView());
		const layoutOf = remembered((pipeline) => pipeline.getBindGroupLayout(0));
		const resource = (binding) => {
			if (binding === "blank") return { buffer: blank };
			if ("scratch" in binding) return viewOf(scratch.get(binding.scratch.name));
			if ("winograd" in binding) return viewOf(transformed.get(binding.winograd));
			if ("parameter" in binding) {
				const { parameter, piece = 0 } = binding;
				const texture = parameter.kind === "matrix" ? parameters.texture?.(parameter) : void 0;
				return texture ? viewOf(texture) : { buffer: parameters.get(parameter)[piece] };
			}
			const range = rangeOf(binding.tensor);
			return {
				buffer: range.buffer,
				offset: range.offset + (binding.offset ?? 0),
				size: binding.size ?? range.size - (binding.offset ?? 0)
			};
		};
		const pipelines = await compiling;
		gpu.check();
		const bind = (dispatch) => {
			const pipeline = pipelines.get(dispatch.kernel.code);
			return {
				pipeline,
				group: gpu.device.createBindGroup({
					label: `${label}: ${dispatch.label} (${dispatch.kernel.name})`,
					layout: layoutOf(pipeline),
					entries: [{
						binding: 0,
						resource: uniforms(dispatch)
					}, ...dispatch.bindings.flatMap((binding, index) => binding === "unused" ? [] : [{
						binding: index + 1,
						resource: resource(binding)
					}])]
				}),
				dispatch
			};
		};
		const prologue = lowered.filter((entry) => entry.prologue).flatMap((entry) => entry.dispatches.map(bind));
		const replay = lowered.filter((entry) => !entry.prologue).flatMap((entry) => entry.dispatches.map(bind));
		gpu.check();
		const named = new Map([
			...recorder.inputs,
			...recorder.states,
			...recorder.outputs
		]);
		const find = (name) => {
			const tensor = named.get(name);
			if (!tensor) throw new GraphError(`${label}: no tensor is named ${name}; there are ${[...named.keys()].join(", ")}`);
			return tensor;
		};
		let prologueDue = prologue.length > 0;
		let recent = [];
		const plan = {
			label,
			get bytes() {
				return owned.reduce((sum, buffer) => sum + buffer.size, 0) + textures.reduce((sum, texture) => sum + textureBytes(texture), 0);
			},
			arenaBytes: memory.arenas.reduce((sum, size) => sum + size, 0),
			dispatches: replay.length,
			write(name, values) {
				const tensor = find(name);
				const bytes = toDevice(tensor, values, storage);
				const range = rangeOf(tensor);
				gpu.device.queue.writeBuffer(range.buffer, range.offset, bytes);
				if (tensor.constant) prologueDue = prologue.length > 0;
			},
			range: (name) => rangeOf(find(name)),
			touch() {
				prologueDue = prologue.length > 0;
			},
			encode(encoder) {
				const pass = encoder.beginComputePass({ label });
				if (prologueDue) encodeAll(pass, prologue);
				prologueDue = false;
				encodeAll(pass, replay);
				pass.end();
			},
			run() {
				const encoder = gpu.device.createCommandEncoder({ label });
				plan.encode(encoder);
				gpu.device.queue.submit([encoder.finish({ label })]);
			},
			async replay() {
				const begun = performance.now();
				plan.run();
				await gpu.idle(recent.length === 0 ? 0 : SURELY_BUSY * Math.min(...recent));
				recent = [...recent.slice(1 - RECENT), performance.now() - begun];
			},
			kernels: pipelines.size,
			async warmUp(onKernel) {
				const firsts = new Map([...prologue, ...replay].map((bound) => [bound.pipeline, bound]));
				for (const bound of firsts.values()) {
					const encoder = gpu.device.createCommandEncoder({ label: `${label} warm-up` });
					const pass = encoder.beginComputePass({ label: bound.dispatch.kernel.name });
					encodeAll(pass, [{
						...bound,
						dispatch: {
							...bound.dispatch,
							workgroups: [
								1,
								1,
								1
							]
						}
					}]);
					pass.end();
					gpu.device.queue.submit([encoder.finish()]);
					await gpu.idle();
					onKernel?.();
				}
			},
			profile: () => profile(gpu, label, [...prologue, ...replay]),
			async read(name) {
				const tensor = find(name);
				const range = rangeOf(tensor);
				const size = tensorBytes(tensor, storage);
				return fromDevice(tensor, await gpu.read(range.buffer, range.offset, size, stagingOf(name, size)), storage);
			},
			destroy
		};
		return plan;
	} catch (error) {
		destroy();
		throw error;
	}
}
/** `make` of each object once: of what bind groups want, Dawn makes a new one whenever it is asked. */
function remembered(make) {
	const made = /* @__PURE__ */ new Map();
	return (key) => {
		const value = made.get(key) ?? make(key);
		made.set(key, value);
		return value;
	};
}
/** The pipelines of these dispatches by their code, compiled beside each other. */
async function pipelinesOf(gpu, dispatches) {
	const compiling = [...new Map(dispatches.map(({ kernel }) => [kernel.code, kernel.name]))].map(async ([code, name]) => [code, await gpu.pipeline(name, code)]);
	return new Map(await Promise.all(compiling));
}
/** All uniform blocks in one buffer, and where each dispatch finds its own. */
function uniformBuffer(gpu, { offsets, size }, own) {
	const bytes = new Uint8Array(size);
	for (const [dispatch, offset] of offsets) bytes.set(new Uint8Array(dispatch.params), offset);
	const buffer = own("uniforms", bytes.byteLength, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
	gpu.device.queue.writeBuffer(buffer, 0, bytes);
	return (dispatch) => ({
		buffer,
		offset: offsets.get(dispatch),
		size: dispatch.params.byteLength
	});
}
function encodeAll(pass, list) {
	let current;
	for (const { pipeline, group, dispatch } of list) {
		if (pipeline !== current) pass.setPipeline(current = pipeline);
		pass.setBindGroup(0, group);
		pass.dispatchWorkgroups(...dispatch.workgroups);
	}
}
const MAX_QUERIES = 4096;
async function profile(gpu, label, list) {
	if (!gpu.hasTimestamps) throw new GraphError(`${label}: this adapter has no timestamp-query, so nothing can be profiled`);
	const times = [];
	for (let first = 0; first < list.length; first += MAX_QUERIES / 2) {
		const part = list.slice(first, first + MAX_QUERIES / 2);
		const count = part.length * 2;
		const querySet = gpu.device.createQuerySet({
			label,
			type: "timestamp",
			count
		});
		const resolved = gpu.createBuffer(`${label}: timestamps`, count * 8, BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC);
		try {
			const encoder = gpu.device.createCommandEncoder({ label: `${label} profile` });
			part.forEach((bound, index) => {
				const timestampWrites = {
					querySet,
					beginningOfPassWriteIndex: index * 2,
					endOfPassWriteIndex: index * 2 + 1
				};
				const pass = encoder.beginComputePass({
					label: bound.dispatch.label,
					timestampWrites
				});
				encodeAll(pass, [bound]);
				pass.end();
			});
			encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
			gpu.device.queue.submit([encoder.finish()]);
			const stamps = new BigUint64Array((await gpu.read(resolved, 0, count * 8)).buffer);
			part.forEach(({ dispatch }, index) => {
				const milliseconds = Number(stamps[index * 2 + 1] - stamps[index * 2]) / 1e6;
				times.push({
					kernel: dispatch.kernel.name,
					layer: dispatch.label,
					milliseconds
				});
			});
		} finally {
			querySet.destroy();
			gpu.destroyBuffer(resolved);
		}
	}
	return times;
}
/** Host values to the device's layout: padded to quads, narrowed where the plan stores f16. */
function toDevice(tensor, values, storage) {
	const count = tensor.shape.reduce((product, size) => product * size, 1);
	const wanted = tensor.element === "u32" ? Uint32Array : Float32Array;
	if (!(values instanceof wanted) || values.length !== count) throw new GraphError(`${tensor.name}: wants ${wanted.name} of ${count} for [${tensor.shape}], got ${values.constructor.name} of ${values.length}`);
	if (values instanceof Uint32Array) return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
	const channels = channelsOf(tensor);
	const stride = quads(channels) * 4;
	const rows = rowsOf(tensor);
	let padded = values;
	if (stride !== channels) {
		padded = new Float32Array(rows * stride);
		for (let row = 0; row < rows; row++) padded.set(values.subarray(row * channels, (row + 1) * channels), row * stride);
	}
	if (tensor.element === "f32" || storage === "f32") return new Uint8Array(padded.buffer, padded.byteOffset, padded.byteLength);
	const halves = Uint16Array.from(padded, float32ToFloat16Bits);
	return new Uint8Array(halves.buffer);
}
function fromDevice(tensor, bytes, storage) {
	if (tensor.element === "u32") return new Uint32Array(bytes.buffer, 0, bytes.byteLength / 4);
	const stored = tensor.element === "f32" || storage === "f32" ? new Float32Array(bytes.buffer, 0, bytes.byteLength / 4) : toFloat32(bytes, "F16");
	const channels = channelsOf(tensor);
	const stride = quads(channels) * 4;
	if (stride === channels) return stored;
	const rows = rowsOf(tensor);
	const values = new Float32Array(rows * channels);
	for (let row = 0; row < rows; row++) values.set(stored.subarray(row * stride, row * stride + channels), row * channels);
	return values;
}
//#endregion
//#region src/diffusion/denoiser.ts
/** Steps whose timesteps are projected at once; a longer schedule does so again after as many. */
const PROJECTED_STEPS = 32;
/** Records one step. Without a scheduler's part it is the bare UNet's parameters that are wanted. */
function recordDenoiser(config, shape) {
	const g = new Recorder();
	const { images, branches, height, width, channels, tokens } = shape;
	const rows = images * branches;
	const latentShape = [
		images,
		height,
		width,
		channels
	];
	const latents = g.state("latents", latentShape);
	const history = g.state("history", [
		images * 5,
		height,
		width,
		channels
	]);
	const noise = g.input("noise", latentShape, { element: "f32" });
	const table = g.input("rows", [images * 6, 4], { element: "f32" });
	const timeRows = projectedRows(config, shape);
	const time = {
		timesteps: g.input("timesteps", [
			timeRows,
			PROJECTED_STEPS,
			config.block_out_channels[0]
		], { constant: true }),
		guidance: config.time_cond_proj_dim ? g.input("guidance", [timeRows, config.time_cond_proj_dim], { constant: true }) : void 0,
		added: hasAddedConditions(config) ? g.input("added", [timeRows, config.projection_class_embeddings_input_dim], { constant: true }) : void 0
	};
	const step = g.input("step", [rows], { element: "u32" });
	const model = unet(g, config, {
		sample: g.modelInput(latents, table, branches, "model_input"),
		time: g.gatherRows(timeProjections(g, config, time), step, "time"),
		text: g.input("text", [
			rows,
			tokens,
			config.cross_attention_dim
		], { constant: true })
	});
	g.output("model", model);
	g.output("denoised", g.schedulerStep({
		latents,
		model,
		noise,
		history,
		rows: table
	}, "scheduler"));
	return g;
}
/** Rows of the batch are at the same timestep, and differ only in what is added to it. */
function projectedRows(config, { images, branches }) {
	return hasAddedConditions(config) ? images * branches : 1;
}
function compileDenoiser(gpu, config, shape, options) {
	const label = `unet ${shape.height}×${shape.width} ×${shape.images * shape.branches}`;
	return compile(gpu, recordDenoiser(config, shape), {
		label,
		...options,
		reads: DENOISER_READS
	});
}
/** Of the plan of `recordDenoiser`, what the host may read after a step. */
const DENOISER_READS = ["latents"];
/**
* Writes what step `index` of a schedule needs: the row of the table and which timestep, the same for every image. From 0
* on, one after the other.
*/
function writeStep(plan, config, shape, schedule, index, guidanceScale) {
	const packed = packRow(schedule[index], guidanceScale);
	const table = new Float32Array(packed.length * shape.images);
	for (let image = 0; image < shape.images; image++) table.set(packed, image * packed.length);
	plan.write("rows", table);
	const at = index % PROJECTED_STEPS;
	if (at === 0) writeTimesteps(plan, config, shape, schedule.slice(index, index + PROJECTED_STEPS));
	plan.write("step", new Uint32Array(shape.images * shape.branches).fill(at));
}
function writeTimesteps(plan, config, shape, steps) {
	const timesteps = new Float64Array(projectedRows(config, shape) * PROJECTED_STEPS);
	for (let first = 0; first < timesteps.length; first += PROJECTED_STEPS) for (const [index, { timestep }] of steps.entries()) timesteps[first + index] = timestep;
	const options = {
		flip: config.flip_sin_to_cos,
		freqShift: config.freq_shift
	};
	plan.write("timesteps", timestepSinusoids(timesteps, config.block_out_channels[0], options));
}
const UNCLAMPED = 1e30;
/** A scheduler's row as `shaders/scheduler_step.wgsl` reads it. */
function packRow(row, guidanceScale) {
	const { x0, next, denoised, push } = row;
	const packed = new Float32Array(24);
	packed.set([
		row.inputScale,
		guidanceScale,
		x0.sample,
		x0.model
	], 0);
	packed.set([
		next.sample,
		next.model,
		next.x0,
		next.noise
	], 4);
	packed.set([
		denoised.sample,
		denoised.model,
		denoised.x0,
		push ? push.slot : -1
	], 8);
	packed.set([
		push?.sample ?? 0,
		push?.model ?? 0,
		push?.x0 ?? 0,
		Math.min(x0.clamp, UNCLAMPED)
	], 12);
	packed.set(next.history, 16);
	return packed;
}
//#endregion
//#region src/diffusion/latent-rgb.ts
/**
* The linear map of latents to RGB for the cheapest previews: the model's own (`latent_rgb.json` in its folder), or the
* one known for its family.
*/
const schema$1 = object({
	matrix: array(array(number())).length(3),
	bias: array(number()).length(3)
});
const KNOWN = {
	"stable-diffusion": {
		matrix: [
			[
				.3512,
				.325,
				-.2829,
				-.212
			],
			[
				.2297,
				.4974,
				.1762,
				-.2616
			],
			[
				.3227,
				.235,
				.2721,
				-.7177
			]
		],
		bias: [
			0,
			0,
			0
		]
	},
	"stable-diffusion-xl": {
		matrix: [
			[
				.3651,
				-.2533,
				.1076,
				-.3165
			],
			[
				.4232,
				-.0042,
				.1111,
				-.2492
			],
			[
				.4341,
				.1068,
				-.0362,
				-.2188
			]
		],
		bias: [
			.1084,
			-.0175,
			-.0011
		]
	}
};
/** The map for a model, if any is known. Throws `ModelConfigError` for a file that is not one. */
async function latentRgbOf(folder, family, channels) {
	let text;
	try {
		text = await readFile(join(folder, "latent_rgb.json"), "utf8");
	} catch {
		const known = KNOWN[family === "latent-consistency" ? "stable-diffusion" : family];
		return known?.matrix.at(0)?.length === channels ? known : void 0;
	}
	let content;
	try {
		content = JSON.parse(text);
	} catch {
		throw new ModelConfigError("latent_rgb.json", "(root)", "is not JSON");
	}
	const parsed = schema$1.safeParse(content);
	if (!parsed.success || parsed.data.matrix.some((row) => row.length !== channels)) throw new ModelConfigError("latent_rgb.json", "matrix", `must be three rows of ${channels} numbers, with a bias of three`);
	return parsed.data;
}
//#endregion
//#region src/diffusion/residency.ts
/**
* Who is on the device where not everything can be (`Gpu.maxBytes`).
*
* Weights and plans stay as long as they fit. Where something does not, what no run is using gives way: first plans, which
* are made again in a moment, and copies of weights that are transformed for faster kernels; then the new plan does without
* such copies itself; and only then the weights of other components go, which come back from their files. With room for
* all of a model nothing ever moves.
*/
/**
* Does `make` with the weights of `needed` on the device. Called again for each time that something had to give way.
* Throws `MemoryLimitError` where nothing is left that could.
*/
async function withRoom({ components, plans }, needed, make) {
	let transformed = true;
	let isRetry = false;
	for (;;) try {
		for (const weights of needed) await weights.bring();
		return await make({ transformed });
	} catch (error) {
		if (!(error instanceof MemoryLimitError)) throw error;
		const unused = components.filter(({ plans: keys }) => !keys.some((key) => plans.isUsed(key)));
		if (plans.dropUnused("")) continue;
		if (transformed) {
			if (!(unused.filter(({ weights }) => weights.dropTransformed()).length > 0) || isRetry) transformed = false;
			isRetry = true;
			continue;
		}
		const idle = unused.find(({ weights }) => weights.resident && !needed.includes(weights));
		if (!idle) throw error;
		idle.weights.evict();
		transformed = true;
		isRetry = false;
	}
}
//#endregion
//#region src/models/clip.ts
/**
* CLIPTextModel and CLIPTextModelWithProjection: the text encoders of Stable Diffusion.
*
* Radford et al. 2021 (arXiv 2103.00020), text tower; names and conventions are those of transformers. The mask is causal
* and there is no padding mask: the diffusion pipelines pass none.
*/
const configSchema$1 = object({
	architectures: array(string()).optional(),
	vocab_size: size.vocabulary,
	hidden_size: size.channels,
	intermediate_size: size.channels,
	num_hidden_layers: size.layers,
	num_attention_heads: size.channels,
	max_position_embeddings: size.channels.default(77),
	hidden_act: _enum(["quick_gelu", "gelu"]).default("quick_gelu"),
	layer_norm_eps: number().positive().default(1e-5),
	projection_dim: size.channels.default(512),
	eos_token_id: number().int().nonnegative().default(49407)
});
/** Throws `ModelConfigError` naming the field. `component` is the folder's name: `text_encoder`. */
function parseClipTextConfig(component, config) {
	const parsed = parseConfig(component, configSchema$1, config);
	if (parsed.hidden_size % parsed.num_attention_heads !== 0) throw new ModelConfigError(component, "num_attention_heads", `${parsed.hidden_size} channels do not divide into ${parsed.num_attention_heads} heads`);
	return {
		...parsed,
		withProjection: parsed.architectures?.includes("CLIPTextModelWithProjection") ?? false
	};
}
/** ids u32 `[n · tokens]` → the encoder's outputs; what is not used is not computed. */
function clipText(g, config, ids, images) {
	const tokens = ids.shape[0] / images;
	const norm = { eps: config.layer_norm_eps };
	return g.scope("text_model", () => {
		const hiddenStates = [g.scope("embeddings", () => g.embedding(ids, {
			table: "token_embedding",
			positions: "position_embedding"
		}, {
			images,
			tokens,
			vocabulary: config.vocab_size,
			positions: config.max_position_embeddings,
			channels: config.hidden_size
		}))];
		for (let layer = 0; layer < config.num_hidden_layers; layer++) hiddenStates.push(g.scope(`encoder.layers.${layer}`, () => encoderLayer(g, hiddenStates.at(-1), config)));
		const normalised = (clipSkip) => g.scope("text_model", () => g.layerNorm(hiddenStates.at(-1 - clipSkip), "final_layer_norm", norm));
		const lastHiddenState = g.layerNorm(hiddenStates.at(-1), "final_layer_norm", norm);
		return {
			hiddenStates,
			lastHiddenState,
			normalised,
			pooled(rows) {
				const pooled = g.gatherRows(lastHiddenState, rows, "text_model.pooler");
				if (!config.withProjection) return pooled;
				return g.linear(pooled, "text_projection", {
					outputs: config.projection_dim,
					bias: false
				});
			}
		};
	});
}
function encoderLayer(g, x, config) {
	const channels = channelsOf(x);
	const heads = config.num_attention_heads;
	const head = headPadding(channels / heads);
	const inner = heads * head.padded;
	const norm = { eps: config.layer_norm_eps };
	let h = g.layerNorm(x, "layer_norm1", norm);
	h = g.scope("self_attn", () => {
		const outputs = [
			channels,
			channels,
			channels
		];
		const qkv = g.linear(h, [
			"q_proj",
			"k_proj",
			"v_proj"
		], {
			outputs,
			outputHead: head
		});
		const attended = g.attention("", {
			query: {
				tensor: qkv,
				offset: 0
			},
			key: {
				tensor: qkv,
				offset: inner
			},
			value: {
				tensor: qkv,
				offset: 2 * inner
			}
		}, {
			heads,
			head,
			causal: true
		});
		return g.linear(attended, "out_proj", {
			outputs: channels,
			inputHead: head
		});
	});
	x = g.add(h, x);
	h = g.layerNorm(x, "layer_norm2", norm);
	h = g.activation(g.linear(h, "mlp.fc1", { outputs: config.intermediate_size }), config.hidden_act);
	return g.add(g.linear(h, "mlp.fc2", { outputs: channels }), x);
}
/**
* The position of the token whose state is the pooled one. A config with `eos_token_id` 2 (all old files) means the
* largest id in the row, any other the first occurrence of that id, or 0 without one (transformers' `CLIPTextTransformer`).
*/
function poolingPosition(config, ids) {
	const row = Array.from(ids);
	if (config.eos_token_id === 2) return row.indexOf(Math.max(...row));
	return Math.max(row.indexOf(config.eos_token_id), 0);
}
//#endregion
//#region src/diffusion/text-conditioning.ts
/** Loads a text encoder. `hidden`: which of its states the model reads. */
async function loadTextEncoder(gpu, component, tokenizer, options) {
	const config = parseClipTextConfig(component.name, component.config);
	const recorder = record(config, Math.min(tokenizer.modelMaxLength, config.max_position_embeddings), options.hidden);
	const parameters = await loadComponent(gpu, component, [...recorder.parameters.values()], {
		precision: options.precision,
		onProgress: options.onProgress
	});
	return {
		component: component.name,
		config,
		tokenizer,
		parameters,
		recorder,
		hidden: options.hidden
	};
}
/** Compiles an encoder for one prompt at a time, with `parameters` (its own, or with a LoRA merged in). */
function compileTextEncoder(gpu, encoder, options) {
	return compile(gpu, encoder.recorder, {
		label: encoder.component,
		...options
	});
}
function record(config, tokens, hidden) {
	const g = new Recorder();
	const encoded = clipText(g, config, g.input("ids", [tokens], { element: "u32" }), 1);
	g.output("hidden", hidden === "last" ? encoded.lastHiddenState : encoded.hiddenStates.at(-2));
	if (config.withProjection) g.output("pooled", encoded.pooled(g.input("end", [1], { element: "u32" })));
	return g;
}
/** Runs one prompt through the encoders, whose plans are given in the same order. */
async function encodePrompt(encoders, plans, prompt) {
	const parts = [];
	const allIds = [];
	let pooled;
	let tokens = 0;
	for (const [index, encoder] of encoders.entries()) {
		const plan = plans[index];
		const { ids } = encoder.tokenizer.encode(prompt);
		allIds.push(ids);
		plan.write("ids", Uint32Array.from(ids));
		if (encoder.config.withProjection) plan.write("end", Uint32Array.of(poolingPosition(encoder.config, ids)));
		plan.run();
		parts.push({
			hidden: await plan.read("hidden"),
			width: encoder.config.hidden_size
		});
		if (encoder.config.withProjection) pooled = await plan.read("pooled");
		tokens = ids.length;
	}
	const width = parts.reduce((sum, part) => sum + part.width, 0);
	const embedding = new Float32Array(tokens * width);
	let offset = 0;
	for (const part of parts) {
		for (let token = 0; token < tokens; token++) embedding.set(part.hidden.subarray(token * part.width, (token + 1) * part.width), token * width + offset);
		offset += part.width;
	}
	return {
		embedding,
		tokens,
		width,
		pooled,
		ids: allIds
	};
}
/** The empty condition of models that were trained with zeros for "no prompt" (`force_zeros_for_empty_prompt`). */
function zeroConditioning(like) {
	return {
		...like,
		embedding: new Float32Array(like.embedding.length),
		pooled: like.pooled && new Float32Array(like.pooled.length),
		ids: []
	};
}
//#endregion
//#region src/diffusion/diffusion-model.ts
/**
* A text-to-image model, loaded: its components on the device, its tokenizers, its scheduler's configuration, and the
* plans that were compiled for it so far.
*/
const DEFAULT_PLAN_BYTES = 4 * 2 ** 30;
const FAMILY_DEFAULTS = {
	"stable-diffusion": {
		steps: 25,
		guidanceScale: 7.5,
		latentSide: 64
	},
	"stable-diffusion-xl": {
		steps: 25,
		guidanceScale: 5,
		latentSide: 128
	},
	"latent-consistency": {
		steps: 4,
		guidanceScale: 8.5,
		latentSide: 64
	}
};
/** `daguerre.json` in a model folder: what the model's makers recommend. */
const recommendationSchema = object({
	name: string().optional(),
	num_inference_steps: number().int().positive().optional(),
	guidance_scale: number().nonnegative().optional(),
	width: number().int().positive().optional(),
	height: number().int().positive().optional(),
	few_step: object({
		num_inference_steps: number().int().positive(),
		guidance_scale: number().nonnegative()
	}).optional(),
	large: object({
		width: number().int().positive(),
		height: number().int().positive()
	}).optional()
});
/** Where a model folder keeps its few-step variant, and how it is run unless `daguerre.json` says otherwise. */
const FEW_STEP = {
	file: "few-step/pytorch_lora_weights.safetensors",
	steps: 4,
	guidanceScale: 1
};
/** Where it keeps its variant for large pictures; of how many times its own side, unless `daguerre.json` says otherwise. */
const LARGE = {
	file: "large/pytorch_lora_weights.safetensors",
	sides: 2
};
/**
* Loads a diffusers folder onto the device.
* Throws `WeightsError`, `ModelConfigError`, `TokenizerError`: a folder is untrusted, and each names file and reason;
* `MemoryLimitError` where one component alone is over the GPU's limit.
*/
async function loadDiffusionModel(gpu, folder, options) {
	const { precision } = options;
	const directory = await openModelDirectory(folder, { variant: options.variant });
	const family = familyOf(directory);
	const plans = createPlanCache(options.maxPlanBytes ?? DEFAULT_PLAN_BYTES);
	const components = [];
	const residency = {
		components,
		plans
	};
	/** Loads a component; one that was loaded before gives way where there is no room for both. */
	const keep = async (planKeys, load) => {
		const weights = await withRoom(residency, [], load);
		components.push({
			weights,
			plans: planKeys
		});
		return weights;
	};
	const progress = (component) => (done, total) => options.onProgress?.(component, done, total);
	try {
		const encoders = await loadEncoders(gpu, directory, family, {
			...options,
			keep
		}, progress);
		const unetComponent = required(directory, "unet");
		const unetConfig = parseUnetConfig(unetComponent.config);
		const textWidth = encoders.reduce((sum, encoder) => sum + encoder.config.hidden_size, 0);
		if (textWidth !== unetConfig.cross_attention_dim) throw new ModelConfigError("unet", "cross_attention_dim", `is ${unetConfig.cross_attention_dim}, but the text encoders give ${textWidth}`);
		const parameters = unetParameters(unetConfig);
		const unetWeights = await keep(["unet "], () => loadComponent(gpu, unetComponent, parameters, {
			precision,
			onProgress: progress("unet")
		}));
		const loadVae = (component, name, planKeys) => loadAutoencoder(gpu, component, {
			precision,
			onProgress: progress(name),
			keep,
			planKeys
		});
		const vae = await loadVae(required(directory, "vae"), "vae", ["decoder ", "encoder "]);
		if (vae.latentChannels !== unetConfig.out_channels) throw new ModelConfigError("unet", "out_channels", `is ${unetConfig.out_channels}, but the vae has ${vae.latentChannels} latent channels`);
		const tiny = options.tinyAutoencoder ? await loadVae(await openComponentFolder(options.tinyAutoencoder), "tiny vae", ["tiny decoder "]) : void 0;
		const recommended = await readRecommendation(folder);
		const variants = /* @__PURE__ */ new Map();
		const familyDefaults = FAMILY_DEFAULTS[family];
		const sampleSize = unetConfig.sample_size;
		const side = (typeof sampleSize === "number" ? sampleSize : familyDefaults.latentSide) * vae.downscale;
		const scheduler = required(directory, "scheduler");
		const width = recommended.width ?? side;
		const height = recommended.height ?? side;
		return {
			name: recommended.name ?? basename(folder),
			family,
			gpu,
			activations: options.activations ?? activationStorage(gpu, precision),
			encoders,
			unet: {
				config: unetConfig,
				weights: unetWeights,
				parameters
			},
			vae,
			tiny,
			latentRgb: await latentRgbOf(folder, family, vae.latentChannels),
			words: await readWords(folder),
			scheduler: {
				className: scheduler.className,
				config: scheduler.config
			},
			zerosForNoPrompt: family === "stable-diffusion-xl" && directory.flags.force_zeros_for_empty_prompt !== false,
			defaults: {
				width,
				height,
				steps: recommended.num_inference_steps ?? familyDefaults.steps,
				guidanceScale: recommended.guidance_scale ?? familyDefaults.guidanceScale
			},
			fewStep: await fewStepOf(folder, recommended),
			large: await largeOf(folder, recommended, width * height),
			variants,
			plans,
			components,
			prompts: /* @__PURE__ */ new Map(),
			destroy() {
				plans.drop("");
				for (const merging of variants.values()) merging.then((weights) => weights.destroy(), () => {});
				for (const { weights } of components) weights.destroy();
			}
		};
	} catch (error) {
		for (const { weights } of components) weights.destroy();
		throw error;
	}
}
function familyOf(directory) {
	if (directory.pipelineClass.startsWith("StableDiffusionXL")) return "stable-diffusion-xl";
	if (directory.pipelineClass.startsWith("LatentConsistency")) return "latent-consistency";
	return "stable-diffusion";
}
function required(directory, name) {
	const component = directory.component(name);
	if (!component) throw new ModelConfigError("model_index", name, `${directory.pipelineClass} needs this component`);
	return component;
}
async function loadEncoders(gpu, directory, family, { precision, keep }, progress) {
	const xl = family === "stable-diffusion-xl";
	const names = xl ? ["text_encoder", "text_encoder_2"] : ["text_encoder"];
	const encoders = [];
	for (const name of names) {
		const component = directory.component(name);
		if (!component && name === "text_encoder" && xl) continue;
		const tokenizer = await loadClipTokenizer(required(directory, name.replace("text_encoder", "tokenizer")).folder);
		const hidden = xl ? "last-but-one" : "last";
		const load = () => loadTextEncoder(gpu, component ?? required(directory, name), tokenizer, {
			hidden,
			precision,
			onProgress: progress(name)
		});
		let encoder;
		await keep([name], async () => {
			encoder = await load();
			return encoder.parameters;
		});
		encoders.push(encoder);
	}
	return encoders;
}
/** The UNet's parameters do not depend on the picture's size: any small one names them. */
function unetParameters(config) {
	const side = 2 ** config.block_out_channels.length;
	return [...recordDenoiser(config, {
		images: 1,
		branches: 1,
		tokens: 1,
		height: side,
		width: side,
		channels: config.out_channels
	}).parameters.values()];
}
async function loadAutoencoder(gpu, component, { keep, planKeys, ...options }) {
	const coder = autoencoder(component);
	const g = new Recorder();
	coder.decode(g, g.input("latents", [
		1,
		8,
		8,
		coder.latentChannels
	]));
	coder.encode(g, g.input("picture", [
		1,
		8 * coder.downscale,
		8 * coder.downscale,
		3
	]));
	const weights = await keep(planKeys, () => loadComponent(gpu, component, [...g.parameters.values()], options));
	return {
		...coder,
		weights
	};
}
async function fewStepOf(folder, { few_step: recommended }) {
	const path = await variantFile(folder, FEW_STEP.file);
	if (path === void 0) return void 0;
	return {
		path,
		steps: recommended?.num_inference_steps ?? FEW_STEP.steps,
		guidanceScale: recommended?.guidance_scale ?? FEW_STEP.guidanceScale
	};
}
async function largeOf(folder, { large: recommended }, pixels) {
	const path = await variantFile(folder, LARGE.file);
	if (path === void 0) return void 0;
	const largePixels = recommended ? recommended.width * recommended.height : pixels * LARGE.sides ** 2;
	return {
		path,
		fromPixels: Math.sqrt(pixels * largePixels)
	};
}
/** The variant's file, if the folder has it: most have none. */
async function variantFile(folder, file) {
	const path = join(folder, file);
	return access(path).then(() => path, () => void 0);
}
async function readRecommendation(folder) {
	let text;
	try {
		text = await readFile(join(folder, "daguerre.json"), "utf8");
	} catch {
		return {};
	}
	const parsed = recommendationSchema.safeParse(parseJson(text));
	if (parsed.success) return parsed.data;
	const [issue] = parsed.error.issues;
	throw new ModelConfigError("daguerre.json", issue.path.join(".") || "(root)", issue.message);
}
/** `words.json` in a model folder: the words that it was taught; none for models that know a language. */
async function readWords(folder) {
	let text;
	try {
		text = await readFile(join(folder, "words.json"), "utf8");
	} catch {
		return;
	}
	const parsed = object({ words: array(string()) }).safeParse(parseJson(text));
	if (!parsed.success) throw new ModelConfigError("words.json", "words", "must be a list of words");
	return new Set(parsed.data.words.map((word) => word.toLowerCase()));
}
function parseJson(text) {
	try {
		return JSON.parse(text);
	} catch {
		return;
	}
}
//#endregion
//#region src/graph/receptive-rows.ts
/** Which rows of a picture decide some rows of what a network makes of it. Group norms' statistics, of all rows, apart. */
/**
* The rows of `input` that `rows` of `output` follow from, both pictures `[n, h, w, c]`, by way of `operations` as recorded.
* Throws `GraphError` for an operation that looks further than a window: attention sees all rows.
*/
function receptiveRows(operations, input, output, rows) {
	const wanted = new Map([[output.id, rows]]);
	const want = (tensor, { first, end }) => {
		const known = wanted.get(tensor.id) ?? {
			first,
			end
		};
		wanted.set(tensor.id, {
			first: Math.min(first, known.first),
			end: Math.max(end, known.end)
		});
	};
	for (const operation of [...operations].reverse()) {
		const made = wanted.get(operation.output.id);
		if (!made) continue;
		switch (operation.kind) {
			case "convolution":
				want(operation.input, windowOf(operation, made));
				break;
			case "upsample-nearest": {
				const factor = operation.output.shape[1] / operation.input.shape[1];
				want(operation.input, {
					first: Math.floor(made.first / factor),
					end: Math.ceil(made.end / factor)
				});
				break;
			}
			case "elementwise":
				want(operation.input, made);
				if (operation.addend) want(operation.addend, made);
				break;
			case "group-norm-apply":
				want(operation.input, made);
				break;
			default: throw new GraphError(`${operation.name}: ${operation.kind} does not work row by row`);
		}
	}
	const found = wanted.get(input.id);
	if (!found) throw new GraphError(`${output.name} does not follow from ${input.name}`);
	return found;
}
function windowOf({ name, picture, input, kernel }, { first, end }) {
	if (picture.inHeight !== input.shape[1]) throw new GraphError(`${name}: a linear layer does not work row by row`);
	return {
		first: first * kernel.stride - kernel.top,
		end: (end - 1) * kernel.stride - kernel.top + kernel.height
	};
}
//#endregion
//#region src/diffusion/latents.ts
/** Bytes of one picture's latents on the device. */
function latentBytes(size) {
	return size.height * size.width * quads(size.channels) * 16;
}
/** Records one picture's latents (input `latents`, as the diffusion loop has them) to RGBA8 (output `rgba`). */
function recordDecoder(decoder, size, { keepPicture = false } = {}) {
	const g = new Recorder();
	const picture = decoder.decode(g, recordLatentInput(g, decoder, size));
	if (keepPicture) g.output("picture", picture);
	g.output("rgba", g.packPicture(picture, "pack"));
	return g;
}
/** One picture's latents (input `latents`, as the diffusion loop has them) as the decoder wants them. */
function recordLatentInput(g, decoder, size) {
	const latents = g.input("latents", [
		1,
		size.height,
		size.width,
		size.channels
	], { element: "f32" });
	const scale = g.input("scale", [6, 4], { element: "f32" });
	const x = g.modelInput(latents, scale, 1, "unscale");
	return decoder.shiftFactor === 0 ? x : g.affine(x, "shift", { shift: decoder.shiftFactor });
}
/** The plan of `recordDecoder`. */
async function compileDecoder(gpu, decoder, size, options) {
	const plan = await compile(gpu, recordDecoder(decoder, size, options), {
		...options,
		reads: DECODER_READS
	});
	writeDecoderScale(plan, decoder);
	return plan;
}
/** Of the plan of `recordDecoder`, what the host reads. */
const DECODER_READS = ["rgba"];
function writeDecoderScale(plan, decoder) {
	const row = new Float32Array(24);
	row[0] = 1 / decoder.scalingFactor;
	plan.write("scale", row);
}
/** A plan from one picture's latents to RGBA8 of the latents' own size. */
async function compileLinearPreview(gpu, map, size) {
	const g = new Recorder();
	const latents = g.input("latents", [
		1,
		size.height,
		size.width,
		size.channels
	], { element: "f32" });
	const rows = quads(size.channels) * 4 + 1;
	const matrix = g.input("matrix", [rows, 4], { element: "f32" });
	g.output("rgba", g.packPicture(g.latentToRgb(latents, matrix, "latent_to_rgb"), "pack"));
	const plan = await compile(gpu, g, {
		label: "linear preview",
		storage: "f32",
		parameters: {
			storage: "f32",
			get: () => []
		}
	});
	const values = new Float32Array(rows * 4);
	for (let colour = 0; colour < 3; colour++) {
		for (let channel = 0; channel < size.channels; channel++) values[channel * 4 + colour] = map.matrix[colour][channel];
		values[(rows - 1) * 4 + colour] = map.bias[colour];
	}
	plan.write("matrix", values);
	return plan;
}
/**
* Runs a decoder or preview plan on latents that lie on the device. All of it is submitted when this returns: what comes
* after may change the latents.
*/
function decodeOnDevice(gpu, plan, latents, pixels) {
	const input = plan.range("latents");
	const encoder = gpu.device.createCommandEncoder({ label: plan.label });
	encoder.copyBufferToBuffer(latents.buffer, latents.offset, input.buffer, input.offset, input.size);
	plan.encode(encoder);
	gpu.device.queue.submit([encoder.finish()]);
	return plan.read("rgba").then((packed) => ({
		...pixels,
		rgba: new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength)
	}));
}
/** Records one picture in [-1, 1] (input `picture` `[1, h, w, 3]`) to what the encoder says of it (output `encoded`). */
function recordEncoder(encoder, size) {
	const g = new Recorder();
	g.output("encoded", encoder.encode(g, g.input("picture", [
		1,
		size.height,
		size.width,
		3
	])));
	return g;
}
/** The plan of `recordEncoder`. */
function compileEncoder(gpu, encoder, size, options) {
	return compile(gpu, recordEncoder(encoder, size), {
		...options,
		reads: ENCODER_READS
	});
}
/** Of the plan of `recordEncoder`, what the host reads. */
const ENCODER_READS = ["encoded"];
/** Runs the encoder on RGBA8 pixels (alpha is ignored). */
async function encodePixels(plan, encoder, pixels) {
	plan.write("picture", signedRows(pixels, 0, pixels.height));
	plan.run();
	return encodedOf(await plan.read("encoded"), encoder);
}
/** Rows of a picture without alpha, as the reference normalises them: `u8 / 255 · 2 − 1`. */
function signedRows({ width, rgba }, firstRow, rows) {
	const [first, count] = [firstRow * width, rows * width];
	const picture = new Float32Array(count * 3);
	for (let pixel = 0; pixel < count; pixel++) for (let colour = 0; colour < 3; colour++) picture[pixel * 3 + colour] = Math.fround(rgba[(first + pixel) * 4 + colour] / 255) * 2 - 1;
	return picture;
}
/** What the encoder's output `[1, h, w, c]` means. */
function encodedOf(encoded, encoder) {
	const channels = encoder.kind === "kl" ? 2 * encoder.latentChannels : encoder.latentChannels;
	const planar = toNchw(encoded, 1, channels, encoded.length / channels);
	if (encoder.kind === "tiny") return { mean: planar };
	const half = planar.length / 2;
	return {
		mean: planar.subarray(0, half),
		logVariance: planar.slice(half).map((value) => Math.min(Math.max(value, -30), 20))
	};
}
/** `[n, c, pixels]` → `[n, pixels, c]` */
function toNhwc(values, images, channels, pixels) {
	const out = new Float32Array(values.length);
	for (let n = 0; n < images; n++) for (let c = 0; c < channels; c++) for (let p = 0; p < pixels; p++) out[(n * pixels + p) * channels + c] = values[(n * channels + c) * pixels + p];
	return out;
}
/** `[n, pixels, c]` → `[n, c, pixels]` */
function toNchw(values, images, channels, pixels) {
	const out = new Float32Array(values.length);
	for (let n = 0; n < images; n++) for (let c = 0; c < channels; c++) for (let p = 0; p < pixels; p++) out[(n * channels + c) * pixels + p] = values[(n * pixels + p) * channels + c];
	return out;
}
//#endregion
//#region src/diffusion/bands.ts
/** Into how many bands, the fewest that fit being taken. */
const BAND_COUNTS = [
	2,
	3,
	4,
	6,
	8,
	12,
	16,
	24,
	32
];
/** With fewer rows of latents a band is mostly what it looks at beyond them. */
const MIN_BAND_ROWS = 4;
/**
* What a mean or deviation may still move by, in deviations of its layer. Pictures are then within one level of 255
* (bands.test.ts, random weights): 0.06 to 0.09 on average, 0.005 with a tolerance of 1e-3 and two passes more.
*/
const TOLERANCE$1 = .02;
/**
* Slices of a tensor beyond which a picture is gone through in bands even where there is room for it: convolutions of
* slices are many small dispatches, since each slice of the output reads every slice of the input. In eight, TAESD at
* 2048² on lavapipe took 56,829 dispatches and 22 minutes in one piece, and 3 minutes in bands.
*/
const MAX_SLICES = 4;
/** Whether what was recorded would be cut into too many slices on this adapter. */
function isTooSliced(gpu, recorder, storage) {
	const sizes = recorder.operations.map(({ output }) => tensorBytes(output, storage));
	return Math.max(...sizes) > MAX_SLICES * gpu.maxBindingBytes;
}
/** Whether an error says that something is too large, and smaller parts of it may do. */
function isTooLarge(error) {
	return error instanceof GpuOutOfMemoryError || error instanceof GraphError;
}
/**
* The picture of one image's latents, which lie on the device.
* Throws `GraphError` or `GpuOutOfMemoryError` where not even the smallest bands fit.
*/
async function decodeInBands(gpu, decoder, latents, size, options) {
	const inner = await compile(gpu, recordInnerDecoder(decoder, size), {
		...options,
		label: `${options.label}, inner`
	});
	const between = await copied(gpu, inner, () => {
		writeDecoderScale(inner, decoder);
		copy(gpu, latents, 0, inner.range("latents"), 0, inner.range("latents").size);
	});
	const { downscale } = decoder;
	const width = size.width * downscale;
	const rgba = new Uint8Array(width * size.height * downscale * 4);
	try {
		const rowBytes = between.size / size.height;
		const pictureRowBytes = width * downscale * 4;
		await inBands(gpu, size.height, decoderBands(decoder, size), options, {
			async load(plan, band) {
				copy(gpu, {
					buffer: between,
					offset: 0
				}, band.start * rowBytes, plan.range("inner"), 0, band.rows * rowBytes);
			},
			async store(plan, band) {
				const { buffer, offset } = plan.range("rgba");
				const rows = (band.end - band.first) * pictureRowBytes;
				const bytes = await gpu.read(buffer, offset + (band.first - band.start) * pictureRowBytes, rows);
				rgba.set(bytes, band.first * pictureRowBytes);
			}
		});
	} finally {
		gpu.destroyBuffer(between);
	}
	return {
		width,
		height: size.height * downscale,
		rgba
	};
}
/** What the autoencoder says of a picture, in bands. Throws as `decodeInBands` does. */
async function encodeInBands(gpu, encoder, pixels, options) {
	const { downscale, latentChannels: channels } = encoder;
	const size = {
		height: pixels.height / downscale,
		width: pixels.width / downscale,
		channels
	};
	const innerRecorder = recordInnerEncoder(encoder, size);
	const betweenBytes = tensorBytes(innerRecorder.inputs.get("outer"), options.storage);
	const between = gpu.createBuffer(`${options.label}, between its halves`, betweenBytes);
	try {
		const rowBytes = betweenBytes / size.height;
		await inBands(gpu, size.height, encoderBands(encoder, size), options, {
			async load(plan, band) {
				plan.write("picture", signedRows(pixels, band.start * downscale, band.rows * downscale));
			},
			async store(plan, band) {
				const from = (band.first - band.start) * rowBytes;
				const rows = (band.end - band.first) * rowBytes;
				copy(gpu, plan.range("outer"), from, {
					buffer: between,
					offset: 0
				}, band.first * rowBytes, rows);
			}
		});
		const inner = await compile(gpu, innerRecorder, {
			...options,
			label: `${options.label}, inner`
		});
		try {
			copy(gpu, {
				buffer: between,
				offset: 0
			}, 0, inner.range("outer"), 0, betweenBytes);
			await inner.replay();
			return encodedOf(await inner.read("encoded"), encoder);
		} finally {
			inner.destroy();
		}
	} finally {
		gpu.destroyBuffer(between);
	}
}
/**
* What decoding in the smallest bands takes at its peak, beside the weights, in bytes.
* Throws `GraphError` where a tensor does not fit.
*/
function decodeBandsBytes(gpu, decoder, size, options) {
	const form = {
		...options,
		transformed: false
	};
	const inner = recordInnerDecoder(decoder, size);
	const between = align(tensorBytes(inner.outputs.get("inner"), options.storage), 16);
	const work = decoderBands(decoder, size);
	const count = countsFor(size.height).at(-1);
	if (count === void 0) return Number.POSITIVE_INFINITY;
	const { rows } = bandsOf(size.height, count, work.reach)[0];
	const outer = Math.max(...STAGES.map((statistics) => {
		const recorder = work.record(rows, statistics);
		const reads = readsOf(recorder);
		return footprint(gpu, recorder, {
			...form,
			reads
		}).peak + readBackBytes(size, decoder.downscale, rows);
	}));
	return Math.max(footprint(gpu, inner, form).peak, outer) + between;
}
function readBackBytes(size, downscale, rows) {
	return rows * downscale * size.width * downscale * 4;
}
/** First each band normalises by itself, then by what all of them measured. */
const STAGES = [{ measured: true }, {
	measured: true,
	given: true
}];
async function inBands(gpu, height, work, options, ends) {
	const counts = options.bands ? [options.bands] : countsFor(height);
	for (const [index, count] of counts.entries()) try {
		return await throughBands(gpu, bandsOf(height, count, work.reach), work, options, ends);
	} catch (error) {
		if (!isTooLarge(error) || index === counts.length - 1) throw error;
	}
	throw new GraphError(`${options.label}: ${height} rows of latents are too few for bands`);
}
function countsFor(height) {
	return BAND_COUNTS.filter((count) => height / count >= MIN_BAND_ROWS);
}
/** Bands of one height that cover `height` rows. */
function bandsOf(height, count, reach) {
	const own = Math.ceil(height / count);
	const rows = Math.min(height, own + reach.before + reach.after);
	const bands = [];
	for (let first = 0; first < height; first += own) {
		const start = Math.min(Math.max(0, first - reach.before), height - rows);
		bands.push({
			start,
			rows,
			first,
			end: Math.min(height, first + own)
		});
	}
	return bands;
}
async function throughBands(gpu, bands, work, options, ends) {
	const { rows } = bands[0];
	let merged;
	for (const stage of STAGES) {
		const recorder = work.record(rows, stage);
		if (isTooSliced(gpu, recorder, options.storage)) throw new GraphError(`${options.label}: a band of ${rows} rows of latents is more than this adapter binds well`);
		const plan = await compile(gpu, recorder, {
			...options,
			label: `${options.label}, a band of ${rows}`,
			reads: readsOf(recorder)
		});
		try {
			for (;;) {
				if (merged) for (const [name, layer] of merged) plan.write(`given ${name}`, given(layer, recorder.norms.get(name)));
				const measured = /* @__PURE__ */ new Map();
				for (const band of bands) {
					await ends.load(plan, band);
					await plan.replay();
					await ends.store(plan, band);
					for (const [name, { height, width, channels }] of recorder.norms) {
						const scale = height / rows;
						const partial = await plan.read(`measured ${name}`);
						const layer = measured.get(name) ?? createStatistics(channels);
						measured.set(name, layer);
						const local = {
							first: (band.first - band.start) * scale,
							end: (band.end - band.start) * scale
						};
						for (let row = local.first; row < local.end; row++) addRow(layer, partial, row, width);
					}
				}
				if (recorder.norms.size === 0) return;
				const moved = merged ? Math.max(...[...measured].map(([name, layer]) => movement(layer, merged.get(name)))) : 1;
				options.onPass?.(moved);
				if (!merged) {
					merged = measured;
					break;
				}
				merged = measured;
				if (moved < TOLERANCE$1) return;
			}
		} finally {
			plan.destroy();
		}
	}
}
function readsOf(recorder) {
	return [...recorder.norms.keys()].map((name) => `measured ${name}`);
}
function recordInnerDecoder(decoder, size) {
	const g = new Recorder();
	g.output("inner", decoder.decodeInner(g, recordLatentInput(g, decoder, size)));
	return g;
}
function decoderBands(decoder, size) {
	const inner = recordInnerDecoder(decoder, size).outputs.get("inner");
	const build = (rows, statistics) => {
		const g = new Recorder({ statistics });
		const input = g.input("inner", [
			1,
			rows,
			size.width,
			channelsOf(inner)
		]);
		return {
			g,
			input,
			picture: decoder.decodeOuter(g, input)
		};
	};
	return {
		record(rows, statistics) {
			const { g, picture } = build(rows, statistics);
			g.output("rgba", g.packPicture(picture, "pack"));
			return g;
		},
		get reach() {
			const { g, input, picture } = build(1, {});
			const rows = receptiveRows(g.operations, input, picture, {
				first: 0,
				end: decoder.downscale
			});
			return {
				before: -rows.first,
				after: rows.end - 1
			};
		}
	};
}
function recordInnerEncoder(encoder, size) {
	const outer = encoderBands(encoder, size).record(1, {}).outputs.get("outer");
	const g = new Recorder();
	const input = g.input("outer", [
		1,
		size.height,
		size.width,
		channelsOf(outer)
	]);
	g.output("encoded", encoder.encodeInner(g, input));
	return g;
}
function encoderBands(encoder, size) {
	const { downscale } = encoder;
	const build = (rows, statistics) => {
		const g = new Recorder({ statistics });
		const input = g.input("picture", [
			1,
			rows * downscale,
			size.width * downscale,
			3
		]);
		return {
			g,
			input,
			outer: encoder.encodeOuter(g, input)
		};
	};
	return {
		record(rows, statistics) {
			const { g, outer } = build(rows, statistics);
			g.output("outer", outer);
			return g;
		},
		get reach() {
			const { g, input, outer } = build(1, {});
			const rows = receptiveRows(g.operations, input, outer, {
				first: 0,
				end: 1
			});
			return {
				before: Math.ceil(-rows.first / downscale),
				after: Math.ceil(rows.end / downscale) - 1
			};
		}
	};
}
/** A plan's output `inner` in a buffer of its own; the plan is gone afterwards. */
async function copied(gpu, plan, prepare) {
	try {
		const range = plan.range("inner");
		const buffer = gpu.createBuffer(`${plan.label}'s result`, range.size);
		try {
			prepare();
			await plan.replay();
			copy(gpu, range, 0, {
				buffer,
				offset: 0
			}, 0, range.size);
			return buffer;
		} catch (error) {
			gpu.destroyBuffer(buffer);
			throw error;
		}
	} finally {
		plan.destroy();
	}
}
function copy(gpu, from, fromOffset, to, toOffset, size) {
	const encoder = gpu.device.createCommandEncoder({ label: "rows" });
	encoder.copyBufferToBuffer(from.buffer, from.offset + fromOffset, to.buffer, to.offset + toOffset, size);
	gpu.device.queue.submit([encoder.finish()]);
}
function createStatistics(channels) {
	return {
		count: 0,
		mean: new Float64Array(channels),
		squares: new Float64Array(channels)
	};
}
/** Adds a row of `width` pixels to a layer's, by the formula of Chan, Golub & LeVeque 1979. */
function addRow(layer, partial, row, width) {
	const channels = layer.mean.length;
	const total = layer.count + width;
	for (let channel = 0; channel < channels; channel++) {
		const at = (row * quads(channels) + Math.floor(channel / 4)) * 8 + channel % 4;
		const delta = partial[at] - layer.mean[channel];
		layer.mean[channel] += delta * width / total;
		layer.squares[channel] += partial[at + 4] + delta * delta * layer.count * width / total;
	}
	layer.count = total;
}
/** The statistics of the whole as those of one chunk of a band's pixels. */
function given({ count, mean, squares }, band) {
	const out = new Float32Array(quads(mean.length) * 8);
	for (let channel = 0; channel < mean.length; channel++) {
		const at = Math.floor(channel / 4) * 8 + channel % 4;
		out[at] = mean[channel];
		out[at + 4] = squares[channel] * band.height * band.width / count;
	}
	return out;
}
/** How far a layer's statistics are from what they were: the largest channel's mean, in deviations, or deviation. */
function movement(now, before) {
	let largest = 0;
	const spread = Math.sqrt(now.squares.reduce((sum, value) => sum + value, 0) / now.count / now.mean.length);
	for (const channel of now.mean.keys()) {
		const deviation = (of) => Math.sqrt(of.squares[channel] / of.count);
		const moved = Math.max(Math.abs(now.mean[channel] - before.mean[channel]), Math.abs(deviation(now) - deviation(before)));
		largest = Math.max(largest, moved / spread);
	}
	return largest;
}
//#endregion
//#region shaders/lora_merge.wgsl
var lora_merge_default = "// Low-rank changes added to packed weights:  merged[tap][i][o] = before[tap][i][o] + Σ_r down[tap][r][i] · up[r][o]\n// before, merged: tiles as pack_weights.wgsl lays them out; this writes the output quads of one of the sources that stand in\n// them side by side. before is f32 or f16 whatever merged is, so that weights which come from a finer file are rounded once. down: [tap][rank][input], up: [rank][output], both f32 in quads as the tiles have them (heads widened, zero\n// between), scales multiplied in. Several changes are one of the sum of their ranks, so that the sum is rounded once.\nstruct Params { taps: u32, rank: u32, in_quads: u32, out_quads: u32, first_packed_quad: u32, packed_quads: u32, grid_width: u32, before_halves: u32 }\n@group(0) @binding(0) var<uniform> params: Params;\n@group(0) @binding(1) var<storage, read> down: array<vec4f>;\n@group(0) @binding(2) var<storage, read> up: array<vec4f>;\n@group(0) @binding(3) var<storage, read> before: array<vec2u>;\n@group(0) @binding(4) var<storage, read_write> merged: array<TableQuad>;\n\nfn before_quad(index: u32) -> vec4f {\n  if (params.before_halves == 1u) {\n    let pairs = before[index];\n    return vec4f(unpack2x16float(pairs.x), unpack2x16float(pairs.y));\n  }\n  return bitcast<vec4f>(vec4u(before[index * 2u], before[index * 2u + 1u]));\n}\n\n// One invocation owns one tile: four input channels, four output channels.\n@compute @workgroup_size(64)\nfn main(@builtin(global_invocation_id) id: vec3u) {\n  let index = id.x + id.y * params.grid_width * 64u;\n  let column = index % params.packed_quads;\n  let in_quad = index / params.packed_quads % params.in_quads;\n  let tap = index / params.packed_quads / params.in_quads;\n  if (tap >= params.taps) { return; }\n  var sum = array(vec4f(0.0), vec4f(0.0), vec4f(0.0), vec4f(0.0));\n  for (var r = 0u; r < params.rank; r++) {\n    let d = down[(tap * params.rank + r) * params.in_quads + in_quad];\n    let u = up[r * params.packed_quads + column];\n    sum[0] += d.x * u;\n    sum[1] += d.y * u;\n    sum[2] += d.z * u;\n    sum[3] += d.w * u;\n  }\n  let tile = ((tap * params.in_quads + in_quad) * params.out_quads + params.first_packed_quad + column) * 4u;\n  for (var row = 0u; row < 4u; row++) {\n    merged[tile + row] = narrow_table(before_quad(tile + row) + sum[row]);\n  }\n}\n";
//#endregion
//#region src/models/lora.ts
/**
* LoRA merged into a component's weights, out of place: the parameters that it touches are copied and changed, the others
* are the component's own. Destroying the copies leaves no trace of it.
*
* A module's change is scale · up · down (`src/weights/lora.ts`). Several changes of one module are one change whose rank is
* the sum of theirs, Σ_j s_j · up_j · down_j = [s_1·up_1 ‖ s_2·up_2 ‖ …] · [down_1 ; down_2 ; …], so that weights stored as
* f16 are rounded once however many LoRAs there are. The factors are small; here they are put on the host into the order of
* the packed tiles, and the product is the device's work (`shaders/lora_merge.wgsl`).
*/
/** Bytes of factors handed to the device before it is waited for: each write holds its bytes until the queue has passed it. */
const MAX_BYTES_IN_FLIGHT = 64 * 2 ** 20;
/**
* `base` with `deltas` added: W + Σ scale · delta.scale · up · down. Deltas may come from several files and name a module
* several times. The sum is rounded once where the file can be read again (`finer`). `parameters` are those that `base` was loaded for; `destroy` frees the copies and leaves `base` alone.
* Throws `WeightsError` "lora-module" for a module that no matrix among `parameters` has, before anything is allocated,
* and what reading the files throws; GPU errors as typed errors.
*/
async function mergeLoras(gpu, base, parameters, deltas, options) {
	const places = placesOf(parameters);
	const changes = /* @__PURE__ */ new Map();
	for (const weighted of deltas) {
		const { module, down } = weighted.delta;
		const place = places.get(`${module}.weight`);
		if (!place) {
			const details = {
				file: down.file,
				tensor: down.name
			};
			throw new WeightsError("lora-module", `changes ${module}, which ${options.label} does not have`, details);
		}
		if (weighted.scale * weighted.delta.scale === 0) continue;
		const parts = changes.get(place.parameter) ?? /* @__PURE__ */ new Map();
		changes.set(place.parameter, parts);
		parts.set(place.part, [...parts.get(place.part) ?? [], weighted]);
	}
	const copies = /* @__PURE__ */ new Map();
	const textures = /* @__PURE__ */ new Map();
	const destroy = () => {
		for (const buffer of copies.values()) gpu.destroyBuffer(buffer);
		for (const texture of textures.values()) gpu.destroyTexture(texture);
		copies.clear();
		textures.clear();
	};
	const merger = createMerger(gpu, base, options.label);
	let bytes = 0;
	try {
		for (const [parameter, parts] of changes) {
			const label = `${options.label}: ${parameter.key}`;
			const source = tilesInBuffer(gpu, label, base, parameter);
			const copy = gpu.createBuffer(label, source.buffer.size);
			copies.set(parameter.key, copy);
			bytes += copy.size;
			merger.copy(source.buffer, copy);
			const finer = await base.finer?.(parameter);
			const exact = finer && tilesInBuffer(gpu, label, finer, parameter);
			const before = {
				buffer: (exact ?? source).buffer,
				storage: (finer ?? base).storage
			};
			for (const [part, weighted] of parts) await merger.add(parameter, part, weighted, before, copy);
			exact?.release();
			finer?.destroy();
			source.release();
			const texture = matrixTexture(gpu, parameter, base.storage);
			if (texture) {
				const encoder = gpu.device.createCommandEncoder({ label });
				textures.set(parameter.key, tilesToTexture(gpu, label, copy, texture, encoder));
				gpu.device.queue.submit([encoder.finish({ label })]);
				copies.delete(parameter.key);
				gpu.destroyBuffer(copy);
			}
		}
		await gpu.idle();
	} catch (error) {
		destroy();
		throw error;
	} finally {
		merger.close();
	}
	const held = {
		storage: base.storage,
		get(parameter) {
			const copy = copies.get(parameter.key);
			return copy ? [copy] : base.get(parameter);
		},
		texture: (matrix) => textures.get(matrix.key) ?? base.texture?.(matrix)
	};
	const own = createTransformedWeights(gpu, options.label, held);
	const changed = new Set([...changes.keys()].map(({ key }) => key));
	const transformedOf = (matrix) => changed.has(matrix.key) ? own : base.transformed;
	return {
		...held,
		bytes,
		loadingBytes: bytes,
		...base.transformed && { transformed: {
			get: (matrix) => transformedOf(matrix).get(matrix),
			has: (matrix) => transformedOf(matrix).has(matrix)
		} },
		dropTransformed: own.drop,
		destroy() {
			own.destroy();
			destroy();
		}
	};
}
function placesOf(parameters) {
	const places = /* @__PURE__ */ new Map();
	for (const parameter of parameters) {
		if (parameter.kind !== "matrix") continue;
		for (const [part, { name }] of parameter.parts.entries()) places.set(name, {
			parameter,
			part
		});
	}
	return places;
}
function createMerger(gpu, base, label) {
	const { device } = gpu;
	const merge = kernel("lora_merge", lora_merge_default, "f32", { weights: base.storage });
	const uniforms = gpu.createBuffer(`${label}: merging`, 64, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
	let inFlight = 0;
	const upload = (name, values) => {
		const buffer = gpu.createBuffer(`${label}: ${name}`, values.byteLength);
		device.queue.writeBuffer(buffer, 0, values);
		return buffer;
	};
	return {
		copy(source, target) {
			const encoder = device.createCommandEncoder({ label });
			encoder.copyBufferToBuffer(source, 0, target, 0, source.size);
			device.queue.submit([encoder.finish()]);
		},
		async add(parameter, part, weighted, before, target) {
			const factors = await stackFactors(parameter, part, weighted);
			const firstQuad = parameter.partChannels.slice(0, part).reduce((sum, channels) => sum + quads(channels), 0);
			const packedQuads = quads(parameter.partChannels[part]);
			const { workgroups, width } = grid(parameter.taps * parameter.inputQuads * packedQuads);
			const block = params(...[
				parameter.taps,
				factors.rank,
				parameter.inputQuads,
				parameter.outputQuads
			], ...[
				firstQuad,
				packedQuads,
				width,
				before.storage === "f16" ? 1 : 0
			]);
			device.queue.writeBuffer(uniforms, 0, block);
			const owned = [];
			try {
				const down = upload("down", factors.down);
				owned.push(down);
				const up = upload("up", factors.up);
				owned.push(up);
				const pipeline = await gpu.pipeline(merge.name, merge.code);
				const group = device.createBindGroup({
					label: `${label}: ${merge.name}`,
					layout: pipeline.getBindGroupLayout(0),
					entries: [
						uniforms,
						down,
						up,
						before.buffer,
						target
					].map((buffer, binding) => ({
						binding,
						resource: binding === 0 ? {
							buffer,
							size: block.byteLength
						} : { buffer }
					}))
				});
				const encoder = device.createCommandEncoder({ label });
				const pass = encoder.beginComputePass({ label: `${label}: ${parameter.key}` });
				pass.setPipeline(pipeline);
				pass.setBindGroup(0, group);
				pass.dispatchWorkgroups(...workgroups);
				pass.end();
				device.queue.submit([encoder.finish()]);
			} finally {
				for (const buffer of owned) gpu.destroyBuffer(buffer);
			}
			inFlight += factors.down.byteLength + factors.up.byteLength;
			if (inFlight > MAX_BYTES_IN_FLIGHT) {
				inFlight = 0;
				await gpu.idle();
			}
		},
		close() {
			gpu.destroyBuffer(uniforms);
		}
	};
}
async function stackFactors(parameter, part, weighted) {
	const { taps, inputs, inputHead, outputHead } = parameter;
	const outputs = parameter.parts[part].shape[0];
	const storedInputs = parameter.inputQuads * 4;
	const storedOutputs = quads(parameter.partChannels[part]) * 4;
	const total = weighted.reduce((sum, { delta }) => sum + delta.rank, 0);
	const stacked = {
		rank: total,
		down: new Float32Array(taps * total * storedInputs),
		up: new Float32Array(total * storedOutputs)
	};
	let first = 0;
	for (const { delta, scale } of weighted) {
		const { rank } = delta;
		const down = await downOf(delta, taps, inputs);
		const up = await valuesOf(delta.up);
		for (let r = 0; r < rank; r++) {
			for (let tap = 0; tap < taps; tap++) {
				const row = (tap * total + first + r) * storedInputs;
				for (let i = 0; i < inputs; i++) stacked.down[row + stored(i, inputHead)] = down[(r * inputs + i) * taps + tap];
			}
			const row = (first + r) * storedOutputs;
			for (let o = 0; o < outputs; o++) stacked.up[row + stored(o, outputHead)] = up[o * rank + r] * delta.scale * scale;
		}
		first += rank;
	}
	return stacked;
}
/** `down` with the kernel in it, `[rank, inputs, taps]`: a `mid` between the 1 × 1 factors is multiplied into it. */
async function downOf(delta, taps, inputs) {
	const down = await valuesOf(delta.down);
	if (!delta.mid) return down;
	const { rank } = delta;
	const mid = await valuesOf(delta.mid);
	const product = new Float32Array(rank * inputs * taps);
	for (let r = 0; r < rank; r++) for (let i = 0; i < inputs; i++) for (let tap = 0; tap < taps; tap++) {
		let sum = 0;
		for (let s = 0; s < rank; s++) sum += mid[(r * rank + s) * taps + tap] * down[s * inputs + i];
		product[(r * inputs + i) * taps + tap] = sum;
	}
	return product;
}
/** The channel as stored: heads are widened to a multiple of four. */
function stored(channel, head) {
	return head ? Math.floor(channel / head.width) * head.padded + channel % head.width : channel;
}
async function valuesOf(entry) {
	const bytes = new Uint8Array(entry.byteLength);
	await entry.read(bytes);
	return toFloat32(bytes, entry.dtype);
}
//#endregion
//#region src/weights/lora-config.ts
/**
* The LoRA settings that newer diffusers (from 0.34) writes into a file's metadata in place of alpha tensors.
*
* `__metadata__.lora_adapter_metadata` is JSON text: PEFT's LoraConfig, each key after the component's name where the
* file holds several ("unet.lora_alpha"). Without it such a file would be applied at the wrong strength whenever it was
* trained with an alpha other than its rank. Read here: `lora_alpha`, `alpha_pattern` and `use_rslora`. Ranks are taken
* from the tensors.
*/
const configSchema = object({
	lora_alpha: number(),
	alpha_pattern: record$1(string().regex(/^[\w.-]+$/), number()).nullish(),
	use_rslora: boolean().nullish()
});
const COMPONENTS = [
	"unet",
	"text_encoder",
	"text_encoder_2"
];
/**
* The settings of each component that the metadata speaks of.
* @throws WeightsError "lora-format" where there are settings that cannot be understood.
*/
function readLoraConfigs(metadata, file) {
	const configs = /* @__PURE__ */ new Map();
	const text = metadata.get("lora_adapter_metadata");
	if (text === void 0) return configs;
	let settings;
	try {
		settings = JSON.parse(text);
	} catch (cause) {
		throw new WeightsError("lora-format", "its lora_adapter_metadata is not JSON", {
			file,
			cause
		});
	}
	const entries = typeof settings === "object" && settings !== null ? Object.entries(settings) : [];
	for (const component of COMPONENTS) {
		const prefix = `${component}.`;
		const own = component === "unet" && entries.some(([key]) => key === "lora_alpha") ? entries : entries.filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value]);
		if (!own.some(([key]) => key === "lora_alpha")) continue;
		const parsed = configSchema.safeParse(Object.fromEntries(own));
		if (!parsed.success) throw new WeightsError("lora-format", `its lora_adapter_metadata has ${quoted(prefix + (parsed.error.issues[0]?.path.join(".") ?? ""))} of a kind not known`, {
			file,
			cause: parsed.error
		});
		const { lora_alpha: alpha, alpha_pattern: patterns, use_rslora: rankStabilised } = parsed.data;
		const exceptions = Object.entries(patterns ?? {});
		configs.set(component, { scale(module, rank) {
			return (exceptions.find(([name]) => module === name || module.endsWith(`.${name}`))?.[1] ?? alpha) / (rankStabilised ? Math.sqrt(rank) : rank);
		} });
	}
	return configs;
}
//#endregion
//#region src/weights/lora-names.ts
const PARTS = [
	[/\.lora_A(?:\.[\w-]+)?\.weight$/, "down"],
	[/\.lora_B(?:\.[\w-]+)?\.weight$/, "up"],
	[/(?:[._]lora|\.lora_linear_layer)\.down\.weight$/, "down"],
	[/(?:[._]lora|\.lora_linear_layer)\.up\.weight$/, "up"],
	[/\.lora_down\.weight$/, "down"],
	[/\.lora_up\.weight$/, "up"],
	[/\.lora_mid\.weight$/, "mid"],
	[/(?:[._]lora|\.lora_linear_layer)?\.alpha$/, "alpha"]
];
const KOHYA_PREFIXES = [
	["lora_unet_", "unet"],
	["lora_te_", "text_encoder"],
	["lora_te1_", "text_encoder"],
	["lora_te2_", "text_encoder_2"]
];
const DOTTED_PREFIXES = [
	["unet.", "unet"],
	["text_encoder.", "text_encoder"],
	["text_encoder_2.", "text_encoder_2"]
];
/** What PEFT puts before a module's name where a model was saved by itself. */
const PEFT_PREFIX = "base_model.model.";
/** What a tensor's name says, or undefined where it is no name of a LoRA tensor. */
function parseLoraKey(tensor) {
	for (const [suffix, part] of PARTS) {
		const match = suffix.exec(tensor);
		if (match === null) continue;
		const base = tensor.slice(0, match.index);
		for (const [prefix, component] of KOHYA_PREFIXES) if (base.startsWith(prefix)) return {
			component,
			underscored: true,
			module: base.slice(prefix.length),
			part
		};
		const { component, module } = dottedModule(base);
		return {
			component,
			underscored: false,
			module,
			part
		};
	}
}
function dottedModule(base) {
	let module = without(base, PEFT_PREFIX);
	const prefixed = DOTTED_PREFIXES.find(([prefix]) => module.startsWith(prefix));
	if (prefixed !== void 0) module = without(module.slice(prefixed[0].length), PEFT_PREFIX);
	const component = prefixed?.[1] ?? (/^text_(?:model\.|projection$)/.test(module) ? "text_encoder" : "unet");
	return {
		component,
		module: component === "unet" ? unetModule(module) : textModule(module)
	};
}
/** `….attn1.processor.to_out` → `….attn1.to_out.0`. */
function unetModule(module) {
	return module.replace(".processor.", ".").replace(/\.to_out$/, ".to_out.0");
}
/** Old diffusers used the UNet's names for CLIP's attention: `….self_attn.to_q` → `….self_attn.q_proj`. */
function textModule(module) {
	return module.replace(/\.self_attn\.to_(q|k|v|out)$/, ".self_attn.$1_proj");
}
function without(text, prefix) {
	return text.startsWith(prefix) ? text.slice(prefix.length) : text;
}
/**
* The names that kohya's trainers give to a model's modules, without prefix.
* @param layersPerBlock of the UNet; counted in its first down block where not given.
*/
function kohyaNames(component, modules, layersPerBlock) {
	const known = [...modules];
	const names = /* @__PURE__ */ new Map();
	for (const module of known) names.set(module.replaceAll(".", "_"), {
		module,
		sgm: false
	});
	if (component !== "unet") return names;
	const layers = layersPerBlock ?? countLayers(known);
	for (const module of known) for (const name of sgmNames(module, layers)) {
		const underscored = name.replaceAll(".", "_");
		if (!names.has(underscored)) names.set(underscored, {
			module,
			sgm: true
		});
	}
	return names;
}
function countLayers(modules) {
	return new Set(modules.map((module) => /^down_blocks\.0\.resnets\.(\d+)\./.exec(module)?.[1]).filter(Boolean)).size;
}
const SGM_WHOLE = {
	"time_embedding.linear_1": "time_embed.0",
	"time_embedding.linear_2": "time_embed.2",
	"add_embedding.linear_1": "label_emb.0.0",
	"add_embedding.linear_2": "label_emb.0.2",
	conv_in: "input_blocks.0.0",
	conv_out: "out.2"
};
const SGM_RESNET = {
	conv1: "in_layers.2",
	conv2: "out_layers.3",
	time_emb_proj: "emb_layers.1",
	conv_shortcut: "skip_connection"
};
const MID_BLOCKS = {
	"resnets.0": 0,
	"attentions.0": 1,
	"resnets.1": 2
};
/** The names of a UNet's module in Stability's code: one, none, or two where it depends on the block. */
function sgmNames(module, layers) {
	const whole = SGM_WHOLE[module];
	if (whole !== void 0) return [whole];
	const match = /^(?:(down|up)_blocks\.(\d+)|(mid)_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)$/.exec(module);
	if (match === null) return [];
	const [, side, blockText, , part = "", layerText, rest = ""] = match;
	const layer = Number(layerText);
	const inner = part === "resnets" ? SGM_RESNET[rest] : rest;
	if (inner === void 0) return [];
	if (side === void 0) {
		const place = MID_BLOCKS[`${part}.${layer}`];
		return place === void 0 ? [] : [`middle_block.${place}.${inner}`];
	}
	const first = Number(blockText) * (layers + 1);
	if (side === "down") {
		if (part === "downsamplers") return [`input_blocks.${1 + first + layers}.0.op`];
		return [`input_blocks.${1 + first + layer}.${part === "resnets" ? 0 : 1}.${inner}`];
	}
	if (part === "upsamplers") return [1, 2].map((place) => `output_blocks.${first + layers}.${place}.conv`);
	return [`output_blocks.${first + layer}.${part === "resnets" ? 0 : 1}.${inner}`];
}
//#endregion
//#region src/weights/lora.ts
/**
* LoRA files: low-rank changes to the weights of a model (Hu et al. 2021, arXiv:2106.09685).
*
* For a module with weight W [out, in], or [out, in, kh, kw] for a convolution, a file has two thin matrices and maybe a
* number alpha. With `down` [rank, in] and `up` [out, rank] the changed weight is
*
*     W + strength · scale · up · down            scale = alpha / rank, or 1 where the file has no alpha
*
* In a convolution `down` is [rank, in, kh, kw] and `up` is 1×1 ("LoCon"), so that the product runs over the rank for
* each place of the kernel. With `mid` [rank, rank, kh, kw] both are 1×1 and the kernel stands between them:
*
*     Δ[o, i, y, x] = Σ_r Σ_s up[o, r] · mid[r, s, y, x] · down[s, i]
*
* This file finds and checks the tensors, in any of the namings of `lora-names.ts`; multiplying them is the GPU's work.
* Other kinds of adapter (DoRA, LoHa, LoKr, whole differences) compute something else and are refused.
*/
/**
* Opens a LoRA file: reads its header and the alphas. The caller closes it.
* @throws WeightsError where it is not a sound safetensors file, or has a tensor that is not LoRA's.
*/
async function openLora(path, options = {}) {
	const set = await openSafetensors(path, options);
	const file = set.source;
	try {
		const groups = /* @__PURE__ */ new Map();
		for (const name of set.names()) addToGroup(groups, set.get(name));
		if (groups.size === 0) throw new WeightsError("lora-format", "holds no LoRA tensors", { file });
		for (const group of groups.values()) {
			const alpha = group.parts.get("alpha");
			if (alpha !== void 0) group.alpha = await readNumber(alpha);
		}
		const all = [...groups.values()];
		const configs = readLoraConfigs(set.metadata, file);
		return {
			file,
			components: new Set(all.map((group) => group.component)),
			totalBytes: set.totalBytes,
			resolve: (component, modules, resolveOptions) => resolve$1(all.filter((group) => group.component === component), component, modules, {
				file,
				config: configs.get(component),
				...resolveOptions
			}),
			unmatched: (components, resolveOptions) => all.filter(unknownIn(components, resolveOptions)).map((group) => baseName(group)),
			close: () => set.close()
		};
	} catch (error) {
		await set.close();
		throw error;
	}
}
/** Adapters of other kinds, by a piece of their tensors' names. */
const OTHER_ADAPTERS = [
	[/\.dora_scale$|\.lora_magnitude_vector\b/, "DoRA (a weight-decomposed adapter)"],
	[/\.hada_/, "LoHa (a Hadamard-product adapter)"],
	[/\.lokr_/, "LoKr (a Kronecker-product adapter)"],
	[/\.oft_|\.boft_/, "OFT (an orthogonal adapter)"],
	[/\.diff(?:_b)?$/, "a whole difference of weights"],
	[/\.lora_B\.bias$|\.lora_up\.bias$/, "a LoRA with biases"]
];
function addToGroup(groups, entry) {
	const details = {
		file: entry.file,
		tensor: entry.name
	};
	const other = OTHER_ADAPTERS.find(([pattern]) => pattern.test(entry.name));
	if (other !== void 0) throw new WeightsError("lora-format", `belongs to ${other[1]}, which is not supported; only LoRA is`, details);
	const key = parseLoraKey(entry.name);
	if (key === void 0) throw new WeightsError("lora-format", "is no LoRA tensor by its name", details);
	const id = `${key.component}/${key.underscored ? "_" : "."}/${key.module}`;
	let group = groups.get(id);
	if (group === void 0) groups.set(id, group = {
		...key,
		parts: /* @__PURE__ */ new Map()
	});
	const earlier = group.parts.get(key.part);
	if (earlier !== void 0) throw new WeightsError("lora-format", `is the same part of the same module as ${quoted(earlier.name)}`, details);
	group.parts.set(key.part, entry);
}
/** The one number in a tensor of any numeric type that torch saves a Python number as. */
async function readNumber(entry) {
	const details = {
		file: entry.file,
		tensor: entry.name
	};
	if (entry.byteLength !== ELEMENT_BYTES[entry.dtype]) throw new WeightsError("weights-shape", `is [${entry.shape.slice(0, 8).join(", ")}], where a single number is expected`, details);
	const bytes = new Uint8Array(entry.byteLength);
	await entry.read(bytes);
	const view = new DataView(bytes.buffer);
	let value;
	if (isFloatType(entry.dtype)) value = toFloat32(bytes, entry.dtype)[0];
	else if (entry.dtype === "F64") value = view.getFloat64(0, true);
	else if (entry.dtype === "I32") value = view.getInt32(0, true);
	else if (entry.dtype === "I64") value = Number(view.getBigInt64(0, true));
	else throw new WeightsError("weights-dtype", `is ${entry.dtype}, which no alpha is`, details);
	if (!Number.isFinite(value)) throw new WeightsError("lora-format", `is ${value}, where a finite number is expected`, details);
	return value;
}
/** A name of the group's that stands in the file, for messages. */
function baseName(group) {
	return group.parts.values().next().value.name.replace(/\.(?:lora_\w+|lora|lora_linear_layer)\..*$|_lora\..*$|\.alpha$/, "");
}
/** Finds the model's name for a group's module. */
function finder(component, modules, options = {}) {
	let names;
	return (group) => {
		if (!group.underscored) return modules.has(group.module) ? {
			module: group.module,
			sgm: false
		} : void 0;
		names ??= kohyaNames(component, modules.keys(), options.layersPerBlock);
		return names.get(group.module);
	};
}
function unknownIn(components, options) {
	const finders = new Map(Object.entries(components).filter(([, modules]) => modules !== void 0).map(([component, modules]) => [component, finder(component, modules, options)]));
	return (group) => finders.get(group.component)?.(group) === void 0;
}
function resolve$1(groups, component, modules, context) {
	const find = finder(component, modules, context);
	const chosen = /* @__PURE__ */ new Map();
	const unknown = [];
	for (const group of groups) {
		const found = find(group);
		if (found === void 0) {
			unknown.push(group);
			continue;
		}
		const earlier = chosen.get(found.module);
		if (earlier !== void 0 && earlier.sgm === found.sgm) throw new WeightsError("lora-format", `${quoted(baseName(earlier.group))} and ${quoted(baseName(group))} are the same module`, { file: context.file });
		if (earlier === void 0 || earlier.sgm) chosen.set(found.module, {
			group,
			sgm: found.sgm
		});
	}
	if (unknown.length > 0) throw new WeightsError("lora-module", `changes ${unknown.length === 1 ? "a module" : `${unknown.length} modules`} that the model's ${component} does not have (is it for another kind of model?): ${listed(unknown.map((group) => quoted(baseName(group))), 3)}`, { file: context.file });
	return Array.from(chosen, ([module, { group }]) => delta(group, module, modules.get(module), context));
}
function delta(group, module, weight, context) {
	const { parts, alpha } = group;
	const { file } = context;
	const down = parts.get("down");
	const up = parts.get("up");
	const mid = parts.get("mid");
	if (down === void 0 || up === void 0) throw new WeightsError("lora-format", `${quoted(baseName(group))} has no ${down === void 0 ? "down" : "up"} matrix`, { file });
	for (const { dtype, name } of [
		down,
		up,
		mid
	].filter((entry) => entry !== void 0)) if (!isFloatType(dtype)) throw new WeightsError("weights-dtype", `is ${dtype}, where F32, F16 or BF16 is expected`, {
		file,
		tensor: name
	});
	if (weight.length !== 2 && weight.length !== 4) throw new WeightsError("weights-shape", `changes ${module} [${weight.join(", ")}], which is no matrix or convolution`, {
		file,
		tensor: down.name
	});
	const [out, into, kh = 1, kw = 1] = weight;
	const rank = down.shape[0] ?? 0;
	const expect = (entry, shape) => {
		const wanted = shape.length === 4 && shape[2] === 1 && shape[3] === 1 ? shape.slice(0, 2) : shape;
		if (sameWeight(entry.shape, wanted)) return;
		throw new WeightsError("weights-shape", `is [${entry.shape.slice(0, 8).join(", ")}], where [${wanted.join(", ")}] is expected for ${module} [${weight.join(", ")}]`, {
			file,
			tensor: entry.name
		});
	};
	if (rank < 1) throw new WeightsError("weights-shape", "has no rank", {
		file,
		tensor: down.name
	});
	expect(down, mid === void 0 ? [
		rank,
		into,
		kh,
		kw
	] : [rank, into]);
	expect(up, [out, rank]);
	if (mid !== void 0) expect(mid, [
		rank,
		rank,
		kh,
		kw
	]);
	const scale = alpha === void 0 ? context.config?.scale(module, rank) ?? 1 : alpha / rank;
	return {
		module,
		down,
		up,
		...mid === void 0 ? {} : { mid },
		rank,
		scale,
		kernel: [kh, kw]
	};
}
//#endregion
//#region src/diffusion/lora.ts
let runs = 0;
/**
* The weights of the model's own variants, given by their files, which are merged at their first use and then the model's:
* a realtime session that merged them for each picture would do little else. Where memory is limited they are a run's, as
* any LoRA's are: the model's own weights, on which they build, must be free to give way.
* Throws `WeightsError` where a file does not fit this model.
*/
function variantWeights(model, paths) {
	const loras = paths.map((path) => ({
		path,
		scale: 1
	}));
	if (model.gpu.maxBytes !== void 0 || loras.length === 0) return weightsOfRun(model, loras);
	const key = paths.join("\n");
	let merging = model.variants.get(key);
	if (merging === void 0) {
		merging = weightsOfRun(model, loras).then((weights) => ({
			...weights,
			lasting: true
		}));
		model.variants.set(key, merging);
		merging.catch(() => model.variants.delete(key));
	}
	return merging;
}
/**
* The model's weights with `loras` merged in; without any, the model's own.
* Throws `WeightsError` naming file and module where a file does not fit this model, before anything is allocated.
*/
async function weightsOfRun(model, loras) {
	const encoders = new Map(model.encoders.map((encoder) => [encoder.component, encoder]));
	if (loras.length === 0) {
		const encoder = (component) => encoders.get(component).parameters;
		return {
			key: "",
			residency: model,
			unet: model.unet.weights,
			bytes: 0,
			encoder,
			lasting: true,
			destroy() {}
		};
	}
	const residency = {
		components: [],
		plans: model.plans
	};
	await withRoom(residency, [model.unet.weights, ...model.encoders.map(({ parameters }) => parameters)], async () => {});
	const components = new Map([["unet", {
		base: model.unet.weights,
		parameters: model.unet.parameters
	}], ...model.encoders.map((encoder) => [encoder.component, {
		base: encoder.parameters,
		parameters: [...encoder.recorder.parameters.values()]
	}])]);
	const modules = new Map([...components].map(([name, { parameters }]) => [name, modulesOf(parameters)]));
	const options = { layersPerBlock: model.unet.config.layers_per_block };
	const files = [];
	const merged = /* @__PURE__ */ new Map();
	const destroy = () => {
		for (const weights of merged.values()) weights.destroy();
		merged.clear();
	};
	try {
		for (const { path } of loras) {
			const file = await openLora(path);
			files.push(file);
			const [stray] = file.unmatched(Object.fromEntries(modules), options);
			if (stray !== void 0) throw new WeightsError("lora-module", `changes ${stray}, which this model does not have`, { file: file.file });
		}
		for (const [name, { base, parameters }] of components) {
			const deltas = files.flatMap((file, index) => {
				if (!file.components.has(name)) return [];
				const { scale } = loras[index];
				return file.resolve(name, modules.get(name), options).map((delta) => ({
					delta,
					scale
				}));
			});
			if (deltas.length === 0) continue;
			const merge = () => mergeLoras(model.gpu, base, parameters, deltas, { label: `${name} with LoRA` });
			merged.set(name, await withRoom(residency, [], merge));
		}
		runs += 1;
		return {
			key: `lora ${runs} `,
			lasting: false,
			residency,
			unet: merged.get("unet") ?? model.unet.weights,
			bytes: [...merged.values()].reduce((sum, { bytes }) => sum + bytes, 0),
			encoder: (component) => merged.get(component) ?? encoders.get(component).parameters,
			destroy
		};
	} catch (error) {
		destroy();
		throw error;
	} finally {
		for (const file of files) await file.close();
	}
}
/** Modules that a LoRA may change: everything with a matrix, by name, with the shape in the checkpoint. */
function modulesOf(parameters) {
	const modules = /* @__PURE__ */ new Map();
	for (const parameter of parameters) {
		if (parameter.kind !== "matrix") continue;
		for (const { name, shape } of parameter.parts) modules.set(name.replace(/\.weight$/, ""), shape);
	}
	return modules;
}
//#endregion
//#region src/diffusion/noise.ts
/** PyTorch ≥ 2 takes two words for ranges from here on (1.13 did from 2³² on). */
const WIDE_RANGE = 2 ** 28;
/** Block of the long `randn` path: eight radii, eight angles. */
const BLOCK = 16;
/**
* A generator seeded as `torch.Generator("cpu").manual_seed(seed)`: by the low 32 bits of the seed (of its two's
* complement where negative).
* @throws RangeError for a number that is not a safe integer; give larger seeds as bigint.
*/
function cpuGenerator(seed) {
	const nextWord = mersenneTwister(Number(BigInt.asUintN(32, seedBits(seed))));
	let keptNormal = null;
	const uniform24 = () => (nextWord() & 16777215) / 2 ** 24;
	/** 53 bits of two words, the first one high. */
	const uniform53 = () => {
		return ((nextWord() & 2097151) * 2 ** 32 + nextWord()) / 2 ** 53;
	};
	const shortNormal = () => {
		if (keptNormal !== null) {
			const kept = keptNormal;
			keptNormal = null;
			return kept;
		}
		const angle = 2 * Math.PI * uniform53();
		const radius = Math.sqrt(-2 * Math.log1p(-uniform53()));
		keptNormal = radius * Math.sin(angle);
		return radius * Math.cos(angle);
	};
	return {
		randn(count) {
			const values = new Float32Array(count);
			if (count < BLOCK) return values.map(shortNormal);
			for (let i = 0; i < count; i++) values[i] = uniform24();
			for (let start = 0; start + BLOCK <= count; start += BLOCK) normalBlock(values, start);
			if (count % BLOCK !== 0) {
				for (let i = count - BLOCK; i < count; i++) values[i] = uniform24();
				normalBlock(values, count - BLOCK);
			}
			return values;
		},
		rand: (count) => new Float32Array(count).map(uniform24),
		randint(low, high, count) {
			const range = high - low;
			if (!Number.isSafeInteger(low) || !Number.isSafeInteger(high) || !Number.isSafeInteger(range) || range < 1) throw new RangeError("randint needs safe integers low < high, no more than 2^53 - 1 apart");
			const wide = () => {
				const high64 = BigInt(nextWord()) << 32n;
				return Number((high64 | BigInt(nextWord())) % BigInt(range));
			};
			return new Float64Array(count).map(() => low + (range >= WIDE_RANGE ? wide() : nextWord() % range));
		}
	};
}
/**
* A seed as an unsigned 64-bit integer, negative ones in two's complement.
* @throws RangeError for a number that is not a safe integer.
*/
function seedBits(seed) {
	if (typeof seed === "number" && !Number.isSafeInteger(seed)) throw new RangeError("a seed must be an integer; beyond 2^53 give it as a bigint");
	return BigInt.asUintN(64, BigInt(seed));
}
/** Box–Muller in place over 16 uniforms: the first eight give radii, the last eight angles. */
function normalBlock(values, start) {
	for (let j = start; j < start + BLOCK / 2; j++) {
		const radius = Math.sqrt(-2 * Math.log(1 - values[j]));
		const angle = 2 * Math.PI * values[j + BLOCK / 2];
		values[j] = radius * Math.cos(angle);
		values[j + BLOCK / 2] = radius * Math.sin(angle);
	}
}
/** MT19937: a function that gives the next 32-bit word. */
function mersenneTwister(seed) {
	const size = 624;
	const middle = 397;
	const state = new Uint32Array(size);
	state[0] = seed;
	for (let i = 1; i < size; i++) {
		const before = state[i - 1];
		state[i] = Math.imul(1812433253, before ^ before >>> 30) + i;
	}
	let position = size;
	const twist = () => {
		for (let i = 0; i < size; i++) {
			const word = state[i] & 2147483648 | state[(i + 1) % size] & 2147483647;
			state[i] = state[(i + middle) % size] ^ word >>> 1 ^ (word & 1 ? 2567483615 : 0);
		}
		position = 0;
	};
	return () => {
		if (position === size) twist();
		let word = state[position++];
		word ^= word >>> 11;
		word ^= word << 7 & 2636928640;
		word ^= word << 15 & 4022730752;
		return (word ^ word >>> 18) >>> 0;
	};
}
//#endregion
//#region src/diffusion/philox.ts
const f32$4 = Math.fround;
/** NVIDIA A100: the layout used unless another is asked for. */
const A100 = {
	multiprocessors: 108,
	threadsPerMultiprocessor: 2048
};
/** Block size of PyTorch's random kernels, in threads. */
const BLOCK_THREADS = 256;
/** Elements a thread makes of one counter. */
const LANES = 4;
/**
* A generator seeded as `torch.Generator("cuda").manual_seed(seed)`: by all 64 bits.
* @throws RangeError for a number that is not a safe integer; give larger seeds as bigint.
*/
function cudaGenerator(seed, device = A100) {
	const key = words64(seedBits(seed));
	let call = 0n;
	const draw = (count) => {
		const threads = launchThreads(count, device);
		const parameters = {
			key,
			call: words64(call),
			threads
		};
		call += BigInt(Math.ceil(count / (LANES * threads)));
		return parameters;
	};
	return {
		draw,
		randn(count) {
			if (count === 0) return new Float32Array(0);
			const parameters = draw(count);
			return Float32Array.from({ length: count }, (_, i) => philoxNormal(parameters, i));
		}
	};
}
/** Threads PyTorch launches to make `count` normals on `device`; at least one block. */
function launchThreads(count, device) {
	const blocksPerMultiprocessor = Math.floor(device.threadsPerMultiprocessor / BLOCK_THREADS);
	const most = device.multiprocessors * blocksPerMultiprocessor;
	return BLOCK_THREADS * Math.max(1, Math.min(Math.ceil(count / BLOCK_THREADS), most));
}
/** Element `index` of a draw. */
function philoxNormal(draw, index) {
	const thread = index % draw.threads;
	const row = Math.floor(index / draw.threads);
	const lane = row % LANES;
	const turn = Math.floor(row / LANES);
	const low = draw.call[0] + turn;
	const carry = low >= 2 ** 32 ? 1 : 0;
	const words = philox4x32([
		low >>> 0,
		draw.call[1] + carry >>> 0,
		thread,
		0
	], draw.key);
	const [x, y] = lane < 2 ? [words[0], words[1]] : [words[2], words[3]];
	const [first, second] = boxMuller(x, y);
	return lane % 2 === 0 ? first : second;
}
/**
* Philox4x32 with ten rounds: four pseudo-random words from a counter and a key, all unsigned 32-bit integers.
*/
function philox4x32(counter, key) {
	let [c0, c1, c2, c3] = counter;
	let [k0, k1] = key;
	for (let round = 0; round < 10; round++) {
		const [high0, low0] = multiply32(3528531795, c0);
		const [high1, low1] = multiply32(3449720151, c2);
		[c0, c1, c2, c3] = [
			(high1 ^ c1 ^ k0) >>> 0,
			low1,
			(high0 ^ c3 ^ k1) >>> 0,
			low0
		];
		k0 = k0 + 2654435769 >>> 0;
		k1 = k1 + 3144134277 >>> 0;
	}
	return [
		c0,
		c1,
		c2,
		c3
	];
}
const TWO_POW_MINUS_32 = 2 ** -32;
/** cuRAND's constant is a float32 product, rounded once more than 2π·2⁻³² itself. */
const TWO_PI_TWO_POW_MINUS_32 = f32$4(f32$4(23283064e-17) * f32$4(6.2831855));
/** Two normals from two words, in cuRAND's order: sine first. */
function boxMuller(x, y) {
	const u = f32$4(f32$4(x) * TWO_POW_MINUS_32 + TWO_POW_MINUS_32 / 2);
	const v = f32$4(f32$4(y) * TWO_PI_TWO_POW_MINUS_32 + TWO_PI_TWO_POW_MINUS_32 / 2);
	const radius = f32$4(Math.sqrt(f32$4(-2 * f32$4(Math.log(u)))));
	return [f32$4(f32$4(Math.sin(v)) * radius), f32$4(f32$4(Math.cos(v)) * radius)];
}
/** High and low word of the 64-bit product of two words, by 16-bit halves. */
function multiply32(a, b) {
	const [aHigh, aLow] = [a >>> 16, a & 65535];
	const [bHigh, bLow] = [b >>> 16, b & 65535];
	const low = aLow * bLow;
	const middle = aHigh * bLow + (low >>> 16);
	const cross = aLow * bHigh + middle % 65536;
	return [aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(cross / 65536) >>> 0, Math.imul(a, b) >>> 0];
}
function words64(value) {
	const bits = BigInt.asUintN(64, value);
	return [Number(bits & 4294967295n), Number(bits >> 32n)];
}
//#endregion
//#region src/diffusion/schedulers/scheduler-error.ts
/** Thrown by `createSchedule` and `img2imgStart`. `field` is the name in `scheduler_config.json`, or the option's name. */
var SchedulerError = class extends Error {
	name = "SchedulerError";
	className;
	field;
	constructor(className, field, reason) {
		super(`${className}: ${field} ${reason}`);
		this.className = className;
		this.field = field;
	}
};
//#endregion
//#region src/diffusion/schedulers/config-reader.ts
/**
* Wraps `config` for class `className`.
* @throws SchedulerError from each method, naming the field.
*/
function readConfig(className, config) {
	const fail = (field, reason) => {
		throw new SchedulerError(className, field, reason);
	};
	const value = (field) => (Object.hasOwn(config, field) ? config[field] : void 0) ?? void 0;
	const optionalNumber = (field) => {
		const found = value(field);
		if (found === void 0) return null;
		return typeof found === "number" && Number.isFinite(found) ? found : fail(field, "must be a finite number");
	};
	return {
		className,
		fail,
		optionalNumber,
		text: (field) => {
			const found = value(field);
			return typeof found === "string" ? found : null;
		},
		number: (field, fallback) => optionalNumber(field) ?? fallback,
		integer(field, fallback, least) {
			const found = optionalNumber(field) ?? fallback;
			return Number.isInteger(found) && found >= least ? found : fail(field, `must be an integer of at least ${least}`);
		},
		boolean(field, fallback) {
			const found = value(field) ?? fallback;
			return typeof found === "boolean" ? found : fail(field, "must be true or false");
		},
		oneOf(field, fallback, choices) {
			const found = value(field) ?? fallback;
			return choices.find((choice) => choice === found) ?? fail(field, `${JSON.stringify(found)} is not supported; supported: ${choices.join(", ")}`);
		},
		optionalNumbers(field) {
			const found = value(field);
			if (found === void 0) return null;
			return Array.isArray(found) && found.length > 0 && found.every((entry) => Number.isFinite(entry)) ? found : fail(field, "must be an array of finite numbers");
		},
		refuseUnless(field, allowed, reason) {
			const found = value(field);
			if (found !== void 0 && !allowed.includes(found)) fail(field, reason);
		}
	};
}
//#endregion
//#region src/diffusion/schedulers/mix.ts
const SAMPLE = {
	sample: 1,
	model: 0,
	x0: 0
};
const MODEL = {
	sample: 0,
	model: 1,
	x0: 0
};
/** The row's own prediction of the clean latents, after clamping. */
const X0 = {
	sample: 0,
	model: 0,
	x0: 1
};
/** A multiple of a mix. A factor of 0 gives 0 even of an infinite coefficient: an absent term is absent. */
function scaled(factor, mix) {
	const times = (value) => factor === 0 || value === 0 ? 0 : factor * value;
	return {
		sample: times(mix.sample),
		model: times(mix.model),
		x0: times(mix.x0)
	};
}
function plus(...mixes) {
	return mixes.reduce((sum, mix) => ({
		sample: sum.sample + mix.sample,
		model: sum.model + mix.model,
		x0: sum.x0 + mix.x0
	}));
}
/**
* Builds the row.
* @throws SchedulerError where a coefficient is not finite.
*/
function stepRow(className, terms) {
	const clamp = terms.clamp ?? Number.POSITIVE_INFINITY;
	const folded = (mix) => clamp === Number.POSITIVE_INFINITY ? {
		...plus({
			...mix,
			x0: 0
		}, scaled(mix.x0, terms.x0)),
		x0: 0
	} : mix;
	const row = {
		timestep: terms.timestep,
		inputScale: terms.inputScale ?? 1,
		x0: {
			sample: terms.x0.sample,
			model: terms.x0.model,
			clamp
		},
		next: {
			...folded(terms.next),
			history: terms.history ?? [],
			noise: terms.noise ?? 0
		},
		denoised: folded(terms.denoised ?? X0),
		push: terms.push ? {
			...folded(terms.push.mix),
			slot: terms.push.slot
		} : null,
		drawsNoise: terms.drawsNoise ?? false
	};
	if (![...[
		row.timestep,
		row.inputScale,
		row.x0.sample,
		row.x0.model,
		row.next.noise,
		...row.next.history
	], ...[
		row.next,
		row.denoised,
		...row.push ? [row.push] : []
	].flatMap((mix) => [
		mix.sample,
		mix.model,
		mix.x0
	])].every(Number.isFinite)) throw new SchedulerError(className, "prediction_type", `and the noise schedule leave no finite step at timestep ${terms.timestep} (a schedule with zero terminal SNR needs v_prediction or sample)`);
	return row;
}
//#endregion
//#region src/diffusion/schedulers/noise-schedule.ts
const f32$3 = Math.fround;
/** What most classes of the reference default to. */
const COMMON_BETAS = {
	start: 1e-4,
	end: .02,
	schedule: "linear"
};
/** `num_train_timesteps` of the configuration. */
function trainTimesteps(config) {
	return config.integer("num_train_timesteps", 1e3, 1);
}
/**
* ᾱ by training timestep, `[num_train_timesteps]`.
* `keepTerminal` is the small value given to the last entry under `rescale_betas_zero_snr` by the classes that divide by
* it (2⁻²⁴, the smallest half-precision subnormal); without it that entry is 0.
* @throws SchedulerError for an unknown `beta_schedule` or bad `trained_betas`.
*/
function alphasCumprod(config, defaults, keepTerminal) {
	let betas = trainingBetas(config, defaults);
	const rescale = config.boolean("rescale_betas_zero_snr", false);
	if (rescale) betas = rescaleZeroTerminalSnr(betas);
	const cumulative = cumulativeProduct(betas.map((beta) => 1 - beta));
	if (rescale && keepTerminal !== void 0) cumulative[cumulative.length - 1] = keepTerminal;
	return cumulative;
}
function trainingBetas(config, defaults) {
	const count = trainTimesteps(config);
	const trained = config.optionalNumbers("trained_betas");
	if (trained !== null) {
		if (trained.length !== count) config.fail("trained_betas", `must have num_train_timesteps (${count}) entries`);
		return Float32Array.from(trained);
	}
	const start = config.number("beta_start", defaults.start);
	const end = config.number("beta_end", defaults.end);
	const schedule = config.oneOf("beta_schedule", defaults.schedule, [
		"linear",
		"scaled_linear",
		"squaredcos_cap_v2"
	]);
	switch (schedule) {
		case "linear": return linspaceFloat32(start, end, count);
		case "scaled_linear": return linspaceFloat32(Math.sqrt(start), Math.sqrt(end), count).map((root) => root * root);
		case "squaredcos_cap_v2": return Float32Array.from({ length: count }, (_, t) => Math.min(1 - cosineAlphaBar((t + 1) / count) / cosineAlphaBar(t / count), .999));
		default: return schedule;
	}
}
function cosineAlphaBar(t) {
	return Math.cos((t + .008) / 1.008 * Math.PI / 2) ** 2;
}
/**
* `torch.linspace` in float32 as PyTorch's AVX2 build computes it, bit for bit: counted from the nearer end with a float32
* step, in vectors of eight whose first element is a fused multiply-add and whose others are that plus multiples of the
* step. The last bit of a beta decides the last bits of every ᾱ after it, and, rarely, an integer of a Karras schedule.
*/
function linspaceFloat32(start, end, count) {
	const first = f32$3(start);
	const last = f32$3(end);
	if (count === 1) return Float32Array.of(first);
	const step = f32$3(f32$3(last - first) / (count - 1));
	const half = Math.floor(count / 2);
	const single = (i) => f32$3(i < half ? first + step * i : last - step * (count - 1 - i));
	const lanes = 8;
	const vectorised = count - count % lanes;
	return Float32Array.from({ length: count }, (_, i) => {
		if (i >= vectorised) return single(i);
		const lane = i % lanes;
		return single(i - lane) + f32$3(step * lane);
	});
}
/** `torch.cumprod` of a float32 tensor on the CPU: the running product is kept in double, its values stored in float32. */
function cumulativeProduct(values) {
	let product = 1;
	return values.map((value) => product *= value);
}
/** Shifts and scales sqrt(ᾱ) so that its last value is 0 and its first unchanged, then returns to betas. */
function rescaleZeroTerminalSnr(betas) {
	const roots = cumulativeProduct(betas.map((beta) => 1 - beta)).map(Math.sqrt);
	const first = roots[0];
	const last = roots.at(-1);
	const scale = f32$3(first / f32$3(first - last));
	const rescaled = roots.map((root) => f32$3(f32$3(root - last) * scale) ** 2);
	return rescaled.map((alphaBar, t) => 1 - f32$3(t === 0 ? alphaBar : alphaBar / rescaled[t - 1]));
}
//#endregion
//#region src/diffusion/schedulers/prediction.ts
const PREDICTION_TYPES = [
	"epsilon",
	"v_prediction",
	"sample"
];
/** Scales at ᾱ. */
function scalesOfAlphaBar(alphaBar) {
	return {
		alpha: Math.sqrt(alphaBar),
		sigma: Math.sqrt(1 - alphaBar)
	};
}
/** Scales at the variance-exploding noise level `sigma`. */
function scalesOfSigma(sigma) {
	const alpha = 1 / Math.sqrt(sigma * sigma + 1);
	return {
		alpha,
		sigma: sigma * alpha
	};
}
/** Predictions in the variance-preserving convention. */
function predictions(type, { alpha, sigma }) {
	switch (type) {
		case "epsilon": return {
			x0: plus(scaled(1 / alpha, SAMPLE), scaled(-sigma / alpha, MODEL)),
			epsilon: MODEL
		};
		case "sample": return {
			x0: MODEL,
			epsilon: plus(scaled(1 / sigma, SAMPLE), scaled(-alpha / sigma, MODEL))
		};
		case "v_prediction": return {
			x0: plus(scaled(alpha, SAMPLE), scaled(-sigma, MODEL)),
			epsilon: plus(scaled(sigma, SAMPLE), scaled(alpha, MODEL))
		};
		default: return type;
	}
}
/** x0 in the variance-exploding convention, at noise level `sigma`. */
function explodingX0(type, sigma) {
	switch (type) {
		case "epsilon": return plus(SAMPLE, scaled(-sigma, MODEL));
		case "sample": return MODEL;
		case "v_prediction": {
			const variance = sigma * sigma + 1;
			return plus(scaled(1 / variance, SAMPLE), scaled(-sigma / Math.sqrt(variance), MODEL));
		}
		default: return type;
	}
}
//#endregion
//#region src/diffusion/schedulers/schedule-table.ts
/** The schedule of a run that begins at row `start` of `table`. */
function startAt(className, table, start) {
	const count = table.timesteps.length;
	const checked = (row, most) => {
		if (!Number.isInteger(row) || row < 0 || row > most) throw new RangeError(`row ${row} is outside 0 to ${most}`);
		return row;
	};
	return {
		className,
		steps: table.steps,
		timesteps: table.timesteps.slice(start),
		initNoiseSigma: table.initNoiseSigma,
		...table.sigmas && { sigmas: table.sigmas.slice(start) },
		historySlots: table.historySlots,
		rows: table.rows(start),
		addNoise: (row) => table.addNoise(start + checked(row, count - start - 1)),
		from: (row) => startAt(className, table, start + checked(row, count - start - 1))
	};
}
/** Refuses options that the reference's `set_timesteps` of this class does not take. */
function refuseOptions(config, options, names) {
	for (const name of names) if (options[name] !== void 0) config.fail(name, "cannot be chosen for this scheduler; leave it out");
}
/** ᾱ at `timestep`, or the error that a schedule reaching outside the training range deserves. */
function alphaBarAt(config, alphaBars, timestep) {
	const value = alphaBars[timestep];
	if (value === void 0) return config.fail("steps", `reach timestep ${timestep}, outside the ${alphaBars.length} trained ones; ask for fewer steps or lower steps_offset`);
	return value;
}
/** Refuses `thresholding`, which is not linear: it needs a quantile of the whole prediction. */
function refuseThresholding(config) {
	config.refuseUnless("thresholding", [false], "is not supported (it is meant for pixel-space models); set it to false");
}
/** `clip_sample_range` where `clip_sample` is on, else Infinity. */
function clampRange(config, onByDefault) {
	return config.boolean("clip_sample", onByDefault) ? config.number("clip_sample_range", 1) : Number.POSITIVE_INFINITY;
}
/** add_noise of the variance-preserving classes. */
function preservingNoise(alphaBar) {
	return {
		original: Math.sqrt(alphaBar),
		noise: Math.sqrt(1 - alphaBar)
	};
}
//#endregion
//#region src/diffusion/schedulers/timesteps.ts
const SPACINGS = [
	"linspace",
	"leading",
	"trailing"
];
/** `timestep_spacing` of the configuration. */
function timestepSpacing(config, fallback) {
	return config.oneOf("timestep_spacing", fallback, SPACINGS);
}
/**
* Checks the number of steps a caller asks for.
* @throws SchedulerError unless it is an integer between 1 and `most`.
*/
function checkSteps(config, steps, most) {
	if (!Number.isInteger(steps) || steps < 1 || steps > most) config.fail("steps", `must be an integer from 1 to ${most}`);
}
/** `numpy.linspace(start, stop, count, endpoint)` in float64. */
function linspace(start, stop, count, endpoint = true) {
	const intervals = endpoint ? count - 1 : count;
	const values = Float64Array.from({ length: count }, (_, i) => intervals === 0 ? start : i * ((stop - start) / intervals) + start);
	if (endpoint && count > 1) values[count - 1] = stop;
	return values;
}
/** `numpy.rint`: to the nearest integer, halves to the even one. */
function roundHalfEven(value) {
	const floor = Math.floor(value);
	if (value - floor !== .5) return Math.round(value);
	return floor % 2 === 0 ? floor : floor + 1;
}
/** `steps_offset + step·(0 … count−1)`, descending. */
function leadingTimesteps(step, count, offset) {
	return Float64Array.from({ length: count }, (_, i) => (count - 1 - i) * step + offset);
}
/** `from, from − total/count, …`, each rounded and less one; descending. */
function trailingTimesteps(from, total, count) {
	const ratio = total / count;
	const delta = from - ratio - from;
	const length = Math.ceil(from / ratio);
	return Float64Array.from({ length }, (_, i) => roundHalfEven(from + i * delta) - 1).filter((t) => t >= 0);
}
/**
* The `count` integer timesteps of a spacing over `trainSteps` training timesteps, descending (DDIM's and PNDM's form;
* the multistep and Euler classes differ in details and build theirs from the parts above).
*/
function spacedTimesteps(spacing, trainSteps, count, offset) {
	switch (spacing) {
		case "linspace": return linspace(0, trainSteps - 1, count).map(roundHalfEven).reverse();
		case "leading": return leadingTimesteps(Math.floor(trainSteps / count), count, offset);
		case "trailing": return trailingTimesteps(trainSteps, trainSteps, count);
		default: return spacing;
	}
}
//#endregion
//#region src/diffusion/schedulers/ddim.ts
/** DDIMScheduler. */
const ddim = (config, options) => {
	refuseOptions(config, options, [
		"timesteps",
		"sigmas",
		"mu"
	]);
	refuseThresholding(config);
	const trainSteps = trainTimesteps(config);
	checkSteps(config, options.steps, trainSteps);
	const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
	const alphaBars = alphasCumprod(config, COMMON_BETAS);
	const finalAlphaBar = config.boolean("set_alpha_to_one", true) ? 1 : alphaBars[0];
	const clamp = clampRange(config, true);
	const eta = options.eta ?? 0;
	if (!(eta >= 0 && eta <= 1)) config.fail("eta", "must be between 0 and 1");
	const stride = Math.floor(trainSteps / options.steps);
	const timesteps = spacedTimesteps(timestepSpacing(config, "leading"), trainSteps, options.steps, config.integer("steps_offset", 0, 0));
	const row = (timestep) => {
		const alphaBar = alphaBarAt(config, alphaBars, timestep);
		const previous = timestep - stride;
		const previousAlphaBar = previous >= 0 ? alphaBars[previous] : finalAlphaBar;
		const { x0, epsilon } = predictions(prediction, scalesOfAlphaBar(alphaBar));
		const variance = (1 - previousAlphaBar) / (1 - alphaBar) * (1 - alphaBar / previousAlphaBar);
		const deviation = eta === 0 ? 0 : eta * Math.sqrt(variance);
		const direction = Math.sqrt(Math.max(0, 1 - previousAlphaBar - deviation ** 2));
		return stepRow(config.className, {
			timestep,
			x0,
			clamp,
			next: plus(scaled(Math.sqrt(previousAlphaBar), X0), scaled(direction, epsilon)),
			noise: deviation,
			drawsNoise: eta > 0
		});
	};
	return {
		steps: options.steps,
		timesteps,
		initNoiseSigma: 1,
		historySlots: 0,
		rows: (start) => Array.from(timesteps.subarray(start), row),
		addNoise: (index) => preservingNoise(alphaBarAt(config, alphaBars, timesteps[index]))
	};
};
//#endregion
//#region src/diffusion/schedulers/sigmas.ts
const f32$2 = Math.fround;
/** Sigma by training timestep, ascending, `[num_train_timesteps]`, in the reference's float32. */
function trainingSigmas(alphasCumprod) {
	return alphasCumprod.map((alphaBar) => Math.sqrt(f32$2(f32$2(1 - alphaBar) / alphaBar)));
}
/** `numpy.interp(timesteps, [0, 1, …], values)`: linear between entries, the end values beyond them. */
function interpolate(timesteps, values) {
	const last = values.length - 1;
	return Float64Array.from(timesteps, (t) => {
		if (t <= 0) return values[0];
		if (t >= last) return values[last];
		const low = Math.floor(t);
		return (values[low + 1] - values[low]) * (t - low) + values[low];
	});
}
/** Karras et al.'s levels from `most` down to `least`, `[count]`. */
function karrasSigmas(least, most, count) {
	const rho = 7;
	const leastRoot = least ** (1 / rho);
	const mostRoot = most ** (1 / rho);
	return linspace(0, 1, count).map((ramp) => (mostRoot + ramp * (leastRoot - mostRoot)) ** rho);
}
/** Levels evenly spaced in the logarithm, from `most` down to `least`, `[count]`. */
function exponentialSigmas(least, most, count) {
	return linspace(Math.log(most), Math.log(least), count).map(Math.exp);
}
/** Natural logarithms, in float32. */
function logSigmas(sigmas) {
	return sigmas.map(Math.log);
}
/**
* The fractional training timestep whose sigma is `sigma`, by interpolation in the logarithm. In float32, as numpy
* promotes a float32 array with a float64 scalar: the rounding decides some integers of Karras schedules.
* @param logs ascending logarithms of the training sigmas
*/
function sigmaToTimestep(sigma, logs) {
	const logSigma = f32$2(Math.log(Math.max(sigma, 1e-10)));
	let low = 0;
	for (let i = 0; i < logs.length; i++) if (f32$2(logSigma - logs[i]) >= 0) low = i;
	low = Math.min(low, logs.length - 2);
	const lowLog = logs[low];
	const weight = f32$2(f32$2(lowLog - logSigma) / f32$2(lowLog - logs[low + 1]));
	const clipped = Math.min(Math.max(weight, 0), 1);
	return f32$2(1 - clipped) * low + clipped * (low + 1);
}
//#endregion
//#region src/diffusion/schedulers/dpm-multistep.ts
/** Fewer steps than this are ended with lower orders where `lower_order_final` is set. */
const FEW_STEPS = 15;
const ALGORITHMS = [
	"dpmsolver++",
	"dpmsolver",
	"sde-dpmsolver++",
	"sde-dpmsolver"
];
/** Values that configurations of related solvers bring along, which the reference takes for its own defaults. */
const RELATED_ALGORITHM = "deis";
const RELATED_SOLVER_TYPES = [
	"logrho",
	"bh1",
	"bh2"
];
/** DPMSolverMultistepScheduler. */
const dpmMultistep = (config, options) => {
	refuseOptions(config, options, ["sigmas", "mu"]);
	refuseThresholding(config);
	config.refuseUnless("variance_type", [], "is not supported: models that predict their variance are not");
	config.refuseUnless("use_beta_sigmas", [false], "is not supported");
	config.refuseUnless("use_flow_sigmas", [false], "is not supported");
	const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
	const named = config.oneOf("algorithm_type", "dpmsolver++", [...ALGORITHMS, RELATED_ALGORITHM]);
	const algorithm = named === RELATED_ALGORITHM ? "dpmsolver++" : named;
	const stochastic = algorithm.startsWith("sde-");
	const expandsX0 = algorithm.endsWith("++");
	const midpoint = config.oneOf("solver_type", "midpoint", [
		"midpoint",
		"heun",
		...RELATED_SOLVER_TYPES
	]) !== "heun";
	const order = config.integer("solver_order", 2, 1);
	if (order > 3 || order === 3 && stochastic) config.fail("solver_order", "must be 1, 2 or, for an ODE, 3");
	const finalSigma = config.oneOf("final_sigmas_type", "zero", ["zero", "sigma_min"]);
	if (!expandsX0 && finalSigma === "zero") config.fail("final_sigmas_type", `must be sigma_min with ${algorithm}`);
	const lowerOrderFinal = config.boolean("lower_order_final", true);
	const eulerAtFinal = config.boolean("euler_at_final", false);
	const { timesteps, sigmas } = dpmLevels(config, options, finalSigma === "zero");
	const count = timesteps.length;
	const orderOf = (row, start) => {
		const few = lowerOrderFinal && count < FEW_STEPS;
		if (row === count - 1 && (eulerAtFinal || few || finalSigma === "zero")) return 1;
		const most = row === count - 2 && few ? 2 : order;
		return Math.min(most, order, row - start + 1);
	};
	/** Log signal-to-noise ratio of the level at `row`; infinite at level 0. */
	const lambda = (row) => -Math.log(sigmas[row]);
	const stepOf = (row, start) => {
		const here = scalesOfSigma(sigmas[row]);
		const there = scalesOfSigma(sigmas[row + 1]);
		const predicted = predictions(prediction, here);
		const h = lambda(row + 1) - lambda(row);
		const usedOrder = orderOf(row, start);
		let d1 = [
			0,
			0,
			0
		];
		let d2 = [
			0,
			0,
			0
		];
		if (usedOrder > 1) {
			const h0 = lambda(row) - lambda(row - 1);
			d1 = [
				h / h0,
				-h / h0,
				0
			];
			if (usedOrder > 2) {
				const h1 = lambda(row - 1) - lambda(row - 2);
				const change = [
					h / h0,
					-h / h0 - h / h1,
					h / h1
				];
				d1 = d1.map((value, i) => value + h0 / (h0 + h1) * change[i]);
				d2 = change.map((value) => h / (h0 + h1) * value);
			}
		}
		const weights = solverWeights(algorithm, h, midpoint && usedOrder < 3, here, there);
		const model = [
			0,
			1,
			2
		].map((i) => (i === 0 ? weights.d0 : 0) + weights.d1 * d1[i] + weights.d2 * d2[i]);
		const m0 = expandsX0 ? X0 : predicted.epsilon;
		const slots = order - 1;
		const slotOf = (back) => (row - start - back) % slots;
		const history = new Array(slots).fill(0);
		for (let back = 1; back < usedOrder; back++) history[slotOf(back)] = model[back];
		return stepRow(config.className, {
			timestep: timesteps[row],
			x0: predicted.x0,
			next: plus(scaled(weights.sample, SAMPLE), scaled(model[0], m0)),
			history,
			noise: weights.noise,
			drawsNoise: stochastic,
			...slots > 0 && { push: {
				slot: slotOf(0),
				mix: m0
			} }
		});
	};
	return {
		steps: count,
		timesteps,
		sigmas,
		initNoiseSigma: 1,
		historySlots: order - 1,
		rows: (start) => Array.from(timesteps.subarray(start), (_, index) => stepOf(start + index, start)),
		addNoise: (row) => {
			const { alpha, sigma } = scalesOfSigma(sigmas[row]);
			return {
				original: alpha,
				noise: sigma
			};
		}
	};
};
/**
* Coefficients of the sample, the expansion's terms and the noise over a step of `h` in lambda.
* The integrals φ1 = (eʰ − 1)… are taken with expm1; with h = ∞ (a step to level 0) only order 1 is asked for.
*/
function solverWeights(algorithm, h, midpoint, here, there) {
	const alphaRatio = there.alpha / here.alpha;
	const sigmaRatio = there.sigma / here.sigma;
	const grow = Math.expm1(h);
	const shrink = Math.expm1(-h);
	const shrink2 = Math.expm1(-2 * h);
	const whereFinite = (value) => Number.isFinite(h) && h !== 0 ? value : 0;
	switch (algorithm) {
		case "dpmsolver++": return {
			sample: sigmaRatio,
			d0: -there.alpha * shrink,
			d1: whereFinite(midpoint ? -.5 * there.alpha * shrink : there.alpha * (shrink / h + 1)),
			d2: whereFinite(-there.alpha * ((shrink + h) / h ** 2 - .5)),
			noise: 0
		};
		case "dpmsolver": return {
			sample: alphaRatio,
			d0: -there.sigma * grow,
			d1: whereFinite(midpoint ? -.5 * there.sigma * grow : -there.sigma * (grow / h - 1)),
			d2: whereFinite(-there.sigma * ((grow - h) / h ** 2 - .5)),
			noise: 0
		};
		case "sde-dpmsolver++": return {
			sample: sigmaRatio * Math.exp(-h),
			d0: -there.alpha * shrink2,
			d1: whereFinite(midpoint ? -.5 * there.alpha * shrink2 : there.alpha * (shrink2 / (2 * h) + 1)),
			d2: 0,
			noise: there.sigma * Math.sqrt(-shrink2)
		};
		case "sde-dpmsolver": return {
			sample: alphaRatio,
			d0: -2 * there.sigma * grow,
			d1: whereFinite(midpoint ? -there.sigma * grow : -2 * there.sigma * (grow / h - 1)),
			d2: 0,
			noise: there.sigma * Math.sqrt(Math.expm1(2 * h))
		};
		default: return algorithm;
	}
}
function dpmLevels(config, options, endAtZero) {
	const trainSteps = trainTimesteps(config);
	const alphaBars = alphasCumprod(config, COMMON_BETAS, 2 ** -24);
	const training = trainingSigmas(alphaBars);
	const logs = logSigmas(training);
	const [respacing, another] = [
		"use_karras_sigmas",
		"use_exponential_sigmas",
		"use_lu_lambdas"
	].filter((field) => config.boolean(field, false));
	if (another !== void 0) config.fail(another, `cannot be combined with ${respacing}`);
	let timesteps;
	if (options.timesteps !== void 0) {
		if (respacing !== void 0) config.fail("timesteps", `cannot be chosen together with ${respacing}`);
		const valid = options.timesteps.every((t) => Number.isInteger(t) && t >= 0 && t < trainSteps);
		if (options.timesteps.length === 0 || !valid) config.fail("timesteps", `must be integers from 0 to below num_train_timesteps (${trainSteps})`);
		timesteps = Float64Array.from(options.timesteps);
	} else {
		checkSteps(config, options.steps, trainSteps);
		timesteps = dpmTimesteps(config, options.steps, lastTimestep(config, alphaBars));
	}
	let levels;
	if (respacing === void 0) levels = interpolate(timesteps, training);
	else {
		levels = (respacing === "use_karras_sigmas" ? karrasSigmas : exponentialSigmas)(training[0], training.at(-1), options.steps);
		timesteps = levels.map((sigma) => roundHalfEven(sigmaToTimestep(sigma, logs)));
	}
	return {
		timesteps,
		sigmas: Float64Array.of(...levels, endAtZero ? 0 : training[0]).map(Math.fround)
	};
}
/** One past the noisiest timestep whose lambda is not below `lambda_min_clipped`. */
function lastTimestep(config, alphaBars) {
	const least = lambdaMinClipped(config);
	const f32 = Math.fround;
	const log = (square) => f32(Math.log(f32(Math.sqrt(square))));
	const clipped = alphaBars.map((alphaBar) => log(alphaBar) - log(f32(1 - alphaBar))).reduce((count, lambda) => count + (lambda < least ? 1 : 0), 0);
	return alphaBars.length - clipped;
}
/** The field is written as a number, or as the string "-Infinity" or "-inf" where the writer had no JSON for its default. */
function lambdaMinClipped(config) {
	const text = config.text("lambda_min_clipped");
	if (text === "-Infinity" || text === "-inf") return Number.NEGATIVE_INFINITY;
	return config.optionalNumber("lambda_min_clipped") ?? Number.NEGATIVE_INFINITY;
}
function dpmTimesteps(config, steps, last) {
	const spacing = timestepSpacing(config, "linspace");
	switch (spacing) {
		case "linspace": return linspace(0, last - 1, steps + 1).map(roundHalfEven).subarray(1).toReversed();
		case "leading": return leadingTimesteps(Math.floor(last / (steps + 1)), steps + 1, config.integer("steps_offset", 0, 0)).subarray(0, steps);
		case "trailing": return trailingTimesteps(last, trainTimesteps(config), steps);
		default: return spacing;
	}
}
//#endregion
//#region src/diffusion/schedulers/euler.ts
const f32$1 = Math.fround;
/** EulerDiscreteScheduler. */
const euler = (config, options) => {
	refuseOptions(config, options, ["mu"]);
	refuseBetaSigmas(config);
	const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
	const spacing = timestepSpacing(config, "linspace");
	const { timesteps, sigmas } = eulerLevels(config, options, spacing);
	return explodingTable(config, prediction, spacing, config.oneOf("timestep_type", "discrete", ["discrete", "continuous"]) === "continuous" && prediction === "v_prediction" ? timesteps.map((_, i) => f32$1(.25 * f32$1(Math.log(sigmas[i])))) : timesteps, sigmas, (_sigma, next) => ({
		target: next,
		noise: 0
	}));
};
/** EulerAncestralDiscreteScheduler. */
const eulerAncestral = (config, options) => {
	refuseOptions(config, options, [
		"timesteps",
		"sigmas",
		"mu"
	]);
	const prediction = config.oneOf("prediction_type", "epsilon", ["epsilon", "v_prediction"]);
	const spacing = timestepSpacing(config, "linspace");
	const timesteps = eulerTimesteps(config, options, spacing);
	return explodingTable(config, prediction, spacing, timesteps, float32(...interpolate(timesteps, trainingSigmas(alphasCumprod(config, COMMON_BETAS, 2 ** -24))), 0), (sigma, next) => {
		const variance = next ** 2 * (sigma ** 2 - next ** 2) / sigma ** 2;
		return {
			target: Math.sqrt(next ** 2 - variance),
			noise: Math.sqrt(variance)
		};
	});
};
function explodingTable(config, prediction, spacing, timesteps, sigmas, walk) {
	const most = sigmas.reduce((a, b) => Math.max(a, b));
	return {
		steps: timesteps.length,
		timesteps,
		sigmas,
		initNoiseSigma: spacing === "leading" ? Math.sqrt(most ** 2 + 1) : most,
		historySlots: 0,
		rows: (start) => Array.from(timesteps.subarray(start), (timestep, index) => {
			const sigma = sigmas[start + index];
			const { target, noise } = walk(sigma, sigmas[start + index + 1]);
			const x0 = explodingX0(prediction, sigma);
			const toTarget = (target - sigma) / sigma;
			return stepRow(config.className, {
				timestep,
				inputScale: 1 / Math.sqrt(sigma ** 2 + 1),
				x0,
				next: plus(scaled(1 + toTarget, SAMPLE), scaled(-toTarget, X0)),
				noise,
				drawsNoise: true
			});
		}),
		addNoise: (row) => ({
			original: 1,
			noise: sigmas[row]
		})
	};
}
function eulerLevels(config, options, spacing) {
	const training = trainingSigmas(alphasCumprod(config, COMMON_BETAS, 2 ** -24));
	const logs = logSigmas(training);
	const karras = config.boolean("use_karras_sigmas", false);
	const exponential = config.boolean("use_exponential_sigmas", false);
	if (karras && exponential) config.fail("use_exponential_sigmas", "cannot be combined with use_karras_sigmas");
	if (options.sigmas !== void 0) {
		const given = float32(...options.sigmas);
		if (options.timesteps !== void 0) config.fail("sigmas", "cannot be combined with timesteps");
		if (given.length < 2 || !given.subarray(0, -1).every((sigma) => sigma > 0 && Number.isFinite(sigma))) config.fail("sigmas", "must be two or more numbers, positive but for the last");
		return {
			timesteps: float32(...given.subarray(0, -1).map((s) => sigmaToTimestep(s, logs))),
			sigmas: given
		};
	}
	if (options.timesteps !== void 0 && (karras || exponential)) config.fail("timesteps", "cannot be chosen together with use_karras_sigmas or use_exponential_sigmas");
	let timesteps = eulerTimesteps(config, options, spacing);
	let levels;
	switch (config.oneOf("interpolation_type", "linear", ["linear", "log_linear"])) {
		case "linear":
			levels = interpolate(timesteps, training);
			break;
		case "log_linear":
			levels = Float64Array.from(linspaceFloat32(logs.at(-1), logs[0], timesteps.length + 1).map(Math.exp));
			break;
	}
	if (karras || exponential) {
		const least = config.optionalNumber("sigma_min") ?? levels.at(-1);
		const most = config.optionalNumber("sigma_max") ?? levels[0];
		levels = (karras ? karrasSigmas : exponentialSigmas)(least, most, timesteps.length);
		timesteps = float32(...levels.map((sigma) => sigmaToTimestep(sigma, logs)));
	}
	const last = config.oneOf("final_sigmas_type", "zero", ["zero", "sigma_min"]) === "zero" ? 0 : training[0];
	return {
		timesteps,
		sigmas: float32(...levels, last)
	};
}
/** The Euler classes' timesteps: float32, and fractional under linspace. */
function eulerTimesteps(config, options, spacing) {
	const trainSteps = trainTimesteps(config);
	if (options.timesteps !== void 0) {
		if (options.timesteps.length === 0 || !options.timesteps.every((t) => t >= 0 && t < trainSteps)) config.fail("timesteps", `must be numbers from 0 to below num_train_timesteps (${trainSteps})`);
		return float32(...options.timesteps);
	}
	checkSteps(config, options.steps, trainSteps);
	switch (spacing) {
		case "linspace": return float32(...linspace(0, trainSteps - 1, options.steps).reverse());
		case "leading": {
			const offset = config.integer("steps_offset", 0, 0);
			return leadingTimesteps(Math.floor(trainSteps / options.steps), options.steps, offset);
		}
		case "trailing": return trailingTimesteps(trainSteps, trainSteps, options.steps);
		default: return spacing;
	}
}
function refuseBetaSigmas(config) {
	config.refuseUnless("use_beta_sigmas", [false], "is not supported; use_karras_sigmas and use_exponential_sigmas are");
}
function float32(...values) {
	return Float64Array.from(values, f32$1);
}
//#endregion
//#region src/diffusion/schedulers/flow-match-euler.ts
const f32 = Math.fround;
const UNSUPPORTED = [
	"use_karras_sigmas",
	"use_exponential_sigmas",
	"use_beta_sigmas",
	"invert_sigmas",
	"stochastic_sampling"
];
/** FlowMatchEulerDiscreteScheduler. */
const flowMatchEuler = (config, options) => {
	refuseOptions(config, options, ["timesteps"]);
	for (const field of UNSUPPORTED) config.refuseUnless(field, [false], "is not supported");
	config.refuseUnless("shift_terminal", [0], "is not supported");
	config.refuseUnless("time_shift_type", ["exponential"], "is not supported; exponential is");
	const trainSteps = trainTimesteps(config);
	const shift = config.number("shift", 1);
	if (!(shift > 0)) config.fail("shift", "must be positive");
	const dynamic = config.boolean("use_dynamic_shifting", false);
	if (dynamic && !Number.isFinite(options.mu)) config.fail("mu", "must be given with use_dynamic_shifting");
	let levels;
	if (options.sigmas !== void 0) {
		if (!(options.sigmas.length > 0 && options.sigmas.every((sigma) => sigma > 0 && sigma <= 1))) config.fail("sigmas", "must be numbers above 0 and at most 1");
		levels = Float64Array.from(options.sigmas, f32);
	} else {
		checkSteps(config, options.steps, trainSteps);
		const [most, least] = [1, f32(1 / trainSteps)].map((sigma) => dynamic ? sigma : shiftBy(shift, sigma, f32));
		levels = linspace(most * trainSteps, least * trainSteps, options.steps);
		levels = levels.map((timestep) => timestep / trainSteps);
	}
	const round = options.sigmas === void 0 ? (value) => value : f32;
	const shifted = levels.map((sigma) => dynamic ? shiftByExponential(options.mu, sigma, round) : shiftBy(shift, sigma, round));
	const sigmas = Float64Array.of(...shifted.map(f32), 0);
	const timesteps = sigmas.subarray(0, -1).map((sigma) => f32(sigma * trainSteps));
	return {
		steps: timesteps.length,
		timesteps,
		sigmas,
		initNoiseSigma: 1,
		historySlots: 0,
		rows: (start) => Array.from(timesteps.subarray(start), (timestep, index) => {
			const sigma = sigmas[start + index];
			const next = sigmas[start + index + 1];
			return stepRow(config.className, {
				timestep,
				x0: plus(SAMPLE, scaled(-sigma, MODEL)),
				next: plus(SAMPLE, scaled(next - sigma, MODEL))
			});
		}),
		addNoise: (row) => ({
			original: 1 - sigmas[row],
			noise: sigmas[row]
		})
	};
};
/** shift·σ / (1 + (shift − 1)·σ). */
function shiftBy(shift, sigma, round) {
	return round(round(shift * sigma) / round(1 + round((shift - 1) * sigma)));
}
/** The same with shift = exp(mu), in the order of operations of the reference's `time_shift`. */
function shiftByExponential(mu, sigma, round) {
	const shift = round(Math.exp(mu));
	return round(shift / round(shift + round(round(1 / sigma) - 1)));
}
//#endregion
//#region src/diffusion/schedulers/lcm.ts
const SIGMA_DATA = .5;
/** LCMScheduler. */
const lcm = (config, options) => {
	refuseOptions(config, options, ["sigmas", "mu"]);
	refuseThresholding(config);
	const prediction = config.oneOf("prediction_type", "epsilon", PREDICTION_TYPES);
	const alphaBars = alphasCumprod(config, {
		start: 85e-5,
		end: .012,
		schedule: "scaled_linear"
	});
	const clamp = clampRange(config, false);
	const timestepScaling = config.number("timestep_scaling", 10);
	const timesteps = lcmTimesteps(config, options);
	const steps = options.timesteps?.length ?? options.steps;
	const row = (index) => {
		const timestep = timesteps[index];
		const nextTimestep = timesteps[index + 1] ?? timestep;
		const { x0 } = predictions(prediction, scalesOfAlphaBar(alphaBarAt(config, alphaBars, timestep)));
		const scaledTimestep = timestep * timestepScaling;
		const skip = SIGMA_DATA ** 2 / (scaledTimestep ** 2 + SIGMA_DATA ** 2);
		const denoised = plus(scaled(scaledTimestep / Math.sqrt(scaledTimestep ** 2 + SIGMA_DATA ** 2), X0), scaled(skip, SAMPLE));
		if (index === steps - 1) return stepRow(config.className, {
			timestep,
			x0,
			clamp,
			next: denoised,
			denoised
		});
		const level = preservingNoise(alphaBarAt(config, alphaBars, nextTimestep));
		return stepRow(config.className, {
			timestep,
			x0,
			clamp,
			next: scaled(level.original, denoised),
			noise: level.noise,
			drawsNoise: true,
			denoised
		});
	};
	return {
		steps,
		timesteps,
		initNoiseSigma: 1,
		historySlots: 0,
		rows: (start) => Array.from(timesteps.subarray(start), (_, index) => row(start + index)),
		addNoise: (index) => preservingNoise(alphaBarAt(config, alphaBars, timesteps[index]))
	};
};
function lcmTimesteps(config, options) {
	const trainSteps = trainTimesteps(config);
	const originalSteps = options.originalInferenceSteps ?? config.integer("original_inference_steps", 50, 1);
	if (!Number.isInteger(originalSteps) || originalSteps < 1 || originalSteps > trainSteps) config.fail("original_inference_steps", `must be an integer from 1 to num_train_timesteps (${trainSteps})`);
	const strength = options.lcmStrength ?? 1;
	if (!(strength >= 0 && strength <= 1)) config.fail("lcmStrength", "must be between 0 and 1");
	if (options.timesteps !== void 0) {
		const chosen = options.timesteps;
		const descending = chosen.every((t, i) => Number.isInteger(t) && t >= 0 && t < (chosen[i - 1] ?? trainSteps));
		if (chosen.length === 0 || !descending) config.fail("timesteps", `must be descending integers below num_train_timesteps (${trainSteps})`);
		return Float64Array.from(chosen.slice(chosen.length - Math.min(Math.trunc(chosen.length * strength), chosen.length)));
	}
	const stride = Math.floor(trainSteps / originalSteps);
	const distilled = Float64Array.from({ length: Math.trunc(originalSteps * strength) }, (_, i) => (i + 1) * stride - 1);
	if (!Number.isInteger(options.steps) || options.steps < 1 || options.steps > distilled.length) config.fail("steps", `must be an integer from 1 to ${distilled.length}, the part of original_inference_steps (${originalSteps}) that strength leaves`);
	distilled.reverse();
	return linspace(0, distilled.length, options.steps, false).map((index) => distilled[Math.floor(index)]);
}
//#endregion
//#region src/diffusion/schedulers/pndm.ts
/** Adams–Bashforth weights by the number of predictions at hand, newest first. */
const MULTISTEP = [
	[1],
	[3 / 2, -1 / 2],
	[
		23 / 12,
		-16 / 12,
		5 / 12
	],
	[
		55 / 24,
		-59 / 24,
		37 / 24,
		-9 / 24
	]
];
/** Model calls of the three Runge–Kutta steps. */
const PRK_CALLS = 12;
/** PNDMScheduler. */
const pndm = (config, options) => {
	refuseOptions(config, options, [
		"timesteps",
		"sigmas",
		"mu"
	]);
	const trainSteps = trainTimesteps(config);
	checkSteps(config, options.steps, trainSteps);
	const skipPrk = config.boolean("skip_prk_steps", false);
	if (!skipPrk && options.steps < 4) config.fail("steps", "must be at least 4 unless skip_prk_steps is set");
	const prediction = config.oneOf("prediction_type", "epsilon", ["epsilon", "v_prediction"]);
	const alphaBars = alphasCumprod(config, COMMON_BETAS);
	const finalAlphaBar = config.boolean("set_alpha_to_one", false) ? 1 : alphaBars[0];
	const stride = Math.floor(trainSteps / options.steps);
	const spaced = spacedTimesteps(timestepSpacing(config, "leading"), trainSteps, options.steps, config.integer("steps_offset", 0, 0));
	const timesteps = skipPrk ? repeatSecond(spaced) : prkTimesteps(spaced, Math.floor(stride / 2));
	/** next = sample·base + model·(combined prediction), from equation 9; a v-prediction also mixes in the base. */
	const transfer = ({ from, to }) => {
		const alphaBar = alphaBarAt(config, alphaBars, from);
		const toAlphaBar = to >= 0 ? alphaBarAt(config, alphaBars, to) : finalAlphaBar;
		const denominator = alphaBar * Math.sqrt(1 - toAlphaBar) + Math.sqrt(alphaBar * (1 - alphaBar) * toAlphaBar);
		const mix = scaled(denominator === 0 ? 0 : -(toAlphaBar - alphaBar) / denominator, predictions(prediction, scalesOfAlphaBar(alphaBar)).epsilon);
		return {
			base: Math.sqrt(toAlphaBar / alphaBar) + mix.sample,
			model: mix.model
		};
	};
	const rows = (start) => {
		const calls = (skipPrk ? multistepCalls : prkCalls)(timesteps, start, stride);
		return calls.map((call, index) => {
			const { base, model } = transfer(call);
			const history = new Array(skipPrk ? 3 : 5).fill(0);
			for (const { slot, weight } of call.past) history[slot] = history[slot] + model * weight;
			let sample = base;
			if (call.redoes !== null) {
				const before = transfer(calls[index - 1]);
				sample = base / before.base;
				history[call.redoes] = history[call.redoes] - sample * before.model;
			}
			return stepRow(config.className, {
				timestep: call.timestep,
				x0: predictions(prediction, scalesOfAlphaBar(alphaBarAt(config, alphaBars, call.timestep))).x0,
				next: plus(scaled(sample, SAMPLE), scaled(model * call.weight, MODEL)),
				history,
				...call.slot !== null && { push: {
					slot: call.slot,
					mix: MODEL
				} }
			});
		});
	};
	return {
		steps: options.steps,
		timesteps,
		initNoiseSigma: 1,
		historySlots: skipPrk ? 3 : 5,
		rows,
		addNoise: (row) => preservingNoise(alphaBarAt(config, alphaBars, timesteps[row]))
	};
};
/** The second timestep twice: for the call that corrects the first step. A single timestep stays single. */
function repeatSecond(spaced) {
	return Float64Array.of(...spaced.subarray(0, 2), ...spaced.subarray(1));
}
/** Each of the first three intervals as begin, middle, middle, end; then the rest for the multistep part. */
function prkTimesteps(spaced, half) {
	const inner = [
		0,
		1,
		2
	].flatMap((i) => {
		const [begin, end] = [spaced[i], spaced[i + 1]];
		return [
			begin,
			end + half,
			end + half,
			end
		];
	});
	return Float64Array.of(...inner, ...spaced.subarray(3));
}
/** Calls of the multistep part without Runge–Kutta steps before it. */
function multistepCalls(timesteps, start, stride) {
	return Array.from(timesteps.subarray(start), (timestep, call) => {
		if (call === 1) return {
			timestep,
			from: timestep + stride,
			to: timestep,
			weight: 1 / 2,
			past: [{
				slot: 0,
				weight: 1 / 2
			}],
			slot: null,
			redoes: 0
		};
		return multistepCall(timestep, stride, call === 0 ? 0 : call - 1);
	});
}
/** The multistep call that finds `earlier` predictions before it. */
function multistepCall(timestep, stride, earlier) {
	const [weight, ...older] = MULTISTEP[Math.min(earlier, 3)];
	const past = older.map((value, back) => ({
		slot: (earlier - 1 - back) % 3,
		weight: value
	}));
	return {
		timestep,
		from: timestep,
		to: timestep - stride,
		weight,
		past,
		slot: earlier % 3,
		redoes: null
	};
}
/**
* Calls of a run that begins with Runge–Kutta steps; classical weights 1/6, 1/3, 1/3, 1/6. The reference counts them from
* the run's own first call but takes the intervals they begin at from the whole table, wherever the run starts.
*/
function prkCalls(timesteps, start, stride) {
	const half = Math.floor(stride / 2);
	return Array.from(timesteps.subarray(start), (timestep, call) => {
		if (call >= PRK_CALLS) return multistepCall(timestep, stride, 3 + call - PRK_CALLS);
		const step = Math.floor(call / 4);
		const from = timesteps[step * 4];
		const to = call % 2 === 0 ? timestep - half : timestep;
		switch (call % 4) {
			case 0: return {
				timestep,
				from,
				to,
				weight: 1,
				past: [],
				slot: step,
				redoes: null
			};
			case 1: return {
				timestep,
				from,
				to,
				weight: 1,
				past: [],
				slot: 3,
				redoes: step
			};
			case 2: return {
				timestep,
				from,
				to,
				weight: 1,
				past: [],
				slot: 4,
				redoes: 3
			};
			default: return {
				timestep,
				from,
				to,
				weight: 1 / 6,
				past: [
					{
						slot: step,
						weight: 1 / 6
					},
					{
						slot: 3,
						weight: 1 / 3
					},
					{
						slot: 4,
						weight: 1 / 3
					}
				],
				slot: null,
				redoes: 4
			};
		}
	});
}
//#endregion
//#region src/diffusion/schedulers/create-schedule.ts
const SCHEDULERS = {
	DDIMScheduler: ddim,
	DPMSolverMultistepScheduler: dpmMultistep,
	EulerAncestralDiscreteScheduler: eulerAncestral,
	EulerDiscreteScheduler: euler,
	FlowMatchEulerDiscreteScheduler: flowMatchEuler,
	LCMScheduler: lcm,
	PNDMScheduler: pndm
};
/** All of them, for messages and schemas. */
const SCHEDULER_CLASSES = Object.keys(SCHEDULERS);
/** Whether `className` is one of `SCHEDULER_CLASSES`. */
function isSchedulerClass(className) {
	return Object.hasOwn(SCHEDULERS, className);
}
/**
* The table of a run from pure noise. For image-to-image pass it through `img2imgStart` and `from`.
* @param className `_class_name` of the configuration, or another class to use it with
* @param config parsed `scheduler_config.json`; missing fields take the class's defaults, unknown ones are ignored
* @throws SchedulerError for an unknown class, an unsupported field, or options without a schedule.
*/
function createSchedule(className, config, options) {
	if (!isSchedulerClass(className)) throw new SchedulerError(className, "_class_name", `is not supported; supported: ${SCHEDULER_CLASSES.join(", ")}`);
	return startAt(className, SCHEDULERS[className](readConfig(className, config), options), 0);
}
/**
* The first row of an image-to-image run: of n steps, the last int(n · strength) are run, from latents noised to that
* row's level (`StableDiffusionImg2ImgPipeline.get_timesteps`; every class here is of order 1).
* Use as `const run = schedule.from(img2imgStart(schedule, strength))`.
* @param strength how much of the start picture may change, above 0 to 1
* @throws SchedulerError where `strength` is out of range or leaves no step to run.
*/
function img2imgStart(schedule, strength) {
	if (!(strength > 0 && strength <= 1)) throw new SchedulerError(schedule.className, "strength", "must be above 0 and at most 1");
	const kept = Math.min(Math.trunc(schedule.steps * strength), schedule.steps);
	if (kept === 0) throw new SchedulerError(schedule.className, "strength", `${strength} of ${schedule.steps} steps leaves none to run; raise strength or steps`);
	return schedule.steps - kept;
}
//#endregion
//#region src/diffusion/pipeline.ts
/** The request cannot be run on this model. `field` is the request's field at fault. Safe to show to a client. */
var PipelineError = class extends Error {
	name = "PipelineError";
	code = "pipeline";
	field;
	constructor(field, reason) {
		super(`${field}: ${reason}`);
		this.field = field;
	}
};
/** Prompts whose conditioning is kept; a few hundred KB each. */
const MAX_PROMPTS = 64;
/**
* Runs one request. One run at a time on a model: plans and latents are the model's.
* Throws `PipelineError` naming a field, `SchedulerError`, GPU errors, and the signal's reason when it is aborted.
*/
async function* generate(model, asked, { signal, takeUpdate } = {}) {
	const { gpu, unet } = model;
	let request = asked;
	const clock = stopwatch();
	signal?.throwIfAborted();
	const shape = denoiserShape(model, request);
	const schedule = scheduleOf(model, request);
	let preview = previewDecoder(model, request);
	const warnings = promptWarnings(model, request);
	const weights = await weightsFor(model, request, warnings);
	const plans = model.plans.borrow();
	let kept;
	try {
		const conditions = await encodeConditions(model, plans, weights, request, shape.branches === 2);
		clock.lap("prompt");
		signal?.throwIfAborted();
		const noise = request.generator === "cuda" ? cudaGenerator(request.seed) : cpuGenerator(request.seed);
		const start = request.image ? await noisedPicture(model, plans, weights, request, shape, schedule, noise) : noise.randn(latentCount(shape)).map((value) => value * schedule.initNoiseSigma);
		plans.giveBack();
		const plan = await denoiserPlan(model, plans, weights, shape);
		writeConditions(plan, model, request, shape, conditions);
		plan.write("latents", toDeviceOrder(start, shape));
		if (preview) preview = await affordable(model, plans, weights, preview, shape, warnings);
		clock.lap("start");
		const steps = schedule.rows.length;
		const every = preview ? request.previewEvery ?? 0 : 0;
		let shown;
		for (const [index, row] of schedule.rows.entries()) {
			signal?.throwIfAborted();
			const step = index + 1;
			const update = takeUpdate?.();
			if (update !== void 0) {
				const wanted = updated(request, update, shape, warnings);
				const changed = await encodeConditions(model, plans, weights, wanted, shape.branches === 2).catch((error) => {
					if (!(error instanceof MemoryLimitError)) throw error;
					warnings.push("The prompt stayed: text encoder and denoiser do not both fit into the memory that may be used.");
				});
				if (changed) {
					request = wanted;
					writeConditions(plan, model, request, shape, changed);
				}
				clock.lap("prompt");
			}
			writeStep(plan, unet.config, shape, schedule.rows, index, request.guidanceScale);
			if (row.drawsNoise) {
				const drawn = noise.randn(latentCount(shape));
				if (row.next.noise !== 0) plan.write("noise", toDeviceOrder(drawn, shape));
			}
			const replay = plan.replay();
			replay.catch(() => {});
			if (preview && shown) {
				const picture = await shown.picture;
				clock.lap("preview");
				yield {
					type: "preview",
					step: step - 1,
					steps,
					decoder: preview,
					picture
				};
				signal?.throwIfAborted();
				shown = void 0;
			}
			await replay;
			clock.lap("denoise");
			yield {
				type: "step",
				step,
				steps,
				latents: () => readLatents(plan, shape)
			};
			if (preview && every > 0 && step % every === 0 && step < steps) {
				signal?.throwIfAborted();
				shown = await startDecoding(model, plans, weights, preview, plan.range("denoised"), shape);
				clock.lap("preview");
			}
		}
		signal?.throwIfAborted();
		const latents = plan.range("latents");
		const size = latentBytes(shape);
		kept = gpu.createBuffer("a run's latents", size * shape.images);
		copyLatents(gpu, latents, kept, size * shape.images);
		plans.giveBack();
		const pictures = [];
		for (let image = 0; image < shape.images; image++) {
			const own = {
				buffer: kept,
				offset: image * size,
				size
			};
			pictures.push(await finalPicture(model, plans, weights, own, shape));
		}
		clock.lap("decode");
		const final = kept;
		const readFinal = () => readKeptLatents(gpu, final, shape);
		yield {
			type: "result",
			pictures,
			latents: readFinal,
			timings: clock.times(),
			warnings
		};
	} catch (error) {
		throw error instanceof MemoryLimitError ? tooLarge(model, weights, request, error) : error;
	} finally {
		plans.giveBack();
		if (kept) gpu.destroyBuffer(kept);
		forget(model, weights);
	}
}
/** The decoder of previews, or none where it does not find room beside the denoiser. */
async function affordable(model, plans, weights, decoder, shape, warnings) {
	try {
		await previewPlan(model, plans, weights, decoder, shape);
		return decoder;
	} catch (error) {
		if (!(error instanceof MemoryLimitError)) throw error;
		warnings.push(`There are no previews: their decoder (${decoder}) and the denoiser do not both fit into ${limitOf(error)}.`);
		return;
	}
}
function limitOf({ limit }) {
	return `the ${Math.floor(limit / 2 ** 20)} MiB of device memory that may be used`;
}
/** What to tell whoever asked for a picture that does not fit, with the largest of its proportions that does. */
function tooLarge(model, weights, request, error) {
	const { width, height } = request;
	const several = (request.images ?? 1) > 1 ? `${request.images} pictures` : "a picture";
	const fits = largestThatFits(model, weights, request, error.limit);
	const hope = fits ? `; ${fits.width}x${fits.height} fits` : "; none does";
	return new PipelineError("width", `${several} of ${width}x${height} does not fit into ${limitOf(error)}${hope}`);
}
/** By halves of what is left in question: a larger picture never takes less. */
function largestThatFits(model, weights, request, limit) {
	const unit = 64;
	const longer = Math.max(request.width, request.height);
	const ofLonger = (side) => {
		const [width, height] = [request.width, request.height].map((pixels) => Math.max(unit, Math.round(pixels * side / longer / unit) * unit));
		return {
			width,
			height
		};
	};
	let [fitting, tooMany] = [0, Math.ceil(longer / unit)];
	while (tooMany - fitting > 1) {
		const units = Math.floor((fitting + tooMany) / 2);
		if (runBytes(model, weights, denoiserShape(model, {
			...request,
			...ofLonger(units * unit)
		})) <= limit) fitting = units;
		else tooMany = units;
	}
	return fitting > 0 ? ofLonger(fitting * unit) : void 0;
}
/** The least device memory that text-to-image of this shape takes in any of its phases, in bytes. */
function runBytes(model, weights, shape) {
	const { gpu, unet, vae, encoders, activations } = model;
	const all = [
		unet.weights,
		vae.weights,
		...encoders.map(({ parameters }) => parameters)
	];
	const givesWay = weights.residency.components.length > 0;
	/** What lies on the device in a phase that needs these: they alone, or all where nothing may give way. */
	const resident = (needed) => weights.bytes + (givesWay ? needed : all).reduce((sum, { bytes }) => sum + bytes, 0);
	const form = (of, storage) => ({
		storage,
		weights: of.storage,
		transformed: false
	});
	const latents = latentBytes(shape) * shape.images;
	const text = encoders.map(({ recorder, parameters }) => {
		return footprint(gpu, recorder, form(parameters, activations)).peak;
	});
	const step = footprint(gpu, recordDenoiser(unet.config, shape), {
		...form(unet.weights, activations),
		reads: DENOISER_READS
	});
	const storage = storageOf(model, vae);
	const whole = recordDecoder(vae, shape);
	const picture = Math.min(isTooSliced(gpu, whole, storage) ? Number.POSITIVE_INFINITY : bytesOrNever(() => footprint(gpu, whole, {
		...form(vae.weights, storage),
		reads: DECODER_READS
	}).peak), bytesOrNever(() => decodeBandsBytes(gpu, vae, shape, {
		storage,
		weights: vae.weights.storage
	})));
	return Math.max(...all.map(({ loadingBytes, bytes }) => resident([]) + loadingBytes - (givesWay ? 0 : bytes)), resident(encoders.map(({ parameters }) => parameters)) + text.reduce((sum, bytes) => sum + bytes, 0), resident([unet.weights]) + step.peak + latents, resident([vae.weights]) + picture + 2 * latents);
}
/** Infinite where a tensor is more than the adapter binds. */
function bytesOrNever(estimate) {
	try {
		return estimate();
	} catch (error) {
		if (error instanceof GraphError) return Number.POSITIVE_INFINITY;
		throw error;
	}
}
/**
* Makes all plans that text-to-image of this shape takes, previews included, and runs each of their kernels once, so that
* the first run neither compiles nor allocates. `onProgress` counts kernels.
* Throws `PipelineError`, GPU errors, and the signal's reason when it is aborted.
*/
async function warmUp(model, asked, { signal, onProgress } = {}) {
	const shape = denoiserShape(model, asked);
	const weights = await weightsFor(model, asked, []);
	const loan = model.plans.borrow();
	const { tiny, vae, latentRgb } = model;
	const one = async (plan) => [await plan];
	const phases = [
		() => textEncoderPlans(model, loan, weights).map(one),
		() => [one(denoiserPlan(model, loan, weights, shape))],
		() => [wholeDecoderPlan(model, loan, weights, vae, shape), ...latentRgb ? [one(linearPlan(model, loan, weights, shape))] : []],
		() => tiny ? [wholeDecoderPlan(model, loan, weights, tiny, shape)] : []
	];
	const together = model.gpu.maxBytes === void 0 ? [() => phases.flatMap((make) => make())] : phases;
	let done = 0;
	let total = 0;
	try {
		for (const make of together) {
			const plans = (await Promise.all(make())).flat();
			total += plans.reduce((sum, plan) => sum + plan.kernels, 0);
			onProgress?.(done, total);
			for (const plan of plans) {
				signal?.throwIfAborted();
				await plan.warmUp(() => {
					signal?.throwIfAborted();
					onProgress?.(++done, total);
				});
			}
			loan.giveBack();
		}
	} catch (error) {
		throw error instanceof MemoryLimitError ? tooLarge(model, weights, asked, error) : error;
	} finally {
		loan.giveBack();
		forget(model, weights);
	}
}
/** The request with a change laid over it. Whether there is guidance at all is in the plan's shape, and stays. */
function updated(request, update, shape, warnings) {
	const { guidanceScale = request.guidanceScale } = update;
	if (shape.branches === 1 && request.guidanceScale <= 1 && guidanceScale > 1) {
		warnings.push("A run that began without guidance goes on without it; guidance_scale was left as it was.");
		return {
			...request,
			...update,
			guidanceScale: request.guidanceScale
		};
	}
	return {
		...request,
		...update
	};
}
/**
* The weights of a run. The variant for large pictures gives way where it does not find room beside the model; throws
* `PipelineError` where what was asked for does not.
*/
async function weightsFor(model, { loras = [], fewStep, width, height }, warnings) {
	const asked = [...loras];
	if (fewStep) {
		if (model.fewStep === void 0) throw new PipelineError("few_step", "this model has no few-step variant");
		asked.unshift({
			path: model.fewStep.path,
			scale: 1
		});
	}
	const merged = (files) => loras.length === 0 ? variantWeights(model, files.map(({ path }) => path)) : weightsOfRun(model, files);
	try {
		if (model.large && width * height >= model.large.fromPixels) if (model.gpu.maxBytes === void 0) asked.unshift({
			path: model.large.path,
			scale: 1
		});
		else warnings.push("Drawn without the model's variant for large pictures: device memory is limited.");
		return await merged(asked);
	} catch (error) {
		if (!(error instanceof MemoryLimitError)) throw error;
		throw new PipelineError(fewStep ? "few_step" : "loras", `do not fit beside this model into ${limitOf(error)}`);
	}
}
/** Drops what was made of a run's own weights; of the model's, everything stays for the next run. */
function forget(model, weights) {
	if (weights.lasting) return;
	model.plans.drop(weights.key);
	for (const prompt of [...model.prompts.keys()]) if (prompt.startsWith(weights.key)) model.prompts.delete(prompt);
	weights.destroy();
}
function denoiserShape(model, request) {
	const { downscale, latentChannels } = model.vae;
	for (const field of ["width", "height"]) {
		const size = request[field];
		if (!Number.isInteger(size) || size < downscale || size % downscale !== 0) throw new PipelineError(field, `must be a multiple of ${downscale}, not ${size}`);
	}
	const guided = request.guidanceScale > 1 && !model.unet.config.time_cond_proj_dim;
	return {
		images: request.images ?? 1,
		branches: guided ? 2 : 1,
		tokens: Math.min(model.encoders[0].tokenizer.modelMaxLength, model.encoders[0].config.max_position_embeddings),
		height: request.height / downscale,
		width: request.width / downscale,
		channels: latentChannels
	};
}
function scheduleOf(model, request) {
	const { className, config = model.scheduler.config } = request.scheduler ?? model.scheduler;
	const strength = request.strength ?? 1;
	const options = {
		steps: request.steps,
		eta: request.eta ?? 0
	};
	if (!request.image) return createSchedule(className, config, options);
	if (model.family === "latent-consistency" && className === "LCMScheduler") return createSchedule(className, config, {
		...options,
		lcmStrength: strength
	});
	const schedule = createSchedule(className, config, options);
	return schedule.from(img2imgStart(schedule, strength));
}
/** Which decoder previews are made with, if the model has one that was asked for. */
function previewDecoder(model, request) {
	if (!request.previewEvery) return void 0;
	const tiny = model.tiny !== void 0 || model.vae.kind === "tiny";
	const wanted = request.previewDecoder ?? "auto";
	if (wanted === "auto") return tiny ? "tiny" : model.latentRgb ? "linear" : void 0;
	if (wanted === "tiny" && !tiny) throw new PipelineError("preview_decoder", "this model has no tiny decoder; use linear or full");
	if (wanted === "linear" && !model.latentRgb) throw new PipelineError("preview_decoder", "no linear map to RGB is known for this model; use full");
	return wanted;
}
function promptWarnings(model, { prompt }) {
	const warnings = [];
	const { tokenizer } = model.encoders[0];
	const { truncated, tokenCount } = tokenizer.encode(prompt);
	if (truncated) warnings.push(`The prompt has ${tokenCount} tokens; this model reads ${tokenizer.modelMaxLength}, so its end was left out.`);
	const knows = ({ word, pieces }) => model.words ? model.words.has(word) : pieces.length === 1;
	const words = tokenizer.words(prompt).filter(({ word }) => word.length > 1);
	if (words.length > 0 && !words.some(knows)) warnings.push("This model knows no word of the prompt; the picture will have little to do with it.");
	return warnings;
}
async function encodeConditions(model, plans, weights, request, guided) {
	const positive = await conditioningOf(model, plans, weights, request.prompt);
	if (!guided) return { positive };
	const negativePrompt = request.negativePrompt ?? "";
	if (negativePrompt === "" && model.zerosForNoPrompt) return {
		positive,
		negative: zeroConditioning(positive)
	};
	return {
		positive,
		negative: await conditioningOf(model, plans, weights, negativePrompt)
	};
}
async function conditioningOf(model, plans, weights, prompt) {
	const key = `${weights.key}${prompt}`;
	const known = model.prompts.get(key);
	if (known) return known;
	const encoderPlans = await Promise.all(textEncoderPlans(model, plans, weights));
	const conditioning = await encodePrompt(model.encoders, encoderPlans, prompt);
	model.prompts.set(key, conditioning);
	const [oldest] = model.prompts.keys();
	if (model.prompts.size > MAX_PROMPTS) model.prompts.delete(oldest);
	return conditioning;
}
/** Writes what depends on the prompt alone, for each row of the batch: [negative…, positive…]. */
function writeConditions(plan, model, request, shape, conditions) {
	const { config } = model.unet;
	const rows = [conditions.negative, conditions.positive].filter((conditioning) => conditioning !== void 0).flatMap((conditioning) => Array(shape.images).fill(conditioning));
	plan.write("text", concatenate(rows.map((row) => row.embedding)));
	if (config.time_cond_proj_dim) plan.write("guidance", guidanceEmbedding(request.guidanceScale, config.time_cond_proj_dim));
	if (hasAddedConditions(config)) {
		const added = rows.map((row) => addedConditions(config.addition_time_embed_dim, row, request));
		if (added[0].length !== config.projection_class_embeddings_input_dim) throw new PipelineError("prompt", `the model's size conditions have ${added[0].length} numbers, not ${config.projection_class_embeddings_input_dim}`);
		plan.write("added", concatenate(added));
	}
}
/** SDXL: the pooled text, then sinusoids of the six sizes (Podell et al. 2023, arXiv 2307.01952, section 2.2). */
function addedConditions(width, { pooled }, request) {
	const size = [request.height, request.width];
	const { original = size, crop = [0, 0], target = size } = request.sizes ?? {};
	return concatenate([pooled, timestepSinusoids([
		...original,
		...crop,
		...target
	], width)]);
}
/** Image-to-image: the picture's latents, noised to the level of the first step. */
async function noisedPicture(model, plans, weights, request, shape, schedule, noise) {
	const { vae } = model;
	const { mean, logVariance } = await encodedPicture(model, plans, weights, request.image);
	const count = mean.length;
	const drawn = logVariance && noise.randn(count);
	const latents = new Float32Array(latentCount(shape));
	for (let i = 0; i < latents.length; i++) {
		const at = i % count;
		latents[i] = ((drawn ? mean[at] + Math.exp(.5 * logVariance[at]) * drawn[at] : mean[at]) - vae.shiftFactor) * vae.scalingFactor;
	}
	const mix = schedule.addNoise(0);
	const added = noise.randn(latents.length);
	return latents.map((value, i) => mix.original * value + mix.noise * added[i]);
}
/** What the autoencoder says of a picture: in one piece where that fits, else in bands. */
async function encodedPicture(model, plans, weights, image) {
	const { gpu, vae } = model;
	const options = {
		label: "vae encoder",
		storage: storageOf(model, vae),
		parameters: vae.weights
	};
	const { width, height } = image;
	const inBands = () => withRoom(weights.residency, [vae.weights], (form) => encodeInBands(gpu, vae, image, {
		...options,
		...form
	}));
	if (isTooSliced(gpu, recordEncoder(vae, image), options.storage)) return inBands();
	let plan;
	try {
		plan = await withRoom(weights.residency, [vae.weights], (form) => plans.get(`encoder ${height}×${width}`, () => compileEncoder(gpu, vae, {
			height,
			width
		}, {
			...options,
			...form
		})));
	} catch (error) {
		if (!isTooLarge(error)) throw error;
		return inBands();
	}
	return encodePixels(plan, vae, image);
}
/** Begins a picture of the first image's latents by the decoder asked for. */
async function startDecoding(model, plans, weights, decoder, latents, shape) {
	const first = {
		buffer: latents.buffer,
		offset: latents.offset,
		size: latentBytes(shape)
	};
	const plan = await previewPlan(model, plans, weights, decoder, shape);
	const scale = decoder === "linear" ? 1 : decoderOf(model, decoder).downscale;
	const picture = decodeOnDevice(model.gpu, plan, first, {
		width: shape.width * scale,
		height: shape.height * scale
	});
	picture.catch(() => {});
	return { picture };
}
/** One image's latents decoded in full: in one piece where that fits, else in bands. */
async function finalPicture(model, plans, weights, latents, shape) {
	const { gpu, vae } = model;
	const options = {
		label: "decoder",
		storage: storageOf(model, vae),
		parameters: vae.weights
	};
	const inBands = () => withRoom(weights.residency, [vae.weights], (form) => decodeInBands(gpu, vae, latents, shape, {
		...options,
		...form
	}));
	if (isTooSliced(gpu, recordDecoder(vae, shape), options.storage)) return inBands();
	let decoding;
	try {
		decoding = await startDecoding(model, plans, weights, "full", latents, shape);
	} catch (error) {
		if (!isTooLarge(error)) throw error;
		return inBands();
	}
	return decoding.picture;
}
/** The decoder's plan for a warm-up; none where pictures of this size are decoded in bands. */
async function wholeDecoderPlan(...of) {
	const [model, , , vae, shape] = of;
	if (isTooSliced(model.gpu, recordDecoder(vae, shape), storageOf(model, vae))) return [];
	try {
		return [await decoderPlan(...of)];
	} catch (error) {
		if (isTooLarge(error)) return [];
		throw error;
	}
}
function decoderOf(model, decoder) {
	return decoder === "tiny" ? model.tiny ?? model.vae : model.vae;
}
function previewPlan(model, plans, weights, decoder, shape) {
	if (decoder === "linear") return linearPlan(model, plans, weights, shape);
	return decoderPlan(model, plans, weights, decoderOf(model, decoder), shape);
}
function denoiserPlan(model, plans, weights, shape) {
	const options = {
		storage: model.activations,
		parameters: weights.unet
	};
	const key = `${weights.key}unet ${JSON.stringify(shape)}`;
	return withRoom(weights.residency, [model.unet.weights], (form) => plans.get(key, () => compileDenoiser(model.gpu, model.unet.config, shape, {
		...options,
		...form
	})));
}
function textEncoderPlans(model, plans, weights) {
	const all = model.encoders.map(({ parameters }) => parameters);
	return model.encoders.map((encoder) => {
		const options = {
			storage: model.activations,
			parameters: weights.encoder(encoder.component)
		};
		const make = () => compileTextEncoder(model.gpu, encoder, options);
		return withRoom(weights.residency, all, () => plans.get(`${weights.key}${encoder.component}`, make));
	});
}
function linearPlan(model, plans, weights, { height, width, channels }) {
	const make = () => compileLinearPreview(model.gpu, model.latentRgb, {
		height,
		width,
		channels
	});
	return withRoom(weights.residency, [], () => plans.get(`linear ${height}×${width}`, make));
}
function decoderPlan(model, plans, weights, vae, { height, width, channels }) {
	const label = vae === model.tiny ? "tiny decoder" : "decoder";
	const options = {
		label,
		storage: storageOf(model, vae),
		parameters: vae.weights
	};
	const size = {
		height,
		width,
		channels
	};
	return withRoom(weights.residency, [vae.weights], (form) => plans.get(`${label} ${height}×${width}`, () => compileDecoder(model.gpu, vae, size, {
		...options,
		...form
	})));
}
function storageOf(model, vae) {
	return vae.forceUpcast ? "f32" : model.activations;
}
async function readLatents(plan, shape) {
	return toNchw(await plan.read("latents"), shape.images, shape.channels, shape.height * shape.width);
}
/** The copy that outlives the denoiser's plan: f32 `[n, h, w, quads of c]`. */
async function readKeptLatents(gpu, kept, shape) {
	const { images, channels, height, width } = shape;
	const padded = new Float32Array((await gpu.read(kept, 0, latentBytes(shape) * images)).buffer);
	const stride = quads(channels) * 4;
	const values = new Float32Array(latentCount(shape));
	for (let row = 0; row < images * height * width; row++) values.set(padded.subarray(row * stride, row * stride + channels), row * channels);
	return toNchw(values, images, channels, height * width);
}
function copyLatents(gpu, from, to, size) {
	const encoder = gpu.device.createCommandEncoder({ label: "latents" });
	encoder.copyBufferToBuffer(from.buffer, from.offset, to, 0, size);
	gpu.device.queue.submit([encoder.finish()]);
}
function toDeviceOrder(values, shape) {
	return toNhwc(values, shape.images, shape.channels, shape.height * shape.width);
}
function latentCount({ images, channels, height, width }) {
	return images * channels * height * width;
}
function concatenate(arrays) {
	const out = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
	let offset = 0;
	for (const array of arrays) {
		out.set(array, offset);
		offset += array.length;
	}
	return out;
}
function stopwatch() {
	const begun = performance.now();
	const times = {
		prompt: 0,
		start: 0,
		denoise: 0,
		preview: 0,
		decode: 0
	};
	let last = begun;
	return {
		lap(phase) {
			const now = performance.now();
			times[phase] += now - last;
			last = now;
		},
		times: () => ({
			...times,
			total: performance.now() - begun
		})
	};
}
//#endregion
//#region src/graph/tuner.ts
/** A turn is as many runs as last this long, in ms. */
const TURN_MS = 20;
const MAX_RUNS = 64;
const TURNS = 3;
/** At so many times the best, a candidate's turns are over. */
const HOPELESS = 4;
/** What a variant has to save to be taken instead of the rule's: less is noise. */
const WORTHWHILE = .03;
/** How far two right answers may be apart, of the largest value: variants sum in other orders, and Winograd's loses a digit. */
const TOLERANCE = {
	f32: .001,
	f16: .02
};
/** What decides how long an operation takes: sizes, window, storage. Operations of one shape take the same variant. */
function shapeOf(operation, target) {
	const { storage } = target;
	if (operation.kind === "group-norm-apply") {
		const { input, statistics, groupChannels } = operation;
		const groups = channelsOf(statistics.input) / groupChannels;
		return `group norm ${partsOf(input).map(channelsOf).join("+")}/${groups} @${pictureOf(input)} ${storage}`;
	}
	if (operation.kind === "attention") {
		const { query, key, heads, head, causal } = operation;
		const images = query.tensor.shape[0];
		const [queries, keys] = [query, key].map(({ tensor }) => rowsOf(tensor) / images);
		return `attention ${images}×${heads}×${head.padded} ${queries}:${keys}${causal ? " causal" : ""} ${storage}`;
	}
	const { picture, virtual, kernel, input, output, weight } = operation;
	const channels = partsOf(input).map(channelsOf).join("+");
	const resized = virtual.height === picture.inHeight && virtual.width === picture.inWidth ? "" : " resized";
	const window = `${kernel.height}×${kernel.width}${kernel.stride > 1 ? `/${kernel.stride}` : ""}`;
	const size = `${picture.images}×${picture.outHeight}×${picture.outWidth}`;
	const held = target.textured?.(weight) ? " texture" : "";
	return `conv ${window} ${channels}→${channelsOf(output)} @${size}${resized} ${storage}, ${target.weights} weights${held}`;
}
/** Images × pixels. */
function pictureOf(tensor) {
	const images = tensor.shape[0];
	return `${images}×${rowsOf(tensor) / images}`;
}
/**
* Times every shape of `parts` that more than one variant can do. `known` shapes are left out; `onShape` is told of each
* one as it is done.
* Throws GPU errors of the rule's own choices, and the signal's reason when it is aborted.
*/
async function tune(gpu, parts, options = {}) {
	const shapes = /* @__PURE__ */ new Map();
	for (const part of parts) {
		const target = targetOf(gpu, part.storage, part.parameters, void 0);
		for (const operation of runnableOperations(gpu, part.recorder, part.storage)) {
			if (!isVaried(operation)) continue;
			const shape = shapeOf(operation, target);
			const seen = shapes.get(shape);
			if (seen) seen.layers++;
			else shapes.set(shape, {
				part,
				operation,
				candidates: candidatesOf(operation, target),
				layers: 1
			});
		}
	}
	const due = [...shapes].filter(([shape, { candidates }]) => candidates.length > 1 && !options.known?.has(shape));
	const tuned = [];
	for (const [shape, { part, operation, candidates, layers }] of due) {
		const times = await timeCandidates(gpu, part, operation, candidates, options.signal);
		const ruled = times[0];
		const fastest = times.reduce((best, next) => next.milliseconds < best.milliseconds ? next : best);
		const result = {
			shape,
			layers,
			candidates: times,
			winner: (fastest.milliseconds < ruled.milliseconds * (1 - WORTHWHILE) ? fastest : ruled).variant
		};
		tuned.push(result);
		options.onShape?.(result, tuned.length, due.length);
	}
	return tuned;
}
/** Takes the remembered winner of an operation's shape; the rule's choice where none is. */
function chooserOf(winners) {
	return (operation, _, target) => winners.get(shapeOf(operation, target));
}
function isVaried(operation) {
	return operation.kind === "convolution" || operation.kind === "attention" || operation.kind === "group-norm-apply";
}
function candidatesOf(operation, target) {
	switch (operation.kind) {
		case "convolution": return convolutionVariants(operation, target);
		case "attention": return attentionVariants(operation, target);
		case "group-norm-apply": return groupNormVariants(operation, target);
		default: return operation;
	}
}
/** What runs for an operation, before a variant is chosen for it. */
function recordedAlone(operation) {
	const operations = operation.kind === "group-norm-apply" ? [operation.statistics, {
		...operation,
		joined: false
	}] : [operation];
	const made = new Set(operations.map(({ output }) => output.id));
	const read = operations.flatMap(readsOf$1).filter(({ id }) => !made.has(id));
	return {
		operations,
		inputs: new Map(read.map((tensor) => [`${tensor.id}`, tensor])),
		states: /* @__PURE__ */ new Map(),
		outputs: new Map([["out", operation.output]])
	};
}
async function timeCandidates(gpu, { storage, parameters }, operation, candidates, signal) {
	const alone = recordedAlone(operation);
	let expected;
	const plans = [];
	try {
		for (const variant of candidates) {
			signal?.throwIfAborted();
			const label = `${variant}: ${operation.name}`;
			let plan;
			try {
				plan = await compile(gpu, alone, {
					label,
					storage,
					parameters,
					choose: () => variant
				});
				await plan.warmUp();
				const answer = await answerOf(plan, alone);
				expected ??= answer;
				if (!isClose(answer, expected, TOLERANCE[storage])) throw new Error(`${label}: answers otherwise`);
				plans.push({
					variant,
					plan,
					runs: 1,
					milliseconds: Number.POSITIVE_INFINITY
				});
			} catch (error) {
				plan?.destroy();
				signal?.throwIfAborted();
				if (expected === void 0 || gpu.lost) throw error;
			}
		}
		for (let turn = 0; turn <= TURNS; turn++) {
			const best = Math.min(...plans.map(({ milliseconds }) => milliseconds));
			for (const candidate of plans) {
				signal?.throwIfAborted();
				if ((turn > 1 || candidate.milliseconds > TURN_MS) && candidate.milliseconds > HOPELESS * best) continue;
				const once = await time(gpu, candidate.plan, candidate.runs);
				if (turn === 0) candidate.runs = Math.min(MAX_RUNS, Math.max(1, Math.ceil(TURN_MS / once)));
				candidate.milliseconds = Math.min(candidate.milliseconds, once);
			}
		}
		return plans.map(({ variant, milliseconds }) => ({
			variant,
			milliseconds
		}));
	} finally {
		for (const { plan } of plans) plan.destroy();
	}
}
/** What comes out where inputs are spread over -1 to 1. */
async function answerOf(plan, { inputs }) {
	for (const [name, { shape }] of inputs) {
		const values = new Float32Array(shape.reduce((product, side) => product * side, 1));
		plan.write(name, values.map((_, index) => Math.sin(index * 12.9898 + index * index * .37)));
	}
	plan.run();
	return await plan.read("out");
}
function isClose(answer, expected, tolerance) {
	const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
	return answer.every((value, index) => Math.abs(value - expected[index]) <= tolerance * largest);
}
/** Milliseconds of one of so many runs. */
async function time(gpu, plan, runs) {
	const begun = performance.now();
	const encoder = gpu.device.createCommandEncoder({ label: plan.label });
	for (let run = 0; run < runs; run++) plan.encode(encoder);
	gpu.device.queue.submit([encoder.finish()]);
	await gpu.idle();
	return (performance.now() - begun) / runs;
}
//#endregion
//#region src/graph/tuning-cache.ts
/**
* What the tuner found, on disk: one small JSON file for each adapter, driver and set of kernels, in the user's cache
* directory. A file of another adapter, driver or version of the kernels has another name and is not looked at; one that
* cannot be read is as good as none, and is written anew.
*/
const schema = object({
	adapter: string(),
	winners: record$1(string(), _enum(VARIANTS))
});
/** Where the winners of this adapter, with these kernels, are kept. */
async function tuningFile(facts, shaders = shaderFolder()) {
	const hash = createHash("sha256");
	const { name, vendor, architecture, description, backend, driver, subgroupMinSize, subgroupMaxSize } = facts;
	hash.update(JSON.stringify([
		name,
		vendor,
		architecture,
		description,
		backend,
		driver
	]));
	hash.update(JSON.stringify([subgroupMinSize, subgroupMaxSize]));
	for (const file of (await readdir(shaders, { recursive: true })).sort()) {
		if (!file.endsWith(".wgsl")) continue;
		hash.update(file);
		hash.update(await readFile(join(shaders, file)));
	}
	return join(cacheDirectory(), "tuning", `${hash.digest("hex").slice(0, 32)}.json`);
}
/** Winning variants by shape; empty where nothing (readable) is remembered. */
async function readWinners(file) {
	try {
		return new Map(Object.entries(schema.parse(JSON.parse(await readFile(file, "utf8"))).winners));
	} catch {
		return /* @__PURE__ */ new Map();
	}
}
/**
* Remembers `winners` beside those that the file has already.
* @throws the system's error where it cannot be written
*/
async function rememberWinners(file, facts, winners) {
	const all = new Map([...await readWinners(file), ...winners]);
	const text = JSON.stringify({
		adapter: facts.name,
		winners: Object.fromEntries(all)
	}, void 0, 1);
	await mkdir(join(file, ".."), { recursive: true });
	const partial = `${file}.${randomUUID()}`;
	try {
		await writeFile(partial, text);
		await rename(partial, file);
	} catch (error) {
		await rm(partial, { force: true });
		throw error;
	}
}
/**
* Has this GPU's plans take the variants that won when `daguerre tune` timed them here, where it has.
* @returns how many shapes are remembered
*/
async function useTuning(gpu) {
	let winners;
	try {
		winners = await readWinners(await tuningFile(gpu.facts));
	} catch {
		return 0;
	}
	if (winners.size > 0) setChoice(gpu, chooserOf(winners));
	return winners.size;
}
/** The kernels' own files, which come with the package; two folders up from here, one up from `dist`. */
function shaderFolder() {
	const here = import.meta.url;
	return fileURLToPath(new URL(`${here.includes("/src/graph/") ? "../../" : "../"}shaders`, here));
}
//#endregion
//#region src/diffusion/tuning.ts
/**
* Tuning for a model: which of its operations can be done by more than one kernel, timed on its own weights where this
* adapter's cache does not know them yet.
*/
/** All that pictures of this size take: text, a guided step and one without guidance, the decoders. */
function tunableParts(model, { width, height, images = 1 }) {
	const { unet, vae, tiny, activations } = model;
	const { downscale, latentChannels: channels } = vae;
	const size = {
		height: Math.floor(height / downscale),
		width: Math.floor(width / downscale),
		channels
	};
	const tokens = model.encoders[0].tokenizer.modelMaxLength;
	const step = (branches) => {
		const shape = {
			...size,
			images,
			branches,
			tokens
		};
		return {
			name: branches === 2 ? "unet, guided" : "unet",
			recorder: recordDenoiser(unet.config, shape),
			storage: activations,
			parameters: unet.weights
		};
	};
	const decoder = (name, of) => ({
		name,
		recorder: recordDecoder(of, size),
		storage: of.forceUpcast ? "f32" : activations,
		parameters: of.weights
	});
	return [
		...model.encoders.map(({ component, recorder, parameters }) => {
			return {
				name: component,
				recorder,
				storage: activations,
				parameters
			};
		}),
		...model.defaults.guidanceScale > 1 && !unet.config.time_cond_proj_dim ? [step(2)] : [],
		step(1),
		decoder("vae", vae),
		...tiny ? [decoder("tiny vae", tiny)] : []
	];
}
/**
* Times what the cache of this adapter lacks of what pictures of this size take, remembers it, and has the plans made from
* now on take the winners. No run may be going on. `onProgress` counts the shapes of one part after the other.
* Throws GPU errors, and the signal's reason when it is aborted; what was timed until then is remembered.
* @returns how many shapes were timed
*/
async function tuneMissing(model, size, options = {}) {
	const { gpu } = model;
	let file;
	try {
		file = await tuningFile(gpu.facts);
	} catch {
		return 0;
	}
	const winners = await readWinners(file);
	let timed = 0;
	for (const part of tunableParts(model, size)) {
		const found = /* @__PURE__ */ new Map();
		const timePart = () => tune(gpu, [part], {
			known: new Set([...winners.keys(), ...found.keys()]),
			signal: options.signal,
			onShape({ shape, winner }, done, total) {
				found.set(shape, winner);
				options.onProgress?.(part.name, done, total);
			}
		});
		try {
			await withRoom(model, [part.parameters], timePart);
		} catch (error) {
			if (!(error instanceof MemoryLimitError)) throw error;
		} finally {
			for (const [shape, winner] of found) winners.set(shape, winner);
			timed += found.size;
			if (found.size > 0) await rememberWinners(file, gpu.facts, found).catch(() => {});
		}
	}
	if (timed === 0) return 0;
	setChoice(gpu, chooserOf(winners));
	model.plans.dropUnused("");
	for (const { weights } of model.components) weights.dropTransformed();
	return timed;
}
//#endregion
//#region src/engine/lora-files.ts
/** The LoRA files that a request means: by path for a program's own request, by name in the server's folder for others. */
/** Throws `RequestError` naming the entry whose file is not there. */
async function loraFiles(loras, folder) {
	return Promise.all(loras.map(async ({ name, path, scale }, index) => {
		if (path !== void 0) return {
			path,
			scale
		};
		if (folder === void 0) throw new RequestError(`loras.${index}.name`, "this server offers no LoRA");
		const file = join(folder, `${name}.safetensors`);
		try {
			await access(file);
		} catch {
			throw new RequestError(`loras.${index}.name`, `'${name}' is not a LoRA of this server`);
		}
		return {
			path: file,
			scale
		};
	}));
}
//#endregion
//#region src/engine/run-queue.ts
function createRunQueue() {
	const line = [];
	return { join() {
		const entry = {};
		const position = () => Math.max(line.indexOf(entry), 0);
		line.push(entry);
		return {
			get position() {
				return position();
			},
			moved(from, signal) {
				return new Promise((resolve, reject) => {
					const abort = () => reject(signal?.reason);
					if (signal?.aborted) return abort();
					if (position() !== from) return resolve();
					signal?.addEventListener("abort", abort, { once: true });
					entry.listener = () => {
						signal?.removeEventListener("abort", abort);
						resolve();
					};
				});
			},
			leave() {
				const at = line.indexOf(entry);
				if (at < 0) return;
				line.splice(at, 1);
				for (const later of line.slice(at)) later.listener?.();
			}
		};
	} };
}
//#endregion
//#region src/engine/scheduler-names.ts
/** Schedulers by the names that requests use: diffusers' classes, and the short forms of the field. */
const SHORT = {
	ddim: "DDIMScheduler",
	euler: "EulerDiscreteScheduler",
	euler_a: "EulerAncestralDiscreteScheduler",
	euler_ancestral: "EulerAncestralDiscreteScheduler",
	lcm: "LCMScheduler",
	"dpm++_2m": "DPMSolverMultistepScheduler",
	dpmpp_2m: "DPMSolverMultistepScheduler",
	pndm: "PNDMScheduler",
	plms: "PNDMScheduler",
	flow_match_euler: "FlowMatchEulerDiscreteScheduler"
};
/** The class of a name, or null where there is none. */
function schedulerClass(name) {
	if (isSchedulerClass(name)) return name;
	return SHORT[name.toLowerCase().replaceAll(" ", "_").replaceAll("-", "_")] ?? null;
}
//#endregion
//#region src/engine/runtime.ts
/**
* The runtime: a model on a device, and runs of it as generators of events.
*
* Requests are checked here, wait for their turn, and are handed to the diffusion pipeline; its steps become the events
* of `events.ts`. Encoding pictures and speaking to clients is for whoever pulls.
*/
/** The model that comes with the package; two folders up from here, in `src` as in `dist`. */
function builtInModel() {
	const here = import.meta.url;
	const root = here.includes("/src/engine/") ? "../../" : "../";
	return fileURLToPath(new URL(`${root}models/landscapes`, here));
}
/**
* Opens a GPU and loads a model onto it.
* Throws `AdapterError` where there is no such adapter, `WeightsError`, `ModelConfigError` or `TokenizerError` for a folder
* that is not a model we can run, `MemoryLimitError` for one that cannot be run within `maxGpuMemory`.
*/
async function createRuntime(options = {}) {
	const gpu = await openGpu({
		adapter: options.adapter,
		maxBytes: options.maxGpuMemory
	});
	try {
		const loading = loadDiffusionModel(gpu, options.model ?? builtInModel(), {
			precision: precisionOn(gpu, options.precision ?? "auto"),
			tinyAutoencoder: options.tinyAutoencoder,
			variant: options.variant,
			onProgress: (what, done, total) => options.onProgress?.({
				what,
				done,
				total
			})
		});
		const [model] = await Promise.all([loading, useTuning(gpu)]);
		return runtimeOf(gpu, model, options);
	} catch (error) {
		gpu.close();
		throw error;
	}
}
/** f16 where a hardware adapter computes with it; a software adapter gains nothing but memory from it. */
function precisionOn(gpu, wanted) {
	if (wanted !== "auto") return wanted;
	return gpu.facts.kind === "hardware" && gpu.facts.features.includes("shader-f16") ? "f16" : "f32";
}
/** Under a limit of memory only where it is asked for: parts of the model would be loaded in turns for it. */
function isToTune(gpu, wanted) {
	return wanted === "auto" ? gpu.facts.kind === "hardware" && gpu.maxBytes === void 0 : wanted === "on";
}
function runtimeOf(gpu, model, options) {
	const queue = createRunQueue();
	const closing = new AbortController();
	const { defaults } = model;
	async function* run(input, { signal, takeUpdate }) {
		let request = parseGeneration(input);
		const pipelineRequest = await toPipelineRequest(model, request, options);
		const stop = signal ? AbortSignal.any([signal, closing.signal]) : closing.signal;
		stop.throwIfAborted();
		const change = () => {
			const update = takeUpdate?.();
			if (update === void 0) return void 0;
			const { prompt = request.prompt, negative_prompt = request.negative_prompt } = update;
			request = {
				...request,
				prompt,
				negative_prompt
			};
			const { guidance_scale: guidanceScale } = update;
			return {
				prompt,
				negativePrompt: negative_prompt,
				...guidanceScale !== void 0 && { guidanceScale }
			};
		};
		const begun = performance.now();
		const turn = queue.join();
		try {
			for (let position = turn.position; position > 0; position = turn.position) {
				yield {
					type: "queued",
					position
				};
				await turn.moved(position, stop);
			}
			for await (const event of generate(model, pipelineRequest, {
				signal: stop,
				takeUpdate: change
			})) yield toRunEvent(event, request, pipelineRequest, begun);
		} catch (error) {
			throw toRequestError(error, request);
		} finally {
			turn.leave();
		}
	}
	async function warm({ width, height, guidance_scale, num_images } = {}) {
		const turn = queue.join();
		try {
			for (let position = turn.position; position > 0; position = turn.position) await turn.moved(position, closing.signal);
			const shape = {
				width: width ?? defaults.width,
				height: height ?? defaults.height,
				guidanceScale: guidance_scale ?? defaults.guidanceScale,
				images: num_images
			};
			if (isToTune(gpu, options.tune ?? "auto")) await tuneMissing(model, shape, {
				signal: closing.signal,
				onProgress: (part, done, total) => options.onProgress?.({
					what: `tuning ${part}`,
					done,
					total
				})
			});
			await warmUp(model, shape, {
				signal: closing.signal,
				onProgress: (done, total) => options.onProgress?.({
					what: "kernels",
					done,
					total
				})
			});
		} catch (error) {
			throw toRequestError(error);
		} finally {
			turn.leave();
		}
	}
	return {
		adapter: gpu.facts,
		model: {
			name: model.name,
			defaultWidth: defaults.width,
			defaultHeight: defaults.height,
			defaultSteps: defaults.steps,
			defaultGuidanceScale: defaults.guidanceScale,
			fewStep: model.fewStep && {
				steps: model.fewStep.steps,
				guidanceScale: model.fewStep.guidanceScale
			}
		},
		device: {
			get lost() {
				return gpu.lost;
			},
			get memoryBytes() {
				return gpu.memory.bytes;
			},
			get peakMemoryBytes() {
				return gpu.memory.peakBytes;
			}
		},
		warmUp: warm,
		countTokens: (text) => model.encoders[0]?.tokenizer.encode(text).tokenCount ?? 0,
		textToImage: (input, options = {}) => run(input, options),
		imageToImage: (input, options = {}) => run(input, options),
		async close() {
			closing.abort(new DOMException("The runtime was closed", "AbortError"));
			await gpu.idle().catch(() => {});
			model.destroy();
			gpu.close();
		}
	};
}
/** A checked request with what the model decides filled in. */
async function toPipelineRequest(model, request, options) {
	const { defaults } = model;
	const width = request.width ?? defaults.width;
	const height = request.height ?? defaults.height;
	const scheduler = request.scheduler === void 0 ? void 0 : schedulerClass(request.scheduler);
	if (scheduler === null) throw new RequestError("scheduler", `'${request.scheduler}' is not a scheduler of this server`);
	const fewStep = request.few_step ? model.fewStep : void 0;
	if (request.few_step && fewStep === void 0) throw new RequestError("few_step", "this model has no few-step variant");
	return {
		prompt: request.prompt,
		negativePrompt: request.negative_prompt,
		width,
		height,
		steps: request.num_inference_steps ?? fewStep?.steps ?? defaults.steps,
		guidanceScale: request.guidance_scale ?? fewStep?.guidanceScale ?? defaults.guidanceScale,
		fewStep: request.few_step,
		seed: request.seed ?? randomInt(2 ** 48 - 1),
		generator: request.generator,
		images: request.num_images,
		loras: await loraFiles(request.loras, options.loraFolder),
		scheduler: scheduler === void 0 ? fewStep && fewStepScheduler(model) : { className: scheduler },
		image: request.image && await picture(request.image, {
			width,
			height
		}),
		strength: request.strength,
		previewEvery: request.preview_every,
		previewDecoder: request.preview_decoder
	};
}
/** Loads what decodes pictures when the first one comes: whoever sends none does not wait for it. */
async function picture(bytes, size) {
	const { decodePicture } = await import("./decode-CkTcT3Li.js");
	return decodePicture(bytes, size);
}
/** What the variant was taught with. */
function fewStepScheduler({ scheduler }) {
	return {
		className: "DDIMScheduler",
		config: {
			...scheduler.config,
			timestep_spacing: "trailing"
		}
	};
}
function toRunEvent(event, request, run, begun) {
	switch (event.type) {
		case "step": {
			const { step, steps } = event;
			return {
				type: "progress",
				step,
				steps,
				progress: step / steps,
				elapsed_ms: Math.round(performance.now() - begun)
			};
		}
		case "preview": {
			const { step, steps, decoder, picture } = event;
			return {
				type: "preview",
				picture,
				step,
				steps,
				progress: step / steps,
				decoder
			};
		}
		case "result": {
			const timings = Object.fromEntries(Object.entries(event.timings).map(([phase, ms]) => [phase, Math.round(ms)]));
			const warnings = event.warnings.length > 0 ? event.warnings : void 0;
			return {
				type: "result",
				pictures: event.pictures,
				seed: run.seed,
				prompt: request.prompt,
				timings,
				warnings
			};
		}
		default: return event;
	}
}
/**
* Errors about the request name its field; all others pass through. Weights are at fault only where a LoRA does not fit, be
* it the request's or a variant of the model: the model itself was checked when it was loaded.
*/
function toRequestError(error, request) {
	if (error instanceof PipelineError) return new RequestError(error.field, error.message.slice(error.field.length + 2));
	if (error instanceof WeightsError) return new RequestError(request && request.loras.length === 0 ? request.few_step ? "few_step" : "width" : "loras", error.message);
	if (error instanceof SchedulerError) return new RequestError("scheduler", error.message);
	return error;
}
//#endregion
export { readWinners as a, useTuning as c, warmUp as d, compileDecoder as f, WeightsError as g, openGpu as h, tunableParts as i, tune as l, compileDenoiser as m, createRuntime as n, rememberWinners as o, loadDiffusionModel as p, precisionOn as r, tuningFile as s, builtInModel as t, generate as u };

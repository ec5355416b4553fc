import { _ as createJobs, a as createAuthenticator, b as bytesOf, c as principalOf, d as DEFAULT_MAX_BODY_BYTES, f as inputSource, h as readInput, l as tokenRequestSchema, m as readBody, n as jobsOf, o as guard, p as parseJson, r as submit, s as ownerOf, t as RESUME, u as tokenRoute, x as JobError } from "./source-BBcLZrFz.js";
import { A as record, C as boolean, D as looseObject, E as literal, F as url, I as ZodError, L as toJSONSchema, M as string, O as number, P as union, R as _isoDateTime, S as array, T as int, a as parseRemoteGeneration, b as _instanceof, c as updateSchema, k as object, l as RequestError, m as ZodISODateTime, n as LIMITS, o as parseUpdate, r as generationSchema, s as requestIssues, w as discriminatedUnion, y as _enum } from "./request-Cv9RgteD.js";
import { t as ImageError } from "./errors-m-nzPjBD.js";
import { r as encodePicture } from "./encode-DEou0K_K.js";
import { Hono } from "hono";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { setTimeout as setTimeout$1 } from "node:timers/promises";
import { HTTPException } from "hono/http-exception";
import { html, raw } from "hono/html";
import { every } from "hono/combine";
import { secureHeaders } from "hono/secure-headers";
import { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";
import { SpanKind, SpanStatusCode, context, propagation, trace } from "@opentelemetry/api";
import { matchedRoutes } from "hono/route";
import { cors } from "hono/cors";
import { readFile, readdir } from "node:fs/promises";
import dns from "node:dns/promises";
import http, { createServer } from "node:http";
import https from "node:https";
import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { constants } from "node:http2";
import { AsyncLocalStorage } from "node:async_hooks";
import { createAdaptorServer, getRequestListener, upgradeWebSocket } from "@hono/node-server";
import { Packr, Unpackr } from "msgpackr";
import { WebSocketServer } from "ws";
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
//#region node_modules/zod/v4/classic/iso.js
function datetime(params) {
	return _isoDateTime(ZodISODateTime, params);
}
//#endregion
//#region transports/address.ts
/** The whole of it: an app that is mounted below a path is itself shown only the rest. */
function wholeAddress(c) {
	const url = new URL(c.req.url);
	const { originalUrl, url: asked } = c.env?.incoming ?? {};
	const path = originalUrl ?? asked;
	if (path?.startsWith("/") && URL.canParse(url.origin + path)) url.pathname = new URL(url.origin + path).pathname;
	return url;
}
//#endregion
//#region transports/docs.ts
/**
* `GET /docs`: the OpenAPI document as one page, made here. No script, nothing from elsewhere: it can be read behind any
* policy, printed, and searched with the browser's own search.
*/
const STYLE = `
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-weight: 600; margin: 0; }
h2 { margin-top: 3rem; text-transform: capitalize; }
details { border-top: 1px solid var(--line); padding: .6rem 0; }
summary { cursor: pointer; }
code { font: .9em/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.method { display: inline-block; min-width: 4.2em; font-weight: 600; text-transform: uppercase; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
`;
const HEADERS = {
	"Content-Type": "text/html; charset=utf-8",
	"Content-Security-Policy": `default-src 'none'; style-src 'sha256-${createHash("sha256").update(STYLE).digest("base64")}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`
};
/** The page, for the document that `openapiDocument` makes. */
async function docsPage(document) {
	const { info, paths, components } = document;
	const operations = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({
		path,
		method,
		operation
	})));
	const tags = [...new Set(operations.flatMap(({ operation }) => operation.tags))];
	const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${info.title} ${info.version}</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<h1>${info.title} ${info.version}</h1>
<p>${info.description} The same for machines: <a href="/openapi.json">openapi.json</a>.</p>
${tags.map((tag) => html`<h2>${tag}</h2>
${operations.filter(({ operation }) => operation.tags.includes(tag)).map(route$1)}`)}
<h2>Schemas</h2>
${Object.entries(components.schemas).map(([name, schema]) => html`<details id="${name}"><summary><code>${name}</code></summary>${fields(schema)}</details>
`)}
</body>
</html>
`;
	return new Response(String(await page), { headers: HEADERS });
}
function route$1({ path, method, operation }) {
	const { summary, parameters = [], requestBody, responses } = operation;
	return html`<details><summary><code><span class="method">${method}</span> ${path}</code> — ${summary}</summary>
${requestBody === void 0 ? "" : html`<p>Body: ${Object.entries(requestBody.content).map(([type, { schema }]) => html`${named(schema)} as <code>${type}</code>`)}</p>`}
${parameters.length === 0 ? "" : html`<div class="scroll"><table><tr><th>parameter</th><th>in</th><th>meaning</th></tr>${parameters.map(({ name, in: where, description }) => html`<tr><td><code>${name}</code></td><td>${where}</td><td>${description}</td></tr>`)}</table></div>`}
<div class="scroll"><table><tr><th>answer</th><th>meaning</th><th>body</th></tr>${Object.entries(responses).map(([status, { description, content = {} }]) => html`<tr><td>${status}</td><td>${description}</td><td>${Object.entries(content).map(([type, { schema }]) => html`${named(schema)} <code>${type}</code> `)}</td></tr>`)}</table></div>
</details>
`;
}
function named(schema) {
	const name = nameOf(schema);
	return name === void 0 ? "" : html`<a href="#${name}">${name}</a>`;
}
function nameOf({ $ref }) {
	return typeof $ref === "string" ? $ref.split("/").at(-1) : void 0;
}
function fields(schema) {
	const variants = schema.oneOf ?? schema.anyOf;
	if (variants !== void 0) return html`${variants.map((variant) => table(variant))}`;
	return table(schema);
}
function table(schema) {
	const { properties = {}, required = [] } = schema;
	return html`<div class="scroll"><table><tr><th>field</th><th>type</th><th>default</th></tr>${Object.entries(properties).map(([name, field]) => html`<tr><td><code>${name}</code>${required.includes(name) ? " (required)" : ""}</td><td>${typeText(field)}${typeof field.description === "string" ? ` — ${field.description}` : ""}</td><td>${field.default === void 0 ? "" : html`<code>${JSON.stringify(field.default)}</code>`}</td></tr>`)}</table></div>`;
}
/** A type in words: `integer, 1 to 200`. */
function typeText(field) {
	const { type, enum: values, const: constant, items, anyOf, oneOf, minimum, maximum, maxLength, multipleOf, $ref } = field;
	if (typeof $ref === "string") return nameOf(field) ?? "";
	if (constant !== void 0) return JSON.stringify(constant);
	if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(", ");
	const variants = anyOf ?? oneOf;
	if (variants !== void 0) return variants.map(typeText).join(" or ");
	if (type === "array") return `list of ${typeText(items ?? {})}`;
	const range = minimum !== void 0 || maximum !== void 0 ? `, ${minimum ?? "…"} to ${maximum ?? "…"}` : maxLength !== void 0 ? `, at most ${maxLength} characters` : "";
	return `${String(type ?? "any")}${range}${multipleOf === void 0 ? "" : `, a multiple of ${multipleOf}`}`;
}
function failureOf(error, source = "body") {
	if (error instanceof RequestError) return unprocessable(error.issues, source);
	if (error instanceof ZodError) return unprocessable(requestIssues(error), source);
	if (error instanceof ImageError) return unprocessable([{
		path: ["image"],
		message: error.message,
		type: error.code
	}], source);
	if (error instanceof HTTPException) return {
		status: error.status,
		detail: error.message
	};
	if (error instanceof Error) {
		if (error.name === "AbortError") return {
			status: 499,
			detail: "Cancelled"
		};
		if (error.name === "TimeoutError") return {
			status: 504,
			detail: "Timed out"
		};
		const { status, retryAfter } = error;
		if (typeof status === "number" && status >= 400 && status <= 599) return {
			status,
			detail: error.message,
			retryAfter: typeof retryAfter === "number" ? retryAfter : void 0
		};
	}
	return {
		status: 500,
		detail: "Internal error"
	};
}
function unprocessable(issues, source) {
	return {
		status: 422,
		detail: issues.map(({ path, message, type }) => ({
			loc: [source, ...path],
			msg: message,
			type
		}))
	};
}
/** A failure before any event was sent: a JSON answer with its status. */
function failureResponse(failure, headers = {}) {
	const { status, detail, retryAfter } = failure;
	return Response.json({ detail }, {
		status,
		headers: retryAfter === void 0 ? headers : {
			...headers,
			"Retry-After": String(retryAfter)
		}
	});
}
//#endregion
//#region transports/limits.ts
/**
* Refuses a request that is over a limit.
*
* @param usual what a request gets that leaves size and steps out
* @throws RequestError naming every field at fault
*/
function checkGeneration(request, limits, usual) {
	const issues = [];
	const check = (field, value, limit, what) => {
		if (limit !== void 0 && value > limit) issues.push({
			path: [field],
			message: `${what} should be at most ${limit} on this server`,
			type: "less_than_equal"
		});
	};
	check("prompt", request.prompt.length, limits.promptCharacters, "Characters");
	check("negative_prompt", request.negative_prompt.length, limits.promptCharacters, "Characters");
	const { width = usual?.defaultWidth ?? 0, height = usual?.defaultHeight ?? 0 } = request;
	check("width", width * height, limits.pixels, "Width times height");
	const { num_inference_steps: steps = request.few_step ? 0 : usual?.defaultSteps ?? 0 } = request;
	check("num_inference_steps", steps, limits.steps, "Steps");
	check("num_images", request.num_images, limits.images, "Pictures");
	const [first] = issues;
	if (first !== void 0) throw new RequestError(first.path.join("."), first.message, issues);
}
/** The client's address; what clients themselves wrote into `X-Forwarded-For` is not believed. */
function addressOf$1(c, proxies) {
	const forwarded = proxies === 0 ? [] : (c.req.header("x-forwarded-for") ?? "").split(",").map((part) => part.trim());
	const socket = c.env?.incoming?.socket?.remoteAddress ?? "unknown";
	return forwarded.at(-proxies) || socket;
}
/** What limits are counted by. */
function clientOf(c, proxies) {
	const { name } = principalOf(c);
	return name === "anonymous" ? `address:${addressOf$1(c, proxies)}` : `key:${name.split("/")[0]}`;
}
const WINDOW_S = 60;
/**
* So many requests in a window of a minute that begins with a client's first; more are 429 with `Retry-After`. All
* answers say what is left, in the fields of draft-ietf-httpapi-ratelimit-headers.
*/
function rateLimit({ requestsPerMinute, proxies, counts, refuse }) {
	const limiter = new RateLimiterMemory({
		points: requestsPerMinute,
		duration: WINDOW_S
	});
	const headers = ({ remainingPoints, msBeforeNext }) => ({
		"RateLimit-Policy": `"default";q=${requestsPerMinute};w=${WINDOW_S}`,
		RateLimit: `"default";r=${Math.max(0, remainingPoints)};t=${Math.ceil(msBeforeNext / 1e3)}`
	});
	return async (c, next) => {
		if (!counts(c.req.path, c.req.method)) return next();
		let left;
		try {
			left = await limiter.consume(clientOf(c, proxies));
		} catch (over) {
			if (!(over instanceof RateLimiterRes)) throw over;
			const retryAfter = Math.max(1, Math.ceil(over.msBeforeNext / 1e3));
			const response = refuse(c, {
				status: 429,
				detail: `Too many requests: at most ${requestsPerMinute} a minute; try again in ${retryAfter} s`,
				retryAfter
			});
			for (const [name, value] of Object.entries(headers(over))) response.headers.set(name, value);
			return response;
		}
		await next();
		for (const [name, value] of Object.entries(headers(left))) c.res.headers.set(name, value);
	};
}
/** Counts sessions from their upgrade to the end of their socket; one too many is 429 before it is upgraded. */
function sessionLimit({ sessions, proxies, refuse }) {
	const live = /* @__PURE__ */ new Map();
	return async (c, next) => {
		const socket = c.env?.incoming?.socket;
		if (c.req.header("upgrade")?.toLowerCase() !== "websocket" || socket === void 0) return next();
		const client = clientOf(c, proxies);
		const open = live.get(client) ?? 0;
		if (open >= sessions) return refuse(c, {
			status: 429,
			detail: `At most ${sessions} sessions at a time`,
			retryAfter: 1
		});
		live.set(client, open + 1);
		socket.once("close", () => {
			const left = (live.get(client) ?? 1) - 1;
			if (left > 0) live.set(client, left);
			else live.delete(client);
		});
		await next();
	};
}
//#endregion
//#region transports/openai-request.ts
/**
* What a client of OpenAI's images API asks for, as a generation request.
*
* Format: https://platform.openai.com/docs/api-reference/images. Three things differ by nature and are mapped here:
* sizes (theirs are fixed; a model has its own area), quality (theirs is a word; ours is a number of steps) and partial
* images (theirs is how many; ours is how many steps lie between two). Fields of ours that theirs lacks (`seed`,
* `num_inference_steps`, …) may be sent beside them.
*/
const shared = {
	prompt: string().max(LIMITS.promptCharacters),
	/** The served model, or any of OpenAI's own names, which then mean it. */
	model: string().max(256).optional(),
	n: int().min(1).max(LIMITS.images).default(1),
	/** `auto` is the model's own; a larger one is brought to the model's area, its shape kept. */
	size: string().regex(/^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$/, "must be auto, or WIDTHxHEIGHT in pixels, as 1024x1024").default("auto"),
	/** `low` halves the model's steps, `high` doubles them. */
	quality: _enum([
		"auto",
		"low",
		"medium",
		"high",
		"standard",
		"hd"
	]).default("auto"),
	stream: boolean().default(false),
	partial_images: int().min(0).max(3).default(0),
	output_format: _enum([
		"png",
		"jpeg",
		"webp"
	]).default("png"),
	/** Quality of JPEG and WebP. */
	output_compression: int().min(0).max(100).default(95),
	/** `url` answers with a data URI: nothing is kept on the server to be fetched later. */
	response_format: _enum(["b64_json", "url"]).default("b64_json"),
	background: _enum(["auto", "opaque"], { error: "must be auto or opaque; no picture is transparent here" }).default("auto"),
	negative_prompt: string().optional(),
	num_inference_steps: number().optional(),
	guidance_scale: number().optional(),
	seed: union([number(), string()]).optional(),
	scheduler: string().optional()
};
/** The body of `POST /v1/images/generations`. Unknown fields (`user`, `moderation`, `style`) are ignored. */
const imageGenerationSchema = object(shared);
/** The form of `POST /v1/images/edits`; `image` may also be called `image[]`. */
const imageEditSchema = object({
	...shared,
	/** The picture to start from: JPEG, PNG or WebP. */
	image: _instanceof(Uint8Array, { error: "must be one picture file" }),
	strength: number().optional()
});
/**
* Checks what a client sent and maps it.
*
* @param raw a JSON value, or a form's fields with their types restored (`fieldsOfForm`)
* @throws ZodError, RequestError
*/
function parseImagesRequest(raw, schema, served) {
	const asked = schema.parse(withoutNulls(raw), { reportInput: true });
	refuseOtherModel(asked.model, served);
	const steps = asked.num_inference_steps ?? stepsOf(asked.quality, served.defaultSteps);
	const strength = asked.image === void 0 ? 1 : asked.strength ?? .8;
	const stepsRun = Math.max(1, Math.floor(steps * strength));
	const partialImages = asked.stream ? asked.partial_images : 0;
	return {
		generation: parseRemoteGeneration({
			prompt: asked.prompt,
			negative_prompt: asked.negative_prompt,
			...sizeOf(asked.size, served),
			num_inference_steps: steps,
			guidance_scale: asked.guidance_scale,
			seed: asked.seed,
			scheduler: asked.scheduler,
			num_images: asked.n,
			image: asked.image,
			strength: asked.image === void 0 ? void 0 : strength,
			preview_every: partialImages === 0 ? 0 : Math.max(1, Math.floor(stepsRun / (partialImages + 1))),
			output_format: asked.output_format
		}),
		stream: asked.stream,
		partialImages,
		quality: asked.quality === "standard" ? "medium" : asked.quality === "hd" ? "high" : asked.quality,
		compression: Math.max(1, asked.output_compression),
		responseFormat: asked.response_format
	};
}
/** Clients have these built in; refusing them would refuse the clients. */
const OPENAI_MODELS = /^(gpt-image-|dall-e-|chatgpt-image-)/;
function refuseOtherModel(model, served) {
	if (model === void 0 || model === served.name || OPENAI_MODELS.test(model)) return;
	throw new RequestError("model", `The model '${model}' is not served here; '${served.name}' is`, [{
		path: ["model"],
		message: `The model '${model}' is not served here; '${served.name}' is`,
		type: "model_not_found"
	}]);
}
function stepsOf(quality, usual) {
	if (quality === "low") return Math.ceil(usual / 2);
	if (quality === "high" || quality === "hd") return Math.min(usual * 2, LIMITS.steps);
	return usual;
}
/**
* The size to draw for a size asked for, in pixels. One that the model can draw is taken as it is; others keep their
* shape and get the model's area, on a grid as coarse as the UNet's lowest level (an eighth of the model's side, 64 at
* most), because off it the edges of pictures suffer first.
*/
function sizeOf(size, served) {
	const { defaultWidth, defaultHeight } = served;
	if (size === "auto") return {
		width: defaultWidth,
		height: defaultHeight
	};
	const [width, height] = size.split("x").map(Number);
	const area = defaultWidth * defaultHeight;
	const grid = Math.min(64, Math.max(LIMITS.sideMultiple, 8 * Math.floor(Math.min(defaultWidth, defaultHeight) / 64)));
	const fits = (side) => side % grid === 0 && side >= LIMITS.minSide && side <= LIMITS.maxSide;
	if (fits(width) && fits(height) && width * height <= area) return {
		width,
		height
	};
	const scale = Math.sqrt(area / (width * height));
	const onGrid = (side) => Math.min(LIMITS.maxSide, Math.max(LIMITS.minSide, grid * Math.max(1, Math.round(side * scale / grid))));
	return {
		width: onGrid(width),
		height: onGrid(height)
	};
}
const NUMBERS = new Set([
	"n",
	"partial_images",
	"output_compression",
	"num_inference_steps",
	"guidance_scale",
	"strength"
]);
/**
* A form's fields with the types that JSON would have given them: a form holds only strings and files.
*
* @throws RequestError for more pictures than one, and for a mask
*/
async function fieldsOfForm(form) {
	const fields = {};
	const pictures = [];
	for (const [name, value] of form) if (typeof value !== "string") {
		if (name === "image" || /^image\[\d*\]$/.test(name)) pictures.push(value);
		else if (name === "mask") throw new RequestError("mask", "masks are not supported; leave it out to redraw the whole");
	} else if (name === "stream") fields[name] = value === "true" ? true : value === "false" ? false : value;
	else if (NUMBERS.has(name)) fields[name] = value.trim() === "" || Number.isNaN(Number(value)) ? value : Number(value);
	else fields[name] = value;
	if (pictures.length > 1) throw new RequestError("image", "must be one picture; several cannot be combined here");
	if (pictures[0] !== void 0) fields.image = new Uint8Array(await pictures[0].arrayBuffer());
	return fields;
}
function withoutNulls(value) {
	if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
	return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null));
}
//#endregion
//#region transports/tracing.ts
/**
* A request as OpenTelemetry spans: request → job → step, decode, encode. Only the API is used here, which does nothing
* until somebody registers an SDK (`src/cli/telemetry.ts`).
*
* A picture is encoded when a client's socket has room, long after the code that made it has returned; so the job's span
* is found by the job's id there, not by the call stack.
*/
const tracer = trace.getTracer("daguerre");
/** Jobs whose pictures may still be encoded; the oldest is forgotten first. */
const REMEMBERED_JOBS = 1e3;
const jobs = /* @__PURE__ */ new Map();
/** A span around each request; it ends when the answer's headers are ready, since a stream may last for hours. */
const tracedRequests = (c, next) => {
	const caller = propagation.extract(context.active(), Object.fromEntries(c.req.raw.headers));
	const options = {
		kind: SpanKind.SERVER,
		attributes: {
			"http.request.method": c.req.method,
			"url.path": c.req.path
		}
	};
	return tracer.startActiveSpan(`${c.req.method} ${c.req.path}`, options, caller, async (span) => {
		try {
			await next();
			const route = matchedRoutes(c).findLast(({ path }) => !path.endsWith("*"))?.path;
			if (route !== void 0) span.setAttribute("http.route", route).updateName(`${c.req.method} ${route}`);
			span.setAttribute("http.response.status_code", c.res.status);
			const id = c.res.headers.get("x-request-id");
			if (id !== null) span.setAttribute("daguerre.request_id", id);
			if (c.res.status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
		} finally {
			span.end();
		}
	});
};
/** Where each waiting job was submitted, so that its span is inside its request's wherever it is started from. */
const submitted = /* @__PURE__ */ new Map();
/** Remembers, for each job, the request that submitted it. */
function traceSubmissions(jobs) {
	jobs.observe((job, change) => {
		if (change === "submitted" && trace.getSpan(context.active()) !== void 0) submitted.set(job.id, context.active());
		if (change === "ended") submitted.delete(job.id);
	});
}
/** A span for each job, and one inside it for each step and each decoded preview. */
const tracedJobs = (_, { requestId }) => {
	const parent = submitted.get(requestId) ?? context.active();
	const span = tracer.startSpan("job", { attributes: { "daguerre.request_id": requestId } }, parent);
	const inside = trace.setSpan(parent, span);
	if (span.isRecording()) remember(requestId, inside);
	return {
		event(event, began, ms) {
			if (!span.isRecording()) return;
			const { type, step, decoder } = event ?? {};
			if (type === "queued") span.addEvent("queued");
			const name = type === "progress" ? "step" : type === "preview" || type === "result" ? "decode" : void 0;
			if (name === void 0) return;
			const startTime = performance.timeOrigin + began;
			const attributes = {
				...step !== void 0 && { step },
				...decoder !== void 0 && { decoder }
			};
			tracer.startSpan(name, {
				startTime,
				attributes
			}, inside).end(startTime + ms);
		},
		ended(outcome, error) {
			span.setAttribute("daguerre.outcome", outcome);
			if (outcome === "failed") {
				span.setStatus({ code: SpanStatusCode.ERROR });
				if (error instanceof Error) span.recordException(error);
			}
			span.end();
		}
	};
};
/** Runs `work` inside an `encode` span of a job. */
async function tracedEncode(requestId, work) {
	const inside = jobs.get(requestId);
	if (inside === void 0) return work();
	const span = tracer.startSpan("encode", {}, inside);
	try {
		return await work();
	} finally {
		span.end();
	}
}
function remember(requestId, inside) {
	jobs.set(requestId, inside);
	if (jobs.size > REMEMBERED_JOBS) jobs.delete(jobs.keys().next().value);
}
//#endregion
//#region transports/wire.ts
function asDataUri({ bytes, content_type, width, height }) {
	return {
		url: `data:${content_type};base64,${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")}`,
		content_type,
		width,
		height
	};
}
/**
* Reads from an input what its events are to carry. An input without usable ids gets a fresh `request_id`.
*/
function envelopeOf(input) {
	const fields = typeof input === "object" && input !== null ? input : {};
	const { request_id, input_id } = fields;
	const number = (name, max) => {
		const value = fields[name];
		return typeof value === "number" && value > 0 && value <= max ? value : void 0;
	};
	return {
		requestId: typeof request_id === "string" && /^[\w.:-]{1,128}$/.test(request_id) ? request_id : crypto.randomUUID(),
		inputId: typeof input_id === "string" ? input_id : void 0,
		format: formatOf(fields.output_format) ?? "jpeg",
		previews: {
			format: formatOf(fields.preview_format),
			quality: number("preview_quality", 100),
			size: number("preview_size", 4096),
			maxFps: number("preview_max_fps", 1e3)
		}
	};
}
function formatOf(value) {
	return value === "png" || value === "webp" || value === "jpeg" ? value : void 0;
}
/** The headers by which a client learns its job's id, before any event and on errors too. */
function idHeaders(envelope) {
	return {
		"x-request-id": envelope.requestId,
		"x-fal-request-id": envelope.requestId
	};
}
/**
* Encodes the pictures of an event: `picture` becomes `image`; `pictures` becomes `images`, with the first as `image`.
* Previews are JPEG at preview quality. A value that is not an object travels as `{type: "output", output}`.
*/
async function wireEvent(event, envelope, carry = asDataUri) {
	const ids = {
		request_id: envelope.requestId,
		...envelope.inputId && { input_id: envelope.inputId }
	};
	if (typeof event !== "object" || event === null || Array.isArray(event)) return {
		type: "output",
		output: event,
		...ids
	};
	const { picture, pictures, ...rest } = event;
	const encode = async (one) => {
		const { format, quality = 70, size } = envelope.previews;
		const options = rest.type === "preview" ? {
			format,
			quality,
			maxSide: size
		} : {
			format: envelope.format,
			quality: 95
		};
		return carry(await tracedEncode(envelope.jobId ?? envelope.requestId, () => encodePicture(one, options)));
	};
	const wire = { ...rest };
	if (isPicture(picture)) wire.image = await encode(picture);
	else if (picture !== void 0) wire.picture = picture;
	if (Array.isArray(pictures) && pictures.every(isPicture)) {
		wire.images = await Promise.all(pictures.map(encode));
		wire.image ??= wire.images[0];
	} else if (pictures !== void 0) wire.pictures = pictures;
	return {
		...wire,
		...ids
	};
}
/** The last event of a failed run. */
function errorEvent(failure, envelope) {
	return {
		type: "error",
		detail: failure.detail,
		status: failure.status,
		...failure.retryAfter !== void 0 && { retry_after: failure.retryAfter },
		request_id: envelope.requestId,
		...envelope.inputId && { input_id: envelope.inputId }
	};
}
function isPicture(value) {
	const { width, height, rgba } = value ?? {};
	return typeof width === "number" && typeof height === "number" && rgba instanceof Uint8Array;
}
/**
* JSON of ASCII alone (`\uXXXX`): fal's client decodes chunk by chunk and spoils a character that falls between two.
* A bigint (a seed beyond 2^53) becomes a decimal string.
*/
function asciiJson(value) {
	return JSON.stringify(value, (_, field) => typeof field === "bigint" ? field.toString() : field).replace(/[\u007f-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
//#endregion
//#region transports/openai.ts
/**
* OpenAI's images API over jobs: `app.route("/v1", openaiImages(jobs, options))`.
*
* Format: https://platform.openai.com/docs/api-reference/images-streaming. Unlike the rest of this server's streams, an
* event has an `event:` line, its type, and a failure in mid-stream is an `error` event with the error body; that is
* what the client expects. The client repeats 408, 409, 429 and 5xx twice unless told not to, and a picture that failed
* once fails again, so only "busy" may be repeated.
*/
const HEARTBEAT_MS$2 = 15e3;
/** As in `sse.ts`: a run that fails within them is answered with a status. */
const HEADERS_WITHIN_MS$1 = 100;
const HEARTBEAT = new TextEncoder().encode(": ping\n");
/** `POST /images/generations` and `POST /images/edits`. */
function openaiImages(jobs, options) {
	const { model, maxBodyBytes = DEFAULT_MAX_BODY_BYTES } = options;
	const app = new Hono();
	app.post("/images/generations", (c) => answer(c, "image_generation", jobs, options, async () => {
		return parseImagesRequest(parseJson((await readBody(c.req.raw, maxBodyBytes)).toString("utf8")), imageGenerationSchema, model);
	}));
	app.post("/images/edits", (c) => answer(c, "image_edit", jobs, options, async () => {
		return parseImagesRequest(await fieldsOfForm(await readForm(c, maxBodyBytes)), imageEditSchema, model);
	}));
	return app;
}
async function readForm(c, limit) {
	const type = c.req.header("content-type") ?? "";
	const bytes = await readBody(c.req.raw, limit);
	try {
		return await new Response(bytes, { headers: { "Content-Type": type } }).formData();
	} catch {
		throw new HTTPException(400, { message: "The body is not a multipart/form-data form" });
	}
}
async function answer(c, kind, jobs, options, read) {
	let envelope = envelopeOf(void 0);
	const fail = (error) => {
		const failure = failureOf(error);
		if (failure.status >= 500) options.onError?.(error, envelope.requestId);
		return failure;
	};
	try {
		const request = await read();
		options.allowed?.(request.generation);
		envelope = envelopeOf(request.generation);
		const { prompt, negative_prompt } = request.generation;
		const tokens = options.countTokens(prompt) + (negative_prompt === "" ? 0 : options.countTokens(negative_prompt));
		const job = submit(c, jobs, request.generation, { ownerOf }, { id: envelope.requestId });
		const answered = {
			c,
			kind,
			request,
			envelope,
			tokens,
			reader: readerOf(c, job),
			fail
		};
		return request.stream ? await stream$1(answered) : await whole(answered);
	} catch (error) {
		return openaiFailure(fail(error), idHeaders(envelope));
	}
}
/** A reader of the job that leaves when the client does; the job is cancelled then, since nothing here resumes. */
function readerOf(c, job) {
	const reader = job.watch({ graceMs: 0 });
	const client = c.req.raw.signal;
	if (client.aborted) reader.close();
	else client.addEventListener("abort", reader.close, { once: true });
	return reader;
}
/** @throws what the run has thrown, or a `JobError` */
function eventOf(entry) {
	if ("error" in entry) throw entry.error;
	return entry.event;
}
async function whole({ request, envelope, tokens, reader }) {
	let pictures = [];
	for (;;) {
		const read = await reader.next(HEARTBEAT_MS$2);
		if (read === "quiet") continue;
		if (typeof read === "string") break;
		const event = eventOf(read);
		if (event.type === "result") pictures = event.pictures;
	}
	const [first] = pictures;
	if (first === void 0) throw new DOMException("The client has gone", "AbortError");
	const data = await Promise.all(pictures.map(async (picture) => {
		const { bytes, content_type } = await encode(picture, request, envelope);
		const base64 = base64Of(bytes);
		return request.responseFormat === "url" ? { url: `data:${content_type};base64,${base64}` } : { b64_json: base64 };
	}));
	const { created_at, quality, ...look } = lookOf(request, first);
	const body = {
		created: created_at,
		...look,
		quality: quality === "auto" ? "medium" : quality,
		data,
		usage: usageOf(tokens)
	};
	return new Response(asciiJson(body), { headers: {
		"Content-Type": "application/json",
		...idHeaders(envelope)
	} });
}
/** The first entry that says more than that the job waits, if it comes soon. */
async function firstWord(reader) {
	const until = performance.now() + HEADERS_WITHIN_MS$1;
	for (;;) {
		const read = await reader.next(Math.max(0, until - performance.now()));
		if (typeof read === "string") return void 0;
		if ("error" in read || read.event.type !== "queued") return read;
	}
}
async function stream$1({ kind, request, envelope, tokens, reader, fail }) {
	let waiting = await firstWord(reader);
	if (waiting !== void 0 && "error" in waiting) throw waiting.error;
	let partials = 0;
	const frames = async (entry) => {
		const event = eventOf(entry);
		if (event.type === "preview") {
			if (partials >= request.partialImages) return "";
			const { bytes } = await encode(event.picture, request, envelope, 70);
			const type = `${kind}.partial_image`;
			const look = lookOf(request, event.picture);
			return block(type, {
				type,
				b64_json: base64Of(bytes),
				partial_image_index: partials++,
				...look
			});
		}
		if (event.type !== "result") return "";
		const type = `${kind}.completed`;
		const last = event.pictures.length - 1;
		const completed = event.pictures.map(async (picture, index) => {
			const { bytes } = await encode(picture, request, envelope);
			const usage = usageOf(index === last ? tokens : 0);
			return block(type, {
				type,
				b64_json: base64Of(bytes),
				...lookOf(request, picture),
				usage
			});
		});
		return (await Promise.all(completed)).join("");
	};
	const encoder = new TextEncoder();
	let cancelled = false;
	const body = new ReadableStream({
		async pull(controller) {
			for (;;) {
				const read = waiting ?? await reader.next(HEARTBEAT_MS$2);
				waiting = void 0;
				if (cancelled) return;
				if (read === "ended") return controller.close();
				if (read === "quiet") return controller.enqueue(HEARTBEAT);
				let text;
				try {
					if (read === "lost") throw new Error("the stream fell behind its job");
					text = await frames(read);
				} catch (error) {
					reader.close();
					text = block("error", openaiError$1(fail(error)));
				}
				if (cancelled) return;
				if (text !== "") return controller.enqueue(encoder.encode(text));
			}
		},
		cancel() {
			cancelled = true;
			reader.close();
		}
	}, { highWaterMark: 0 });
	const headers = {
		"Content-Type": "text/event-stream",
		"Cache-Control": "no-cache, no-transform",
		"X-Accel-Buffering": "no",
		...idHeaders(envelope)
	};
	return new Response(body, { headers });
}
function encode(picture, request, { requestId }, quality = request.compression) {
	const { output_format: format } = request.generation;
	return tracedEncode(requestId, () => encodePicture(picture, {
		format,
		quality
	}));
}
function base64Of(bytes) {
	return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
function lookOf({ generation, quality }, { width, height }) {
	return {
		created_at: Math.floor(Date.now() / 1e3),
		size: `${width}x${height}`,
		quality,
		background: "opaque",
		output_format: generation.output_format
	};
}
/** Only text is made of tokens here; a picture counts none. */
function usageOf(tokens) {
	return {
		total_tokens: tokens,
		input_tokens: tokens,
		output_tokens: 0,
		input_tokens_details: {
			text_tokens: tokens,
			image_tokens: 0
		}
	};
}
function block(event, data) {
	return `event: ${event}\ndata: ${asciiJson(data)}\n\n`;
}
/** A failure in OpenAI's words. */
function openaiError$1({ status, detail }) {
	const [first] = typeof detail === "string" ? [] : detail;
	return { error: {
		message: typeof detail === "string" ? detail : detail.map(({ loc, msg }) => loc.length > 1 ? `${loc.slice(1).join(".")}: ${msg}` : msg).join("; "),
		type: errorType(status),
		param: first === void 0 || first.loc.length < 2 ? null : first.loc.slice(1).join("."),
		code: first?.type ?? ERROR_CODES[status] ?? null
	} };
}
function errorType(status) {
	if (status === 401) return "authentication_error";
	if (status === 403) return "permission_error";
	if (status === 429) return "rate_limit_error";
	return status >= 500 ? "server_error" : "invalid_request_error";
}
const ERROR_CODES = {
	401: "invalid_api_key",
	429: "rate_limit_exceeded",
	[499]: "cancelled",
	500: "server_error",
	503: "server_busy",
	504: "timeout"
};
/** A failure before anything was sent, as a response. What FastAPI calls 422 is 400 here, and an unknown model 404. */
function openaiFailure(failure, headers = {}) {
	const body = openaiError$1(failure);
	const status = failure.status !== 422 ? failure.status : body.error.code === "model_not_found" ? 404 : 400;
	const again = status === 429 || status === 503;
	return Response.json(body, {
		status,
		headers: {
			...headers,
			"x-should-retry": String(again),
			...failure.retryAfter !== void 0 && { "Retry-After": String(failure.retryAfter) }
		}
	});
}
//#endregion
//#region transports/origin.ts
const EXPOSED = [
	"x-request-id",
	"x-fal-request-id",
	"retry-after",
	"ratelimit",
	"ratelimit-policy"
];
/** An hour in which a browser need not ask again. */
const PREFLIGHT_SECONDS = 3600;
function origins({ allowed, refuse }) {
	const any = allowed.includes("*");
	const answer = cors({
		origin: (origin) => any ? "*" : allowed.includes(origin) ? origin : null,
		exposeHeaders: EXPOSED,
		maxAge: PREFLIGHT_SECONDS
	});
	return async (c, next) => {
		const origin = c.req.header("origin");
		if (!any && isForeign(c, origin) && !(origin !== void 0 && allowed.includes(origin))) return refuse(c, {
			status: 403,
			detail: "Pages of this origin may not use this server"
		});
		return allowed.length === 0 ? next() : answer(c, next);
	};
}
function isForeign(c, origin) {
	if (origin !== void 0) return !isOwn(origin, c.req.header("host"));
	return c.req.header("sec-fetch-site") === "cross-site" && c.req.header("sec-fetch-mode") !== "navigate";
}
/** Hosts are compared, not schemes: behind a proxy that ends TLS, only the browser knows the scheme. */
function isOwn(origin, host) {
	return URL.canParse(origin) && new URL(origin).host === host?.toLowerCase();
}
//#endregion
//#region transports/gate.ts
function gate(options) {
	const { authenticator, model, corsOrigins, requestsPerMinute, sessions, proxies, draining } = options;
	const refuse = refusal$1;
	const steps = [
		browserHeaders(corsOrigins.length > 0),
		origins({
			allowed: corsOrigins,
			refuse
		}),
		guard({
			authenticator,
			scopeOf,
			model,
			refuse
		})
	];
	if (draining !== void 0) steps.push(admission(draining));
	if (requestsPerMinute !== void 0) steps.push(rateLimit({
		requestsPerMinute,
		proxies,
		counts: isWork,
		refuse
	}));
	if (sessions !== void 0) steps.push(sessionLimit({
		sessions,
		proxies,
		refuse
	}));
	return every(...steps);
}
/** Seconds after which another process has probably taken over. */
const RESTART_SECONDS$1 = 5;
/** Refuses work with 503 while the server is about to end. */
function admission(draining) {
	return async (c, next) => {
		if (!draining() || !isWork(c.req.path, c.req.method)) return next();
		return refusal$1(c, {
			status: 503,
			detail: "The server is restarting",
			retryAfter: RESTART_SECONDS$1
		});
	};
}
/** A failure in the words that clients of this path understand. */
function refusal$1(c, failure) {
	return c.req.path.startsWith("/v1/") ? openaiFailure(failure) : failureResponse(failure);
}
/** What anybody may read: it says nothing that is not in the documentation, and probes send no credentials. */
const OPEN = /^\/(health|ready|openapi\.json|docs|playground\/.*|favicon\.ico)?$/;
/** The scope that a path needs. A path that nobody has thought of needs `run`. */
function scopeOf(path, method) {
	if (method === "OPTIONS") return "open";
	if (path === "/auth/token") return "any";
	if (path === "/metrics") return "metrics";
	if (path === "/realtime") return "realtime";
	if (path.startsWith("/v1/")) return "openai";
	if (path.startsWith("/queue/")) return "queue";
	return (method === "GET" || method === "HEAD") && OPEN.test(path) ? "open" : "run";
}
/** Requests that start something. Watching, cancelling and asking for a status are free. */
function isWork(path, method) {
	if (method === "POST") return scopeOf(path, method) !== "metrics";
	return method === "GET" && (path === "/stream" || path === "/realtime");
}
function browserHeaders(otherOrigins) {
	return secureHeaders({
		strictTransportSecurity: false,
		xFrameOptions: "DENY",
		referrerPolicy: "no-referrer",
		crossOriginResourcePolicy: otherOrigins ? "cross-origin" : "same-origin",
		permissionsPolicy: {
			camera: [],
			microphone: [],
			geolocation: []
		}
	});
}
//#endregion
//#region transports/job-routes.ts
function route(jobs, { ownerOf }, answer) {
	return async (c) => {
		try {
			const job = jobs.find(c.req.param("job") ?? "");
			if (ownerOf !== void 0 && job.owner !== void 0 && ownerOf(c) !== job.owner) throw new JobError("not-found", "There is no such job");
			return await answer(job, c);
		} catch (error) {
			return failureResponse(failureOf(error));
		}
	};
}
/** `DELETE /jobs/{job}`: it stops before its next step. 202, or 400 `ALREADY_COMPLETED`. */
function cancelJob(jobs, options = {}) {
	return route(jobs, options, (job) => job.cancel() ? Response.json({ status: "CANCELLATION_REQUESTED" }, {
		status: 202,
		headers: idHeaders({ requestId: job.id })
	}) : Response.json({
		status: "ALREADY_COMPLETED",
		detail: "The job has ended already"
	}, { status: 400 }));
}
/** `PATCH /jobs/{job}`: changes from the next step on. 202, or 400 `ALREADY_COMPLETED`. */
function updateJob(jobs, options) {
	return route(jobs, options, async (job, c) => {
		const change = await readInput(c, options);
		return job.update(change) ? Response.json({ status: "UPDATE_REQUESTED" }, {
			status: 202,
			headers: idHeaders({ requestId: job.id })
		}) : Response.json({
			status: "ALREADY_COMPLETED",
			detail: "The job has ended already"
		}, { status: 400 });
	});
}
/** `GET /jobs/{job}`: its state and times, without its events. */
function jobStatus(jobs, options = {}) {
	return route(jobs, options, ({ id, state, position, submittedAt, startedAt, endedAt, log }) => Response.json({
		request_id: id,
		state,
		position,
		submitted_at: new Date(submittedAt).toISOString(),
		started_at: startedAt === void 0 ? null : new Date(startedAt).toISOString(),
		ended_at: endedAt === void 0 ? null : new Date(endedAt).toISOString(),
		last_event_id: log.lastId
	}, { headers: idHeaders({ requestId: id }) }));
}
//#endregion
//#region transports/json.ts
/** Milliseconds; how long a silence lasts makes no difference here. */
const QUIET_MS = 6e4;
function json(source, options = {}) {
	const jobs = jobsOf(source);
	return async (c) => {
		let envelope = envelopeOf(void 0);
		try {
			const input = await readInput(c, options);
			envelope = envelopeOf(input);
			const job = submit(c, jobs, input, options, { id: envelope.requestId });
			envelope = {
				...envelopeOf(job.input),
				requestId: job.id
			};
			const { type: _, ...answer } = await wireEvent(await resultOf$1(job.watch(), c.req.raw.signal), envelope);
			return new Response(asciiJson(answer), { headers: {
				"Content-Type": "application/json",
				...idHeaders(envelope)
			} });
		} catch (error) {
			const failure = failureOf(error, inputSource(c));
			if (failure.status >= 500 && !(error instanceof JobError)) options.onError?.(error, envelope.requestId);
			return failureResponse(failure, idHeaders(envelope));
		}
	};
}
/** @throws what the run has thrown */
async function resultOf$1(reader, client) {
	if (client.aborted) reader.close();
	else client.addEventListener("abort", reader.close, { once: true });
	let result;
	try {
		for (;;) {
			const read = await reader.next(QUIET_MS);
			if (read === "quiet") continue;
			if (read === "ended") break;
			if (read === "lost") throw new JobError("log-gone", "Events of this job are no longer held");
			if ("error" in read) throw read.error;
			if (!isResult(result)) result = read.event;
		}
	} finally {
		client.removeEventListener("abort", reader.close);
		reader.close();
	}
	client.throwIfAborted();
	if (result === void 0) throw new Error("the run ended without an event");
	return result;
}
function isResult(event) {
	return event?.type === "result";
}
//#endregion
//#region transports/observed-run.ts
function observedRun(run, observers) {
	return (input, context) => {
		const told = observers.map((observe) => observe(input, context));
		return watched(run(input, context), told, context.signal);
	};
}
async function* watched(events, told, signal) {
	const iterator = events[Symbol.asyncIterator]();
	let outcome = "cancelled";
	let reason;
	let done = false;
	try {
		for (;;) {
			const began = performance.now();
			const next = await iterator.next();
			if (next.done) {
				done = true;
				outcome = signal.aborted ? "cancelled" : "completed";
				return;
			}
			const ms = performance.now() - began;
			for (const observer of told) observer.event?.(next.value, began, ms);
			yield next.value;
		}
	} catch (error) {
		done = true;
		outcome = signal.aborted ? "cancelled" : "failed";
		reason = error;
		throw error;
	} finally {
		if (!done) await iterator.return?.();
		for (const observer of told) observer.ended?.(outcome, reason);
	}
}
//#endregion
//#region transports/openapi.ts
/**
* `GET /openapi.json`: every route of this server, described (OpenAPI 3.1). Bodies are derived from the zod schemas that
* check them, so that document and server cannot differ; answers are schemas too, which the tests hold the answers to.
*/
const picture = object({
	url: string().describe("a data URI"),
	content_type: _enum([
		"image/jpeg",
		"image/png",
		"image/webp"
	]),
	width: int(),
	height: int()
});
const ids = {
	request_id: string(),
	input_id: string().optional()
};
const seed = union([int(), string()]).describe("a decimal string where it is too large for a number");
const finished = {
	image: picture,
	images: array(picture),
	seed,
	prompt: string(),
	timings: record(string(), number()).describe("milliseconds, by phase"),
	warnings: array(string()).optional(),
	...ids
};
const fault = object({
	loc: array(union([string(), int()])),
	msg: string(),
	type: string()
});
const detail = union([string(), array(fault)]);
const at = {
	step: int(),
	steps: int(),
	progress: number().describe("0 to 1")
};
const queueAddresses = {
	request_id: string(),
	response_url: url(),
	status_url: url(),
	cancel_url: url()
};
const queueLog = object({
	message: string(),
	level: string(),
	source: string(),
	timestamp: datetime()
});
const usage = object({
	total_tokens: int(),
	input_tokens: int(),
	output_tokens: int(),
	input_tokens_details: object({
		text_tokens: int(),
		image_tokens: int()
	})
});
/** What is answered. Named as in the document's components. */
const ANSWERS = {
	Result: object(finished),
	Event: discriminatedUnion("type", [
		object({
			type: literal("queued"),
			position: int(),
			...ids
		}),
		object({
			type: literal("progress"),
			...at,
			elapsed_ms: number(),
			...ids
		}),
		object({
			type: literal("preview"),
			image: picture,
			...at,
			decoder: _enum([
				"linear",
				"tiny",
				"full"
			]),
			...ids
		}),
		object({
			type: literal("result"),
			...finished
		}),
		object({
			type: literal("error"),
			detail,
			status: int(),
			retry_after: number().optional().describe("seconds after which the same request may succeed"),
			...ids
		})
	]),
	Failure: object({ detail }),
	Job: object({
		request_id: string(),
		state: _enum([
			"queued",
			"running",
			"completed",
			"failed",
			"cancelled"
		]),
		position: int(),
		submitted_at: datetime(),
		started_at: datetime().nullable(),
		ended_at: datetime().nullable(),
		last_event_id: int()
	}),
	Done: object({
		status: _enum([
			"CANCELLATION_REQUESTED",
			"UPDATE_REQUESTED",
			"ALREADY_COMPLETED",
			"NOT_FOUND"
		]),
		detail: string().optional()
	}),
	Token: object({
		token: string(),
		expires_in: int().describe("seconds")
	}),
	Health: looseObject({ status: literal("ok") }),
	Ready: object({
		status: _enum(["ready", "unready"]),
		reason: string().optional()
	}),
	QueueSubmission: object({
		status: literal("IN_QUEUE"),
		queue_position: int(),
		...queueAddresses
	}),
	QueueStatus: object({
		status: _enum([
			"IN_QUEUE",
			"IN_PROGRESS",
			"COMPLETED"
		]),
		...queueAddresses,
		queue_position: int().optional(),
		logs: array(queueLog).nullish(),
		metrics: object({ inference_time: number().describe("seconds") }).optional(),
		error: string().optional()
	}),
	ImagesResponse: object({
		created: int(),
		data: array(object({
			b64_json: string().optional(),
			url: string().optional()
		})),
		size: string(),
		quality: _enum([
			"low",
			"medium",
			"high"
		]),
		background: literal("opaque"),
		output_format: _enum([
			"png",
			"jpeg",
			"webp"
		]),
		usage
	}),
	ImagesEvent: object({
		type: string(),
		b64_json: string(),
		partial_image_index: int().optional(),
		created_at: int(),
		size: string(),
		quality: string(),
		background: string(),
		output_format: string(),
		usage: usage.optional()
	}),
	OpenAiError: object({ error: object({
		message: string(),
		type: string(),
		param: string().nullable(),
		code: string().nullable()
	}) })
};
/** What is asked, by the schemas that check it. */
const QUESTIONS = {
	Generation: generationSchema,
	Update: updateSchema,
	TokenRequest: tokenRequestSchema,
	ImageGeneration: imageGenerationSchema,
	ImageEdit: imageEditSchema
};
const EVENT_STREAM$1 = "text/event-stream";
const failure = (description) => ({
	description,
	schema: "Failure"
});
const COMMON = {
	401: failure("no valid key or token"),
	403: failure("not with this key, or not from this page"),
	429: failure("too many requests; Retry-After says when")
};
const STARTS = {
	...COMMON,
	400: failure("not JSON"),
	409: failure("a job with this request_id exists"),
	413: failure("too long"),
	422: failure("fields at fault, each with its place"),
	503: failure("the line is full, or the server is restarting; Retry-After says when"),
	504: failure("stopped at its deadline")
};
const openaiError = (description) => ({
	description,
	schema: "OpenAiError"
});
const OPENAI = {
	400: openaiError("fields at fault"),
	401: openaiError("no valid key or token"),
	403: openaiError("not with this key"),
	404: openaiError("another model"),
	413: openaiError("too long"),
	429: openaiError("too many requests"),
	503: openaiError("busy")
};
const GONE = {
	404: failure("no such job"),
	410: failure("no longer held")
};
const inPath = (name, description, pattern) => ({
	name,
	in: "path",
	required: true,
	description,
	schema: {
		type: "string",
		...pattern && { pattern }
	}
});
const inQuery = (name, description, schema = { type: "string" }) => ({
	name,
	in: "query",
	description,
	schema
});
const inHeader = (name, description) => ({
	name,
	in: "header",
	description,
	schema: { type: "string" }
});
const JOB = inPath("job", "the request_id that every event and the header x-request-id carry");
const APP = inPath("app", "what the client calls the model, such as owner/name; it may hold slashes");
const REQUEST = inPath("id", "the request_id");
const IDEMPOTENCY = inHeader("Idempotency-Key", "the same key with the same input joins the job that it started");
const STREAM = {
	description: "numbered events; the last is the result",
	schema: "Event",
	type: EVENT_STREAM$1
};
const HOW_TO_STREAM = [inQuery("detached", "true: the job goes on when nobody watches"), inQuery("resume_grace_s", "seconds that the job waits for a broken connection to come back", { type: "number" })];
const ROUTES = [
	{
		method: "post",
		path: "/",
		tag: "pictures",
		summary: "The finished picture",
		parameters: [IDEMPOTENCY],
		body: { schema: "Generation" },
		answers: {
			200: {
				description: "the picture",
				schema: "Result"
			},
			...STARTS
		}
	},
	{
		method: "post",
		path: "/stream",
		tag: "pictures",
		summary: "The picture while it forms, as server-sent events",
		parameters: [...HOW_TO_STREAM, IDEMPOTENCY],
		body: { schema: "Generation" },
		answers: {
			200: STREAM,
			...STARTS
		}
	},
	{
		method: "get",
		path: "/stream",
		tag: "pictures",
		summary: "The same for EventSource: the fields of a generation in the query",
		parameters: [
			{
				...inQuery("prompt", "what it should be"),
				required: true
			},
			inQuery("request_id", "the job's id; with it a broken EventSource goes on where it stopped"),
			inQuery("fal_jwt_token", "a token, where no header can be sent"),
			...HOW_TO_STREAM
		],
		answers: {
			200: STREAM,
			204: { description: "ended and seen to the end" },
			...STARTS
		}
	},
	{
		method: "get",
		path: "/stream/{job}",
		tag: "pictures",
		summary: "Follow a job, or go on after the last event seen",
		parameters: [
			JOB,
			inHeader("Last-Event-ID", "the number of the last event seen"),
			inQuery("after", "the same, in the address", { type: "integer" })
		],
		answers: {
			200: STREAM,
			204: { description: "ended and seen to the end" },
			400: failure("not a number"),
			...COMMON,
			...GONE
		}
	},
	{
		method: "get",
		path: "/realtime",
		tag: "pictures",
		summary: "WebSocket of msgpack messages: requests in, events out",
		parameters: [
			inQuery("fal_jwt_token", "a token"),
			inQuery("max_buffering", "requests that may wait, 1 to 60"),
			inQuery("mode", "queue: every request is answered, in order; else the latest wins"),
			inQuery("session", "the session to take up again, as its first frame has named it"),
			inQuery("after", "with session: the last event_id seen of each request, as request:event,request:event")
		],
		answers: {
			101: { description: "switching to WebSocket" },
			426: failure("not a WebSocket"),
			...COMMON
		}
	},
	{
		method: "get",
		path: "/jobs/{job}",
		tag: "jobs",
		summary: "A job's state and times",
		parameters: [JOB],
		answers: {
			200: {
				description: "its state",
				schema: "Job"
			},
			...COMMON,
			...GONE
		}
	},
	{
		method: "patch",
		path: "/jobs/{job}",
		tag: "jobs",
		summary: "Change a running job from its next step on",
		parameters: [JOB],
		body: { schema: "Update" },
		answers: {
			202: {
				description: "asked",
				schema: "Done"
			},
			400: {
				description: "ended already",
				schema: "Done"
			},
			422: failure("fields at fault"),
			...COMMON,
			...GONE
		}
	},
	{
		method: "delete",
		path: "/jobs/{job}",
		tag: "jobs",
		summary: "Cancel a job before its next step",
		parameters: [JOB],
		answers: {
			202: {
				description: "asked",
				schema: "Done"
			},
			400: {
				description: "ended already",
				schema: "Done"
			},
			...COMMON,
			...GONE
		}
	},
	{
		method: "post",
		path: "/v1/images/generations",
		tag: "OpenAI",
		summary: "OpenAI's images API: a picture from words",
		body: { schema: "ImageGeneration" },
		answers: {
			200: {
				description: "the pictures, or with stream their events",
				schema: "ImagesResponse",
				or: {
					schema: "ImagesEvent",
					type: EVENT_STREAM$1
				}
			},
			...OPENAI
		}
	},
	{
		method: "post",
		path: "/v1/images/edits",
		tag: "OpenAI",
		summary: "OpenAI's images API: a picture from a picture",
		body: {
			schema: "ImageEdit",
			type: "multipart/form-data"
		},
		answers: {
			200: {
				description: "the pictures, or with stream their events",
				schema: "ImagesResponse",
				or: {
					schema: "ImagesEvent",
					type: EVENT_STREAM$1
				}
			},
			...OPENAI
		}
	},
	{
		method: "post",
		path: "/queue/{app}",
		tag: "queue",
		summary: "fal's queue: submit",
		parameters: [
			APP,
			inQuery("fal_webhook", "where the result is posted; hosts that the server lists"),
			IDEMPOTENCY
		],
		body: { schema: "Generation" },
		answers: {
			200: {
				description: "admitted",
				schema: "QueueSubmission"
			},
			...STARTS
		}
	},
	{
		method: "get",
		path: "/queue/{app}/requests/{id}/status",
		tag: "queue",
		summary: "fal's queue: how far it is",
		parameters: [
			APP,
			REQUEST,
			inQuery("logs", "1: with its steps")
		],
		answers: {
			200: {
				description: "it has ended",
				schema: "QueueStatus"
			},
			202: {
				description: "it waits or runs",
				schema: "QueueStatus"
			},
			...COMMON,
			...GONE
		}
	},
	{
		method: "get",
		path: "/queue/{app}/requests/{id}/status/stream",
		tag: "queue",
		summary: "fal's queue: how far it is, as server-sent events until it has ended",
		parameters: [
			APP,
			REQUEST,
			inQuery("logs", "1: with its steps")
		],
		answers: {
			200: {
				description: "statuses",
				schema: "QueueStatus",
				type: EVENT_STREAM$1
			},
			...COMMON,
			...GONE
		}
	},
	{
		method: "get",
		path: "/queue/{app}/requests/{id}",
		tag: "queue",
		summary: "fal's queue: the result, or the failure with its status",
		parameters: [APP, REQUEST],
		answers: {
			200: {
				description: "the result",
				schema: "Result"
			},
			400: failure("still in progress"),
			499: failure("cancelled"),
			...COMMON,
			...GONE
		}
	},
	{
		method: "put",
		path: "/queue/{app}/requests/{id}/cancel",
		tag: "queue",
		summary: "fal's queue: cancel",
		parameters: [APP, REQUEST],
		answers: {
			202: {
				description: "asked",
				schema: "Done"
			},
			400: {
				description: "ended already",
				schema: "Done"
			},
			404: {
				description: "no such job",
				schema: "Done"
			},
			401: COMMON[401],
			403: COMMON[403]
		}
	},
	{
		method: "post",
		path: "/auth/token",
		tag: "server",
		summary: "A short-lived token for a browser, for a key",
		body: {
			schema: "TokenRequest",
			optional: true
		},
		answers: {
			200: {
				description: "the token",
				schema: "Token"
			},
			404: failure("no tokens are made here"),
			422: failure("fields at fault"),
			...COMMON
		}
	},
	{
		method: "get",
		path: "/",
		tag: "server",
		summary: "The playground for browsers, a few words for others",
		open: true,
		answers: { 200: {
			description: "a page, or text",
			type: "text/html"
		} }
	},
	{
		method: "get",
		path: "/health",
		tag: "server",
		summary: "What runs here",
		open: true,
		answers: { 200: {
			description: "version, adapter, model",
			schema: "Health"
		} }
	},
	{
		method: "get",
		path: "/ready",
		tag: "server",
		summary: "Whether a picture could be made now",
		open: true,
		answers: {
			200: {
				description: "yes",
				schema: "Ready"
			},
			503: {
				description: "no, and why",
				schema: "Ready"
			}
		}
	},
	{
		method: "get",
		path: "/metrics",
		tag: "server",
		summary: "Figures for Prometheus",
		answers: {
			200: {
				description: "text exposition format",
				type: "text/plain"
			},
			401: COMMON[401],
			403: COMMON[403]
		}
	},
	{
		method: "get",
		path: "/openapi.json",
		tag: "server",
		summary: "This document",
		open: true,
		answers: { 200: { description: "OpenAPI 3.1" } }
	},
	{
		method: "get",
		path: "/docs",
		tag: "server",
		summary: "This document as a page",
		open: true,
		answers: { 200: {
			description: "a page",
			type: "text/html"
		} }
	}
];
/** The document, as JSON. */
function openapiDocument({ version, secured, present }) {
	const paths = {};
	for (const route of ROUTES.filter(present)) paths[route.path] = {
		...paths[route.path],
		[route.method]: operation(route, secured)
	};
	return {
		openapi: "3.1.0",
		info: {
			title: "Daguerre",
			version,
			description: "Diffusion over HTTP: pictures while they form. Events and limits are told in the README.",
			license: {
				name: "MIT",
				identifier: "MIT"
			}
		},
		paths,
		components: {
			schemas: {
				...mapValues(QUESTIONS, (schema) => jsonSchema(schema, "input")),
				...mapValues(ANSWERS, (schema) => jsonSchema(schema, "output"))
			},
			...secured && { securitySchemes: { key: {
				type: "http",
				scheme: "bearer",
				description: "a key, or a token for browsers"
			} } }
		}
	};
}
function operation({ tag, summary, parameters, body, answers, open }, secured) {
	return {
		tags: [tag],
		summary,
		...parameters && { parameters },
		...body && { requestBody: {
			required: body.optional !== true,
			content: { [body.type ?? "application/json"]: { schema: reference(body.schema) } }
		} },
		responses: mapValues(answers, ({ description, schema, type = "application/json", or }) => ({
			description,
			...(schema ?? (type !== "application/json" ? type : void 0)) !== void 0 && { content: {
				[type]: { schema: schema === void 0 ? { type: "string" } : reference(schema) },
				...or && { [or.type]: { schema: reference(or.schema) } }
			} }
		})),
		...secured && !open && { security: [{ key: [] }] }
	};
}
const reference = (name) => ({ $ref: `#/components/schemas/${name}` });
function mapValues(object, change) {
	return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]));
}
/** What JSON Schema cannot say of our schemas, said by hand: bytes, and numbers beyond 2^53. */
const BY_HAND = {
	seed: { anyOf: [{
		type: "integer",
		minimum: 0,
		maximum: Number.MAX_SAFE_INTEGER
	}, {
		type: "string",
		pattern: "^\\d{1,20}$",
		description: `decimal, up to ${LIMITS.seed}`
	}] },
	image: {
		type: "string",
		description: "the picture to start from, as a data URI (data:image/png;base64,…)"
	},
	image_url: {
		type: "string",
		description: "fal's name for image; addresses are not fetched"
	}
};
const PICTURE_FILE = {
	type: "string",
	format: "binary",
	description: "JPEG, PNG or WebP"
};
function jsonSchema(schema, io) {
	const made = toJSONSchema(schema, {
		io,
		unrepresentable: "any"
	});
	delete made.$schema;
	const properties = made.properties;
	if (io === "output" || properties === void 0) return made;
	for (const [name, instead] of Object.entries(BY_HAND)) if (name in properties) properties[name] = schema === imageEditSchema && name === "image" ? PICTURE_FILE : instead;
	return made;
}
//#endregion
//#region transports/playground.ts
/**
* The playground: a page at `GET /` for browsers, and its files. Built into `dist/playground` by the project's build;
* where that has not been run there is no page, and `/` is left to whoever comes after.
*
* The page may load scripts, styles and data from its own origin and from nowhere else, holds no inline script, and may
* not be framed. Its files carry a hash in their names, so they may be kept for ever; the page itself is asked for each
* time, and answered with 304 where it has not changed.
*/
const SECURITY = {
	"Content-Security-Policy": [
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self' data: blob:",
		"connect-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'"
	].join("; "),
	"X-Content-Type-Options": "nosniff",
	"Referrer-Policy": "no-referrer",
	"X-Frame-Options": "DENY",
	"Cross-Origin-Opener-Policy": "same-origin",
	"Permissions-Policy": "camera=(), microphone=(), geolocation=()"
};
const TYPES = {
	html: "text/html; charset=utf-8",
	js: "text/javascript; charset=utf-8",
	css: "text/css; charset=utf-8",
	svg: "image/svg+xml"
};
/** Beside this file in `dist`; in the checkout, where the build puts it. */
function builtPage() {
	const here = import.meta.url;
	return new URL(here.includes("/transports/") ? "../dist/playground/" : "./playground/", here);
}
/** @param folder the built page; read once, at the first request for it */
function playground(folder = builtPage()) {
	let reading;
	const page = () => reading ??= readPage(folder);
	return new Hono().get("/", async (c, next) => {
		const built = c.req.header("accept")?.includes("text/html") ? await page() : void 0;
		if (built === void 0) return next();
		const headers = {
			...SECURITY,
			ETag: built.etag,
			"Cache-Control": "no-cache",
			Vary: "Accept"
		};
		if (c.req.header("if-none-match") === built.etag) return new Response(null, {
			status: 304,
			headers
		});
		return new Response(built.html, { headers: {
			...headers,
			"Content-Type": TYPES.html
		} });
	}).get("/playground/:file", async (c, next) => {
		const name = c.req.param("file");
		const file = (await page())?.files.get(name);
		if (file === void 0) return next();
		return new Response(file, { headers: {
			...SECURITY,
			"Content-Type": TYPES[name.split(".").at(-1) ?? ""] ?? "application/octet-stream",
			"Cache-Control": "public, max-age=31536000, immutable"
		} });
	});
}
async function readPage(folder) {
	let names;
	try {
		names = await readdir(folder);
	} catch {
		return;
	}
	const files = /* @__PURE__ */ new Map();
	for (const name of names) files.set(name, new Uint8Array(await readFile(new URL(name, folder))));
	const html = files.get("index.html");
	if (html === void 0) return void 0;
	files.delete("index.html");
	return {
		html,
		etag: `"${createHash("sha256").update(html).digest("base64url").slice(0, 16)}"`,
		files
	};
}
//#endregion
//#region transports/webhook.ts
const MAX_URL_CHARACTERS = 2048;
const MAX_REDIRECTS = 3;
const ATTEMPTS = 5;
const BACKOFF_MS = 1e3;
const BACKOFF_FACTOR = 4;
const TIMEOUT_MS = 15e3;
/** Trying again cannot help: the address itself is refused. */
var RefusedAddress = class extends Error {
	name = "RefusedAddress";
};
/**
* Checks what a client gave, as far as that goes without asking DNS.
*
* @throws RequestError for `field`
*/
function parseWebhook(text, policy, field = "fal_webhook") {
	if (policy.hosts.length === 0) throw new RequestError(field, "this server calls no webhooks");
	if (text.length > MAX_URL_CHARACTERS || !URL.canParse(text)) throw new RequestError(field, "must be an address (https://…)");
	const url = new URL(text);
	try {
		checkUrl(url, policy);
	} catch (error) {
		throw new RequestError(field, error.message);
	}
	return url;
}
/** @throws RefusedAddress */
function checkUrl(url, { hosts, allowPrivate }) {
	if (url.protocol !== "https:" && !(allowPrivate && url.protocol === "http:")) throw new RefusedAddress("must be https");
	if (url.username !== "" || url.password !== "") throw new RefusedAddress("must not hold a name or password");
	const host = hostOf(url);
	if (!hosts.some((pattern) => pattern.startsWith("*.") ? host.endsWith(pattern.slice(1).toLowerCase()) : host === pattern.toLowerCase())) throw new RefusedAddress("is not a host that this server may call");
	if (isIP(host) !== 0) checkAddress(host, allowPrivate);
}
function hostOf(url) {
	return url.hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "").toLowerCase();
}
/** @throws RefusedAddress for anything but a public unicast address, IPv4 inside IPv6 included */
function checkAddress(address, allowPrivate) {
	if (allowPrivate) return;
	const range = ipaddr.isValid(address) ? ipaddr.process(address).range() : "invalid";
	if (range !== "unicast") throw new RefusedAddress(`resolves to an address that is not public (${range})`);
}
/**
* Posts `body` as JSON until the host answers 2xx.
*
* @returns the status of the last answer
* @throws Error when it was refused, or no try has succeeded; the signal's reason when it aborts
*/
async function deliverWebhook(url, body, options) {
	const { attempts = ATTEMPTS, backoffMs = BACKOFF_MS, signal } = options;
	let last;
	for (let attempt = 0; attempt < attempts; attempt++) {
		signal?.throwIfAborted();
		if (attempt > 0) await setTimeout$1(backoffMs * BACKOFF_FACTOR ** (attempt - 1), void 0, {
			signal,
			ref: false
		});
		try {
			return await postOnce(url, body, options);
		} catch (error) {
			if (error instanceof RefusedAddress || signal?.aborted) throw error;
			last = error;
		}
	}
	throw new Error(`webhook to ${url.host} failed ${attempts} times`, { cause: last });
}
async function postOnce(first, body, options) {
	let url = first;
	for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
		checkUrl(url, options.policy);
		const { status, location } = await post(url, body, options);
		if (status >= 200 && status < 300) return status;
		if (status !== 307 && status !== 308 || location === void 0 || !URL.canParse(location, url.href)) throw new Error(`answered ${status}`);
		url = new URL(location, url.href);
	}
	throw new Error("redirects without end");
}
function post(url, body, options) {
	const { policy, signal, timeoutMs = TIMEOUT_MS } = options;
	const within = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...signal ? [signal] : []]);
	return new Promise((resolve, reject) => {
		const request = (url.protocol === "https:" ? https : http).request(url.href, {
			method: "POST",
			headers: {
				"Content-Type": "application/json",
				"Content-Length": Buffer.byteLength(body)
			},
			agent: false,
			lookup: checkedLookup(policy, options.resolve),
			signal: within
		}, (response) => {
			response.destroy();
			resolve({
				status: response.statusCode ?? 0,
				location: response.headers.location
			});
		});
		request.on("error", reject);
		request.end(body);
	});
}
/** A lookup for a socket that yields only addresses that were checked; one that is refused refuses the name. */
function checkedLookup(policy, resolve = resolveHost) {
	return (host, options, done) => {
		resolve(host).then((addresses) => {
			try {
				if (addresses.length === 0) throw new Error("the name has no address");
				for (const { address } of addresses) checkAddress(address, policy.allowPrivate);
			} catch (error) {
				return done(error, "", 0);
			}
			const [first] = addresses;
			if (options.all) done(null, addresses);
			else done(null, first.address, first.family);
		}, (error) => done(error, "", 0));
	};
}
function resolveHost(host) {
	return dns.lookup(host, { all: true });
}
//#endregion
//#region transports/queue.ts
/**
* fal's queue over jobs, in memory: `app.route("/queue", queue(jobs, options))`.
*
*     POST /queue/{app}                               submit; ?fal_webhook= is posted the result
*     GET  /queue/{app}/requests/{id}/status          202 until it has ended, then 200; ?logs=1 for its steps
*     GET  /queue/{app}/requests/{id}/status/stream   the same as server-sent events, until it has ended
*     GET  /queue/{app}/requests/{id}                 the result, or the failure with its status
*     PUT  /queue/{app}/requests/{id}/cancel          cancel
*
* `{app}` is what the client calls the model (`owner/name`, with or without more); one model answers here, so it is only
* repeated. A job that failed is COMPLETED too: its result is the failure. Jobs are gone when the process is.
*/
const HEARTBEAT_MS$1 = 15e3;
const NO_WEBHOOKS = {
	hosts: [],
	allowPrivate: false
};
function queue(jobs, options) {
	const { webhooks = NO_WEBHOOKS, maxBodyBytes, onError } = options;
	const app = new Hono();
	const answer = (work) => async (c) => {
		try {
			return await work(c);
		} catch (error) {
			const failure = failureOf(error);
			if (failure.status >= 500) onError?.(error, "");
			return failureResponse(failure);
		}
	};
	/** Somebody else's job is not there. */
	const jobOf = (c) => {
		const job = jobs.find(c.req.param("id") ?? "");
		if (job.owner !== ownerOf(c)) throw new JobError("not-found", "There is no such job");
		return job;
	};
	const addresses = (c, id) => {
		const url = wholeAddress(c);
		if (options.trustForwarded && c.req.header("x-forwarded-proto") === "https") url.protocol = "https:";
		const [base] = url.pathname.split("/requests/");
		const request = `${url.origin}${base}/requests/${id}`;
		return {
			response_url: request,
			status_url: `${request}/status`,
			cancel_url: `${request}/cancel`
		};
	};
	const statusOf = (c, job, logs) => {
		const common = {
			request_id: job.id,
			...addresses(c, job.id)
		};
		if (job.endedAt !== void 0) {
			const metrics = { inference_time: (job.endedAt - (job.startedAt ?? job.endedAt)) / 1e3 };
			const error = job.state === "completed" ? {} : { error: errorText(job) };
			return {
				status: "COMPLETED",
				...common,
				logs,
				metrics,
				...error
			};
		}
		return job.state === "queued" ? {
			status: "IN_QUEUE",
			...common,
			queue_position: job.position
		} : {
			status: "IN_PROGRESS",
			...common,
			logs
		};
	};
	app.get("/:app{.+}/requests/:id/status/stream", answer(async (c) => statusStream(jobOf(c), wantsLogs(c), (job, logs) => statusOf(c, job, logs))));
	app.get("/:app{.+}/requests/:id/status", answer(async (c) => {
		const job = jobOf(c);
		const status = statusOf(c, job, wantsLogs(c) ? logsOf(job) : null);
		return c.json(status, job.endedAt === void 0 ? 202 : 200);
	}));
	app.on(["PUT", "POST"], "/:app{.+}/requests/:id/cancel", answer(async (c) => {
		let job;
		try {
			job = jobOf(c);
		} catch (error) {
			if (error instanceof JobError) return c.json({ status: "NOT_FOUND" }, 404);
			throw error;
		}
		return job.cancel() ? c.json({ status: "CANCELLATION_REQUESTED" }, 202) : c.json({ status: "ALREADY_COMPLETED" }, 400);
	}));
	app.get("/:app{.+}/requests/:id", answer(async (c) => {
		const job = jobOf(c);
		const headers = idHeaders(envelopeFor(job));
		if (job.endedAt === void 0) return failureResponse({
			status: 400,
			detail: "Request is still in progress"
		}, headers);
		if (job.state !== "completed") return failureResponse(failureOf(job.error), headers);
		return new Response(asciiJson(await resultOf(job)), { headers: {
			"Content-Type": "application/json",
			...headers
		} });
	}));
	app.post("/:app{.+}", answer(async (c) => {
		const hook = c.req.query("fal_webhook");
		const target = hook === void 0 ? void 0 : parseWebhook(hook, webhooks);
		const parse = (raw, source) => ({
			...options.parse(raw, source),
			preview_every: 0
		});
		const input = await readInput(c, {
			parse,
			maxBodyBytes
		});
		const job = jobs.submit(input, {
			id: input.request_id,
			owner: ownerOf(c),
			idempotencyKey: c.req.header("idempotency-key"),
			detached: true
		});
		if (target !== void 0) job.ended.then(() => webhookBody(job)).then((body) => deliverWebhook(target, body, { policy: webhooks })).catch((error) => onError?.(error, job.id));
		const status = {
			status: "IN_QUEUE",
			request_id: job.id,
			...addresses(c, job.id),
			queue_position: job.position
		};
		return c.json(status, 200, idHeaders(envelopeFor(job)));
	}));
	return app;
}
/** The ids of the job, not those of the request that asks for it. */
function envelopeFor(job) {
	return {
		...envelopeOf(job.input),
		requestId: job.id
	};
}
function wantsLogs(c) {
	return c.req.query("logs") === "1" || c.req.query("logs") === "true";
}
function logOf(job, event) {
	if (event.type !== "progress") return [];
	const time = new Date((job.startedAt ?? job.submittedAt) + event.elapsed_ms);
	return [{
		message: `step ${event.step}/${event.steps}`,
		level: "INFO",
		source: "RUNNER",
		timestamp: time.toISOString()
	}];
}
function logsOf(job) {
	return job.log.entries.flatMap((entry) => "event" in entry ? logOf(job, entry.event) : []);
}
/** Each status once, then COMPLETED, then the end. */
function statusStream(job, withLogs, statusOf) {
	const encoder = new TextEncoder();
	const block = (logs) => encoder.encode(`data: ${asciiJson(statusOf(job, withLogs ? logs : null))}\n\n`);
	const reader = job.watch();
	let completed = false;
	const body = new ReadableStream({
		async pull(controller) {
			if (completed) return controller.close();
			for (;;) {
				const read = await reader.next(HEARTBEAT_MS$1);
				if (read === "quiet") return controller.enqueue(encoder.encode(": ping\n"));
				if (read === "ended" || read === "lost" || "error" in read) {
					await job.ended;
					completed = true;
					reader.close();
					return controller.enqueue(block([]));
				}
				if (read.event.type !== "result") return controller.enqueue(block(logOf(job, read.event)));
			}
		},
		cancel() {
			reader.close();
		}
	}, { highWaterMark: 0 });
	return new Response(body, { headers: {
		"Content-Type": "text/event-stream",
		"Cache-Control": "no-cache, no-transform",
		"X-Accel-Buffering": "no"
	} });
}
async function resultOf(job) {
	const last = job.log.entries.findLast((entry) => "event" in entry && entry.event.type === "result");
	if (last === void 0 || !("event" in last)) throw new JobError("log-gone", "The result is no longer held");
	const { type: _, ...result } = await wireEvent(last.event, envelopeFor(job));
	return result;
}
function errorText(job) {
	const { detail } = failureOf(job.error);
	return typeof detail === "string" ? detail : detail.map(({ msg }) => msg).join("; ");
}
async function webhookBody(job) {
	const ids = {
		request_id: job.id,
		gateway_request_id: job.id
	};
	if (job.state === "completed") return asciiJson({
		...ids,
		status: "OK",
		payload: await resultOf(job)
	});
	const { detail } = failureOf(job.error);
	return asciiJson({
		...ids,
		status: "ERROR",
		error: errorText(job),
		payload: { detail }
	});
}
//#endregion
//#region transports/request-log.ts
/** Characters of a path that are logged. */
const PATH_CHARACTERS = 200;
function requestLog(write, proxies) {
	return async (c, next) => {
		const began = performance.now();
		await next();
		write({
			request_id: c.res.headers.get("x-request-id") ?? void 0,
			method: c.req.method,
			path: c.req.path.slice(0, PATH_CHARACTERS),
			status: c.res.status,
			ms: Math.round(performance.now() - began),
			client: principalOf(c).name,
			address: addressOf$1(c, proxies)
		});
	};
}
//#endregion
//#region transports/preview-pace.ts
/** @param maxFps previews a second; undefined: as many as there are */
function previewPace(maxFps) {
	let next = 0;
	return {
		holdMs: (slot) => maxFps === void 0 || slot !== "preview" ? 0 : Math.max(next - performance.now(), 0),
		sent(slot) {
			if (maxFps !== void 0 && slot === "preview") next = performance.now() + 1e3 / maxFps;
		}
	};
}
//#endregion
//#region transports/stream-format.ts
/**
* How events become the body of an answer, by its content type.
*
* - `text/event-stream`: blocks with ids; see `sse.ts`.
* - `application/x-ndjson`: a line of JSON an event, with its number as `event_id`.
* - `text/…`: an event is a string, or has a `text`; nothing is added.
* - anything else: an event is bytes, or has `bytes`; nothing is added.
*
* Only the first two can say an error; in the others a failed run is a truncated answer.
*/
const encoder = new TextEncoder();
const eventStream = {
	event: async (id, event, envelope) => eventStream.error(id, await wireEvent(event, envelope)),
	error: (id, event) => encoder.encode(`id: ${id}\ndata: ${asciiJson(event)}\n\n`),
	heartbeat: encoder.encode(": ping\n")
};
const ndjson = {
	event: async (id, event, envelope) => ndjson.error(id, await wireEvent(event, envelope)),
	error: (id, event) => encoder.encode(`${asciiJson({
		...event,
		event_id: id
	})}\n`),
	heartbeat: void 0
};
const text = {
	async event(_, event) {
		const words = typeof event === "string" ? event : event?.text;
		if (typeof words !== "string") throw new TypeError("an event of a text stream is a string or has a text");
		return encoder.encode(words);
	},
	error: () => void 0,
	heartbeat: void 0
};
const binary = {
	async event(_, event) {
		const bytes = event instanceof Uint8Array ? event : event?.bytes;
		if (!(bytes instanceof Uint8Array)) throw new TypeError("an event of a byte stream is a Uint8Array or has bytes");
		return Uint8Array.from(bytes);
	},
	error: () => void 0,
	heartbeat: void 0
};
const EVENT_STREAM = "text/event-stream";
function streamFormat(contentType) {
	const [type = ""] = contentType.split(";");
	if (type === "text/event-stream") return eventStream;
	if (type === "application/x-ndjson") return ndjson;
	return type.startsWith("text/") ? text : binary;
}
//#endregion
//#region transports/sse.ts
/**
* A run, or the jobs of a store, as server-sent events: `app.post("/stream", sse(run))`. Format: https://html.spec.whatwg.org/#server-sent-events.
*
* What is peculiar here, each for a client that needs it:
* - The answer is always `text/event-stream`, whatever was accepted; headers leave before the first picture is ready.
* - There is no `event:` line (a named event never reaches `EventSource.onmessage`) and no `[DONE]`: the last event is
*   the result, and the type is inside the JSON.
* - A heartbeat is a comment ended by one newline. A blank line would end a block, which some readers then deliver as
*   an empty event.
* - A failed run sends an `error` event and then destroys the connection: a stream that ends cleanly has its result.
*
* Nothing is buffered ahead of the socket. Each pull of the response body, which comes when the socket has room, takes
* the next event from the job's log and only then encodes its picture; previews that nobody could have read are never
* encoded, and what many read is encoded once.
*
* A stream that broke goes on at `GET /stream/{job}` (`resume`), if the job still runs or its log is held: a job outlives
* its last client by the grace period that the client asked for with `?resume_grace_s=`, or, being `?detached=true`, runs
* on to its end. A GET that names its job (`request_id`) has a grace period without asking, because `EventSource` comes
* back to the same address by itself.
* (Hono's `streamSSE` swallows write errors and turns a thrown error into a clean end, so it is not used.)
*/
const HEARTBEAT_MS = 15e3;
const HEADERS_WITHIN_MS = 100;
const STALLED_AFTER_MS = 12e4;
/** Milliseconds an error event may take to leave before the connection is destroyed all the same. */
const LINGER_MS = 5e3;
/**
* Milliseconds between the error event's leaving and the end. A browser's `fetch` throws away what its reader has not
* taken when the connection breaks, so the reader is given the time to take it.
*/
const READ_MS = 150;
/** Milliseconds that an `EventSource` has to come back to a job that it named. */
const EVENT_SOURCE_GRACE_MS = 1e4;
/** `POST /stream` and `GET /stream?prompt=…`: submits a job and follows it from its beginning. */
function sse(source, options = {}) {
	const jobs = jobsOf(source);
	return async (c) => {
		if (c.req.method === "GET" && c.req.header("last-event-id") !== void 0) {
			const known = jobs.get(c.req.query("request_id") ?? "");
			if (known === void 0 || !mayWatch(c, known, options)) return new Response(null, { status: 204 });
			return resumed(c, known, options);
		}
		let headers = idHeaders(envelopeOf(void 0));
		try {
			const input = await readInput(c, options);
			const { requestId: id } = envelopeOf(input);
			headers = idHeaders({ requestId: id });
			return await stream(c, submit(c, jobs, input, options, {
				id,
				detached: c.req.query("detached") === "true",
				graceMs: graceOf(c, options)
			}), 0, options);
		} catch (error) {
			return refused(c, error, headers, options);
		}
	};
}
/** `GET /stream/{job}`: goes on after `Last-Event-ID` (or `?after=`). 204 when all was seen, 410 when the log is gone. */
function resume(jobs, options = {}) {
	return async (c) => {
		const id = c.req.param("job") ?? "";
		const headers = /^[\w.:-]{1,128}$/.test(id) ? idHeaders({ requestId: id }) : {};
		try {
			const job = jobs.find(id);
			if (!mayWatch(c, job, options)) throw new JobError("not-found", "There is no such job");
			return await resumed(c, job, options);
		} catch (error) {
			return refused(c, error, headers, options);
		}
	};
}
function mayWatch(c, job, { ownerOf }) {
	return ownerOf === void 0 || job.owner === void 0 || ownerOf(c) === job.owner;
}
function refused(c, error, headers, { onError }) {
	const failure = failureOf(error, inputSource(c));
	if (failure.status >= 500 && !(error instanceof JobError)) onError?.(error, headers["x-request-id"] ?? "");
	return failureResponse(failure, headers);
}
function resumed(c, job, options) {
	const asked = c.req.header("last-event-id") ?? c.req.query("after") ?? "0";
	if (!/^\d{1,15}$/.test(asked)) throw new HTTPException(400, { message: "Last-Event-ID must be a whole number" });
	const after = Number(asked);
	if (job.log.ended && after === job.log.lastId) return Promise.resolve(new Response(null, {
		status: 204,
		headers: idHeaders({ requestId: job.id })
	}));
	return stream(c, job, after, options);
}
function graceOf(c, { maxGraceS = RESUME.streamSeconds }) {
	const seconds = Number(c.req.query("resume_grace_s") ?? NaN);
	if (Number.isFinite(seconds)) return Math.min(Math.max(seconds, 0), maxGraceS) * 1e3;
	return c.req.method === "GET" && c.req.query("request_id") !== void 0 ? Math.min(EVENT_SOURCE_GRACE_MS, maxGraceS * 1e3) : void 0;
}
/** What an entry is as bytes, made once for all who ask for it in the same form. */
const frames = /* @__PURE__ */ new WeakMap();
/** Forms of one entry that are kept. */
const MAX_FORMS = 4;
async function stream(c, job, after, options) {
	const { heartbeatMs = HEARTBEAT_MS, headersWithinMs = HEADERS_WITHIN_MS, onError } = options;
	const { contentType = EVENT_STREAM } = options;
	const source = inputSource(c);
	const envelope = {
		...envelopeOf(job.input),
		requestId: job.id
	};
	const pace = previewPace(envelope.previews.maxFps);
	const reader = job.watch({
		after,
		holdMs: pace.holdMs
	});
	const client = c.req.raw.signal;
	if (client.aborted) reader.close();
	else client.addEventListener("abort", reader.close, { once: true });
	if (after === 0) {
		const early = await refusal(job, headersWithinMs);
		if (early !== void 0) {
			reader.close();
			client.removeEventListener("abort", reader.close);
			return refused(c, early.error, idHeaders(envelope), options);
		}
	}
	/** A picture that cannot be encoded fails the run like any other error. */
	const format = streamFormat(contentType);
	const make = async (entry) => {
		let fault;
		if ("error" in entry) fault = entry.error;
		else try {
			return {
				bytes: await format.event(entry.id, entry.event, envelope),
				failed: false
			};
		} catch (error) {
			fault = error;
			job.cancel(error);
		}
		const failure = failureOf(fault, source);
		if (failure.status >= 500) onError?.(fault, job.id);
		return {
			bytes: format.error(entry.id, errorEvent(failure, envelope)),
			failed: true
		};
	};
	const form = JSON.stringify([
		contentType,
		envelope,
		source
	]);
	const frame = (entry) => {
		const forms = frames.get(entry) ?? /* @__PURE__ */ new Map();
		const made = forms.get(form) ?? make(entry);
		if (job.log.readers > 1 && forms.size < MAX_FORMS) frames.set(entry, forms.set(form, made));
		return made;
	};
	let failed = false;
	let cancelled = false;
	let stalled;
	const leave = () => {
		clearTimeout(stalled);
		client.removeEventListener("abort", reader.close);
		reader.close();
	};
	const body = new ReadableStream({
		async pull(controller) {
			clearTimeout(stalled);
			if (failed) {
				leave();
				return destroy(c, controller);
			}
			let read = await reader.next(heartbeatMs);
			while (read === "quiet" && format.heartbeat === void 0) read = await reader.next(heartbeatMs);
			if (cancelled) return;
			if (read === "lost") {
				leave();
				return destroy(c, controller, 0);
			}
			if (read === "ended") {
				leave();
				controller.close();
				return;
			}
			let bytes = format.heartbeat;
			if (read !== "quiet") {
				const framed = await frame(read);
				({failed, bytes} = framed);
				if (read.slot !== void 0) pace.sent(read.slot);
			}
			if (cancelled) return;
			if (bytes === void 0) {
				leave();
				return destroy(c, controller);
			}
			if (bytes.byteLength > 0) controller.enqueue(bytes);
			stalled = setTimeout(() => {
				leave();
				destroy(c, controller, 0);
			}, options.stalledAfterMs ?? STALLED_AFTER_MS);
		},
		cancel() {
			cancelled = true;
			leave();
		}
	}, { highWaterMark: 0 });
	return new Response(body, { headers: streamHeaders(envelope, contentType) });
}
/** What a job failed with before it had said anything, if it does so in time. */
async function refusal(job, withinMs) {
	const ear = job.log.read();
	const read = await ear.next(withinMs);
	ear.close();
	return typeof read !== "string" && "error" in read ? read : void 0;
}
/** No `Connection`, no `Transfer-Encoding`: HTTP/2 forbids them, and Node throws. */
function streamHeaders(envelope, contentType) {
	return {
		"Content-Type": contentType,
		"Cache-Control": "no-cache, no-transform",
		"X-Accel-Buffering": "no",
		...idHeaders(envelope)
	};
}
/**
* Breaks the connection off, so that the client sees a truncated answer. What was written before is let out first,
* for `lingerMs` at most. Under @hono/node-server the socket is at hand; elsewhere the body's error has to do.
*/
async function destroy(c, controller, lingerMs = LINGER_MS) {
	const outgoing = c.env?.outgoing;
	if (outgoing === void 0) {
		controller.error(/* @__PURE__ */ new Error("the run failed"));
		return;
	}
	const until = Date.now() + lingerMs;
	while ((!outgoing.headersSent || outgoing.writableLength > 0) && Date.now() < until) await setTimeout$1(5);
	if (lingerMs > 0) await setTimeout$1(READ_MS);
	if (outgoing.stream === void 0) outgoing.destroy();
	else outgoing.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
}
//#endregion
//#region transports/msgpack.ts
/**
* msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md) as realtime sessions speak it: one value a frame.
*
* Writing: no msgpackr records, which no other library reads; `undefined` is nil; binary data as `Uint8Array` alone,
* because msgpackr writes other typed arrays wrongly. Reading: a frame is walked before it is decoded, so that nothing
* is allocated on the word of a length that the frame cannot hold, and nesting ends before the stack does.
*/
/** The frame is not one msgpack value of the kind that is taken. Its message may be shown. */
var MsgpackError = class extends Error {
	name = "MsgpackError";
};
/** Levels of nesting; a request has three. */
const MAX_DEPTH = 16;
/** The extension type of timestamps, the only one that is taken. */
const TIMESTAMP = -1;
const packr = new Packr({
	useRecords: false,
	encodeUndefinedAsNil: true
});
const unpackr = new Unpackr({
	useRecords: false,
	mapsAsObjects: true,
	int64AsType: "bigint"
});
/** Throws TypeError for binary data that is not a `Uint8Array`. */
function pack(value) {
	refuseForeignBinary(value, MAX_DEPTH);
	return new Uint8Array(packr.pack(value));
}
/** @throws MsgpackError */
function unpack(frame) {
	if (skip(new DataView(frame.buffer, frame.byteOffset, frame.byteLength), 0, MAX_DEPTH) !== frame.byteLength) throw new MsgpackError("a frame holds one msgpack value; this one holds more");
	try {
		return unpackr.unpack(frame);
	} catch {
		throw new MsgpackError("the frame is not valid msgpack");
	}
}
/** The offset after the value at `at`. */
function skip(view, at, depth) {
	const size = view.byteLength;
	const need = (offset, bytes) => {
		if (offset + bytes > size) throw new MsgpackError("the frame ends in the middle of a value");
		return offset + bytes;
	};
	const items = (offset, count) => {
		if (depth === 0) throw new MsgpackError(`values may be nested ${MAX_DEPTH} deep`);
		need(offset, count);
		let next = offset;
		for (let index = 0; index < count; index++) next = skip(view, next, depth - 1);
		return next;
	};
	const unsigned = (offset, bytes) => {
		need(offset, bytes);
		return bytes === 1 ? view.getUint8(offset) : bytes === 2 ? view.getUint16(offset) : view.getUint32(offset);
	};
	const extension = (offset, bytes) => {
		need(offset, 1 + bytes);
		const type = view.getInt8(offset);
		if (!(type === TIMESTAMP && (bytes === 4 || bytes === 8 || bytes === 12))) throw new MsgpackError(`extension type ${type} is not taken`);
		return offset + 1 + bytes;
	};
	const head = unsigned(at, 1);
	const body = at + 1;
	if (head <= 127 || head >= 224) return body;
	if (head <= 143) return items(body, 2 * (head & 15));
	if (head <= 159) return items(body, head & 15);
	if (head <= 191) return need(body, head & 31);
	switch (head) {
		case 192:
		case 194:
		case 195: return body;
		case 196:
		case 217: return need(body + 1, unsigned(body, 1));
		case 197:
		case 218: return need(body + 2, unsigned(body, 2));
		case 198:
		case 219: return need(body + 4, unsigned(body, 4));
		case 199: return extension(body + 1, unsigned(body, 1));
		case 200: return extension(body + 2, unsigned(body, 2));
		case 201: return extension(body + 4, unsigned(body, 4));
		case 204:
		case 208: return need(body, 1);
		case 205:
		case 209: return need(body, 2);
		case 202:
		case 206:
		case 210: return need(body, 4);
		case 203:
		case 207:
		case 211: return need(body, 8);
		case 212:
		case 213:
		case 214:
		case 215:
		case 216: return extension(body, 2 ** (head - 212));
		case 220: return items(body + 2, unsigned(body, 2));
		case 221: return items(body + 4, unsigned(body, 4));
		case 222: return items(body + 2, 2 * unsigned(body, 2));
		case 223: return items(body + 4, 2 * unsigned(body, 4));
		default: throw new MsgpackError("the frame is not valid msgpack");
	}
}
function refuseForeignBinary(value, depth) {
	if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
	if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) throw new TypeError("only Uint8Array can be sent as binary data");
	if (depth === 0) throw new TypeError(`events may be nested ${MAX_DEPTH} deep`);
	for (const field of Object.values(value)) refuseForeignBinary(field, depth - 1);
}
//#endregion
//#region transports/realtime-session.ts
/**
* One realtime session: many requests over one connection, pictures both ways. No sockets here: a session talks to a
* `Line`, which may break and be replaced by another while the session goes on.
*
* A message is a request, unless its `type` says that it is about one: `cancel`, `update`, or `defaults`, which lays
* fields under every later request of the session.
*
* - *Latest wins* (the default): one request runs, `maxBuffering` wait, and a newer one supersedes the oldest of those;
*   with `interrupt` it also stops the one that runs. What was superseded is told in a control frame, not as an error.
* - `mode: "queue"`: every request is answered, several may be under way, in order where one runs at a time.
*
* Each output carries the `request_id` of its request and `event_id`, its number within it. After a broken line, outputs
* continue where the client says (`after`), or else behind the last one that was handed to the old line.
*/
/** fal's bounds of `max_buffering`. */
const BUFFERING = {
	min: 1,
	max: 60
};
/** Bytes of requests that wait in a session, at most; a single one may be larger. */
const MAX_WAITING_BYTES = 64 * 2 ** 20;
/** Frames that make no sense before a session is ended with 1008. */
const MAX_MALFORMED = 10;
/** Ended requests whose outputs are kept for a client that comes back. */
const MAX_ENDED = 8;
const FOREVER = 2 ** 31 - 1;
function createSession(jobs, options) {
	const { graceMs, owner, onError } = options;
	const buffering = options.maxBuffering ?? (options.queue ? BUFFERING.max : BUFFERING.min);
	const active = /* @__PURE__ */ new Map();
	const waiting = [];
	let defaults = {};
	let line;
	let malformed = 0;
	let over = false;
	const controlled = (action, more) => line?.control({
		type: "x-fal-message",
		action,
		...more
	});
	function refuse(error, requestId, inputId) {
		const failure = failureOf(error);
		if (failure.status >= 500 && failure.detail === "Internal error") onError?.(error, requestId);
		const event = errorEvent(failure, envelopeOf({
			request_id: requestId,
			input_id: inputId
		}));
		line?.send(pack({
			...event,
			request_id: requestId
		})).catch(() => {});
		complain(failure, requestId);
	}
	/** The error in the form that fal's client raises. */
	function complain(failure, requestId) {
		const { detail } = failure;
		const reason = typeof detail === "string" ? detail : detail.map(({ loc, msg }) => `${loc.slice(1).join(".")}: ${msg}`).join("; ");
		line?.control({
			type: "x-fal-error",
			error: `HTTP_${failure.status}`,
			reason,
			request_id: requestId
		});
	}
	function submit({ requestId, input, bytes }) {
		let job;
		try {
			job = jobs.submit(input, {
				owner,
				graceMs
			});
		} catch (error) {
			refuse(error, requestId, input.input_id);
			return;
		}
		const { maxFps } = envelopeOf(input).previews;
		const entry = {
			requestId,
			input,
			bytes,
			job,
			pace: previewPace(maxFps),
			reader: void 0,
			sent: 0,
			superseded: false
		};
		active.set(requestId, entry);
		job.ended.then(next);
		if (line !== void 0) follow(entry, line);
		else job.watch().close();
	}
	/** In latest-wins mode: lets the next one begin when none runs. */
	function next() {
		if (over) return;
		const ended = [...active.values()].filter(({ job }) => job.endedAt !== void 0);
		for (const { requestId, reader } of ended.slice(0, Math.max(0, ended.length - MAX_ENDED))) if (reader === void 0) active.delete(requestId);
		if (waiting.length === 0 || running().length > 0) return;
		submit(waiting.shift());
	}
	const waitingBytes = () => waiting.reduce((sum, { bytes }) => sum + bytes, 0);
	const running = () => [...active.values()].filter(({ job }) => job.endedAt === void 0);
	function request(message) {
		const { mode, interrupt, ...given } = message;
		const fields = {
			...defaults,
			...given
		};
		const requestId = typeof fields.request_id === "string" ? fields.request_id : randomUUID();
		let input;
		try {
			const { image_bytes, ...rest } = fields;
			const raw = {
				...rest,
				request_id: requestId,
				...image_bytes !== void 0 && { image: image_bytes }
			};
			input = options.parse === void 0 ? raw : options.parse(raw);
		} catch (error) {
			refuse(error, requestId.slice(0, 128), fields.input_id);
			return;
		}
		const namesake = active.get(requestId);
		if (namesake !== void 0 && namesake.job.endedAt === void 0) {
			refuse(Object.assign(/* @__PURE__ */ new Error("this request_id is under way; choose another"), { status: 409 }), requestId, fields.input_id);
			return;
		}
		if (mode === "queue" || options.queue && mode !== "latest") {
			if (running().length >= buffering) {
				refuse(Object.assign(/* @__PURE__ */ new Error(`${buffering} requests of this session are under way`), {
					status: 429,
					retryAfter: 1
				}), requestId, fields.input_id);
				return;
			}
			submit({
				requestId,
				input,
				bytes: bytesOf(input)
			});
			return;
		}
		const bytes = bytesOf(input);
		if (options.hasRoom?.(bytes) === false) {
			refuse(Object.assign(/* @__PURE__ */ new Error("too much waits already"), {
				status: 503,
				retryAfter: 1
			}), requestId, fields.input_id);
			return;
		}
		waiting.push({
			requestId,
			input,
			bytes
		});
		if (interrupt === true) for (const entry of running()) {
			entry.superseded = true;
			entry.job.cancel();
		}
		next();
		const tooMany = () => waiting.length > buffering || waitingBytes() > MAX_WAITING_BYTES;
		while (waiting.length > 1 && (interrupt === true || tooMany())) controlled("superseded", { request_id: waiting.shift().requestId });
	}
	/** Hands what a job says to `over`, until it has ended or the line is another. */
	async function follow(entry, over) {
		const { job, pace, requestId } = entry;
		const envelope = {
			...envelopeOf(entry.input),
			requestId,
			jobId: job.id
		};
		let reader;
		try {
			reader = job.watch({
				after: entry.sent,
				graceMs,
				holdMs: (slot) => over.clear ? pace.holdMs(slot) : Number.POSITIVE_INFINITY
			});
		} catch (error) {
			active.delete(requestId);
			refuse(error, requestId);
			return;
		}
		entry.reader = reader;
		try {
			for (;;) {
				const read = await reader.next(FOREVER);
				if (read === "quiet") continue;
				if (read === "ended" || read === "lost" || line !== over) break;
				await deliver(entry, read, envelope, over);
			}
		} catch {} finally {
			reader.close();
			if (entry.reader === reader) entry.reader = void 0;
			next();
		}
	}
	async function deliver(entry, read, envelope, over) {
		let message;
		let failure;
		const failed = (error) => {
			failure = failureOf(error);
			if (failure.status >= 500) onError?.(error, entry.requestId);
			return errorEvent(failure, envelope);
		};
		if ("error" in read) {
			if (entry.superseded) {
				entry.sent = read.id;
				over.control({
					type: "x-fal-message",
					action: "superseded",
					request_id: entry.requestId
				});
				return;
			}
			message = failed(read.error);
		} else try {
			message = await wireEvent(read.event, envelope, asBytes);
		} catch (error) {
			message = failed(error);
			entry.job.cancel(error);
		}
		if (line !== over) return;
		const frame = pack({
			...message,
			event_id: read.id
		});
		if (read.slot !== void 0) pace(entry, read.slot, over);
		await over.send(frame);
		entry.sent = read.id;
		if (failure !== void 0 && failure.status !== 499) complain(failure, entry.requestId);
	}
	function pace(entry, slot, over) {
		entry.pace.sent(slot);
		if (slot === "preview") over.previewSent();
	}
	return {
		get busy() {
			return waiting.length > 0 || [...active.values()].some(({ reader, job }) => reader !== void 0 || job.endedAt === void 0);
		},
		get requests() {
			return [...active.keys(), ...waiting.map(({ requestId }) => requestId)];
		},
		get waitingBytes() {
			return waitingBytes();
		},
		receive(message) {
			if (typeof message !== "object" || message === null || Array.isArray(message) || message instanceof Uint8Array) {
				this.malformed("a message is a map of fields");
				return;
			}
			const { type, ...fields } = message;
			const target = typeof fields.request_id === "string" ? active.get(fields.request_id) : void 0;
			switch (type) {
				case void 0:
				case null:
				case "request":
					request(fields);
					return;
				case "defaults": {
					const { request_id: _, input_id: __, ...kept } = fields;
					defaults = kept;
					return;
				}
				case "cancel": {
					const at = waiting.findIndex(({ requestId }) => requestId === fields.request_id);
					if (at >= 0) {
						const [gone] = waiting.splice(at, 1);
						refuse(new DOMException("Cancelled", "AbortError"), gone.requestId);
						return;
					}
					if (fields.request_id === void 0 || fields.request_id === null) {
						waiting.length = 0;
						for (const { job } of active.values()) job.cancel();
					} else if (!target?.job.cancel()) controlled("not-found", { request_id: fields.request_id });
					return;
				}
				case "update":
					try {
						const change = options.parseUpdate === void 0 ? fields : options.parseUpdate(fields);
						if (!target?.job.update(change)) controlled("not-found", { request_id: fields.request_id });
					} catch (error) {
						complain(failureOf(error), typeof fields.request_id === "string" ? fields.request_id : void 0);
					}
					return;
				default:
					this.malformed("unknown type; known are request, cancel, update and defaults");
					return;
			}
		},
		malformed(reason) {
			complain({
				status: 400,
				detail: reason
			});
			if (++malformed >= MAX_MALFORMED) line?.close(1008, "too many malformed messages");
		},
		attach(fresh, after) {
			line = fresh;
			for (const entry of active.values()) {
				entry.sent = after?.get(entry.requestId) ?? entry.sent;
				if (entry.sent < entry.job.log.lastId || !entry.job.log.ended) follow(entry, fresh);
			}
			next();
		},
		detach() {
			line = void 0;
			for (const { reader } of active.values()) reader?.close();
		},
		wake() {
			for (const { reader } of active.values()) reader?.wake();
		},
		end() {
			over = true;
			line = void 0;
			waiting.length = 0;
			for (const { job, reader } of active.values()) {
				reader?.close();
				job.cancel();
			}
		}
	};
}
function asBytes({ bytes, content_type, width, height }) {
	return {
		content: bytes,
		content_type,
		width,
		height
	};
}
//#endregion
//#region transports/websocket.ts
/**
* Realtime sessions over WebSocket: `app.get("/realtime", realtime(run))`. What a session does is in
* `realtime-session.ts`; this file is its connection. Wants a server that was given a `WebSocketServer`, as `listen` does.
*
* - Frames from the server are msgpack; control frames are JSON as text. A client may write its messages as JSON too.
* - A socket has no back-pressure of its own, so a droppable frame is sent only while little is buffered and fewer than
*   two previews are on their way: each is followed by a ping, and its pong says that the client's end has taken it. A
*   client that takes 400 ms a picture gets one every 400 ms, always the newest.
* - A client that sends and does not read is not read from either while 1 MB of answers is under way to it.
* - Query: `max_buffering` (1..60), `mode=queue`, and `session` with `after=request:event,…` to take up a session whose
*   connection broke. The token comes in the first control frame: `{"type":"x-fal-message","action":"session",…}`.
* - Close codes: 1008 too many frames without sense, 1009 too large, 1011 a fault of ours, 1012 restarting, 1013 no room.
*/
const PING_MS = 2e4;
const BUFFERED_BYTES = 256 * 1024;
/** Bytes of answers under way to a client above which it is not read from. */
const UNREAD_BYTES = 2 ** 20;
const MAX_DETACHED = 256;
/** Bytes of requests that wait in all sessions together; beyond it a request is refused with 503. */
const WAITING_BYTES = 256 * 2 ** 20;
/** Previews on their way to a client that has not taken them. */
const PREVIEWS_UNTAKEN = 2;
/** The payload of a ping that follows a preview. */
const AFTER_PREVIEW = "preview";
/** What a client that leaves on purpose says: finished, page closed, nothing. */
const ON_PURPOSE = new Set([
	1e3,
	1001,
	1005
]);
const sessionOf = /* @__PURE__ */ new WeakMap();
/** Whether a session of this socket still has something to say; for a server that is about to end. */
function isBusy(socket) {
	return sessionOf.get(socket)?.busy ?? false;
}
function realtime(source, options = {}) {
	const jobs = jobsOf(source, { concurrency: 1 });
	const { graceMs = RESUME.sessionMs, pingMs = PING_MS, bufferedBytes = BUFFERED_BYTES, maxDetached = MAX_DETACHED } = options;
	/** Sessions by their token, those without a line in the order in which they lost it. */
	const sessions = /* @__PURE__ */ new Map();
	const detached = /* @__PURE__ */ new Set();
	function hasRoom(bytes) {
		let sum = bytes;
		for (const { session } of sessions.values()) sum += session.waitingBytes;
		return sum <= WAITING_BYTES;
	}
	function giveUp(token) {
		const held = sessions.get(token);
		clearTimeout(held?.expiry);
		sessions.delete(token);
		detached.delete(token);
		held?.session.end();
	}
	function open(c) {
		const owner = options.ownerOf?.(c);
		const asked = c.req.query("session") ?? "";
		const known = sessions.get(asked);
		if (known !== void 0 && known.owner === owner) {
			clearTimeout(known.expiry);
			detached.delete(asked);
			return {
				token: asked,
				held: known,
				resumed: true
			};
		}
		const token = randomBytes(24).toString("base64url");
		const buffering = Number(c.req.query("max_buffering") ?? NaN);
		const held = {
			session: createSession(jobs, {
				...options,
				graceMs,
				owner,
				hasRoom,
				queue: c.req.query("mode") === "queue",
				maxBuffering: Number.isInteger(buffering) ? Math.min(Math.max(buffering, BUFFERING.min), BUFFERING.max) : void 0
			}),
			owner
		};
		sessions.set(token, held);
		return {
			token,
			held,
			resumed: false
		};
	}
	return upgradeWebSocket((c) => {
		const within = AsyncLocalStorage.snapshot();
		let session;
		let token;
		let ping;
		return {
			onOpen(_, ws) {
				const socket = ws.raw;
				const opened = open(c);
				const { held } = opened;
				({token} = opened);
				session = held.session;
				const old = held.socket;
				held.socket = socket;
				sessionOf.set(socket, session);
				old?.terminate();
				let answered = true;
				let untaken = 0;
				const line = {
					send: (frame) => new Promise((resolve, reject) => {
						socket.send(frame, (error) => {
							session.wake();
							if (socket.isPaused && socket.bufferedAmount < UNREAD_BYTES) socket.resume();
							if (error) reject(error);
							else resolve();
						});
					}),
					control: (message) => {
						socket.send(JSON.stringify(message), () => {
							if (socket.isPaused && socket.bufferedAmount < UNREAD_BYTES) socket.resume();
						});
						if (socket.bufferedAmount > UNREAD_BYTES) socket.pause();
					},
					get clear() {
						return untaken < PREVIEWS_UNTAKEN && socket.bufferedAmount < bufferedBytes;
					},
					previewSent() {
						untaken++;
						setImmediate(() => socket.readyState === socket.OPEN && socket.ping(AFTER_PREVIEW, void 0, () => {}));
					},
					close: (code, reason) => socket.close(code, reason)
				};
				socket.on("pong", (data) => {
					answered = true;
					if (data.toString() !== AFTER_PREVIEW) return;
					untaken = Math.max(0, untaken - 1);
					session.wake();
				});
				ping = setInterval(() => {
					if (answered) socket.ping();
					else socket.terminate();
					answered = false;
				}, pingMs);
				line.control({
					type: "x-fal-message",
					action: "session",
					session: token,
					resumed: opened.resumed,
					resume_within_s: graceMs / 1e3,
					requests: session.requests
				});
				session.attach(line, opened.resumed ? afterOf(c.req.query("after") ?? "") : void 0);
			},
			onMessage({ data }, ws) {
				const socket = ws.raw;
				if (sessions.get(token)?.socket !== socket) return;
				try {
					const message = typeof data === "string" ? JSON.parse(data) : unpack(new Uint8Array(data));
					within(() => session.receive(message));
				} catch (error) {
					if (error instanceof MsgpackError) session.malformed(error.message);
					else if (error instanceof SyntaxError) session.malformed("the frame is text, but not JSON");
					else {
						options.onError?.(error, "");
						socket.close(1011, "internal error");
					}
				}
			},
			onClose({ code }, ws) {
				clearInterval(ping);
				const held = sessions.get(token);
				if (held === void 0 || held.socket !== ws.raw) return;
				held.socket = void 0;
				if (ON_PURPOSE.has(code) || graceMs <= 0) return giveUp(token);
				session.detach();
				detached.add(token);
				held.expiry = setTimeout(() => giveUp(token), graceMs).unref();
				const [oldest] = detached;
				if (detached.size > maxDetached) giveUp(oldest);
			}
		};
	});
}
/** `request:event,request:event` as a map; what makes no sense is left out. */
function afterOf(text) {
	const after = /* @__PURE__ */ new Map();
	for (const part of text.split(",").slice(0, BUFFERING.max)) {
		const [, request, event] = /^(.{1,128}):(\d{1,15})$/.exec(part) ?? [];
		if (request !== void 0) after.set(request, Number(event));
	}
	return after;
}
//#endregion
//#region transports/app.ts
/**
* The server's routes, put together. Each transport stands alone; this file only says which answers where.
*/
function createApp(options) {
	const { health, onError, model, limits = {}, gate: gateOptions, metrics, unready, onRequest, webhooks } = options;
	const { resume: patience = {} } = options;
	const jobs = createJobs(observedRun(options.run, metrics === void 0 ? [tracedJobs] : [tracedJobs, metrics.observe]), {
		concurrency: 1,
		queuedEvent: (position) => ({
			type: "queued",
			position
		}),
		...options.jobs
	});
	traceSubmissions(jobs);
	metrics?.jobs(jobs);
	const app = new Hono();
	app.use(tracedRequests);
	if (metrics !== void 0) app.use(metrics.requests);
	if (onRequest !== void 0) app.use(requestLog(onRequest, gateOptions?.proxies ?? 0));
	const { authenticator = createAuthenticator({ keys: [] }), ...guarded } = gateOptions ?? {};
	const passed = {
		corsOrigins: [],
		proxies: 0,
		model: model?.name ?? "",
		...guarded
	};
	let ending = false;
	const draining = () => ending || (guarded.draining?.() ?? false);
	app.use(gate({
		...passed,
		authenticator,
		draining
	}));
	const allowed = (request) => {
		checkGeneration(request, limits, model);
		return request;
	};
	const input = {
		parse: (raw, source) => allowed(parse(raw, source)),
		maxBodyBytes: limits.bodyBytes,
		onError,
		ownerOf
	};
	app.route("/", playground());
	app.get("/", (c) => c.text(hello(addressOf(c))));
	app.get("/health", (c) => c.json({
		status: "ok",
		...health()
	}));
	app.get("/ready", (c) => {
		const reason = draining() ? "draining" : unready?.();
		return reason === void 0 ? c.json({ status: "ready" }) : c.json({
			status: "unready",
			reason
		}, 503);
	});
	if (metrics !== void 0) app.get("/metrics", metrics.route);
	app.post("/", json(jobs, {
		...input,
		parse: (...raw) => ({
			...input.parse(...raw),
			preview_every: 0
		})
	}));
	app.on(["GET", "POST"], "/stream", sse(jobs, {
		...input,
		maxGraceS: patience.streamSeconds
	}));
	app.get("/stream/:job", resume(jobs, {
		onError,
		ownerOf
	}));
	const ask = {
		parse: (raw) => {
			if (draining()) throw new JobError("draining", "The server is restarting", RESTART_SECONDS);
			return input.parse(raw, "body");
		},
		parseUpdate,
		onError,
		ownerOf,
		graceMs: patience.sessionMs
	};
	app.get("/realtime", realtime(jobs, ask));
	app.get("/realtime", () => failureResponse({
		status: 426,
		detail: "This is a WebSocket"
	}, { Upgrade: "websocket" }));
	app.get("/jobs/:job", jobStatus(jobs, { ownerOf }));
	app.delete("/jobs/:job", cancelJob(jobs, { ownerOf }));
	app.patch("/jobs/:job", updateJob(jobs, {
		parse: parseUpdate,
		ownerOf
	}));
	app.route("/queue", queue(jobs, {
		...input,
		webhooks,
		trustForwarded: passed.proxies > 0
	}));
	app.post("/auth/token", tokenRoute(authenticator));
	if (model !== void 0) {
		const { countTokens } = model;
		app.route("/v1", openaiImages(jobs, {
			model,
			countTokens,
			allowed,
			maxBodyBytes: limits.bodyBytes,
			onError
		}));
	}
	const document = () => {
		const patterns = new Set(app.routes.map(({ method, path }) => `${method} ${path.replace(/\{[^}]*\}/g, "")}`));
		const present = ({ method, path }) => patterns.has(`${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ":$1")}`);
		return openapiDocument({
			version: String(health().version ?? "0.0.0"),
			secured: authenticator.required,
			present
		});
	};
	app.get("/openapi.json", (c) => c.json(document()));
	app.get("/docs", () => docsPage(document()));
	app.notFound((c) => refusal$1(c, {
		status: 404,
		detail: "Not Found"
	}));
	app.onError((error, c) => {
		const failure = failureOf(error);
		if (failure.status >= 500) onError?.(error);
		return refusal$1(c, failure);
	});
	return Object.assign(app, { drain(graceMs) {
		ending = true;
		return jobs.drain(graceMs);
	} });
}
/** Seconds after which another process has probably taken over. */
const RESTART_SECONDS = 5;
function parse(raw, source) {
	return parseRemoteGeneration(source === "query" ? fromQuery(raw) : raw);
}
const NUMBER_FIELDS = new Set([
	"width",
	"height",
	"num_inference_steps",
	"guidance_scale",
	"num_images",
	"preview_every",
	"preview_max_fps",
	"preview_size",
	"preview_quality",
	"strength"
]);
/** A query is all strings; what should be a number and looks like one becomes one, the rest is left for the schema. */
function fromQuery(query) {
	return Object.fromEntries(Object.entries(query).map(([name, text]) => {
		if (name === "few_step" && (text === "true" || text === "false")) return [name, text === "true"];
		const number = NUMBER_FIELDS.has(name) && text.trim() !== "" ? Number(text) : NaN;
		return [name, Number.isNaN(number) ? text : number];
	}));
}
/** Where the app is, whatever it is mounted below; no slash at the end. */
function addressOf(c) {
	const { origin, pathname } = wholeAddress(c);
	return `${origin}${pathname}`.replace(/\/+$/, "");
}
function hello(origin) {
	return `Daguerre is up. Watch a picture develop:

  curl -N ${origin}/stream -H 'content-type: application/json' -d '{"prompt":"a lighthouse at sunset"}'

POST /          the finished picture, as JSON
POST /stream    the picture while it forms, as server-sent events (GET /stream?prompt=… does the same)
GET  /stream/{job}    the same stream from after Last-Event-ID; DELETE /jobs/{job} cancels
GET  /health    which model runs, on which adapter
`;
}
//#endregion
//#region transports/mount.ts
/** Room for a starting picture of the size that `LIMITS.imageBytes` allows, raw, and the words around it. */
const FRAME_BYTES = 21 * 1024 * 1024;
/** WebSocket close code: the service restarts, and its clients may come back. */
const RESTARTING = 1012;
/** Milliseconds that a client has to answer a close. */
const CLOSE_MS = 1e3;
const IDLE_SWEEP_MS$1 = 100;
/** @param base a path without a slash at its end; empty: the whole server */
function mount(app, base = "", { frameBytes = FRAME_BYTES } = {}) {
	if (!/^(\/[^/?#]+)*$/.test(base)) throw new TypeError(`'${base}' is not a path such as /pictures`);
	const sockets = new WebSocketServer({
		noServer: true,
		maxPayload: frameBytes
	});
	const answer = getRequestListener(app.fetch);
	const upgrades = createAdaptorServer({
		fetch: app.fetch,
		websocket: { server: sockets }
	});
	/** Takes `base` away from the request's address; false where it has another. */
	function enter(request) {
		const whole = request.originalUrl ?? request.url ?? "/";
		const rest = whole.slice(base.length);
		if (!whole.startsWith(base) || !/^$|^[/?]/.test(rest)) return base === "";
		request.originalUrl = whole;
		request.url = rest.startsWith("/") ? rest : `/${rest}`;
		return true;
	}
	return {
		sockets,
		request(request, response, next) {
			if (!enter(request)) {
				next?.();
				return false;
			}
			const [path, query] = request.originalUrl.split("?");
			if (base !== "" && path === base) {
				response.writeHead(308, { Location: `${base}/${query === void 0 ? "" : `?${query}`}` }).end();
				return true;
			}
			restoreBody(request);
			answer(request, response);
			return true;
		},
		upgrade(request, socket, head) {
			if (!enter(request)) return;
			if (request.headers.upgrade?.toLowerCase() === "websocket") {
				upgrades.emit("upgrade", request, socket, head);
				return;
			}
			socket.on("error", () => {});
			socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", () => socket.destroy());
		},
		async close(graceMs = 0) {
			const until = performance.now() + graceMs;
			const open = () => [...sockets.clients].filter(({ readyState, OPEN }) => readyState === OPEN);
			for (;;) {
				const over = performance.now() >= until;
				for (const socket of open()) if (over || !isBusy(socket)) socket.close(RESTARTING, "restarting");
				if (sockets.clients.size === 0) return;
				if (over) break;
				await setTimeout$1(Math.min(IDLE_SWEEP_MS$1, until - performance.now()));
			}
			const answered = performance.now() + CLOSE_MS;
			while (sockets.clients.size > 0 && performance.now() < answered) await setTimeout$1(IDLE_SWEEP_MS$1 / 5);
			for (const socket of sockets.clients) socket.terminate();
		}
	};
}
/** `express.json()` before us has read the body; what it made of it becomes a body again. */
function restoreBody(request) {
	const { body, rawBody, readableEnded } = request;
	if (!readableEnded || body === void 0 || rawBody instanceof Buffer) return;
	request.rawBody = body instanceof Buffer || typeof body === "string" ? Buffer.from(body) : Buffer.from(JSON.stringify(body));
}
//#endregion
//#region transports/listen.ts
/** An app on a port of this machine, and its orderly end. */
const IDLE_SWEEP_MS = 100;
/** Bytes of a request's headers. Node's own default, written down because a limit is relied on. */
const MAX_HEADER_BYTES = 16 * 1024;
/** Slow requests are looked for this often; Node's default of 30 s would let each live so much longer. */
const SLOW_SWEEP_MS = 1e3;
/**
* @param port 0 takes any free one
* @throws the system's error (`EADDRINUSE`, `EACCES`) when the port cannot be had
*/
function listen(app, port, hostname, { connections, headersMs, requestMs, onServer, ...options } = {}) {
	const mounted = mount(app, "", options);
	const server = createServer({
		maxHeaderSize: MAX_HEADER_BYTES,
		connectionsCheckingInterval: SLOW_SWEEP_MS,
		...headersMs !== void 0 && { headersTimeout: headersMs },
		...requestMs !== void 0 && { requestTimeout: requestMs }
	}, mounted.request);
	server.on("upgrade", mounted.upgrade);
	if (connections !== void 0) server.maxConnections = connections;
	onServer?.(server, mounted.sockets);
	return new Promise((resolve, reject) => {
		server.once("error", reject);
		server.listen(port, hostname, () => {
			server.off("error", reject);
			const { port } = server.address();
			resolve({
				url: `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`,
				port,
				close: (graceMs = 0) => close(server, mounted, graceMs)
			});
		});
	});
}
async function close(server, mounted, graceMs) {
	const closed = new Promise((resolve, reject) => {
		server.close((error) => error === void 0 ? resolve() : reject(error));
	});
	const cut = setTimeout(() => server.closeAllConnections(), graceMs);
	const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
	try {
		await Promise.all([closed, mounted.close(graceMs)]);
	} finally {
		clearTimeout(cut);
		clearInterval(sweep);
	}
}
//#endregion
//#region transports/metrics.ts
/** Seconds. A step is 5 ms on a fast GPU with a small model and a minute on a software one with a large model. */
const STEP_BUCKETS = [
	.005,
	.01,
	.025,
	.05,
	.1,
	.25,
	.5,
	1,
	2.5,
	5,
	10,
	30,
	60
];
const JOB_BUCKETS = [
	.05,
	.1,
	.25,
	.5,
	1,
	2.5,
	5,
	10,
	30,
	60,
	120,
	300,
	600
];
function createMetrics({ device } = {}) {
	const registry = new Registry();
	const registers = [registry];
	collectDefaultMetrics({ register: registry });
	let store;
	new Gauge({
		name: "daguerre_jobs",
		help: "Jobs that are held, by state",
		labelNames: ["state"],
		registers,
		collect() {
			for (const [state, count] of Object.entries(store?.counts() ?? {})) this.set({ state }, count);
		}
	});
	const gauge = (name, help, value) => new Gauge({
		name,
		help,
		registers,
		collect() {
			this.set(value());
		}
	});
	gauge("daguerre_queue_depth", "Jobs that wait for their turn", () => store?.counts().queued ?? 0);
	gauge("daguerre_job_log_bytes", "Bytes held by the logs of jobs", () => store?.bytes ?? 0);
	const ended = new Counter({
		name: "daguerre_jobs_total",
		help: "Jobs that ended, by how",
		labelNames: ["outcome"],
		registers
	});
	for (const outcome of [
		"completed",
		"cancelled",
		"failed"
	]) ended.inc({ outcome }, 0);
	const histogram = (name, help, buckets) => new Histogram({
		name,
		help,
		buckets,
		registers
	});
	const firstEvent = histogram("daguerre_first_event_seconds", "From admission to a job's first event", JOB_BUCKETS);
	const firstPreview = histogram("daguerre_first_preview_seconds", "From admission to a job's first preview", JOB_BUCKETS);
	const jobTime = histogram("daguerre_job_seconds", "From admission to a job's end", JOB_BUCKETS);
	const stepTime = histogram("daguerre_step_seconds", "One denoising step", STEP_BUCKETS);
	const previews = new Counter({
		name: "daguerre_previews_total",
		help: "Previews: made; and, once for each client that watched, sent, or dropped for a newer one",
		labelNames: ["outcome"],
		registers
	});
	for (const outcome of [
		"made",
		"sent",
		"dropped"
	]) previews.inc({ outcome }, 0);
	const requests = new Counter({
		name: "daguerre_http_requests_total",
		help: "Requests answered, by route and status",
		labelNames: [
			"method",
			"route",
			"status"
		],
		registers
	});
	const requestTime = new Histogram({
		name: "daguerre_http_headers_seconds",
		help: "From a request to the headers of its answer",
		labelNames: ["route"],
		buckets: JOB_BUCKETS,
		registers
	});
	const sockets = /* @__PURE__ */ new Set();
	let sessions = () => 0;
	const closedBytes = {
		received: 0,
		sent: 0
	};
	gauge("daguerre_connections", "Open connections", () => sockets.size);
	gauge("daguerre_sessions", "Open WebSocket sessions", () => sessions());
	new Counter({
		name: "daguerre_network_bytes_total",
		help: "Bytes on the wire, by direction",
		labelNames: ["direction"],
		registers,
		collect() {
			let { received, sent } = closedBytes;
			for (const socket of sockets) {
				received += socket.bytesRead;
				sent += socket.bytesWritten;
			}
			this.reset();
			this.inc({ direction: "received" }, received);
			this.inc({ direction: "sent" }, sent);
		}
	});
	if (device !== void 0) {
		gauge("daguerre_gpu_memory_bytes", "Bytes held on the device", () => device.memoryBytes);
		gauge("daguerre_gpu_memory_peak_bytes", "Most bytes ever held on the device", () => device.peakMemoryBytes);
		gauge("daguerre_gpu_lost", "1 when the device is lost", () => Number(device.lost));
	}
	return {
		observe: () => ({ event(event, _, ms) {
			if (typeOf(event) === "progress") stepTime.observe(ms / 1e3);
		} }),
		jobs(jobs) {
			store = jobs;
			const told = /* @__PURE__ */ new WeakMap();
			jobs.observe((job, change, event, dropped) => {
				const since = () => (Date.now() - job.submittedAt) / 1e3;
				switch (change) {
					case "submitted":
						told.set(job, {
							events: 0,
							previews: 0
						});
						break;
					case "event": {
						const counts = told.get(job);
						if (counts === void 0) break;
						if (++counts.events === 1) firstEvent.observe(since());
						if (typeOf(event) !== "preview") break;
						if (++counts.previews === 1) firstPreview.observe(since());
						previews.inc({ outcome: "made" });
						break;
					}
					case "read":
						if (typeOf(event) === "preview") previews.inc({ outcome: "sent" });
						break;
					case "dropped":
						if (dropped?.slot === "preview") previews.inc({ outcome: "dropped" }, dropped.count);
						break;
					case "ended":
						if (job.state !== "queued" && job.state !== "running") ended.inc({ outcome: job.state });
						jobTime.observe(since());
						break;
				}
			});
		},
		async requests(c, next) {
			const began = performance.now();
			await next();
			const route = routeOf(c);
			requests.inc({
				method: methodOf(c),
				route,
				status: c.res.status
			});
			requestTime.observe({ route }, (performance.now() - began) / 1e3);
		},
		watch(server, webSockets) {
			sessions = () => webSockets?.clients.size ?? 0;
			server.on("connection", (socket) => {
				sockets.add(socket);
				socket.once("close", () => {
					sockets.delete(socket);
					closedBytes.received += socket.bytesRead;
					closedBytes.sent += socket.bytesWritten;
				});
			});
		},
		async route() {
			return new Response(await registry.metrics(), { headers: { "Content-Type": registry.contentType } });
		}
	};
}
function typeOf(event) {
	return event?.type;
}
const METHODS = new Set([
	"GET",
	"POST",
	"PUT",
	"DELETE",
	"HEAD",
	"OPTIONS"
]);
function methodOf(c) {
	return METHODS.has(c.req.method) ? c.req.method : "other";
}
/** The pattern that answered, not the path that was asked for: paths hold ids. */
function routeOf(c) {
	return matchedRoutes(c).map(({ path }) => path).findLast((path) => !path.endsWith("*")) ?? "none";
}
//#endregion
export { failureResponse as _, realtime as a, queue as c, jobStatus as d, updateJob as f, sessionLimit as g, rateLimit as h, createApp as i, json as l, openaiImages as m, listen as n, resume as o, gate as p, mount as r, sse as s, createMetrics as t, cancelJob as u };

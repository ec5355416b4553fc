/** `daguerre generate`: a prompt becomes a file, with the step it is at on the screen meanwhile. */
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Runtime } from "../src/engine/contract.ts";
import type { RunEvent } from "../src/engine/events.ts";
import type { GenerationInput } from "../src/engine/request.ts";
import { encodePicture, type PictureFormat, PREVIEW_QUALITY } from "../src/image/encode.ts";
import { pictureCodec } from "../src/platform/picture-codec.ts";
import { makeFolder } from "./checks.ts";
import { progressBar } from "./progress-bar.ts";

/** The options of one call of the command. */
export interface GenerateJob {
  readonly input: Omit<GenerationInput, "image" | "image_url" | "mask">;
  /** Where the picture goes; of several, the second is `name-2.png`. */
  readonly output: { readonly file: string; readonly format: PictureFormat };
  /** The file of a picture to start from. */
  readonly image?: string;
  /** The file of its mask. */
  readonly mask?: string;
  /** A folder for the previews, as `preview-005.jpg`. */
  readonly previewDir?: string;
}

/** Where the command shows what it is doing: a terminal gets a bar, anything else a line now and then. */
export interface Screen {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/**
 * Runs `job` and writes its files. Folders that are missing are made, before anything is computed.
 *
 * @returns the names of the pictures written
 * @throws what the runtime throws; the system's error when a file cannot be read or written
 */
export async function generate(
  runtime: Pick<Runtime, "textToImage" | "imageToImage" | "promptWarnings" | "adapter">,
  job: GenerateJob,
  screen: Screen & NodeJS.WritableStream,
  signal?: AbortSignal,
): Promise<string[]> {
  const { input, output, image, mask, previewDir } = job;
  await makeFolder("--output", path.dirname(output.file));
  if (previewDir !== undefined) await makeFolder("--preview-dir", previewDir);

  const early = await runtime.promptWarnings(input.prompt, input.prompt_syntax);
  for (const warning of early) screen.write(`warning: ${warning}\n`);
  const events =
    image === undefined
      ? runtime.textToImage(input, { signal })
      : runtime.imageToImage({ ...input, ...(await picturesIn({ image, mask })) }, { signal });
  const files: string[] = [];
  const progress = screen.isTTY ? bar(screen) : lines(screen);
  try {
    for await (const event of events) {
      progress.show(event);
      // Loaded while the device is at the second step, libvips holds nothing up.
      pictureCodec().catch(() => {}); // thrown where it is needed
      if (event.type === "preview" && previewDir !== undefined) {
        const { bytes } = await encodePicture(event.picture, { quality: PREVIEW_QUALITY });
        await writeFile(path.join(previewDir, `preview-${String(event.step).padStart(3, "0")}.jpg`), bytes);
      }
      if (event.type === "result") {
        progress.end();
        for (const [index, picture] of event.pictures.entries()) {
          const file = numbered(output.file, index);
          const { bytes } = await encodePicture(picture, {
            format: output.format,
            lossless: input.lossless,
            infotext: event.infotexts?.[index],
          });
          await writeFile(file, bytes);
          files.push(file);
        }
        const warnings = (event.warnings ?? []).filter((warning) => !early.includes(warning));
        screen.write(summary({ ...event, warnings }, files, runtime.adapter));
      }
    }
  } finally {
    progress.end();
  }
  return files;
}

async function picturesIn({ image, mask }: { readonly image: string; readonly mask?: string }) {
  const bytesOf = async (file: string) => new Uint8Array(await readFile(file));
  return { image: await bytesOf(image), ...(mask !== undefined && { mask: await bytesOf(mask) }) };
}

/** `out.png`, `out-2.png`, `out-3.png` */
function numbered(file: string, index: number): string {
  if (index === 0) return file;
  const { dir, name, ext } = path.parse(file);
  return path.join(dir, `${name}-${index + 1}${ext}`);
}

function summary(
  result: Extract<RunEvent, { type: "result" }>,
  files: readonly string[],
  adapter: Runtime["adapter"],
): string {
  const { width, height } = result.pictures[0] ?? { width: 0, height: 0 };
  const { total } = result.timings;
  const took = total === undefined ? "" : ` in ${(total / 1000).toFixed(1)} s`;
  const where = `${adapter.name}${adapter.kind === "software" ? ", a software GPU" : ""}`;
  const warnings = (result.warnings ?? []).map((warning) => `warning: ${warning}\n`);
  return `${warnings.join("")}${files.join(", ")}: ${width}x${height}, seed ${result.seed}${took} (${where})\n`;
}

interface Progress {
  show(event: RunEvent): void;
  end(): void;
}

function bar(screen: NodeJS.WritableStream): Progress {
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
    },
  };
}

/** Lines enough to see that it moves, not so many that a log drowns. */
const LINES = 10;

function lines(screen: Screen): Progress {
  let shown = 0;
  return {
    show(event) {
      if (event.type !== "progress") return;
      const due = Math.floor(event.progress * LINES);
      if (due === shown && event.step < event.steps) return;
      shown = due;
      screen.write(`step ${event.step}/${event.steps}  ${(event.elapsed_ms / 1000).toFixed(1)} s\n`);
    },
    end() {},
  };
}

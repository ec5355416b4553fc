/** `daguerre pull`: a model from a hub, or one file from any address, into the cache. */
import { bytesText } from "../src/hub/bytes-text.ts";
import { HubError } from "../src/hub/errors.ts";
import { type HubName, isFileName, parseHubName } from "../src/hub/hub-name.ts";
import { type PullReport, pull } from "../src/hub/pull.ts";
import { pullAddress } from "../src/hub/pull-address.ts";
import { type HubSettings, hubSettings } from "../src/hub/settings.ts";
import { quoted } from "../src/platform/quoted.ts";
import { onInterrupt } from "./interrupts.ts";
import { progressBar } from "./progress-bar.ts";

export interface PullFlags {
  readonly variant?: string;
  readonly sha256?: string;
}

type Screen = NodeJS.WritableStream & { readonly isTTY?: boolean };

const INTERRUPTED = 130;
/** Milliseconds between two lines where there is no terminal. */
const LINE_EVERY_MS = 5_000;

/**
 * Downloads what a name or an address stands for, and shows on `screen` how far it is. Ctrl-C leaves what has come.
 * @returns the path of the model; undefined if it was interrupted
 * @throws HubError
 */
export async function pullModel(
  wanted: string,
  files: readonly string[],
  { variant, sha256 }: PullFlags,
  screen: Screen,
): Promise<string | undefined> {
  const settings = await hubSettings();
  const { name, address } = whatIs(wanted, files, settings);
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256)) {
    throw new HubError("usage", "--sha256 must be 64 hexadecimal digits");
  }
  const stop = new AbortController();
  const offInterrupt = onInterrupt(() => stop.abort());
  const shown = screen.isTTY ? new Bar(screen) : new Lines(screen);
  try {
    const common = { signal: stop.signal, report: reportOn(shown, screen) };
    if (address !== undefined) return await pullAddress(settings, address, { ...common, sha256 });
    const names = name.length > 0 ? name : [];
    let path: string | undefined;
    for (const one of names) {
      const pulled = await pull(settings, one, { ...common, variant });
      path = pulled.path;
      shown.end();
      if (variant === undefined && pulled.variants.includes("fp16")) screen.write(FP16);
    }
    return path;
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    shown.end();
    screen.write("stopped: the same command goes on from here\n");
    process.exitCode = INTERRUPTED;
    return undefined;
  } finally {
    shown.end();
    offInterrupt();
  }
}

const FP16 = "took the fp16 weights; --variant plain takes those in full precision\n";

/** A model's name, or those of its files; or an address. Addresses of the hub's own pages are names too. */
function whatIs(
  wanted: string,
  files: readonly string[],
  { endpoint }: HubSettings,
): { name: readonly HubName[]; address?: string } {
  const isAddress = /^[a-z][a-z0-9+.-]*:\/\//i.test(wanted);
  const name = isAddress ? nameInAddress(wanted, endpoint) : parseHubName(wanted);
  if (name === undefined && isAddress && URL.canParse(wanted)) {
    if (files.length > 0) throw new HubError("usage", "an address stands for one file: leave out the other names");
    return { name: [], address: wanted };
  }
  if (name === undefined) {
    throw new HubError(
      "usage",
      `${quoted(wanted)} is neither a model's name on a hub (owner/name, owner/name@revision) nor an https:// address of a file`,
    );
  }
  const wrong = files.find((file) => !isFileName(file));
  if (wrong !== undefined) throw new HubError("usage", `${quoted(wrong)} is no name of a file in a repository`);
  return { name: files.length === 0 ? [name] : files.map((file) => ({ ...name, file })) };
}

/** `https://hub/owner/name`, `…/tree/REVISION`, `…/blob/REVISION/FILE`, `…/resolve/REVISION/FILE` */
function nameInAddress(text: string, endpoint: string): HubName | undefined {
  if (!text.startsWith(`${endpoint}/`)) return undefined;
  const { pathname } = new URL(text);
  const inside = pathname.slice(new URL(`${endpoint}/`).pathname.length);
  const [owner = "", name = "", kind, revision, ...file] = inside.split("/").map(decodeURIComponent);
  const at = revision === undefined ? "" : `@${revision}`;
  if (kind === undefined || kind === "tree") return parseHubName(`${owner}/${name}${at}`);
  if (kind !== "blob" && kind !== "resolve") return undefined;
  return parseHubName(`${[owner, name, ...file].join("/")}${at}`);
}

function reportOn(shown: Bar | Lines, screen: Screen): PullReport {
  return {
    begins({ name, revision, files, bytes, present }) {
      const there = present === 0 ? "" : `, ${bytesText(present)} of it there`;
      const at = /^[0-9a-f]{40}$/.test(revision) ? `at ${revision.slice(0, 7)}` : `from ${revision}`;
      const count = files === 1 ? "1 file" : `${files} files`;
      screen.write(`${name} ${at}: ${count}, ${bytesText(bytes)}${there}\n`);
      shown.begin(present, bytes);
    },
    progress: (bytes, total) => shown.show(bytes, total),
    waits: (seconds) => {
      screen.write(`the hub asks to wait: ${seconds} s\n`);
    },
  };
}

class Bar {
  readonly #bar;
  #isShown = false;
  #begun = 0;
  #present = 0;

  constructor(screen: Screen) {
    this.#bar = progressBar(screen, "{bar} {percentage}%  {done} of {all}  {speed}/s  {duration_formatted}");
  }

  begin(present: number, total: number): void {
    this.#begun = performance.now();
    this.#present = present;
    this.#isShown = true;
    this.#bar.start(Math.max(total, 1), present, this.#words(present, total));
  }

  show(bytes: number, total: number): void {
    this.#bar.setTotal(Math.max(total, 1));
    this.#bar.update(bytes, this.#words(bytes, total));
  }

  #words(bytes: number, total: number) {
    const seconds = Math.max((performance.now() - this.#begun) / 1000, 0.001);
    const speed = bytesText(Math.max(0, Math.round((bytes - this.#present) / seconds)));
    return { done: bytesText(bytes), all: bytesText(total), speed };
  }

  end(): void {
    if (this.#isShown) this.#bar.stop();
    this.#isShown = false;
  }
}

class Lines {
  readonly #screen: Screen;
  #last = 0;

  constructor(screen: Screen) {
    this.#screen = screen;
  }

  begin(): void {
    this.#last = performance.now();
  }

  show(bytes: number, total: number): void {
    if (performance.now() - this.#last < LINE_EVERY_MS) return;
    this.#last = performance.now();
    this.#screen.write(
      `${bytesText(bytes)} of ${bytesText(total)} (${Math.floor((100 * bytes) / Math.max(total, 1))}%)\n`,
    );
  }

  end(): void {}
}

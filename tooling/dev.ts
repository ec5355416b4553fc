/**
 * `npm run dev -- [flags of daguerre serve]`: the server from its sources, and the page.
 *
 * A change in the server's sources restarts the server. A change in `playground/` builds the page into `dist/playground`
 * and restarts the server too, because the server reads the page once. The server runs in a process group of its own, so
 * that a restart, or Ctrl-C here, leaves none of its processes behind.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, watch } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "tsdown";
import { playgroundBuild } from "./playground-page.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const SERVER = ["src", "transports", "cli", "shaders"];
const PAGE = "playground";
/** Milliseconds without a further change before anything is done: editors write a file in several steps. */
const QUIET_MS = 150;
/** Milliseconds that the server gets to stop by itself. */
const STOP_MS = 2_000;

const COMMAND = ["--import", `${ROOT}tooling/run.mjs`, `${ROOT}cli/daguerre.ts`, "serve", ...process.argv.slice(2)];

/** The running server, restarted on demand. */
class DevServer {
  private child: ChildProcess | undefined;

  start(): void {
    const child = spawn(process.execPath, COMMAND, { cwd: ROOT, stdio: "inherit", detached: true });
    this.child = child;
    child.once("exit", (code) => {
      if (this.child !== child) return;
      this.child = undefined;
      say(`the server ended with ${code}; the next change starts it again`);
    });
  }

  async stop(): Promise<void> {
    const child = this.child;
    this.child = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    signal(child.pid, "SIGTERM");
    const late = setTimeout(signal, STOP_MS, child.pid, "SIGKILL");
    await ended;
    clearTimeout(late);
    // Processes that the server started and did not take with it.
    signal(child.pid, "SIGKILL");
  }
}

/** Signals a process group; one that is gone already is no error. */
function signal(group: number, name: NodeJS.Signals): void {
  try {
    process.kill(-group, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function say(text: string): void {
  console.error(`dev: ${text}`);
}

async function buildPage(): Promise<void> {
  try {
    await build({ ...playgroundBuild(`${ROOT}dist/playground`), minify: false, config: false, logLevel: "error" });
  } catch (error) {
    say(`the page could not be built: ${(error as Error).message}`);
  }
}

const server = new DevServer();
/** Paths that have changed since the last restart. */
const changed = new Set<string>();
let timer: NodeJS.Timeout | undefined;
let restarting = Promise.resolve();

async function restart(): Promise<void> {
  const paths = [...changed];
  changed.clear();
  if (paths.length === 0) return;
  say(`${paths[0]}${paths.length > 1 ? ` and ${paths.length - 1} more` : ""} changed; restarting`);
  watchFolders();
  await server.stop();
  if (paths.some((path) => path.startsWith(`${PAGE}/`))) await buildPage();
  server.start();
}

function note(path: string): void {
  if (!/\.(ts|mjs|wgsl|css|html|svg|json)$/.test(path) || path.endsWith(".test.ts")) return;
  changed.add(path);
  clearTimeout(timer);
  timer = setTimeout(() => {
    restarting = restarting.then(restart);
  }, QUIET_MS);
}

/** Folders that are watched, relative to the root. */
const watched = new Set<string>();

/**
 * Watches every folder that is not watched yet. Each has a watcher of its own: a recursive one of Node 20 loses a file
 * that an editor replaces.
 */
function watchFolders(): void {
  const folders = [...SERVER, PAGE].flatMap((top) => [
    top,
    ...readdirSync(ROOT + top, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => relative(ROOT, join(entry.parentPath, entry.name))),
  ]);
  for (const folder of folders) {
    if (watched.has(folder)) continue;
    watched.add(folder);
    const watcher = watch(ROOT + folder, (_, name) => note(`${folder}/${name}`));
    watcher.on("error", () => watched.delete(folder));
  }
}

async function leave(): Promise<void> {
  clearTimeout(timer);
  changed.clear();
  await restarting;
  await server.stop();
  process.exit();
}

for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => void leave());
await buildPage();
watchFolders();
server.start();

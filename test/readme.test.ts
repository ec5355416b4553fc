/**
 * Every command in README.md and CONTRIBUTING.md does what it says. A command that no case here knows fails the test.
 * Commands that documents name in passing exist.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVERYTHING } from "./hub/hub-models.ts";
import { LoopbackHub } from "./hub/loopback-hub.ts";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const documents = ["README.md", "CONTRIBUTING.md"];
/** Documents that name commands in passing. The notebook has the commands of its day. */
const PROSE = [...documents, "SECURITY.md", "CHANGELOG.md", ".ci/run"].concat(
  (await readdir(join(root, "docs"))).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`),
);
const read = (name: string) => readFile(join(root, name), "utf8");
const { scripts } = JSON.parse(await read("package.json")) as { scripts: Record<string, string> };
const cli = join(root, "dist/cli.js");

/** Lines of the shell blocks, continued lines joined. */
const linesOf = (text: string) =>
  [...text.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, block]) =>
    block!
      .replaceAll("\\\n", " ")
      .split("\n")
      .filter((line) => line.trim() !== ""),
  );
const commands = [...new Set((await Promise.all(documents.map(read))).flatMap(linesOf))];

let folder: string;
let server: ChildProcess;
let url: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "daguerre-readme-"));
  await mkdir(join(folder, "loras"));
  server = spawn("npm", ["start"], { cwd: root, env: { ...process.env, PORT: "0" }, detached: true });
  url = await addressOf(server);
}, 180_000);

afterAll(async () => {
  process.kill(-server.pid!, "SIGKILL"); // npm and its child
  await rm(folder, { recursive: true, force: true });
});

/** How each command is run, by how it begins. */
const cases: [begins: string, run: (command: string) => Promise<void>][] = [
  // `npm ci` has been run, or this test would not be; the server above is `npm start`.
  ["npm ci && npm start", async () => expect((await fetch(`${url}/health`)).status).toBe(200)],
  ["npm ci && npm test", async () => {}], // this
  ["npm ci", async () => {}],
  ["npm run dev", async () => {}], // dev.test.ts
  // CI runs them before this test.
  ...["lint", "typecheck", "arrows"].map((script): (typeof cases)[number] => [
    `npm run ${script}`,
    async () => expect(await read(".ci/run")).toContain(`\nnpm run --silent ${script}`),
  ]),
  [
    "npm run test:",
    async (command) => {
      const script = scripts[command.slice("npm run ".length)]!;
      expect(script).toMatch(/^vitest run /);
      const { stdout } = await run("npx", [...script.replace("vitest run", "vitest list --filesOnly").split(" ")], {
        cwd: root,
      });
      expect(stdout).toMatch(/\.test\.ts$/m);
    },
  ],
  [
    "curl -N http://127.0.0.1:8080",
    async (command) => {
      const { stdout } = await run("bash", ["-c", command.replace("http://127.0.0.1:8080", url)], {
        maxBuffer: 2 ** 26,
      });
      expect(stdout).toMatch(/"type":"result"/);
    },
  ],
  [
    "daguerre serve",
    async (command) => {
      const filled = command
        .replace("--port 8080", "--port 0")
        .replace("--model DIR", `--model ${join(root, "models/landscapes")}`)
        .replace("--lora-dir DIR", `--lora-dir ${join(folder, "loras")}`);
      const child = spawn("bash", ["-c", `exec node ${filled.replace("daguerre", cli)}`], { cwd: folder });
      try {
        expect((await fetch(`${await addressOf(child)}/health`)).status).toBe(200);
      } finally {
        child.kill("SIGKILL");
      }
    },
  ],
  [
    "daguerre pull",
    async (command) => {
      const hub = await LoopbackHub.start();
      hub.repositories.set(command.split(" ")[2]!, { files: EVERYTHING });
      const env = { ...process.env, HF_ENDPOINT: hub.url, HF_HOME: folder };
      const { stdout } = await run("bash", ["-c", command.replace("daguerre", `node ${cli}`)], { env });
      expect(existsSync(join(stdout.trim(), "model_index.json"))).toBe(true);
      await hub.close();
    },
  ],
  [
    'daguerre generate "a sailboat on the water"',
    async (command) => {
      // The left half of the picture that a command above has drawn.
      const { width, height } = await sharp(join(folder, "out.png")).metadata();
      const pixels = Uint8Array.from({ length: width * height }, (_, at) => (at % width < width / 2 ? 255 : 0));
      await sharp(pixels, { raw: { width, height, channels: 1 } }).toFile(join(folder, "mask.png"));
      await inShell(command.replace("daguerre", `node ${cli}`), folder);
      expect(existsSync(join(folder, "boat.png"))).toBe(true);
    },
  ],
  ["daguerre", (command) => inShell(command.replace("daguerre", `node ${cli}`), folder)],
  ["npm run ", (command) => inShell(command, root)],
];

describe("commands in passing", () => {
  it.each(PROSE)("%s", async (name) => {
    const named = [...(await read(name)).matchAll(/npm run (?:--silent )?([a-z][\w:-]*)/g)].map(
      ([, script]) => script!,
    );
    expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named));
  });
});

describe("files that documents name", () => {
  /** A path of this repository: a folder, a slash, no place to fill in (`NAME`), no pattern. */
  const PATH = /`((?:src|transports|cli|playground|shaders|test|tooling|docs|bench|examples)\/[\w./-]*)`/g;
  const known = ["CONTRIBUTING.md", "docs/request-path.md"].map(async (name) =>
    [...(await read(name)).matchAll(PATH)].map(([, path]) => [name, path!] as const),
  );

  it("exist", async () => {
    const paths = (await Promise.all(known)).flat().filter(([, path]) => !/[A-Z]{3}/.test(path));
    expect(paths.length).toBeGreaterThan(30);
    expect(paths.filter(([, path]) => !existsSync(join(root, path)))).toEqual([]);
  });
});

describe(documents.join(", "), () => {
  it("has commands", () => expect(commands.length).toBeGreaterThan(5));

  it.each(commands)("%s", { timeout: 180_000 }, async (command) => {
    const known = cases.find(([begins]) => command.startsWith(begins));
    expect(known, "no case runs this command").toBeDefined();
    await known![1](command);
  });
});

async function inShell(command: string, cwd: string): Promise<void> {
  await run("bash", ["-c", command], { cwd, maxBuffer: 2 ** 26 });
}

/** The address that a server prints once it answers. */
function addressOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout!.on("data", (data) => {
      text += data;
      const address = /serving +(http:\S+)/.exec(text)?.[1];
      if (address) resolve(address);
    });
    child.once("exit", (code) => reject(new Error(`ended with ${code}: ${text}`)));
  });
}

/** `pull`, `models` and `--model NAME` as commands, against a hub on loopback. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify, stripVTControlCharacters } from "node:util";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { EVERYTHING, weights } from "../test/hub/hub-models.ts";
import { LoopbackHub, sha256 } from "../test/hub/loopback-hub.ts";
import { daguerre, ROOT } from "../test/run-command.ts";
import type { ModelsReport } from "./models.ts";
import { type PullFlags, pullModel } from "./pull.ts";

const LARGE = weights("large", 300_000);

let hub: LoopbackHub;
let home: string;
let env: Record<string, string>;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), "daguerre-pull-"));
  hub = await LoopbackHub.start();
  hub.repositories.set("studio/painter", { files: EVERYTHING });
  hub.repositories.set("studio/large", { files: { "large.safetensors": LARGE } });
  hub.repositories.set("studio/gated", { files: EVERYTHING, gate: "hf_friend" });
  env = { HF_HOME: home, HF_ENDPOINT: hub.url, XDG_CACHE_HOME: home, HF_TOKEN: "" };
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
});
afterAll(async () => {
  await hub.close();
  vi.unstubAllEnvs();
  await rm(home, { recursive: true, force: true });
});

async function run(...args: string[]) {
  const { output, ended } = daguerre(args, env);
  const code = await ended;
  return { ...output, code };
}

it("a model is pulled, listed, found by its name, and removed", async () => {
  const commit = hub.commit("studio/painter");
  const folder = path.join(home, "hub/models--studio--painter/snapshots", commit);
  const pulled = await run("pull", "studio/painter");
  expect(pulled).toEqual({
    stdout: `${folder}\n`,
    stderr: expect.stringMatching(
      /^studio\/painter at [0-9a-f]{7}: 11 files, 1[0-9] KiB.*\n(?:.*%\)\n)*took the fp16 weights; --variant plain takes those in full precision\n$/,
    ),
    code: 0,
  });

  const listed = await run("models", "--json");
  const { models, folders } = JSON.parse(listed.stdout) as ModelsReport;
  expect(folders).toEqual([path.join(home, "hub"), path.join(home, "daguerre/models")]);
  expect(models).toMatchObject([
    {
      name: "studio/painter",
      kind: "StableDiffusionPipeline, a folder",
      runs: true,
      complete: true,
      revision: commit,
      refs: ["main"],
      path: folder,
      source: null,
    },
  ]);
  expect(await run("models", "remove", "studio/painter")).toEqual({
    stdout: expect.stringMatching(/^removed studio\/painter: 1[0-9] KiB\n$/),
    stderr: "",
    code: 0,
  });
  await expect(stat(folder)).rejects.toThrow();
});

it("an error is one sentence on stderr", async () => {
  const { stdout, stderr, code } = await run("pull", "studio/gated");
  expect({ stdout, code }).toEqual({ stdout: "", code: 1 });
  expect(stderr).toMatch(
    /^daguerre: studio\/gated is gated: open .* then set HF_TOKEN to a token of that account \(.*\)\n$/,
  );
});

it.each<[string, readonly string[], PullFlags, RegExp]>([
  [
    "nonsense",
    [],
    {},
    /^"nonsense" is neither a model's name on a hub \(owner\/name, .* https:\/\/ address of a file$/,
  ],
  ["studio/painter", [], { variant: "bf16" }, /has no variant "bf16"; it has plain weights, "fp16", "non_ema"$/],
  ["studio/painter", ["../x"], {}, /^"\.\.\/x" is no name of a file in a repository$/],
  ["https://models.invalid/x.ckpt", ["y"], {}, /^an address stands for one file/],
  ["https://models.invalid/x.ckpt", [], { sha256: "12" }, /^--sha256 must be 64 hexadecimal digits$/],
])("pull %s %j %j is refused", async (wanted, files, flags, words) => {
  await expect(pullModel(wanted, files, flags, new PassThrough())).rejects.toThrow(words);
});

it("Ctrl-C leaves what has come, and the same command goes on from there", async () => {
  hub.faults.set("large.safetensors", { stallsAfter: 100_000 });
  const { child, output, ended } = daguerre(["pull", "studio/large"], env);
  const partial = path.join(home, "hub/models--studio--large/blobs", `${sha256(LARGE)}.incomplete`);
  while ((await stat(partial).catch(() => undefined))?.size !== 100_000) await sleep(20);
  child.kill("SIGINT");
  expect(await ended).toBe(130);
  expect(output.stdout).toBe("");
  expect(output.stderr).toMatch(/^studio\/large at .*\n(?:.*%\)\n)*stopped: the same command goes on from here\n$/);
  expect((await stat(partial)).size).toBe(100_000);

  hub.faults.clear();
  hub.downloads();
  // The address of the hub's page of the file stands for the file.
  const screen = new PassThrough();
  const file = await pullModel(`${hub.url}/studio/large/blob/main/large.safetensors`, [], {}, screen);
  expect(await readFile(file!)).toEqual(Buffer.from(LARGE));
  expect(String(screen.read())).toMatch(/: 1 file, \d+ KiB, 98 KiB of it there\n$/);
  expect(hub.downloads()).toEqual(["large.safetensors bytes=100000-"]);
});

it("on a terminal a bar moves, and a model that is missing is offered", async () => {
  await rm(path.join(home, "hub"), { recursive: true, force: true });
  const line = `${process.execPath} --import ${ROOT}/tooling/run.mjs ${ROOT}/cli/main.ts doctor --model studio/large`;
  const running = promisify(execFile)("script", ["-qec", line, "/dev/null"], { env: { ...process.env, ...env } });
  running.child.stdin!.end("y\n");
  // The file is found then, and is no model.
  const { stdout } = await running.catch((error: { stdout: string }) => error);
  const shown = stripVTControlCharacters(stdout);
  expect(shown).toContain("studio/large is not on this machine. Download it? [y/N]");
  expect(shown).toMatch(/100%\s+29\d KiB of 29\d KiB/);
  expect(shown).not.toContain("daguerre pull");
  expect(hub.downloads()).toEqual(["large.safetensors"]);
});

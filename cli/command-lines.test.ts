import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { daguerre, run } from "../test/run-command.ts";
import { checkAddress, checkGenerate, makeFolder } from "./checks.ts";
import { withGenerationFlags } from "./generation-flags.ts";
import { SETTINGS } from "./settings.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "daguerre-commands-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Ends a process that loads Dawn. */
const NO_GPU = `data:text/javascript,${encodeURIComponent(
  `const { dlopen } = process;
   process.dlopen = (module, file, ...rest) => {
     if (/dawn/.test(file)) process.exit(99);
     return dlopen.call(process, module, file, ...rest);
   };`,
)}`;

describe("the command", () => {
  it("alone shows its help", async () => {
    const { stdout, stderr, code } = await run();
    expect(stdout).toMatch(/^Usage: daguerre/);
    expect(stdout).toContain("generate");
    expect([stderr, code]).toEqual(["", 0]);
  });

  it("shows a flag for each field of a request and each setting of the server", async () => {
    const shown = (help: string) => new Set(help.match(/(?<=^ +(?:-\w, )?)--[\w-]+/gm));
    const generate = shown((await run("generate", "--help")).stdout);
    for (const { long } of withGenerationFlags(new Command()).options) expect(generate).toContain(long);
    const serve = shown((await run("serve", "--help")).stdout);
    expect([...serve].sort()).toEqual([...SETTINGS.flatMap(({ flag }) => flag ?? []), "--config", "--help"].sort());
  });

  it("says its version by -v", async () => {
    const { stdout, stderr, code } = await run("-v");
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect([stderr, code]).toEqual(["", 0]);
  });

  it.each(["serve", "generate", "profile", "bench", "tune", "doctor", "pull", "models"])(
    "has help for %s, in groups, with an example",
    async (name) => {
      const { stdout, stderr, code } = await run(name, "--help");
      expect(stdout).toMatch(new RegExp(`^Usage: daguerre ${name} `));
      expect(stdout).toMatch(new RegExp(`\\nExample: daguerre ${name} ?.*\\n$`));
      const groups = {
        serve: ["Settings", "Settings of limits"],
        generate: ["GPU and model", "Picture", "More files"],
      };
      for (const group of groups[name as "serve"] ?? ["Options"]) expect(stdout).toContain(`\n${group}:\n`);
      expect([stderr, code]).toEqual(["", 0]);
    },
  );

  const HINT = "\n(daguerre --help lists commands and flags)";
  it.each([
    ["nonsense", `unknown command 'nonsense'${HINT}`],
    ["serve --nonsense", `unknown option '--nonsense'${HINT}`],
    ["serve --port 99999", "--port: must be a whole number from 0 to 65535"],
    ["serve --port many", "--port: must be a whole number from 0 to 65535"],
    ["serve --limits-steps 0", "--limits-steps: must be a whole number from 1 to 200"],
    ["serve --get-stream perhaps", "--get-stream: must be true or false"],
    ["serve --precision f8", "--precision: must be one of auto, f32, f16"],
    ["serve --max-gpu-memory much", "--max-gpu-memory: must be bytes, or an amount as 512MiB or 6GiB"],
    ["serve --lora-dir /nowhere", '--lora-dir: there is no folder "/nowhere"'],
    ["serve --host 192.0.2.1", "host 192.0.2.1 is no address of this machine; 0.0.0.0 stands for all of them"],
    ["serve --config /nowhere.json", "/nowhere.json: cannot be read (ENOENT)"],
    ["generate", `missing required argument 'prompt'${HINT}`],
    ["generate ", 'the prompt has no words; try: daguerre generate "northern lights over a lake"'],
    ["generate lake --steps 9999", "--steps should be less than or equal to 200"],
    ["generate lake --steps many", `option '--steps <number>' argument 'many' is invalid. It must be a number.${HINT}`],
    ["generate lake --images 0", "--images should be greater than or equal to 1"],
    ["generate lake --seed x", "--seed must be a whole number, at most 2^64 - 1; -1 takes any"],
    [
      "generate lake --size 512",
      `option '--size <WxH>' argument '512' is invalid. A size is WIDTHxHEIGHT in pixels, as 512x768.${HINT}`,
    ],
    ["generate lake --size 100x101", "--size should be a multiple of 8"],
    [
      "generate lake --strength 0.5",
      "--strength says how much of a picture to draw anew: name the picture with --image",
    ],
    [
      "generate lake --mask mask.png",
      "--mask says which part of a picture to draw anew: name the picture with --image",
    ],
    ["generate lake --image /nowhere.png", "--image /nowhere.png: there is no such file or folder"],
    ["generate lake --lora /nowhere.safetensors", "--lora /nowhere.safetensors: there is no such file or folder"],
    [
      "generate lake -o out.gif",
      `option '-o, --output <file>' argument 'out.gif' is invalid. A picture's name ends in .png, .jpg or .webp.${HINT}`,
    ],
    ["generate lake -o /dev/null/out.png", "--output: the folder /dev/null cannot be made: /dev/null is a file"],
    [
      "generate lake --precision f8",
      `option '--precision <type>' argument 'f8' is invalid. Allowed choices are auto, f32, f16.${HINT}`,
    ],
    ["bench --rounds 0", "--rounds must be a whole number from 1 to 1000"],
    ["bench --steps 0", "--steps should be greater than or equal to 1"],
    ["tune --size 12x12", "--size should be greater than or equal to 64\n--size should be a multiple of 8"],
    ["profile --layers -1", "--layers must be a whole number from 0 to 1000"],
    ["doctor --port 1", `unknown option '--port'${HINT}`],
  ])("%s: an error at once, in words that name the flag, before a GPU is opened", async (line, message) => {
    const { output, ended } = daguerre(line.split(" "), { NODE_OPTIONS: `--import ${NO_GPU}` });
    expect(await ended).toBe(1);
    expect(output).toEqual({ stdout: "", stderr: `daguerre: ${message}\n` });
  });
});

describe("what is known before anything is loaded", () => {
  const file = () => path.join(folder, "out.png");
  const check = (options: Partial<Parameters<typeof checkGenerate>[1]>, prompt = "a lake") =>
    checkGenerate(prompt, { output: { file: file() }, ...options });

  it("passes what can be done, and makes the folders", async () => {
    const output = { file: path.join(folder, "new/deep/out.png") };
    await check({ output, previewDir: path.join(folder, "previews") });
    expect(await readdir(path.join(folder, "new"))).toEqual(["deep"]);
    await check({ output }); // once more, now that they are there
  });

  it.each([
    ["--strength", { strength: 0.5 }],
    ["--image", { image: "/nowhere/picture.png" }],
    ["--image", { image: "/" }],
    ["--lora", { lora: [{ path: "/nowhere/ink.safetensors" }] }],
    ["--output", { output: { file: "/proc/daguerre/deep/out.png" } }],
    ["--output", { output: { file: "/dev/null/out.png" } }],
    ["--output", { output: { file: "/tmp" } }],
    ["--preview-dir", { previewDir: "/dev/null/previews" }],
  ])("names %s: %j", async (flag, options) => {
    await expect(check(options)).rejects.toMatchObject({ name: "UsageError", message: expect.stringContaining(flag) });
  });

  it("a name that is a file already is no folder", async () => {
    const taken = path.join(folder, "taken");
    await writeFile(taken, "");
    await expect(makeFolder("--output", path.join(taken, "below"))).rejects.toThrow(/taken is a file/);
    await mkdir(path.join(folder, "there"));
    await makeFolder("--output", path.join(folder, "there"));
  });

  it("a port that is in use, a host that is nobody's, and a free one", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    await expect(checkAddress(port, "127.0.0.1")).rejects.toThrow(`port ${port} is in use by another program`);
    await new Promise((resolve) => other.close(resolve));
    await checkAddress(port, "127.0.0.1");
    await expect(checkAddress(0, "192.0.2.1")).rejects.toThrow("192.0.2.1 is no address of this machine");
  });
});

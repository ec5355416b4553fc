/** Names of the LoRAs in a server's folder. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { existingPath, fileTree } from "../platform/folder-tree.ts";
import { RequestError } from "./errors.ts";
import { checkLoraFolder, listLoras, loraFiles } from "./lora-files.ts";

let root: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-loras-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

async function folderWith(...files: string[]): Promise<string> {
  const folder = join(root, `case-${count++}`);
  await mkdir(folder);
  for (const file of files) {
    await mkdir(dirname(join(folder, file)), { recursive: true });
    await writeFile(join(folder, file), "x");
  }
  return folder;
}

async function found(folder: string, name: string): Promise<string> {
  const [file] = await loraFiles([{ name, scale: 1 }], folder);
  return file!.path.slice(folder.length + 1);
}

async function refusal(folder: string | undefined, name: string): Promise<RequestError> {
  const error = await loraFiles([{ name, scale: 1 }], folder).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(RequestError);
  expect((error as RequestError).field).toBe("loras.0.name");
  expect((error as RequestError).message).not.toContain(root);
  return error as RequestError;
}

const NFC = "d\u00e9tail";
const NFD = "de\u0301tail";

describe("any file of the folder can be asked for", () => {
  it.each([
    "ink",
    "plain name 1.5",
    "add_detail (v1)",
    "[Hyper] 8step",
    "style+lora",
    "_private",
    "墨心",
    "стиль",
    "حبر",
    "🖋️ ink",
    NFC,
    NFD,
    "sub/inner",
    "a/b/c d/e",
    "100%",
    "a#b?c&d=e",
    "quo\"te's",
    "two  spaces ",
    " leading",
    "line\nbreak",
    "\u202eturned",
    "x".repeat(200),
    "__proto__",
    "constructor",
    "ink.safetensors",
  ])("%j", async (name) => {
    const folder = await folderWith(`${name}.safetensors`, "other.safetensors");
    expect((await listLoras(folder)).names).toContain(name);
    expect(await found(folder, name)).toBe(`${name}.safetensors`);
    expect(await found(folder, `${name}.safetensors`)).toBe(`${name}.safetensors`);
  });

  it.each([".SAFETENSORS", ".SafeTensors", ".safetensors"])("with the ending %s", async (ending) => {
    const folder = await folderWith(`upper${ending}`);
    expect(await listLoras(folder)).toMatchObject({ names: ["upper"], notes: [] });
    for (const name of ["upper", `upper${ending}`, "upper.safetensors"]) {
      expect(await found(folder, name)).toBe(`upper${ending}`);
    }
  });

  it("in the other normalization of Unicode", async () => {
    expect(await found(await folderWith(`${NFD}.safetensors`), NFC)).toBe(`${NFD}.safetensors`);
    expect(await found(await folderWith(`${NFC}/${NFC}.safetensors`), `${NFD}/${NFD}`)).toBe(
      `${NFC}/${NFC}.safetensors`,
    );
  });

  it("as soon as it is there", async () => {
    const folder = await folderWith("a.safetensors");
    await refusal(folder, "b");
    await writeFile(join(folder, "b.safetensors"), "x");
    expect(await found(folder, "b")).toBe("b.safetensors");
  });
});

describe("names that fold to the same", () => {
  it("in two normalizations of Unicode are each found under their own, and reported", async () => {
    const folder = await folderWith(`${NFD}.safetensors`, `${NFC}.safetensors`);
    expect(await found(folder, NFC)).toBe(`${NFC}.safetensors`);
    expect(await found(folder, NFD)).toBe(`${NFD}.safetensors`);
    expect((await listLoras(folder)).notes).toEqual([expect.stringMatching(/two normalizations of Unicode/)]);
  });

  it("by their endings: the usual one has the name, the other its whole name, and that is reported", async () => {
    const folder = await folderWith("a.SAFETENSORS", "a.safetensors");
    expect((await listLoras(folder)).names).toEqual(["a", "a.SAFETENSORS"]);
    expect(await found(folder, "a")).toBe("a.safetensors");
    expect(await found(folder, "a.safetensors")).toBe("a.safetensors");
    expect(await found(folder, "a.SAFETENSORS")).toBe("a.SAFETENSORS");
    expect((await listLoras(folder)).notes).toEqual([
      '"a.SAFETENSORS" is offered under its whole name, since "a.safetensors" is "a"',
    ]);
  });

  it("but for capitals are two names", async () => {
    const folder = await folderWith("Ink.safetensors", "ink.safetensors");
    expect((await listLoras(folder)).names).toEqual(["Ink", "ink"]);
    expect((await listLoras(folder)).notes).toEqual([]);
  });
});

describe("no name leads out of the folder", () => {
  it.each([
    "../secret",
    "sub/../../secret",
    "..",
    ".",
    "",
    "/etc/passwd",
    "sub/",
    "/ink",
    "..\\secret",
    "a\0b",
    "sub//ink",
  ])("%j", async (name) => {
    await writeFile(join(root, "secret.safetensors"), "x");
    await refusal(await folderWith("ink.safetensors", "sub/ink.safetensors"), name);
  });

  it("by way of a link: those are not offered, and reported", async () => {
    const outside = await folderWith("secret.safetensors");
    const folder = await folderWith("real/ink.safetensors");
    await symlink(join(outside, "secret.safetensors"), join(folder, "file.safetensors"));
    await symlink(outside, join(folder, "folder"));
    await symlink(join(root, "nowhere"), join(folder, "nothing.safetensors"));
    await symlink(join(folder, "loop.safetensors"), join(folder, "loop.safetensors"));
    await symlink("real/ink.safetensors", join(folder, "inside.safetensors"));
    await symlink(".", join(folder, "again"));
    const { names, notes } = await listLoras(folder);
    expect(names).toEqual(["inside", "real/ink"]);
    expect(notes.map((note) => note.split(" ")[0])).toEqual([
      '"file.safetensors"',
      '"folder"',
      '"loop.safetensors"',
      '"nothing.safetensors"',
    ]);
    for (const name of ["file", "folder/secret", "nothing", "loop"]) await refusal(folder, name);
    expect(await found(folder, "inside")).toBe("inside.safetensors");
  });

  it("but a snapshot of a hub's cache is made of links into its own model", async () => {
    const hub = await folderWith("models--a--b/blobs/0c1f", "models--a--b/snapshots/1/x");
    const folder = join(hub, "models--a--b/snapshots/1");
    await symlink("../../blobs/0c1f", join(folder, "ink.safetensors"));
    expect(await listLoras(folder)).toMatchObject({ names: ["ink"], notes: [] });
  });

  it("hidden files, and names with a backslash, are not offered", async () => {
    const folder = await folderWith(
      "._ink.safetensors",
      ".cache/ink.safetensors",
      "a\\b.safetensors",
      "ink.safetensors",
    );
    const { names, notes } = await listLoras(folder);
    expect(names).toEqual(["ink"]);
    expect(notes).toEqual([expect.stringContaining("backslash")]);
  });
});

describe("a LoRA that is not there", () => {
  it("is answered with those that are most like it", async () => {
    const folder = await folderWith(
      ...Array.from({ length: 40 }, (_, i) => `style ${i}.safetensors`),
      `${NFD}.safetensors`,
      "ink.safetensors",
    );
    expect((await refusal(folder, "detial")).message).toMatch(
      /^loras\.0\.name: "detial" is not a LoRA of this server; it offers "de\u0301tail", /,
    );
    expect((await refusal(folder, "DETAIL")).message).toContain('it offers "de\u0301tail", ');
    expect((await refusal(folder, "inc")).message).toMatch(/it offers "ink", .* and 37 more$/);
  });

  it("is answered in few words whatever the names are", async () => {
    const folder = await folderWith(
      ...Array.from({ length: 20 }, (_, i) => `${"\u202e\u0007x".repeat(30)}${i}.safetensors`),
    );
    const { message } = await refusal(folder, `${"\u001b[31m".repeat(300)}`);
    expect(message.length).toBeLessThan(8000);
    expect(message).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });

  it("is told that there are none", async () => {
    expect((await refusal(await folderWith("readme.md"), "ink")).message).toContain("its folder has none");
    expect((await refusal(undefined, "ink")).message).toContain("this server offers no LoRA");
    expect((await refusal(join(root, "gone"), "ink")).message).toContain("its folder has none");
  });
});

it("a folder of many files or levels is bounded, and says so", async () => {
  const files = ["a.safetensors", "b.safetensors", "c.safetensors"];
  const { files: found, isCut } = await fileTree(await folderWith(...files), { depth: 8, entries: 2 });
  expect([found.length, isCut]).toEqual([2, true]);
  const whole = await fileTree(await folderWith(...files), { depth: 8, entries: 3 });
  expect([whole.files, whole.isCut]).toEqual([files, false]);
  const { names, notes } = await listLoras(
    await folderWith("1/2/3/4/5/6/7/in.safetensors", "1/2/3/4/5/6/7/8/out.safetensors"),
  );
  expect(names).toEqual(["1/2/3/4/5/6/7/in"]);
  expect(notes).toEqual([expect.stringMatching(/more than 10000 files or 8 levels/)]);
});

it("a folder that is none is an error when the runtime is made", async () => {
  await expect(checkLoraFolder(join(root, "none"))).rejects.toThrow(/^lora_dir ".*none": there is no such folder$/);
  await expect(checkLoraFolder(join(await folderWith("a"), "a"))).rejects.toThrow(/is no folder$/);
});

it("a path of a program or of --lora is found in either normalization of Unicode", async () => {
  const folder = await folderWith(`${NFD}/${NFD}.safetensors`);
  expect(await existingPath(join(folder, NFC, `${NFC}.safetensors`))).toBe(join(folder, NFD, `${NFD}.safetensors`));
  expect(await existingPath(join(folder, "none.safetensors"))).toBe(join(folder, "none.safetensors"));
});

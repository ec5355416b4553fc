import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { cacheDirectory } from "../../platform/cache-directory.ts";
import {
  chooseDriverFiles,
  chosenDriverFiles,
  driverFolders,
  installedDrivers,
  openLibrary,
  readDriver,
} from "./software-driver.ts";

const folder = mkdtempSync(join(tmpdir(), "daguerre-icd-"));
afterAll(() => rmSync(folder, { recursive: true }));

function icd(path: string, content: unknown): string {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  return file;
}

let before: NodeJS.ProcessEnv;
beforeEach(() => {
  before = { ...process.env };
});
afterEach(() => {
  for (const name of ["XDG_CACHE_HOME", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"]) {
    if (before[name] === undefined) delete process.env[name];
    else process.env[name] = before[name];
  }
});

describe("ICD files", () => {
  it("reads a driver that is named for the library search", () => {
    const file = icd("lvp.json", { ICD: { library_path: "libvulkan_lvp.so", api_version: "1.4.305" } });
    expect(readDriver(file)).toEqual({
      file,
      library: "libvulkan_lvp.so",
      apiVersion: "1.4.305",
      software: "lavapipe",
    });
  });

  it("takes a relative path as relative to the file", () => {
    const library = icd("libvk_swiftshader.so", "");
    const file = icd("ss.json", { ICD: { library_path: "./libvk_swiftshader.so", api_version: "1.0.5" } });
    expect(readDriver(file)).toEqual({ file, library, apiVersion: "1.0.5", software: "swiftshader" });
  });

  it("calls a GPU's driver no software", () => {
    const file = icd("nvidia.json", { ICD: { library_path: "libGLX_nvidia.so.0" } });
    expect(readDriver(file)).toEqual({ file, library: "libGLX_nvidia.so.0", apiVersion: "unknown" });
  });

  it("says what is wrong with one that cannot be used", () => {
    expect(readDriver(icd("gone.json", { ICD: { library_path: "./nowhere.so" } }))).toMatchObject({
      problem: `its library ${join(folder, "nowhere.so")} is missing`,
    });
    for (const content of [{}, { ICD: {} }, { ICD: { library_path: 3 } }, "null", "[]"]) {
      expect(readDriver(icd("odd.json", content))).toMatchObject({ problem: "it has no ICD.library_path" });
    }
    expect(readDriver(icd("broken.json", "{"))).toHaveProperty("problem", expect.stringContaining("JSON"));
    expect(readDriver(join(folder, "none.json"))).toHaveProperty("problem", expect.stringContaining("ENOENT"));
  });

  it("finds installed ones in the loader's folders, in its order", () => {
    const env = {
      XDG_CONFIG_HOME: join(folder, "config"),
      XDG_DATA_HOME: join(folder, "data"),
      XDG_DATA_DIRS: "/none",
    };
    const second = icd("data/vulkan/icd.d/a.json", { ICD: { library_path: "a.so" } });
    const first = icd("config/vulkan/icd.d/b.json", { ICD: { library_path: "b.so" } });
    icd("config/vulkan/icd.d/README", "not one");
    const ours = installedDrivers(env).filter((d) => d.file.startsWith(folder));
    expect(ours.map((d) => d.file)).toEqual([first, second]);
    expect(driverFolders(env)).toContain("/etc/vulkan/icd.d");
    expect(driverFolders({})).toContain("/usr/share/vulkan/icd.d");
  });
});

it("sets both names of the variable that chooses drivers, and takes both back", () => {
  chooseDriverFiles(["/a.json", "/b.json"]);
  expect(process.env.VK_ICD_FILENAMES).toBe(process.env.VK_DRIVER_FILES);
  expect(chosenDriverFiles()).toEqual(["/a.json", "/b.json"]);
  chooseDriverFiles(undefined);
  expect(chosenDriverFiles()).toBeUndefined();
  expect(chosenDriverFiles({ VK_ICD_FILENAMES: "/old.json" })).toEqual(["/old.json"]);
  expect(chosenDriverFiles({ VK_DRIVER_FILES: "" })).toBeUndefined();
});

it("keeps its cache where the platform does, or the XDG variable says, and ignores a relative one", () => {
  process.env.XDG_CACHE_HOME = folder;
  expect(cacheDirectory()).toBe(join(folder, "daguerre"));
  process.env.XDG_CACHE_HOME = "relative";
  expect(cacheDirectory("linux")).toMatch(/[/\\]\.cache[/\\]daguerre$/);
  expect(cacheDirectory("darwin")).toMatch(/[/\\]Library[/\\]Caches[/\\]daguerre$/);
  expect(cacheDirectory("win32")).toMatch(/[/\\]daguerre[/\\]Cache$/);
});

it.runIf(process.platform === "linux")("tells a library that opens from one that does not", () => {
  expect(openLibrary("libc.so.6")).toEqual({ opened: true });
  const missing = openLibrary("libnowhere.so.9");
  expect(missing).toMatchObject({ opened: false, problem: expect.stringContaining("libnowhere.so.9") });
  const noLibrary = openLibrary(icd("text.so", "not an ELF file"));
  expect(noLibrary.opened).toBe(false);
});

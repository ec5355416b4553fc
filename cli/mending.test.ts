import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { installGpuDriver, installMesa, readDistribution } from "./mending.ts";

const folder = mkdtempSync(join(tmpdir(), "daguerre-mending-"));
afterAll(() => rmSync(folder, { recursive: true }));

const bookworm = readDistribution(`PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION_CODENAME=bookworm
ID=debian
`);
const noble = readDistribution('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n');

it("reads os-release, quoted or not", () => {
  expect(bookworm).toEqual({
    id: "debian",
    like: [],
    version: "12",
    codename: "bookworm",
    name: "Debian GNU/Linux 12 (bookworm)",
  });
  expect(readDistribution("ID='rocky'\nID_LIKE=\"rhel centos fedora\"").like).toEqual(["rhel", "centos", "fedora"]);
  expect(readDistribution("")).toMatchObject({ id: "", name: "an unknown Linux" });
});

it("knows each family by itself and by what it derives from", () => {
  expect(installMesa(noble)).toMatch(/^apt-get update && apt-get install -y mesa-vulkan-drivers/);
  expect(installMesa(readDistribution('ID=linuxmint\nID_LIKE="ubuntu debian"'))).toBe(installMesa(noble));
  expect(installMesa(readDistribution("ID=debian\nVERSION_CODENAME=trixie"))).toBe(installMesa(noble));
  expect(installMesa(readDistribution("ID=fedora"))).toMatch(/^dnf /);
  expect(installMesa(readDistribution('ID=rocky\nID_LIKE="rhel centos fedora"'))).toMatch(/^dnf /);
  expect(installMesa(readDistribution("ID=arch"))).toMatch(/^pacman .*vulkan-swrast/);
  expect(installMesa(readDistribution('ID="opensuse-leap"\nID_LIKE="suse opensuse"'))).toMatch(/^zypper /);
  expect(installMesa(readDistribution("ID=alpine"))).toMatch(/^apk /);
  expect(installMesa(readDistribution("ID=plan9"))).toBeUndefined();
});

it("names no package source", () => {
  for (const distribution of [bookworm, noble]) {
    for (const deb822 of [true, false])
      expect(installMesa(distribution, deb822)).not.toMatch(/https?:|\.(org|com|net)\b/);
  }
});

describe.runIf(process.platform === "linux")("Debian 12", () => {
  /** Runs the part of the command before apt-get in a folder, in place of /etc/apt. */
  function derive(deb822: boolean): void {
    const command = installMesa(bookworm, deb822)?.split(" && apt-get update")[0] ?? "";
    execFileSync("sh", ["-c", command.replaceAll("/etc/apt/sources.list.d", folder).replaceAll("/etc/apt", folder)]);
  }

  it("gets backports from the machine's own debian.sources", () => {
    writeFileSync(
      join(folder, "debian.sources"),
      `Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`,
    );
    derive(true);
    expect(readFileSync(join(folder, "backports.sources"), "utf8")).toBe(`Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`);
  });

  it("gets backports from the machine's own sources.list", () => {
    writeFileSync(
      join(folder, "sources.list"),
      `# a comment
deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib
deb http://mirror.example/debian bookworm-updates main
deb-src http://mirror.example/debian bookworm main
`,
    );
    derive(false);
    expect(readFileSync(join(folder, "backports.list"), "utf8")).toBe(
      "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm-backports main\n",
    );
  });
});

it("tells how to get a GPU's own driver", () => {
  expect(installGpuDriver("NVIDIA", noble)).toContain("NVIDIA_DRIVER_CAPABILITIES=all");
  expect(installGpuDriver("NVIDIA", noble)).toContain("apt-get install -y libglvnd0 libegl1");
  expect(installGpuDriver("NVIDIA", readDistribution("ID=arch"))).toContain("(libglvnd)");
  expect(installGpuDriver("AMD", noble)).toContain("mesa-vulkan-drivers");
  expect(installGpuDriver("Intel", readDistribution("ID=arch"))).toContain("vulkan-intel");
  expect(installGpuDriver("AMD", readDistribution("ID=plan9"))).toBe("install Mesa's Vulkan driver for it");
});

/**
 * The commands that install a usable GPU driver, by Linux distribution. Text only: nothing here changes a machine.
 *
 * Commands name no package source: where a distribution's own driver is too old, the source of a newer one is derived
 * from the machine's own settings. All are for the root user.
 */

/** The fields of `/etc/os-release` that matter (freedesktop.org's "os-release"). */
export interface Distribution {
  readonly id: string;
  /** Distributions that this one is derived from, nearest first. */
  readonly like: readonly string[];
  readonly version: string;
  readonly codename: string;
  /** For people: "Debian GNU/Linux 12 (bookworm)". */
  readonly name: string;
}

/** Reads the text of `/etc/os-release`. */
export function readDistribution(text: string): Distribution {
  const fields = new Map<string, string>();
  for (const [, key = "", quoted, plain] of text.matchAll(/^([A-Z_]+)=(?:["'](.*)["']|(.*))$/gm)) {
    fields.set(key, quoted ?? plain ?? "");
  }
  const field = (key: string) => fields.get(key) ?? "";
  return {
    id: field("ID"),
    like: field("ID_LIKE").split(" ").filter(Boolean),
    version: field("VERSION_ID"),
    codename: field("VERSION_CODENAME"),
    name: field("PRETTY_NAME") || field("NAME") || "an unknown Linux",
  };
}

type Family = "debian" | "fedora" | "arch" | "suse" | "alpine";

const FAMILY: Record<string, Family> = {
  debian: "debian",
  ubuntu: "debian",
  fedora: "fedora",
  rhel: "fedora",
  centos: "fedora",
  arch: "arch",
  suse: "suse",
  opensuse: "suse",
  alpine: "alpine",
};

function familyOf(distribution: Distribution): Family | undefined {
  for (const id of [distribution.id, ...distribution.like]) if (FAMILY[id]) return FAMILY[id];
  return undefined;
}

const APT = "apt-get update && apt-get install -y mesa-vulkan-drivers libvulkan1";

/**
 * The command that installs Mesa's Vulkan drivers (lavapipe among them, and those for AMD and Intel GPUs) and the Vulkan
 * loader, in a version that Dawn accepts. `deb822` says whether Debian's sources are in `debian.sources` (as since
 * Debian 12) or in `sources.list`. Undefined for a distribution unknown here.
 */
export function installMesa(distribution: Distribution, deb822 = true): string | undefined {
  if (distribution.id === "debian" && distribution.codename === "bookworm") {
    // Debian 12's own Mesa is 22.3.6, which Dawn refuses; backports have 25.0.7.
    const derive = deb822
      ? "cd /etc/apt/sources.list.d && sed '/^$/,$d; s/^Suites:.*/Suites: bookworm-backports/' debian.sources > backports.sources"
      : "sed -n 's/^deb \\(.*\\) bookworm main.*/deb \\1 bookworm-backports main/p' /etc/apt/sources.list > /etc/apt/sources.list.d/backports.list";
    return `${derive} && apt-get update && apt-get install -y -t bookworm-backports mesa-vulkan-drivers libvulkan1`;
  }
  switch (familyOf(distribution)) {
    case "debian":
      return APT;
    case "fedora":
      return "dnf install -y mesa-vulkan-drivers vulkan-loader";
    case "arch":
      return "pacman -S --needed vulkan-swrast vulkan-icd-loader";
    case "suse":
      return "zypper install -y libvulkan_lvp libvulkan1";
    case "alpine":
      return "apk add mesa-vulkan-swrast vulkan-loader";
    case undefined:
      return undefined;
  }
}

export type GpuVendor = "NVIDIA" | "AMD" | "Intel";

/** The remedy if a GPU of this vendor is in the machine and Vulkan does not show it. */
export function installGpuDriver(vendor: GpuVendor, distribution: Distribution, deb822 = true): string {
  if (vendor === "NVIDIA") {
    // The driver's Vulkan part (libGLX_nvidia.so.0) loads these, and servers without a screen lack them.
    const libraries =
      familyOf(distribution) === "debian"
        ? ", and what that loads: apt-get install -y libglvnd0 libegl1 libgl1 libglx0 libopengl0 libgles2"
        : ", and the GL libraries that it loads (libglvnd)";
    return (
      `install NVIDIA's driver with its Vulkan part (its ICD file is nvidia_icd.json)${libraries}; in a container, start it with ` +
      'NVIDIA_DRIVER_CAPABILITIES=all, since "compute" alone leaves Vulkan out'
    );
  }
  const family = familyOf(distribution);
  if (family === "arch") {
    return `install its driver: pacman -S --needed ${vendor === "AMD" ? "vulkan-radeon" : "vulkan-intel"} vulkan-icd-loader`;
  }
  if (family === "suse") {
    return `install its driver: zypper install -y ${vendor === "AMD" ? "libvulkan_radeon" : "libvulkan_intel"} libvulkan1`;
  }
  if (family === "alpine") {
    return `install its driver: apk add ${vendor === "AMD" ? "mesa-vulkan-ati" : "mesa-vulkan-intel"} vulkan-loader`;
  }
  const command = installMesa(distribution, deb822);
  return command === undefined ? "install Mesa's Vulkan driver for it" : `install its driver: ${command}`;
}

/** The advice of `daguerre doctor`: one line that follows from the findings. */

import type { AdapterFacts } from "../src/gpu/adapter-facts.ts";
import { type Distribution, type GpuVendor, installGpuDriver, installMesa } from "./mending.ts";

/** All that the examination found; the advice is a function of it. */
export interface Findings {
  readonly distribution: Distribution;
  /** True if apt's sources are in the newer format. */
  readonly deb822: boolean;
  /** Why Dawn itself cannot be loaded, before any driver comes into it. */
  readonly dawnProblem: string | undefined;
  /** SwiftShader: there, not there, or not made for this processor. */
  readonly swiftShader: "installed" | "missing" | "impossible";
  /** GPUs of vendors that make some worth using, by what is on the PCI bus. */
  readonly gpus: readonly GpuVendor[];
  /** A GPU's device file that this user may not open. */
  readonly forbidden: string | undefined;
  /** lavapipe's Mesa, where one is installed, and whether Dawn takes it. */
  readonly lavapipe: { readonly version: string | undefined; readonly accepted: boolean } | undefined;
  /** Drivers that took their process with them. */
  readonly crashing: readonly string[];
  /** Drivers that work alone. */
  readonly working: readonly string[];
  /** The adapter that a run would use, and whether it computed correctly. */
  readonly adapter: AdapterFacts | undefined;
  readonly platform: NodeJS.Platform;
}

/**
 * True if `doctor` has something faster to offer than this adapter. The greeting of `serve` asks as well, so that both
 * agree.
 * @param gpus on the PCI bus
 */
export function canBeFaster(gpus: readonly GpuVendor[], chosen: Pick<AdapterFacts, "kind" | "driver">): boolean {
  return chosen.kind === "software" && (gpus.length > 0 || chosen.driver === "swiftshader");
}

/** One line: what is the matter and what to do, the most useful first. */
export function advise(findings: Findings): string {
  const { distribution, deb822, adapter, gpus, crashing, working, lavapipe } = findings;
  const mesa = installMesa(distribution, deb822);
  const asRoot = mesa === undefined ? "install Mesa's lavapipe (version 25 or later)" : `as root: ${mesa}`;

  if (findings.dawnProblem !== undefined) {
    return "Not usable: Dawn cannot be loaded. Run `npm ci` again on this machine, or use a Linux that is recent enough, such as Debian 12.";
  }
  if (crashing.length > 0 && adapter === undefined) {
    const way =
      working.length > 0 ? `export VK_DRIVER_FILES=${working.join(":")}` : `remove or mend ${crashing.join(", ")}`;
    return `Not usable: a Vulkan driver breaks the process. To go round it: ${way}`;
  }
  if (adapter === undefined) {
    if (findings.platform !== "linux") return "Not usable: Dawn offers no GPU here. Update the graphics driver.";
    if (lavapipe !== undefined && !lavapipe.accepted) {
      return `Not usable: Dawn refuses this Mesa${lavapipe.version === undefined ? "" : ` (${lavapipe.version})`}. ${upper(asRoot)}`;
    }
    const without = findings.swiftShader === "missing" ? "; or, without root: npm ci" : "";
    return `Not usable: there is no GPU driver. ${upper(asRoot)}${without}`;
  }
  if (adapter.kind === "hardware") return `Ready: ${adapter.name}. There is nothing to mend.`;

  const ready = `Ready, on a software GPU (${adapter.name}).`;
  if (!canBeFaster(gpus, adapter)) return `${ready} It is the fastest there is without a GPU: nothing to mend.`;
  const vendor = gpus[0];
  if (vendor !== undefined) {
    if (findings.forbidden !== undefined) {
      return `${ready} This machine has a GPU (${vendor}) whose ${findings.forbidden} is not open to this user: add the user to the group "render".`;
    }
    return `${ready} This machine has a GPU (${vendor}) that Vulkan does not show: ${installGpuDriver(vendor, distribution, deb822)}`;
  }
  const why =
    lavapipe === undefined
      ? "Mesa's lavapipe is several times faster"
      : `Dawn refuses this machine's Mesa${lavapipe.version === undefined ? "" : ` (${lavapipe.version})`}; a newer one is several times faster`;
  return `${ready} ${why}, ${asRoot}`;
}

function upper(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

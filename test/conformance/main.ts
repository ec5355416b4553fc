/**
 * `npm run conformance -- DIR…`: this program against reference data, case by case. DIR is a case, or a folder of cases.
 * Exits with 1 where anything is over its limit, was not compared, or is not recognised; with 2 where it could not begin.
 */

import { Command, Option } from "commander";
import { adapter } from "../../cli/flags.ts";
import { openGpu } from "../../src/gpu/device.ts";
import type { AdapterChoice } from "../../src/gpu/drivers/adapter.ts";
import type { Storage } from "../../src/graph/tensor.ts";
import { always, VARIANTS, type Variant } from "../../src/graph/variants.ts";
import { activationStorage } from "../../src/memory/component.ts";
import { findCases } from "./case-folder.ts";
import { allPassed, caseTable, summary, tableHead } from "./report.ts";
import { type CaseResult, runCase } from "./run-case.ts";

interface Flags {
  readonly adapter: AdapterChoice;
  readonly driver?: "lavapipe" | "swiftshader";
  readonly storage: Storage;
  readonly activations?: Storage;
  readonly tiled: boolean;
  readonly kernels?: Variant;
  readonly only?: string;
  readonly intermediates: boolean;
}

const program = new Command("conformance")
  .description("Compares this program with reference data.")
  .argument("<dir...>", "a case, or a folder of cases")
  .option("--adapter <name>", "auto, hardware, software, or part of an adapter's name", adapter, adapter("auto"))
  .addOption(new Option("--driver <name>", "the software driver").choices(["lavapipe", "swiftshader"]))
  .addOption(new Option("--storage <type>", "of weights").choices(["f32", "f16"]).default("f32"))
  .addOption(
    new Option("--activations <type>", "instead of what the adapter stores with such weights").choices(["f32", "f16"]),
  )
  .option("--tiled", "the kernels for adapters without subgroups", false)
  .addOption(new Option("--kernels <variant>", "this variant wherever it can run").choices(VARIANTS))
  .option("--only <text>", "cases whose folder has this in its name")
  .option("--intermediates", "compare the milestones inside networks too", false)
  .parse();

async function main(paths: readonly string[], flags: Flags): Promise<number> {
  const found = await findCases(paths);
  const cases = found.filter((path) => flags.only === undefined || path.split("/").at(-1)!.includes(flags.only));
  if (cases.length === 0) throw new Error(`no case has '${flags.only}' in its name`);
  const choice: AdapterChoice = flags.driver ? { prefer: "software", driver: flags.driver } : flags.adapter;
  const gpu = await openGpu({ adapter: choice, withoutSubgroups: flags.tiled });
  const { storage, intermediates, activations = activationStorage(gpu, storage) } = flags;
  const choose = flags.kernels && always(flags.kernels);
  const form = gpu.lanes === undefined ? "tiled kernels" : `subgroups of ${gpu.lanes}`;
  print(`${gpu.facts.name}, ${form}, ${storage} storage, ${activations} activations`, "", ...tableHead());
  const results: CaseResult[] = [];
  for (const path of cases) {
    const result = await runCase(path, { gpu, storage, activations, intermediates, choose });
    results.push(result);
    print(...caseTable(result));
  }
  print("", summary(results));
  return allPassed(results) ? 0 : 1;
}

function print(...lines: readonly string[]): void {
  process.stdout.write(`${lines.join("\n")}\n`);
}

main(program.args, program.opts<Flags>()).then(
  // A device that is still open keeps the process alive.
  (status) => process.exit(status),
  (error: unknown) => {
    process.stderr.write(`conformance: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(2);
  },
);

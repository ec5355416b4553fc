/** The commands about models on this disk: `pull`, `models`, `models remove`. */
import process from "node:process";
import type { Command } from "commander";
import type { PullFlags } from "./pull.ts";
import { REPORT_AS_JSON, report, withExample } from "./reporting.ts";

export function withModelCommands(program: Command): void {
  withExample(program.command("pull"), "daguerre pull stabilityai/sd-turbo")
    .description("download a model from a hub, or one file from an address, into the cache; docs/models.md")
    .argument("<model>", "owner/name, owner/name@revision, or the https:// address of a file")
    .argument("[files...]", "only these files of the repository, as sdxl_lightning_4step.safetensors")
    .option(
      "--variant <name>",
      `which of the saved weights to take, as bf16 or non_ema; plain: those without a variant`,
    )
    .option("--sha256 <hex>", "checksum that the file of an address must have")
    .action(async (model: string, files: string[], options: PullFlags) => {
      const { pullModel } = await import("./pull.ts");
      const path = await pullModel(model, files, options, process.stderr);
      if (path !== undefined) process.stdout.write(`${path}\n`);
    });

  const models = withExample(program.command("models"), "daguerre models remove stabilityai/sd-turbo")
    .description("the models that were downloaded: kind, size, revision, folder")
    .option("--json", REPORT_AS_JSON)
    .action(async (options: { json?: boolean }) => {
      const { listModels } = await import("./models.ts");
      await report(options, listModels);
    });

  withExample(models.command("remove"), "daguerre models remove stabilityai/sd-turbo@main")
    .description("remove models from the caches, by the names that `daguerre models` lists")
    .argument("<names...>", "owner/name, owner/name@revision, a file's name, or its address")
    .action(async (names: string[]) => {
      const { removeModels } = await import("./models.ts");
      await removeModels(names, (line) => process.stdout.write(`${line}\n`));
    });
}

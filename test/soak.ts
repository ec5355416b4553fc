/** `npm run soak -- NAME`: what is looked at for minutes, not in every run of the tests. Exits with 1 where it fails. */
import { Command, InvalidArgumentError, Option } from "commander";

/** The built-in model takes 26 MiB with the plans of one size. */
const TWO_MODELS_BYTES = 60 * 2 ** 20;

const program = new Command("soak").description("Long runs against a real server.");

const positive = (text: string) => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError("must be a number above 0");
  return value;
};

program
  .command("security")
  .description("every family of attacks of test/security; needs `npm run build`")
  .option("--seconds <number>", "of all families together", positive, 600)
  .option("--seed <number>", "of what is random", positive)
  .option("--share <number>", "0..1, how much of what can be scaled is done", positive, 1)
  .addOption(new Option("--family <name...>", "these alone"))
  .option("--only <text>", "cases whose name has this in it")
  .action(async ({ only, seconds, seed = Math.floor(Math.random() * 2 ** 31) + 1, share, family }) => {
    const { FAMILIES, runSuite } = await import("./security/suite.ts");
    const unknown = (family ?? []).filter((name: string) => !Object.hasOwn(FAMILIES, name));
    if (unknown.length > 0) program.error(`there is no family ${unknown.join(", ")}; known: ${Object.keys(FAMILIES)}`);
    const write = (line: string) => process.stdout.write(`${line}\n`);
    const breaches = await runSuite({ seconds, seed, share, families: family, only, write });
    process.exitCode = breaches.length === 0 ? 0 : 1;
  });

program
  .command("pools")
  .description("10,000 inputs over 4 processes, one of which is killed each second")
  .option("--inputs <number>", "how many", positive, 10_000)
  .option("--every <seconds>", "between two kills", positive, 1)
  .option("--seed <number>", "of the choice of processes", positive, 1)
  .action(async ({ inputs, every, seed }) => {
    const { mapUnderFire } = await import("./hosts/map-under-fire.ts");
    const began = performance.now();
    const outcome = await mapUnderFire({ inputs, every: { ms: every * 1000 }, seed });
    const seconds = Math.round((performance.now() - began) / 100) / 10;
    console.log(JSON.stringify({ ...outcome, seconds }));
    process.exitCode = outcome.results === inputs && outcome.inOrder ? 0 : 1;
  });

program
  .command("hosts")
  .description(
    "the engine's process is killed, stopped, loses its device or hangs under clients; needs `npm run build`",
  )
  .option("--clients <number>", "how many, up to four under one fault", positive, 200)
  .option("--spares <number>", "0 or 1", Number, 0)
  .option("--seed <number>", "of kinds, steps and transports", positive, 1)
  .action(async ({ clients, spares, seed }) => {
    const { engineUnderFire, FaultBench } = await import("./hosts/engine-faults.ts");
    const built = (name: string) => new URL(`../dist/${name}.js`, import.meta.url);
    const { openEngine, appOfRuntime, listen, createMetrics } = await import(built("index").href);
    const engineMain = built("engine-main");
    const bench = await FaultBench.open(
      { openEngine, appOfRuntime, listen, createMetrics, engineMain },
      { spares: spares === 1 ? 1 : 0 },
    );
    const write = (line: string) => process.stdout.write(`${line}\n`);
    const outcome = await engineUnderFire(bench, { clients, seed, write });
    await bench.close();
    write(JSON.stringify(outcome));
    process.exitCode = outcome.faults.length === 0 ? 0 : 1;
  });

program
  .command("jobs")
  .description("random jobs at once on one runtime, against what each draws alone in a fresh process")
  .option("--jobs <number>", "how many", positive, 1_000)
  .option("--requests <number>", "different requests among them", positive, 60)
  .option("--models <number>", "of so many models; several share memory in which two fit", positive, 3)
  .option("--seed <number>", "of what is random", positive)
  .action(async ({ jobs, requests, models: count, seed = Math.floor(Math.random() * 2 ** 31) + 1 }) => {
    const { aloneElsewhere, manyJobs } = await import("./many/jobs.ts");
    const { createRuntime } = await import("../src/engine/runtime.ts");
    const { fewModels, MODEL_NAMES } = await import("./many/requests.ts");
    process.stdout.write(`seed ${seed}, ${jobs} jobs, ${requests} requests, ${count} models\n`);
    const seeds = Array.from({ length: requests }, (_, request) => request);
    const alone = await aloneElsewhere(seeds, count);
    const several = count > 1 ? { models: fewModels(), maxGpuMemory: TWO_MODELS_BYTES } : {};
    const runtime = await createRuntime(several);
    const models = count > 1 ? MODEL_NAMES.slice(0, count) : undefined;
    const asked = { jobs, requests, seed, models, boundBytes: several.maxGpuMemory };
    const { outcomes, faults, slotsPerReplay, deviceBytes } = await manyJobs(runtime, asked, alone);
    const loads = runtime.models.map(({ name, loads, evictions }) => `${name} ${loads} loads, ${evictions} evictions`);
    const peak = Math.round(runtime.device.peakMemoryBytes / 2 ** 20);
    await runtime.close();
    const [early, late] = deviceBytes.map((bytes) => Math.round(bytes / 2 ** 20));
    process.stdout.write(
      `${JSON.stringify(outcomes)}, ${slotsPerReplay.toFixed(2)} pictures a replay, ${early} MiB on the device after a third, ${late} at the end, ${peak} at the most; ${loads.join("; ")}\n`,
    );
    for (const fault of faults) process.stdout.write(`FAULT ${fault}\n`);
    process.exitCode = faults.length === 0 ? 0 : 1;
  });

await program.parseAsync();

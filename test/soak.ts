/** `npm run soak -- NAME`: what is looked at for minutes, not in every run of the tests. Exits with 1 where it fails. */
import { Command, InvalidArgumentError, Option } from "commander";

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
  .command("jobs")
  .description("random jobs at once on one runtime, against what each draws alone in a fresh process")
  .option("--jobs <number>", "how many", positive, 1_000)
  .option("--requests <number>", "different requests among them", positive, 60)
  .option("--seed <number>", "of what is random", positive)
  .action(async ({ jobs, requests, seed = Math.floor(Math.random() * 2 ** 31) + 1 }) => {
    const { aloneElsewhere, manyJobs } = await import("./many/jobs.ts");
    const { createRuntime } = await import("../src/engine/runtime.ts");
    process.stdout.write(`seed ${seed}, ${jobs} jobs, ${requests} requests\n`);
    const alone = await aloneElsewhere(Array.from({ length: requests }, (_, request) => request));
    const runtime = await createRuntime();
    const { outcomes, faults, slotsPerReplay, deviceBytes } = await manyJobs(runtime, { jobs, requests, seed }, alone);
    await runtime.close();
    const [early, late] = deviceBytes.map((bytes) => Math.round(bytes / 2 ** 20));
    process.stdout.write(
      `${JSON.stringify(outcomes)}, ${slotsPerReplay.toFixed(2)} pictures a replay, ${early} MiB on the device after a third, ${late} at the end\n`,
    );
    for (const fault of faults) process.stdout.write(`FAULT ${fault}\n`);
    process.exitCode = faults.length === 0 ? 0 : 1;
  });

await program.parseAsync();

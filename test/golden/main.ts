/**
 * True if two checkouts draw the same pictures, bit for bit, on one software adapter:
 *
 *     npm run golden -- OTHER_CHECKOUT [--driver swiftshader]
 *
 * Both must be built (`npm run build`): each draws by its own `dist/index.js`, in a process of its own. Every line is one
 * picture or preview; the exit code is 1 if any differs.
 */
import { execFileSync } from "node:child_process";
import path from "node:path";
import { parseArgs } from "node:util";
import { untunedEnvironment } from "../../tooling/untuned.ts";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { driver: { type: "string", default: "" } },
});
const here = path.resolve(import.meta.dirname, "../..");
const other = positionals[0];
if (other === undefined) {
  console.error("Name the checkout to compare with.");
  process.exit(1);
}

const env = untunedEnvironment();

function draw(checkout: string): Map<string, string> {
  const program = path.join(import.meta.dirname, "draw.mjs");
  const args = [program, path.resolve(checkout), flags.driver];
  const output = execFileSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], env });
  const lines = output.trim().split("\n");
  return new Map(lines.map((line) => [line.slice(65), line.slice(0, 64)]));
}

const [before, now] = [draw(other), draw(here)];
let differences = 0;
for (const name of new Set([...before.keys(), ...now.keys()])) {
  const isSame = before.get(name) === now.get(name);
  if (!isSame) differences++;
  console.log(`${isSame ? "same  " : "OTHER "} ${name}`);
}
console.log(`${differences} of ${before.size} differ`);
process.exitCode = differences === 0 ? 0 : 1;

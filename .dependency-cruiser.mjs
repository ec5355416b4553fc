/**
 * The arrows of the house: which folder may import which. Checked by `npm run arrows`.
 *
 *     cli → transports → hosts → jobs | engine → families → diffusion → memory → models → graph → gpu → platform
 *
 * `weights`, `text` and `image` know `platform` (and `faults`) alone, and everything from `models` up may use them. `hub`
 * knows `weights` besides, and only `engine` and `cli` know it.
 * `faults` is data that any folder may know; `line` is the waiting line of jobs and of runs. Tests may look wherever they
 * like.
 */

/** From the bottom up: a folder may import those before it in its list, and itself. */
const LEAVES = ["platform", "faults", "line"];
const FILES = ["weights", "text", "image"];
const COLUMN = ["gpu", "graph", "models", "memory", "diffusion", "families", "engine"];

/** Folders of `src/` that each folder may import, besides itself. */
const ALLOWED = {
  platform: ["faults"],
  faults: [],
  line: [],
  weights: LEAVES,
  text: LEAVES,
  image: LEAVES,
  hub: [...LEAVES, "weights"],
  gpu: LEAVES,
  graph: [...LEAVES, "gpu"],
  // From here on a folder sees everything below it.
  ...Object.fromEntries(
    COLUMN.slice(2).map((folder, index) => [folder, [...LEAVES, ...FILES, ...COLUMN.slice(0, index + 2)]]),
  ),
  engine: [...LEAVES, ...FILES, ...COLUMN, "hub"],
  jobs: LEAVES,
  hosts: [...LEAVES, ...FILES, ...COLUMN, "jobs"],
};

/** Tests, and code that only tests use. */
const TESTS = "\\.test\\.ts$|/testing/";

const layers = Object.entries(ALLOWED).map(([folder, allowed]) => ({
  name: `src/${folder}`,
  comment: `src/${folder} imports ${allowed.length === 0 ? "no other folder" : `only ${allowed.join(", ")}`}`,
  severity: "error",
  from: { path: `^src/${folder}/`, pathNot: TESTS },
  to: { path: "^src/", pathNot: `^src/(${[folder, ...allowed].join("|")})/` },
}));

export default {
  forbidden: [
    ...layers,
    {
      name: "known-folder",
      comment: "every folder of src/ has its place in the column: add a new one to .dependency-cruiser.mjs",
      severity: "error",
      from: { path: "^(src|transports|cli)/" },
      to: { path: "^src/", pathNot: `^src/(${Object.keys(ALLOWED).join("|")})/` },
    },
    {
      name: "src-stands-alone",
      comment: "src/ imports neither transports/ nor cli/, nor the entry points at the root",
      severity: "error",
      from: { path: "^src/", pathNot: TESTS },
      to: { path: "^(transports|cli|playground|bench|test|examples|tooling)/|^[^/]+\\.ts$" },
    },
    {
      name: "transports-know-events",
      comment: "transports/ knows requests, events, jobs and encoded pictures; never tensors, kernels or models",
      severity: "error",
      from: { path: "^transports/", pathNot: TESTS },
      to: { path: "^src/(gpu|graph|models|memory|diffusion|families|weights|text)/|^cli/|^[^/]+\\.ts$" },
    },
    {
      name: "no-circle",
      comment: "no circle of imports, of types or values, in product code",
      severity: "error",
      from: { path: "^(src|transports|cli|playground)/|^[^/]+\\.ts$", pathNot: TESTS },
      to: { circular: true },
    },
    {
      name: "webgpu-in-gpu",
      comment: "only src/gpu/ opens Dawn",
      severity: "error",
      from: { path: "^(src|transports|cli)/|^[^/]+\\.ts$", pathNot: `^src/gpu/|${TESTS}` },
      to: { path: "node_modules/webgpu" },
    },
    {
      name: "sharp-in-platform",
      comment: "only src/platform/ loads libvips",
      severity: "error",
      from: { path: "^(src|transports|cli)/|^[^/]+\\.ts$", pathNot: `^src/platform/|${TESTS}` },
      to: { path: "node_modules/sharp" },
    },
    {
      name: "node-in-platform",
      comment: "what is Node's alone is behind src/platform/ and src/gpu/drivers/, from models up to families too",
      severity: "error",
      from: {
        path: "^src/(gpu|graph|models|memory|diffusion|families|weights|text|image|faults)/",
        pathNot: `^src/gpu/drivers/|${TESTS}`,
      },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "no-test-in-product",
      comment: "product code imports no test and no helper of tests",
      severity: "error",
      from: { path: "^(src|transports|cli|playground)/|^[^/]+\\.ts$", pathNot: `${TESTS}|^vitest` },
      to: { path: `${TESTS}|^test/` },
    },
    {
      name: "resolvable",
      comment: "every import leads somewhere",
      severity: "error",
      from: {},
      to: { couldNotResolve: true, pathNot: "\\.wgsl$" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      extensions: [".ts", ".mjs", ".js", ".json"],
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default"],
    },
  },
};

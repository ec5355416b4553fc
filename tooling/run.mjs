// Lets Node run TypeScript that imports `.wgsl` files as text: `node --import ./tooling/run.mjs FILE.ts [ARGUMENT…]`.
import "./wgsl-loader.mjs";
import "tsx";

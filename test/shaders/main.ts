/** `npm run shaders [FOLDER]`: writes every WGSL module that the product can assemble, and validates it. */

import { resolve } from "node:path";
import { assembledKernels } from "./kernels.ts";
import { writeModules } from "./write.ts";

const folder = resolve(process.argv[2] ?? ".gpu/shaders");
const { files, faults } = await writeModules(folder, assembledKernels());
for (const [file, messages] of faults) console.error(`${file}\n  ${messages.join("\n  ")}`);
console.log(`${files.length} modules in ${folder}, ${faults.size} of them not valid`);
// Dawn keeps the process alive.
process.exit(faults.size === 0 ? 0 : 1);

import { i as parseGeneration } from "./request-Cv9RgteD.js";
export { parseGeneration };

// Writes the parts of the documents that follow from schemas.
import { writeFile } from "node:fs/promises";
import { DOCUMENTS, fileOf, generated } from "./docs-tables.ts";

for (const document of DOCUMENTS) {
  const { before, after } = await generated(document);
  if (after === before) continue;
  await writeFile(fileOf(document), after);
  process.stdout.write(`${document} is written anew\n`);
}

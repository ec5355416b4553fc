// Node's test events as a line a file, and each failure with its reason.
export default async function* report(source) {
  const files = new Map();
  const counts = { pass: 0, fail: 0, skip: 0 };
  for await (const { type, data } of source) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    if (data.details?.type === "suite") continue;
    const file = data.file?.split("/").at(-1) ?? data.name.split("/").at(-1);
    const of = files.get(file) ?? { pass: 0, fail: 0, skip: 0, ms: 0 };
    files.set(file, of);
    const kind = type === "test:fail" ? "fail" : data.skip === undefined ? "pass" : "skip";
    of[kind]++;
    of.ms += data.details.duration_ms;
    counts[kind]++;
    if (kind !== "fail") continue;
    const { error } = data.details;
    const reason = String(error?.cause?.message ?? error?.message ?? error);
    yield `✗ ${file}: ${data.name} (line ${data.line})\n    ${reason.slice(0, 1500).replaceAll("\n", "\n    ")}\n`;
  }
  for (const [file, { pass, fail, skip, ms }] of files) {
    yield `${file}: ${pass} passed, ${fail} failed, ${skip} skipped, ${Math.round(ms)} ms\n`;
  }
  yield `all: ${counts.pass} passed, ${counts.fail} failed, ${counts.skip} skipped\n`;
}

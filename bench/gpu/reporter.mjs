// Node's test events as a line a test, each failure with its reason, and a line for all of them.
export default async function* report(source) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for await (const { type, data } of source) {
    if ((type !== "test:pass" && type !== "test:fail") || data.details?.type === "suite") continue;
    const kind = type === "test:fail" ? "failed" : data.skip === undefined ? "passed" : "skipped";
    counts[kind]++;
    if (kind === "passed") yield `✓ ${data.name} (${Math.round(data.details.duration_ms)} ms)\n`;
    if (kind !== "failed") continue;
    const { error } = data.details;
    const reason = String(error?.cause?.message ?? error?.message ?? error);
    yield `✗ ${data.name}\n    ${reason.slice(0, 1500).replaceAll("\n", "\n    ")}\n`;
  }
  yield `all: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`;
}

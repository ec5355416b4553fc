/** Results as a table: a row for each group, with the tensor that came nearest to its limit; failures in full. */

import type { Check } from "./comparison.ts";
import type { CaseResult } from "./run-case.ts";

interface Row {
  readonly group: string;
  readonly checks: readonly Check[];
  readonly worst: Check;
}

/** The rows of one case. */
export function caseTable(result: CaseResult): string[] {
  const rows = groupRows(result.checks);
  const lines = rows.map(({ group, checks, worst }) =>
    line([
      result.name,
      group,
      `${checks.length}`,
      worst.what,
      text(worst.absolute),
      text(worst.relative),
      toleranceText(worst),
      checks.every((check) => check.passed) ? "pass" : "FAIL",
    ]),
  );
  const failures = result.checks
    .filter((check) => !check.passed)
    .map(({ group, what, note, figure, tolerance, floor }) => {
      const reason =
        note ??
        `${tolerance!.measure} ${text(figure)} over ${tolerance!.bound}${floor === undefined ? "" : `; ${roundingText(floor)}`}`;
      return `  FAIL ${[result.name, group, what].filter((part) => part !== "").join(" ")}: ${reason}`;
    });
  const judged = result.checks
    .filter((check) => check.passed && check.floor !== undefined)
    .map(
      ({ group, what, relative, floor }) =>
        `  NOTE ${result.name} ${group} ${what}: ${text(relative)}; ${roundingText(floor!)}`,
    );
  return [...lines, ...judged, ...failures];
}

export function tableHead(): string[] {
  const head = line(["case", "group", "checks", "nearest to its limit", "absolute", "relative", "limit", ""]);
  return [head, "-".repeat(head.length)];
}

export function summary(results: readonly CaseResult[]): string {
  const checks = results.flatMap((result) => result.checks);
  const failed = checks.filter((check) => !check.passed).length;
  const bad = results.filter((result) => result.checks.some((check) => !check.passed) || result.checks.length === 0);
  const seconds = results.reduce((sum, result) => sum + result.milliseconds, 0) / 1000;
  const counts = `${results.length} cases, ${checks.length} comparisons, ${failed} failed, ${seconds.toFixed(1)} s`;
  return bad.length === 0
    ? `All passed: ${counts}`
    : `FAILED (${bad.map((result) => result.name).join(", ")}): ${counts}`;
}

/** True if everything that was compared is within its limit, and something was. */
export function allPassed(results: readonly CaseResult[]): boolean {
  return (
    results.length > 0 && results.every(({ checks }) => checks.length > 0 && checks.every((check) => check.passed))
  );
}

function groupRows(checks: readonly Check[]): Row[] {
  const groups = new Map<string, Check[]>();
  for (const check of checks) groups.set(check.group, [...(groups.get(check.group) ?? []), check]);
  return [...groups].map(([group, members]) => ({
    group,
    checks: members,
    worst: members.reduce((worst, check) => (share(check) > share(worst) ? check : worst)),
  }));
}

/** The part of its limit that a check used up. */
function share({ figure, tolerance }: Check): number {
  if (figure === undefined || tolerance === undefined) return Number.POSITIVE_INFINITY;
  return figure === 0 ? 0 : figure / tolerance.bound;
}

const WIDTHS = [17, 34, 6, 34, 9, 9, 16, 4];

function line(cells: readonly string[]): string {
  return cells
    .map((cell, i) => cell.padEnd(WIDTHS[i]!))
    .join(" ")
    .trimEnd();
}

function roundingText(floor: number): string {
  return `rounding this network's intermediates once moves its result by ${text(floor)}`;
}

function text(value: number | undefined): string {
  if (value === undefined) return "-";
  return value === 0 ? "0" : value.toExponential(1);
}

function toleranceText({ tolerance }: Check): string {
  if (!tolerance) return "-";
  return tolerance.measure === "exact" ? "exact" : `${tolerance.bound} ${tolerance.measure}`;
}

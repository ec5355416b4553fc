/** All of these measurements stream events of 20 KB that may not be dropped. */
export const TEXT = "x".repeat(20_000);

export function item(n: number) {
  return { type: "item", n, text: TEXT };
}

export function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}

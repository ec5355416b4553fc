/** `1.5 GiB`, `12 MiB`, `3 KiB`, `7 bytes` */
export function bytesText(bytes: number): string {
  for (const [power, unit] of [
    [40, "TiB"],
    [30, "GiB"],
    [20, "MiB"],
    [10, "KiB"],
  ] as const) {
    const value = bytes / 2 ** power;
    if (value >= 1) return `${value < 10 && power > 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
  }
  return `${bytes} bytes`;
}

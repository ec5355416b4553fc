// Quantiles of the beta distribution, by which the "beta" levels are spaced (Lee et al. 2024, "Beta Sampling is All You
// Need"). The regularised incomplete beta function is its continued fraction (DLMF 8.17.22), which bisection inverts.

/** Relative change below which the continued fraction has converged. */
const PRECISION = 1e-15;
const MOST_TERMS = 500;
/** Enough to halve the interval from 0 to 1 down to the spacing of doubles. */
const HALVINGS = 60;

/** ln Γ(x) for x above 0, by Stirling's series (DLMF 5.11.1) after a shift to large x. */
function logGamma(x: number): number {
  let shift = 0;
  let at = x;
  for (; at < 15; at++) shift += Math.log(at);
  const series = 1 / (12 * at) - 1 / (360 * at ** 3) + 1 / (1260 * at ** 5) - 1 / (1680 * at ** 7);
  return (at - 0.5) * Math.log(at) - at + 0.5 * Math.log(2 * Math.PI) + series - shift;
}

/** The continued fraction by Lentz's method; it converges fast for x below (a + 1) / (a + b + 2). */
function continuedFraction(x: number, a: number, b: number): number {
  const away = (value: number) => (Math.abs(value) < 1e-300 ? 1e-300 : value);
  let c = 1;
  let d = 1 / away(1 - ((a + b) * x) / (a + 1));
  let product = d;
  for (let m = 1; m <= MOST_TERMS; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    let change = 1;
    for (const term of [even, odd]) {
      d = 1 / away(1 + term * d);
      c = away(1 + term / c);
      change = c * d;
      product *= change;
    }
    if (Math.abs(change - 1) < PRECISION) break;
  }
  return product;
}

/** The share of a beta distribution below `x`, 0 to 1. */
export function betaShare(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  return x < (a + 1) / (a + b + 2)
    ? (front * continuedFraction(x, a, b)) / a
    : 1 - (front * continuedFraction(1 - x, b, a)) / b;
}

/** The value below which a share of 0 to 1 of a beta distribution lies. */
export function betaQuantile(share: number, a: number, b: number): number {
  if (share <= 0) return 0;
  if (share >= 1) return 1;
  let [low, high] = [0, 1];
  for (let i = 0; i < HALVINGS; i++) {
    const middle = (low + high) / 2;
    if (betaShare(middle, a, b) < share) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

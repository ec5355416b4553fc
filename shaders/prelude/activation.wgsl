// Activations by number, as the graph's `activationCode` gives them.
const NO_ACTIVATION = 0u;
const SILU = 1u;        // x · σ(x)
const GELU = 2u;        // x · Φ(x), exact: not the tanh approximation
const QUICK_GELU = 3u;  // x · σ(1.702 x), CLIP's
const RELU = 4u;
const TANH = 5u;

fn sigmoid(x: vec4f) -> vec4f { return 1.0 / (1.0 + exp(-clamp(x, vec4f(-80.0), vec4f(80.0)))); }

// The standard normal's distribution function, Φ(x) = ½ erfc(−x/√2): Chebyshev form of Numerical Recipes' erfc (3rd ed.,
// 6.2.2, `erfcc`), fractional error below 1.2e-7. The lower tail comes from erfc itself: 1 + erf would cancel there.
fn normal_cdf(x: vec4f) -> vec4f {
  let z = abs(x) * 0.70710678118;
  let t = 1.0 / (1.0 + 0.5 * z);
  let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
    + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  let tail = 0.5 * t * exp(-min(z * z, vec4f(80.0)) + p);
  return select(tail, 1.0 - tail, x > vec4f(0.0));
}

fn activate(x: vec4f, activation: u32) -> vec4f {
  switch activation {
    case SILU: { return x * sigmoid(x); }
    case GELU: { return x * normal_cdf(x); }
    case QUICK_GELU: { return x * sigmoid(1.702 * x); }
    case RELU: { return max(x, vec4f(0.0)); }
    case TANH: { return tanh(clamp(x, vec4f(-20.0), vec4f(20.0))); }
    default: { return x; }
  }
}

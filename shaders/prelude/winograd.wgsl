// Winograd's F(4×4, 3×3): 4 × 4 outputs from 6 × 6 inputs with 36 products, where 144 are taken otherwise (Lavin & Gray 2015,
// arXiv 1509.09308). Interpolation points 0, ±2/3, ±3/2, ∞: with those of the paper (0, ±1, ±2, ∞) the error of f32 is twice
// as large, and three times at worst; with these it is 1.7 times that of the plain sum (128 channels, normal values).
// Results are stored as f32 whatever weights and activations are: as halves, transformed weights lose three digits.
const OUTPUTS = 4u;  // of a tile, along a side
const POINTS = 6u;   // inputs of a tile along a side, and frequencies
const P = 2.0 / 3.0;
const Q = 3.0 / 2.0;  // P · Q = 1

// Bᵀ d, Aᵀ m and G g along one dimension.
fn input_transform(d: array<vec4f, POINTS>) -> array<vec4f, POINTS> {
  let near = d[4] - Q * Q * d[2];
  let near_odd = P * d[3] - Q * d[1];
  let far = d[4] - P * P * d[2];
  let far_odd = Q * d[3] - P * d[1];
  return array(
    d[0] - (P * P + Q * Q) * d[2] + d[4],
    near + near_odd,
    near - near_odd,
    far + far_odd,
    far - far_odd,
    d[1] - (P * P + Q * Q) * d[3] + d[5],
  );
}
fn output_transform(m: array<vec4f, POINTS>) -> array<vec4f, OUTPUTS> {
  let near = m[1] + m[2];
  let near_odd = m[1] - m[2];
  let far = m[3] + m[4];
  let far_odd = m[3] - m[4];
  return array(
    m[0] + near + far,
    P * near_odd + Q * far_odd,
    P * P * near + Q * Q * far,
    P * P * P * near_odd + Q * Q * Q * far_odd + m[5],
  );
}
fn weight_transform(g0: vec4f, g1: vec4f, g2: vec4f) -> array<vec4f, POINTS> {
  const NEAR = 1.0 / (2.0 * P * P * (P * P - Q * Q));
  const FAR = 1.0 / (2.0 * Q * Q * (Q * Q - P * P));
  let near = NEAR * g0 + NEAR * P * P * g2;
  let near_odd = NEAR * P * g1;
  let far = FAR * g0 + FAR * Q * Q * g2;
  let far_odd = FAR * Q * g1;
  return array(g0, near + near_odd, near - near_odd, far + far_odd, far - far_odd, g2);
}

// Bᵀ and Aᵀ column by column: the part of one row of the operand in each row of the result.
const INPUT_COLUMNS = array(
  array(1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
  array(0.0, -Q, Q, -P, P, 1.0),
  array(-(P * P + Q * Q), -Q * Q, -Q * Q, -P * P, -P * P, 0.0),
  array(0.0, P, -P, Q, -Q, -(P * P + Q * Q)),
  array(1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
  array(0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
);
const OUTPUT_COLUMNS = array(
  array(1.0, 0.0, 0.0, 0.0),
  array(1.0, P, P * P, P * P * P),
  array(1.0, -P, P * P, -P * P * P),
  array(1.0, Q, Q * Q, Q * Q * Q),
  array(1.0, -Q, Q * Q, -Q * Q * Q),
  array(0.0, 0.0, 0.0, 1.0),
);

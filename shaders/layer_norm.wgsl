// Layer normalisation over the channels of each token:  out = (x − mean) / √(var + eps) · gamma + beta
// x, out: [row, channel]. One invocation owns one row; the variance is a second pass, so that a large mean costs no digits.
struct Params { rows: u32, quads: u32, channels: u32, eps: f32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> gamma: array<vec4f>;
@group(0) @binding(3) var<storage, read> beta: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x + id.y * params.grid_width * 64u;
  if (row >= params.rows) { return; }
  let base = row * params.quads;
  var sum = vec4f(0.0);
  for (var quad = 0u; quad < params.quads; quad++) { sum += widen(x[base + quad]); }
  let channels = f32(params.channels);
  let mean = (sum.x + sum.y + sum.z + sum.w) / channels;
  var squares = vec4f(0.0);
  for (var quad = 0u; quad < params.quads; quad++) {
    let inside = vec4u(quad * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.channels);  // the last quad may be padded
    let deviation = select(vec4f(0.0), widen(x[base + quad]) - mean, inside);
    squares += deviation * deviation;
  }
  let variance = (squares.x + squares.y + squares.z + squares.w) / channels;
  let scale = inverseSqrt(variance + params.eps);
  for (var quad = 0u; quad < params.quads; quad++) {
    out[base + quad] = narrow((widen(x[base + quad]) - mean) * scale * gamma[quad] + beta[quad]);
  }
}

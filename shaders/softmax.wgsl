// Softmax over the channels of each row:  out = exp(x − max) / Σ exp(x − max).  x, out: [row, channel].
struct Params { rows: u32, quads: u32, channels: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;

fn load(row: u32, quad: u32) -> vec4f {
  let inside = vec4u(quad * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.channels);
  return select(vec4f(-3.4e38), widen(x[row * params.quads + quad]), inside);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x + id.y * params.grid_width * 64u;
  if (row >= params.rows) { return; }
  var maxima = vec4f(-3.4e38);
  for (var quad = 0u; quad < params.quads; quad++) { maxima = max(maxima, load(row, quad)); }
  let maximum = max(max(maxima.x, maxima.y), max(maxima.z, maxima.w));
  var sums = vec4f(0.0);
  for (var quad = 0u; quad < params.quads; quad++) { sums += exp(load(row, quad) - maximum); }
  let norm = 1.0 / (sums.x + sums.y + sums.z + sums.w);
  for (var quad = 0u; quad < params.quads; quad++) {
    out[row * params.quads + quad] = narrow(exp(load(row, quad) - maximum) * norm);
  }
}

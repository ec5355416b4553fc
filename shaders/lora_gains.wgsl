// How much longer DoRA makes the weights of each output, or of each input:
//   gains[c] = strength · (magnitudes[c] / (‖V_c‖ + ε) − 1),  V_c: all weights of channel c, over the other side and the taps
// weights: f32 tiles as pack_weights.wgsl lays them out, zero between heads; the output quads of one of the sources that stand
// in them side by side. magnitudes, gains: quads of stored channels of that source.
struct Params {
  taps: u32, in_quads: u32, out_quads: u32, first_packed_quad: u32,
  packed_quads: u32, of_outputs: u32, strength: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<vec4f>;
@group(0) @binding(2) var<storage, read> magnitudes: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> gains: array<vec4f>;

// LyCORIS adds the smallest step of f32 at 1 to the norm.
const EPSILON = 1.1920929e-7;
const LANES = 64u;
var<workgroup> sums: array<vec4f, LANES>;

// The squares of a tile by channel.
fn squares(tile: u32) -> vec4f {
  let a = weights[tile * 4u];
  let b = weights[tile * 4u + 1u];
  let c = weights[tile * 4u + 2u];
  let d = weights[tile * 4u + 3u];
  if (params.of_outputs == 1u) { return a * a + b * b + c * c + d * d; }
  return vec4f(dot(a, a), dot(b, b), dot(c, c), dot(d, d));
}

// A workgroup has a quad of channels; its lanes go through the tiles, and their sums are added in halves.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quad = group.x;
  let others = select(params.packed_quads, params.in_quads, params.of_outputs == 1u);
  var sum = vec4f(0.0);
  for (var i = lane; i < params.taps * others; i += LANES) {
    let line = i / others * params.in_quads + select(quad, i % others, params.of_outputs == 1u);
    let column = select(i % others, quad, params.of_outputs == 1u);
    sum += squares(line * params.out_quads + params.first_packed_quad + column);
  }
  sums[lane] = sum;
  workgroupBarrier();
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    if (lane < width) { sums[lane] += sums[lane + width]; }
    workgroupBarrier();
  }
  if (lane == 0u) {
    gains[quad] = params.strength * (magnitudes[quad] / (sqrt(sums[0]) + EPSILON) - 1.0);
  }
}

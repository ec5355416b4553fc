// Low-rank changes added to packed weights:  merged[tap][i][o] = before[tap][i][o] + Σ_r down[tap][r][i] · up[r][o]
// before, merged: tiles as pack_weights.wgsl lays them out; this writes the output quads of one of the sources that stand in
// them side by side. before is f32 or f16 whatever merged is, so that weights which come from a finer file are rounded once. down: [tap][rank][input], up: [rank][output], both f32 in quads as the tiles have them (heads widened, zero
// between), scales multiplied in. Several changes are one of the sum of their ranks, so that the sum is rounded once.
struct Params { taps: u32, rank: u32, in_quads: u32, out_quads: u32, first_packed_quad: u32, packed_quads: u32, grid_width: u32, before_halves: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> down: array<vec4f>;
@group(0) @binding(2) var<storage, read> up: array<vec4f>;
@group(0) @binding(3) var<storage, read> before: array<vec2u>;
@group(0) @binding(4) var<storage, read_write> merged: array<TableQuad>;

fn before_quad(index: u32) -> vec4f {
  if (params.before_halves == 1u) {
    let pairs = before[index];
    return vec4f(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
  }
  return bitcast<vec4f>(vec4u(before[index * 2u], before[index * 2u + 1u]));
}

// One invocation owns one tile: four input channels, four output channels.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let column = index % params.packed_quads;
  let in_quad = index / params.packed_quads % params.in_quads;
  let tap = index / params.packed_quads / params.in_quads;
  if (tap >= params.taps) { return; }
  var sum = array(vec4f(0.0), vec4f(0.0), vec4f(0.0), vec4f(0.0));
  for (var r = 0u; r < params.rank; r++) {
    let d = down[(tap * params.rank + r) * params.in_quads + in_quad];
    let u = up[r * params.packed_quads + column];
    sum[0] += d.x * u;
    sum[1] += d.y * u;
    sum[2] += d.z * u;
    sum[3] += d.w * u;
  }
  let tile = ((tap * params.in_quads + in_quad) * params.out_quads + params.first_packed_quad + column) * 4u;
  for (var row = 0u; row < 4u; row++) {
    merged[tile + row] = narrow_table(before_quad(tile + row) + sum[row]);
  }
}

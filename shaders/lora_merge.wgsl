// Low-rank changes added to a copy of packed weights:  merged[tap][i][o] += Σ_r down[tap][r][i] · up[r][o]
// merged: tiles as pack_weights.wgsl lays them out; this adds to the output quads of one of the sources that stand in it
// side by side. down: [tap][rank][input], up: [rank][output], both f32 in quads as the tiles have them (heads widened, zero
// between), scales multiplied in. Several changes are one of the sum of their ranks, so that the sum is rounded once.
struct Params { taps: u32, rank: u32, in_quads: u32, out_quads: u32, first_packed_quad: u32, packed_quads: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> down: array<vec4f>;
@group(0) @binding(2) var<storage, read> up: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> merged: array<TableQuad>;

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
    merged[tile + row] = narrow_table(widen_table(merged[tile + row]) + sum[row]);
  }
}

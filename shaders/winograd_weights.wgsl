// Weights of a 3 × 3 convolution, transformed for Winograd's product:  transformed[f][i][o] = (G g Gᵀ)[f],  g the kernel of (i, o).
// source: tiles [tap][input quad][output quad], f32 or f16; transformed: the same in f32, with frequencies for taps.
struct Params { in_quads: u32, out_quads: u32, grid_width: u32, side: u32 }  // side: POINTS, for a loop that no compiler unrolls
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<TableQuad>;
@group(0) @binding(2) var<storage, read_write> transformed: array<vec4f>;

// One invocation transforms one row of a tile: one input channel, four output channels.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x + id.y * params.grid_width * 64u;
  let rows = params.in_quads * params.out_quads * 4u;
  if (row >= rows) { return; }
  var along_x: array<array<vec4f, POINTS>, 3>;
  for (var y = 0u; y < 3u; y++) {
    let tap = y * 3u * rows + row;
    along_x[y] = weight_transform(
      widen_table(source[tap]),
      widen_table(source[tap + rows]),
      widen_table(source[tap + 2u * rows]),
    );
  }
  for (var x = 0u; x < params.side; x++) {
    let along_y = weight_transform(along_x[0][x], along_x[1][x], along_x[2][x]);
    for (var y = 0u; y < POINTS; y++) { transformed[(y * POINTS + x) * rows + row] = along_y[y]; }
  }
}

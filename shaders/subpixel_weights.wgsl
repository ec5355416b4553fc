// Weights of a 3 × 3 convolution of a picture resized to twice its size, as those of four convolutions of the picture itself
// with 2 × 2 taps, one for each phase (y mod 2, x mod 2) of the output: neighbours that are copies of one pixel have their
// weights added up. Along a side of three taps, phase 0 sees the pixel before by the first and its own by the other two,
// phase 1 its own by the first two and the next by the last.
// source: tiles [tap][input quad][output quad], f32 or f16; transformed: [phase, tap][input quad][output quad], f32.
struct Params { in_quads: u32, out_quads: u32, grid_width: u32, side: u32 }  // side: 2, for loops that no compiler unrolls
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<TableQuad>;
@group(0) @binding(2) var<storage, read_write> transformed: array<vec4f>;

fn pairs(first: vec4f, second: vec4f, third: vec4f) -> array<array<vec4f, 2>, 2> {
  return array(array(first, second + third), array(first + second, third));
}

// One invocation transforms one row of a tile: one input channel, four output channels.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x + id.y * params.grid_width * 64u;
  let rows = params.in_quads * params.out_quads * 4u;
  if (row >= rows) { return; }
  var along_x: array<array<array<vec4f, 2>, 2>, 3>;
  for (var y = 0u; y < 3u; y++) {
    let tap = y * 3u * rows + row;
    along_x[y] = pairs(
      widen_table(source[tap]),
      widen_table(source[tap + rows]),
      widen_table(source[tap + 2u * rows]),
    );
  }
  for (var phase_x = 0u; phase_x < params.side; phase_x++) {
    for (var tap_x = 0u; tap_x < params.side; tap_x++) {
      let both = pairs(along_x[0][phase_x][tap_x], along_x[1][phase_x][tap_x], along_x[2][phase_x][tap_x]);
      for (var phase_y = 0u; phase_y < params.side; phase_y++) {
        for (var tap_y = 0u; tap_y < params.side; tap_y++) {
          let tap = (phase_y * 2u + phase_x) * 4u + tap_y * 2u + tap_x;
          transformed[tap * rows + row] = both[phase_y][tap_y];
        }
      }
    }
  }
}

// 3 × 3 convolution, stride 1, to few output channels (the last layer of a decoder has three): a lane owns pixels, where
// conv2d_subgroup.wgsl has it own channels, of which there would not be enough for the lanes.
//
// One workgroup is one subgroup. Each lane owns WIDTH neighbouring pixels of a row and one quad of output channels, the
// workgroup's; the WIDTH + 2 input pixels that those see are loaded once for each row of the kernel. Lanes 0 to 2 load the
// tiles of weights of that row's taps, and all get them by broadcast.
const WIDTH = 8u;
const TAPS = 3u;

fn multiply(a: vec4f, b: Outer) -> vec4f {
  return a.x * b.row0 + a.y * b.row1 + a.z * b.row2 + a.w * b.row3;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let index = (workgroup.x + workgroup.z * params.grid_width) * LANES + lane;
  let owned = min(index, params.tile_count - 1u);
  let line = owned / params.tiles_wide;
  let first = Pixel(line / params.out_height, line % params.out_height, owned % params.tiles_wide * WIDTH);
  let column = workgroup.y;
  let weights_column = params.first_out_quad + column;

  var columns: array<u32, WIDTH + TAPS - 1u>;
  for (var x = 0u; x < WIDTH + TAPS - 1u; x++) { columns[x] = source_column(first, x); }
  var sum: array<vec4f, WIDTH>;
  for (var ky = 0u; ky < TAPS; ky++) {
    let row = source_row(first, ky);
    let weights_line = first_line(ky, min(lane, TAPS - 1u));
    for (var k = 0u; k < params.in_quads; k++) {
      let tile = weight_tile(weights_line + k, weights_column);
      let left = Outer(
        subgroupBroadcast(tile.row0, 0u), subgroupBroadcast(tile.row1, 0u),
        subgroupBroadcast(tile.row2, 0u), subgroupBroadcast(tile.row3, 0u),
      );
      let middle = Outer(
        subgroupBroadcast(tile.row0, 1u), subgroupBroadcast(tile.row1, 1u),
        subgroupBroadcast(tile.row2, 1u), subgroupBroadcast(tile.row3, 1u),
      );
      let right = Outer(
        subgroupBroadcast(tile.row0, 2u), subgroupBroadcast(tile.row1, 2u),
        subgroupBroadcast(tile.row2, 2u), subgroupBroadcast(tile.row3, 2u),
      );
      var a = load_input(source_quad(first.image, row, columns[0]), k);
      var b = load_input(source_quad(first.image, row, columns[1]), k);
      for (var x = 0u; x < WIDTH; x++) {
        let c = load_input(source_quad(first.image, row, columns[x + 2u]), k);
        sum[x] += multiply(a, left) + multiply(b, middle) + multiply(c, right);
        a = b;
        b = c;
      }
    }
  }
  if (index >= params.tile_count) { return; }
  // Not unrolled, for the reason that conv2d_subgroup.wgsl gives: params.tile_side is WIDTH, and no compiler knows it.
  for (var x = 0u; x < params.tile_side; x++) {
    if (first.x + x < params.out_width) { finish(line * params.out_width + first.x + x, column, sum[x]); }
  }
}

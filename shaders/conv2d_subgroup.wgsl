// Convolution and matrix product as an outer product inside one subgroup: the form for software adapters, where a
// subgroup is a vector register and workgroup memory and barriers are dear (see docs/kernels.md).
//
// One workgroup is one subgroup and owns ROWS output pixels × 4·LANES output channels. For four input channels at a
// time, lane l loads the quad of the pixels it owns (l, l + LANES, …) and its own tile of weights; each pixel's quad
// is then broadcast and accumulated. No element is loaded twice.
const ROWS = 16u;
const OWNED = (ROWS + LANES - 1u) / LANES;  // pixels whose input one lane loads: 4, 2 or 1

fn multiply(a: vec4f, b: Outer) -> vec4f {
  return a.x * b.row0 + a.y * b.row1 + a.z * b.row2 + a.w * b.row3;
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first_row = (workgroup.x + workgroup.z * params.grid_width) * ROWS;
  let column = workgroup.y * LANES + lane;
  let weight_column = min(column, params.out_quads - 1u);

  let owned = lane % ROWS;
  let pixel0 = output_pixel(first_row + owned);
  let pixel1 = output_pixel(first_row + owned + LANES);
  let pixel2 = output_pixel(first_row + owned + 2u * LANES);
  let pixel3 = output_pixel(first_row + owned + 3u * LANES);

  var sum: array<vec4f, ROWS>;
  var a: array<vec4f, 4>;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      var tile = first_tile(ky, kx, weight_column);
      let source0 = input_quad(pixel0, ky, kx);
      var source1 = 0u;
      var source2 = 0u;
      var source3 = 0u;
      if (OWNED > 1u) { source1 = input_quad(pixel1, ky, kx); }
      if (OWNED > 2u) { source2 = input_quad(pixel2, ky, kx); source3 = input_quad(pixel3, ky, kx); }
      for (var k = 0u; k < params.in_quads; k++) {
        let b = unpack_tile(weights[tile]);
        tile += params.layer_out_quads;
        a[0] = load_input(source0, k);
        if (OWNED > 1u) { a[1] = load_input(source1, k); }
        if (OWNED > 2u) { a[2] = load_input(source2, k); a[3] = load_input(source3, k); }
        sum[0] += multiply(subgroupBroadcast(a[0u / LANES], 0u % LANES), b);
        sum[1] += multiply(subgroupBroadcast(a[1u / LANES], 1u % LANES), b);
        sum[2] += multiply(subgroupBroadcast(a[2u / LANES], 2u % LANES), b);
        sum[3] += multiply(subgroupBroadcast(a[3u / LANES], 3u % LANES), b);
        sum[4] += multiply(subgroupBroadcast(a[4u / LANES], 4u % LANES), b);
        sum[5] += multiply(subgroupBroadcast(a[5u / LANES], 5u % LANES), b);
        sum[6] += multiply(subgroupBroadcast(a[6u / LANES], 6u % LANES), b);
        sum[7] += multiply(subgroupBroadcast(a[7u / LANES], 7u % LANES), b);
        sum[8] += multiply(subgroupBroadcast(a[8u / LANES], 8u % LANES), b);
        sum[9] += multiply(subgroupBroadcast(a[9u / LANES], 9u % LANES), b);
        sum[10] += multiply(subgroupBroadcast(a[10u / LANES], 10u % LANES), b);
        sum[11] += multiply(subgroupBroadcast(a[11u / LANES], 11u % LANES), b);
        sum[12] += multiply(subgroupBroadcast(a[12u / LANES], 12u % LANES), b);
        sum[13] += multiply(subgroupBroadcast(a[13u / LANES], 13u % LANES), b);
        sum[14] += multiply(subgroupBroadcast(a[14u / LANES], 14u % LANES), b);
        sum[15] += multiply(subgroupBroadcast(a[15u / LANES], 15u % LANES), b);
      }
    }
  }
  finish(first_row, column, sum[0]);
  finish(first_row + 1u, column, sum[1]);
  finish(first_row + 2u, column, sum[2]);
  finish(first_row + 3u, column, sum[3]);
  finish(first_row + 4u, column, sum[4]);
  finish(first_row + 5u, column, sum[5]);
  finish(first_row + 6u, column, sum[6]);
  finish(first_row + 7u, column, sum[7]);
  finish(first_row + 8u, column, sum[8]);
  finish(first_row + 9u, column, sum[9]);
  finish(first_row + 10u, column, sum[10]);
  finish(first_row + 11u, column, sum[11]);
  finish(first_row + 12u, column, sum[12]);
  finish(first_row + 13u, column, sum[13]);
  finish(first_row + 14u, column, sum[14]);
  finish(first_row + 15u, column, sum[15]);
}

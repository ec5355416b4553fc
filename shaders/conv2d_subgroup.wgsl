// Convolution and matrix product as an outer product inside one subgroup: the form for software adapters, where a
// subgroup is a vector register and workgroup memory and barriers are dear (see docs/kernels.md).
//
// One workgroup is one subgroup and owns ROWS output pixels × 4·LANES output channels. For four input channels at a
// time, lane l loads the quad of the pixels it owns (l, l + LANES, …) and its own tile of weights; each pixel's quad
// is then broadcast and accumulated. No element is loaded twice.
//
// ROWS is 8, 16 or 32: the more, the fewer loads for each product, and the more of them wasted where there are few rows.
const OWNED = (ROWS + LANES - 1u) / LANES;  // pixels whose input one lane loads: 8, 4, 2 or 1

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
  let pixel4 = output_pixel(first_row + owned + 4u * LANES);
  let pixel5 = output_pixel(first_row + owned + 5u * LANES);
  let pixel6 = output_pixel(first_row + owned + 6u * LANES);
  let pixel7 = output_pixel(first_row + owned + 7u * LANES);

  var sum: array<vec4f, ROWS>;
  var a: array<vec4f, OWNED>;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      var tile = first_tile(ky, kx, weight_column);
      let source0 = input_quad(pixel0, ky, kx);
      var source1 = 0u;
      var source2 = 0u;
      var source3 = 0u;
      var source4 = 0u;
      var source5 = 0u;
      var source6 = 0u;
      var source7 = 0u;
      if (OWNED > 1u) { source1 = input_quad(pixel1, ky, kx); }
      if (OWNED > 2u) { source2 = input_quad(pixel2, ky, kx); source3 = input_quad(pixel3, ky, kx); }
      if (OWNED > 4u) {
        source4 = input_quad(pixel4, ky, kx);
        source5 = input_quad(pixel5, ky, kx);
        source6 = input_quad(pixel6, ky, kx);
        source7 = input_quad(pixel7, ky, kx);
      }
      for (var k = 0u; k < params.in_quads; k++) {
        let b = unpack_tile(weights[tile]);
        tile += params.layer_out_quads;
        a[0] = load_input(source0, k);
        if (OWNED > 1u) { a[1u % OWNED] = load_input(source1, k); }
        if (OWNED > 2u) { a[2u % OWNED] = load_input(source2, k); a[3u % OWNED] = load_input(source3, k); }
        if (OWNED > 4u) {
          a[4u % OWNED] = load_input(source4, k);
          a[5u % OWNED] = load_input(source5, k);
          a[6u % OWNED] = load_input(source6, k);
          a[7u % OWNED] = load_input(source7, k);
        }
        sum[0u % ROWS] += multiply(subgroupBroadcast(a[0u / LANES % OWNED], 0u % LANES), b);
        sum[1u % ROWS] += multiply(subgroupBroadcast(a[1u / LANES % OWNED], 1u % LANES), b);
        sum[2u % ROWS] += multiply(subgroupBroadcast(a[2u / LANES % OWNED], 2u % LANES), b);
        sum[3u % ROWS] += multiply(subgroupBroadcast(a[3u / LANES % OWNED], 3u % LANES), b);
        sum[4u % ROWS] += multiply(subgroupBroadcast(a[4u / LANES % OWNED], 4u % LANES), b);
        sum[5u % ROWS] += multiply(subgroupBroadcast(a[5u / LANES % OWNED], 5u % LANES), b);
        sum[6u % ROWS] += multiply(subgroupBroadcast(a[6u / LANES % OWNED], 6u % LANES), b);
        sum[7u % ROWS] += multiply(subgroupBroadcast(a[7u / LANES % OWNED], 7u % LANES), b);
        if (ROWS > 8u) {
          sum[8u % ROWS] += multiply(subgroupBroadcast(a[8u / LANES % OWNED], 8u % LANES), b);
          sum[9u % ROWS] += multiply(subgroupBroadcast(a[9u / LANES % OWNED], 9u % LANES), b);
          sum[10u % ROWS] += multiply(subgroupBroadcast(a[10u / LANES % OWNED], 10u % LANES), b);
          sum[11u % ROWS] += multiply(subgroupBroadcast(a[11u / LANES % OWNED], 11u % LANES), b);
          sum[12u % ROWS] += multiply(subgroupBroadcast(a[12u / LANES % OWNED], 12u % LANES), b);
          sum[13u % ROWS] += multiply(subgroupBroadcast(a[13u / LANES % OWNED], 13u % LANES), b);
          sum[14u % ROWS] += multiply(subgroupBroadcast(a[14u / LANES % OWNED], 14u % LANES), b);
          sum[15u % ROWS] += multiply(subgroupBroadcast(a[15u / LANES % OWNED], 15u % LANES), b);
        }
        if (ROWS > 16u) {
          sum[16u % ROWS] += multiply(subgroupBroadcast(a[16u / LANES % OWNED], 16u % LANES), b);
          sum[17u % ROWS] += multiply(subgroupBroadcast(a[17u / LANES % OWNED], 17u % LANES), b);
          sum[18u % ROWS] += multiply(subgroupBroadcast(a[18u / LANES % OWNED], 18u % LANES), b);
          sum[19u % ROWS] += multiply(subgroupBroadcast(a[19u / LANES % OWNED], 19u % LANES), b);
          sum[20u % ROWS] += multiply(subgroupBroadcast(a[20u / LANES % OWNED], 20u % LANES), b);
          sum[21u % ROWS] += multiply(subgroupBroadcast(a[21u / LANES % OWNED], 21u % LANES), b);
          sum[22u % ROWS] += multiply(subgroupBroadcast(a[22u / LANES % OWNED], 22u % LANES), b);
          sum[23u % ROWS] += multiply(subgroupBroadcast(a[23u / LANES % OWNED], 23u % LANES), b);
          sum[24u % ROWS] += multiply(subgroupBroadcast(a[24u / LANES % OWNED], 24u % LANES), b);
          sum[25u % ROWS] += multiply(subgroupBroadcast(a[25u / LANES % OWNED], 25u % LANES), b);
          sum[26u % ROWS] += multiply(subgroupBroadcast(a[26u / LANES % OWNED], 26u % LANES), b);
          sum[27u % ROWS] += multiply(subgroupBroadcast(a[27u / LANES % OWNED], 27u % LANES), b);
          sum[28u % ROWS] += multiply(subgroupBroadcast(a[28u / LANES % OWNED], 28u % LANES), b);
          sum[29u % ROWS] += multiply(subgroupBroadcast(a[29u / LANES % OWNED], 29u % LANES), b);
          sum[30u % ROWS] += multiply(subgroupBroadcast(a[30u / LANES % OWNED], 30u % LANES), b);
          sum[31u % ROWS] += multiply(subgroupBroadcast(a[31u / LANES % OWNED], 31u % LANES), b);
        }
      }
    }
  }
  // A loop of a length that no compiler knows: unrolled, the epilogue ROWS times over is most of the kernel's code, and
  // lavapipe compiles it for half a minute instead of a second. Indexed by the loop, `done` lies in memory; sum does not.
  var done = sum;
  let count = min(ROWS, params.rows - first_row);
  for (var row = 0u; row < count; row++) { finish(first_row + row, column, done[row]); }
}

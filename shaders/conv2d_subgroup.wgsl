// Convolution and matrix product as an outer product inside one subgroup: the form for software adapters, where a
// subgroup is a vector register and workgroup memory and barriers are dear (see docs/kernels.md).
//
// One workgroup is one subgroup and owns ROWS output pixels × QUADS·LANES quads of output channels. For four input channels
// at a time, lane l loads its own tiles of weights (columns l and l + LANES) and the quads of the pixels it owns (l,
// l + LANES, …); each pixel's quad is then broadcast and accumulated. No element is loaded twice.
//
// A load is far more code than a product here, and code that outgrows the instruction cache is what limits the size of a
// tile: hence 16 pixels × 2 quads a lane, and 8 × 2 or 32 × 1 where pixels or channels are few. Weights are loaded before
// the input: a load from a texture is a call, over which no register lives.
//
// Of a gated layer a lane's first quad is of the first half of its channels, and the second the same of the other half.
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
  let column0 = workgroup.y * (QUADS >> GATED) * LANES + lane;
  let column1 = column0 + LANES;
  let weights0 = params.first_out_quad + min(column0, params.out_quads - 1u);
  var weights1 = params.first_out_quad + min(column1, params.out_quads - 1u);
  if (GATED == 1u) { weights1 = gated_column(column0, true); }

  let owned = lane % ROWS;
  let pixel0 = output_pixel(first_row + owned);
  let pixel1 = output_pixel(first_row + owned + LANES);
  let pixel2 = output_pixel(first_row + owned + 2u * LANES);
  let pixel3 = output_pixel(first_row + owned + 3u * LANES);
  let pixel4 = output_pixel(first_row + owned + 4u * LANES);
  let pixel5 = output_pixel(first_row + owned + 5u * LANES);
  let pixel6 = output_pixel(first_row + owned + 6u * LANES);
  let pixel7 = output_pixel(first_row + owned + 7u * LANES);

  var sum0: array<vec4f, ROWS>;
  var sum1: array<vec4f, ROWS>;
  var input: array<vec4f, OWNED>;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      var line = first_line(ky, kx);
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
        let b0 = weight_tile(line, weights0);
        var b1 = b0;
        if (QUADS > 1u) { b1 = weight_tile(line, weights1); }
        line++;
        input[0] = load_input(source0, k);
        if (OWNED > 1u) { input[1u % OWNED] = load_input(source1, k); }
        if (OWNED > 2u) { input[2u % OWNED] = load_input(source2, k); input[3u % OWNED] = load_input(source3, k); }
        if (OWNED > 4u) {
          input[4u % OWNED] = load_input(source4, k);
          input[5u % OWNED] = load_input(source5, k);
          input[6u % OWNED] = load_input(source6, k);
          input[7u % OWNED] = load_input(source7, k);
        }
        var a: vec4f;
        a = subgroupBroadcast(input[0u / LANES % OWNED], 0u % LANES);
        sum0[0u % ROWS] += multiply(a, b0);
        if (QUADS > 1u) { sum1[0u % ROWS] += multiply(a, b1); }
        a = subgroupBroadcast(input[1u / LANES % OWNED], 1u % LANES);
        sum0[1u % ROWS] += multiply(a, b0);
        if (QUADS > 1u) { sum1[1u % ROWS] += multiply(a, b1); }
        a = subgroupBroadcast(input[2u / LANES % OWNED], 2u % LANES);
        sum0[2u % ROWS] += multiply(a, b0);
        if (QUADS > 1u) { sum1[2u % ROWS] += multiply(a, b1); }
        a = subgroupBroadcast(input[3u / LANES % OWNED], 3u % LANES);
        sum0[3u % ROWS] += multiply(a, b0);
        if (QUADS > 1u) { sum1[3u % ROWS] += multiply(a, b1); }
        a = subgroupBroadcast(input[4u / LANES % OWNED], 4u % LANES);
        sum0[4u % ROWS] += multiply(a, b0);
        if (QUADS > 1u) { sum1[4u % ROWS] += multiply(a, b1); }
        a = subgroupBroadcast(input[5u / LANES % OWNED], 5u % LANES);
        sum0[5u % ROWS] += multiply(a, b0);
        if (QUADS > 1u) { sum1[5u % ROWS] += multiply(a, b1); }
        a = subgroupBroadcast(input[6u / LANES % OWNED], 6u % LANES);
        sum0[6u % ROWS] += multiply(a, b0);
        if (QUADS > 1u) { sum1[6u % ROWS] += multiply(a, b1); }
        a = subgroupBroadcast(input[7u / LANES % OWNED], 7u % LANES);
        sum0[7u % ROWS] += multiply(a, b0);
        if (QUADS > 1u) { sum1[7u % ROWS] += multiply(a, b1); }
        if (ROWS > 8u) {
          a = subgroupBroadcast(input[8u / LANES % OWNED], 8u % LANES);
          sum0[8u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[8u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[9u / LANES % OWNED], 9u % LANES);
          sum0[9u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[9u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[10u / LANES % OWNED], 10u % LANES);
          sum0[10u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[10u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[11u / LANES % OWNED], 11u % LANES);
          sum0[11u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[11u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[12u / LANES % OWNED], 12u % LANES);
          sum0[12u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[12u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[13u / LANES % OWNED], 13u % LANES);
          sum0[13u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[13u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[14u / LANES % OWNED], 14u % LANES);
          sum0[14u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[14u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[15u / LANES % OWNED], 15u % LANES);
          sum0[15u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[15u % ROWS] += multiply(a, b1); }
        }
        if (ROWS > 16u) {
          a = subgroupBroadcast(input[16u / LANES % OWNED], 16u % LANES);
          sum0[16u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[16u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[17u / LANES % OWNED], 17u % LANES);
          sum0[17u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[17u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[18u / LANES % OWNED], 18u % LANES);
          sum0[18u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[18u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[19u / LANES % OWNED], 19u % LANES);
          sum0[19u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[19u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[20u / LANES % OWNED], 20u % LANES);
          sum0[20u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[20u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[21u / LANES % OWNED], 21u % LANES);
          sum0[21u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[21u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[22u / LANES % OWNED], 22u % LANES);
          sum0[22u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[22u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[23u / LANES % OWNED], 23u % LANES);
          sum0[23u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[23u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[24u / LANES % OWNED], 24u % LANES);
          sum0[24u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[24u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[25u / LANES % OWNED], 25u % LANES);
          sum0[25u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[25u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[26u / LANES % OWNED], 26u % LANES);
          sum0[26u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[26u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[27u / LANES % OWNED], 27u % LANES);
          sum0[27u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[27u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[28u / LANES % OWNED], 28u % LANES);
          sum0[28u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[28u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[29u / LANES % OWNED], 29u % LANES);
          sum0[29u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[29u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[30u / LANES % OWNED], 30u % LANES);
          sum0[30u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[30u % ROWS] += multiply(a, b1); }
          a = subgroupBroadcast(input[31u / LANES % OWNED], 31u % LANES);
          sum0[31u % ROWS] += multiply(a, b0);
          if (QUADS > 1u) { sum1[31u % ROWS] += multiply(a, b1); }
        }
      }
    }
  }
  // A loop of a length that no compiler knows: unrolled, the epilogue ROWS times over is most of the kernel's code, and
  // lavapipe compiles it for half a minute instead of a second. Indexed by the loop, `done` lies in memory; sum does not.
  var done0 = sum0;
  var done1 = sum1;
  let count = min(ROWS, params.rows - first_row);
  if (GATED == 1u) {
    for (var i = 0u; i < count; i++) { finish_gated(first_row + i, column0, done0[i], done1[i]); }
    return;
  }
  for (var i = 0u; i < count * QUADS; i++) {
    let row = i / QUADS;
    let second = i % QUADS == 1u;
    finish(first_row + row, select(column0, column1, second), select(done0[row], done1[row], second));
  }
}

// Convolution and matrix product as an outer product inside one subgroup: the form for software adapters, where a
// subgroup is a vector register and workgroup memory and barriers are dear (see docs/kernels.md).
//
// One workgroup is one subgroup and owns ROWS output pixels × QUADS·LANES quads of output channels. For four input channels
// at a time, lane l loads its own tiles of weights (columns l and l + LANES) and the quads of the pixels it owns (l,
// l + LANES, …), which subgroup_product.wgsl multiplies.
//
// A load is far more code than a product here, and code that outgrows the instruction cache is what limits the size of a
// tile: hence 16 pixels × 2 quads a lane, and 8 × 2 or 32 × 1 where pixels or channels are few. Weights are loaded before
// the input: a load from a texture is a call, over which no register lives.
//
// In a gated layer a lane's first quad is of the first half of its channels, and the second the same of the other half.

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first_row = (workgroup.x + workgroup.z * params.grid_width) * ROWS;
  let is_gated = QUADS > 1u && params.gated != 0u;
  let column0 = workgroup.y * (QUADS >> select(0u, 1u, is_gated)) * LANES + lane;
  let column1 = column0 + LANES;
  let weights0 = params.first_out_quad + min(column0, params.out_quads - 1u);
  var weights1 = params.first_out_quad + min(column1, params.out_quads - 1u);
  if (is_gated) { weights1 = gated_column(column0, true); }

  let owned = lane % ROWS;
  let pixel0 = output_pixel(first_row + owned);
  let pixel1 = output_pixel(first_row + owned + LANES);
  let pixel2 = output_pixel(first_row + owned + 2u * LANES);
  let pixel3 = output_pixel(first_row + owned + 3u * LANES);
  let pixel4 = output_pixel(first_row + owned + 4u * LANES);
  let pixel5 = output_pixel(first_row + owned + 5u * LANES);
  let pixel6 = output_pixel(first_row + owned + 6u * LANES);
  let pixel7 = output_pixel(first_row + owned + 7u * LANES);

  var sum0: Sums;
  var sum1: Sums;
  var input: Owned;
  // Loops that look at their ends: with their heads first, all lanes go through one turn more, switched off.
  var ky = 0u;
  loop {
    var kx = 0u;
    loop {
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
      var k = 0u;
      loop {
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
        add_products(&sum0, &sum1, &input, b0, b1);
        continuing { k++; break if k >= params.in_quads; }
      }
      continuing { kx++; break if kx >= params.kernel_width; }
    }
    continuing { ky++; break if ky >= params.kernel_height; }
  }
  // A loop of a length that no compiler knows: unrolled, the epilogue ROWS times over is most of the kernel's code, and
  // lavapipe compiles it for half a minute instead of a second. Indexed by the loop, `done` lies in memory; sum does not.
  var done0 = sum0;
  var done1 = sum1;
  // One pipeline for gated layers, phases and all others. Values that all pixels share are loaded once.
  let count = min(ROWS, params.rows - first_row);
  var wanted = epilogue();
  var bias0 = vec4f(0.0);
  var bias1 = vec4f(0.0);
  if (wanted.has_bias) {
    bias0 = bias[weights0];
    if (QUADS > 1u) { bias1 = bias[weights1]; }
  }
  if (is_gated) {
    wanted.gated = true;
    wanted.activation = GELU;
  }
  let both = select(QUADS - 1u, 0u, is_gated);  // 1: a lane makes two quads of the output
  for (var i = 0u; i < count << both; i++) {
    let own = i >> both;
    let second = (i & both) == 1u;
    let row = first_row + own;
    let column = select(column0, column1, second);
    if (is_inside(row, column)) {
      let sum = select(done0[own], done1[own], second);
      end(output_row(row), row, column, sum, select(bias0, bias1, second), done1[own] + bias1, wanted, true);
    }
  }
}

// Convolution and matrix product as an outer product inside one subgroup of four: conv2d_subgroup.wgsl for SwiftShader, which
// keeps values in memory rather than in registers whatever the kernel does (see docs/kernels.md).
//
// One workgroup is one subgroup and owns ROWS output pixels × QUADS·LANES quads of output channels. For four input channels
// at a time, lane l loads its own tiles of weights (columns l, l + LANES, …) and the quads of the pixels that it owns (l,
// l + LANES, …); a pixel's quad then goes round the lanes. The loads are the cost, each a branch and a check of bounds
// for each lane and component: hence 32 pixels × 4 quads a lane, and fewer where pixels or channels are few.
//
// In a gated layer a lane's first quads are of the first half of its channels, and the others the same of the other half.
const OWNED = ROWS / LANES;  // pixels whose input one lane loads: 8 or 2

// Endings, each with what may be in it; whether its bias and RELU are there is looked at for each pixel, and costs little.
const PLAIN = 0u;
const WITH_RESIDUAL = 1u;
const WITH_PER_IMAGE = 2u;
const RARE = 3u;  // anything

// A pixel's ending, of a kind that is a constant.
fn end_here(row: u32, column: u32, sum: vec4f, own_bias: vec4f, kind: u32) {
  if (!is_inside(row, column)) { return; }
  let all = epilogue();
  let wanted = Epilogue(
    kind == RARE && all.accumulate, all.has_bias, kind == WITH_PER_IMAGE || (kind == RARE && all.has_per_image),
    kind == WITH_RESIDUAL || (kind == RARE && all.has_residual), all.activation, all.activation_after_residual, false,
  );
  var out_row = row;
  if (PHASED == 1u) { out_row = output_row(row); }
  end(out_row, row, column, sum, own_bias, vec4f(0.0), wanted, kind == RARE);
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first_row = (workgroup.x + workgroup.z * params.grid_width) * ROWS;
  let is_gated = QUADS > 1u && params.gated != 0u;
  let first_column = workgroup.y * (QUADS >> select(0u, 1u, is_gated)) * LANES + lane;
  let last = params.out_quads - 1u;
  let weights0 = params.first_out_quad + min(first_column, last);
  var weights1 = params.first_out_quad + min(first_column + LANES, last);
  var weights2 = params.first_out_quad + min(first_column + 2u * LANES, last);
  var weights3 = params.first_out_quad + min(first_column + 3u * LANES, last);
  if (QUADS == 2u) { weights1 = select(weights1, gated_column(first_column, true), is_gated); }
  if (QUADS == 4u) {
    weights2 = select(weights2, gated_column(first_column, true), is_gated);
    weights3 = select(weights3, gated_column(first_column + LANES, true), is_gated);
  }

  let pixel0 = output_pixel(first_row + lane);
  let pixel1 = output_pixel(first_row + lane + LANES);
  let pixel2 = output_pixel(first_row + lane + 2u * LANES);
  let pixel3 = output_pixel(first_row + lane + 3u * LANES);
  let pixel4 = output_pixel(first_row + lane + 4u * LANES);
  let pixel5 = output_pixel(first_row + lane + 5u * LANES);
  let pixel6 = output_pixel(first_row + lane + 6u * LANES);
  let pixel7 = output_pixel(first_row + lane + 7u * LANES);

  var sum0: array<Four, OWNED>;
  var sum1: array<Four, OWNED>;
  var sum2: array<Four, OWNED>;
  var sum3: array<Four, OWNED>;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      var line = first_line(ky, kx);
      let source0 = input_quad(pixel0, ky, kx);
      let source1 = input_quad(pixel1, ky, kx);
      var source2 = 0u;
      var source3 = 0u;
      var source4 = 0u;
      var source5 = 0u;
      var source6 = 0u;
      var source7 = 0u;
      if (OWNED > 2u) {
        source2 = input_quad(pixel2, ky, kx);
        source3 = input_quad(pixel3, ky, kx);
        source4 = input_quad(pixel4, ky, kx);
        source5 = input_quad(pixel5, ky, kx);
        source6 = input_quad(pixel6, ky, kx);
        source7 = input_quad(pixel7, ky, kx);
      }
      for (var k = 0u; k < params.in_quads; k++) {
        let b0 = weight_tile(line, weights0);
        var b1 = b0;
        var b2 = b0;
        var b3 = b0;
        if (QUADS > 1u) { b1 = weight_tile(line, weights1); }
        if (QUADS > 2u) { b2 = weight_tile(line, weights2); b3 = weight_tile(line, weights3); }
        line++;
        var a: Four;
        a = swapped(load_input(source0, k));
        sum0[0] = add_products(sum0[0], a, b0);
        if (QUADS > 1u) { sum1[0] = add_products(sum1[0], a, b1); }
        if (QUADS > 2u) { sum2[0] = add_products(sum2[0], a, b2); sum3[0] = add_products(sum3[0], a, b3); }
        a = swapped(load_input(source1, k));
        sum0[1] = add_products(sum0[1], a, b0);
        if (QUADS > 1u) { sum1[1] = add_products(sum1[1], a, b1); }
        if (QUADS > 2u) { sum2[1] = add_products(sum2[1], a, b2); sum3[1] = add_products(sum3[1], a, b3); }
        if (OWNED > 2u) {
          a = swapped(load_input(source2, k));
          sum0[2u % OWNED] = add_products(sum0[2u % OWNED], a, b0);
          if (QUADS > 1u) { sum1[2u % OWNED] = add_products(sum1[2u % OWNED], a, b1); }
          if (QUADS > 2u) { sum2[2u % OWNED] = add_products(sum2[2u % OWNED], a, b2); sum3[2u % OWNED] = add_products(sum3[2u % OWNED], a, b3); }
          a = swapped(load_input(source3, k));
          sum0[3u % OWNED] = add_products(sum0[3u % OWNED], a, b0);
          if (QUADS > 1u) { sum1[3u % OWNED] = add_products(sum1[3u % OWNED], a, b1); }
          if (QUADS > 2u) { sum2[3u % OWNED] = add_products(sum2[3u % OWNED], a, b2); sum3[3u % OWNED] = add_products(sum3[3u % OWNED], a, b3); }
          a = swapped(load_input(source4, k));
          sum0[4u % OWNED] = add_products(sum0[4u % OWNED], a, b0);
          if (QUADS > 1u) { sum1[4u % OWNED] = add_products(sum1[4u % OWNED], a, b1); }
          if (QUADS > 2u) { sum2[4u % OWNED] = add_products(sum2[4u % OWNED], a, b2); sum3[4u % OWNED] = add_products(sum3[4u % OWNED], a, b3); }
          a = swapped(load_input(source5, k));
          sum0[5u % OWNED] = add_products(sum0[5u % OWNED], a, b0);
          if (QUADS > 1u) { sum1[5u % OWNED] = add_products(sum1[5u % OWNED], a, b1); }
          if (QUADS > 2u) { sum2[5u % OWNED] = add_products(sum2[5u % OWNED], a, b2); sum3[5u % OWNED] = add_products(sum3[5u % OWNED], a, b3); }
          a = swapped(load_input(source6, k));
          sum0[6u % OWNED] = add_products(sum0[6u % OWNED], a, b0);
          if (QUADS > 1u) { sum1[6u % OWNED] = add_products(sum1[6u % OWNED], a, b1); }
          if (QUADS > 2u) { sum2[6u % OWNED] = add_products(sum2[6u % OWNED], a, b2); sum3[6u % OWNED] = add_products(sum3[6u % OWNED], a, b3); }
          a = swapped(load_input(source7, k));
          sum0[7u % OWNED] = add_products(sum0[7u % OWNED], a, b0);
          if (QUADS > 1u) { sum1[7u % OWNED] = add_products(sum1[7u % OWNED], a, b1); }
          if (QUADS > 2u) { sum2[7u % OWNED] = add_products(sum2[7u % OWNED], a, b2); sum3[7u % OWNED] = add_products(sum3[7u % OWNED], a, b3); }
        }
      }
    }
  }
  // In memory, so that the epilogue can be a loop instead of being compiled ROWS · QUADS times over. No division: it is done
  // lane by lane.
  var done: array<array<Four, OWNED>, 4>;
  done[0] = sum0;
  if (QUADS > 1u) { done[1] = sum1; }
  if (QUADS > 2u) { done[2] = sum2; done[3] = sum3; }
  let count = min(ROWS, (params.rows - first_row + 3u) & ~3u);
  // One pipeline for all layers, although both sides of every branch are run here: each usual ending has a loop of its own,
  // without what it does not have, and any other has the last. A loop without a turn is run through once, with all lanes off.
  let wanted = epilogue();
  let has_activation = wanted.activation != NO_ACTIVATION && wanted.activation != RELU;
  let is_rare = wanted.accumulate || has_activation || (wanted.has_per_image && wanted.has_residual);
  let gated_turns = select(0u, count, is_gated);
  let rare_turns = select(0u, count, is_rare && !is_gated);
  let per_image_turns = select(0u, count, !is_rare && !is_gated && wanted.has_per_image);
  let residual_turns = select(0u, count, !is_rare && !is_gated && wanted.has_residual);
  let plain_turns = count - gated_turns - rare_turns - per_image_turns - residual_turns;
  if (QUADS > 1u) {
    for (var quad = 0u; quad < QUADS / 2u; quad++) {
      for (var row = 0u; row < gated_turns; row++) {
        let value = done[quad][row >> 2u][row & 3u];
        let gate = done[quad + QUADS / 2u][row >> 2u][row & 3u];
        finish_gated(first_row + (row ^ lane), first_column + quad * LANES, value, gate);
      }
    }
  }
  for (var quad = 0u; quad < QUADS; quad++) {
    let column = first_column + quad * LANES;
    let own_bias = bias[params.first_out_quad + column];
    for (var row = 0u; row < plain_turns; row++) {
      end_here(first_row + (row ^ lane), column, done[quad][row >> 2u][row & 3u], own_bias, PLAIN);
    }
    for (var row = 0u; row < residual_turns; row++) {
      end_here(first_row + (row ^ lane), column, done[quad][row >> 2u][row & 3u], own_bias, WITH_RESIDUAL);
    }
    for (var row = 0u; row < per_image_turns; row++) {
      end_here(first_row + (row ^ lane), column, done[quad][row >> 2u][row & 3u], own_bias, WITH_PER_IMAGE);
    }
    for (var row = 0u; row < rare_turns; row++) {
      end_here(first_row + (row ^ lane), column, done[quad][row >> 2u][row & 3u], own_bias, RARE);
    }
  }
}

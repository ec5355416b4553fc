// Winograd convolution, second of three: a matrix product for each frequency, as an outer product inside one subgroup.
//
//   products[f, tile, o] = Σ_i transformed[f, tile, i] · weights[f, i, o]
//
// One workgroup is one subgroup and owns ROWS tiles × QUADS·LANES quads of output channels of one frequency, in the manner of
// conv2d_subgroup.wgsl: 16 × 2, or 32 × 1 where that leaves fewer lanes without a channel. Rows up to tile_stride, a multiple
// of ROWS, are there whether or not a tile is in them, and so are columns up to product_quads, a multiple of QUADS·LANES:
// nobody reads what is written there. Both operands lie as winograd_input.wgsl and winograd_output.wgsl say. Weights: lines of
// tiles, as a convolution's whose taps are the frequencies.
struct Params { in_quads: u32, out_quads: u32, first_out_quad: u32, tile_stride: u32, product_quads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var transformed: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var products: texture_storage_2d<rgba32float, write>;

// Row i of the sums to its place among the products: columns.x, and columns.y of a lane's second quad.
fn store_row(sum0: ptr<function, Sums>, sum1: ptr<function, Sums>, i: u32, first_row: u32, columns: vec2u) {
  textureStore(products, vec2u(columns.x, first_row + i), (*sum0)[i % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(columns.y, first_row + i), (*sum1)[i % ROWS]); }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = workgroup.z % FREQUENCY_ROWS * params.tile_stride + workgroup.x * ROWS;
  let first_in = workgroup.z / FREQUENCY_ROWS * params.in_quads;
  let first_product = workgroup.z / FREQUENCY_ROWS * params.product_quads;
  let owned = row + lane % ROWS;
  let column0 = workgroup.y * QUADS * LANES + lane;
  let column1 = column0 + LANES;
  let weights0 = params.first_out_quad + min(column0, params.out_quads - 1u);
  let weights1 = params.first_out_quad + min(column1, params.out_quads - 1u);
  var line = workgroup.z * params.in_quads;
  var sum0: Sums;
  var sum1: Sums;
  var input: Owned;
  for (var k = 0u; k < params.in_quads; k++) {
    let b0 = weight_tile(line, weights0);
    var b1 = b0;
    if (QUADS > 1u) { b1 = weight_tile(line, weights1); }
    line++;
    input[0] = textureLoad(transformed, vec2u(first_in + k, owned));
    if (OWNED > 1u) { input[1u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + LANES)); }
    if (OWNED > 2u) {
      input[2u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 2u * LANES));
      input[3u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 3u * LANES));
    }
    if (OWNED > 4u) {
      input[4u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 4u * LANES));
      input[5u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 5u * LANES));
      input[6u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 6u * LANES));
      input[7u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 7u * LANES));
    }
    add_products(&sum0, &sum1, &input, b0, b1);
  }
  let columns = vec2u(first_product + column0, first_product + column1);
  store_row(&sum0, &sum1, 0u, row, columns);
  store_row(&sum0, &sum1, 1u, row, columns);
  store_row(&sum0, &sum1, 2u, row, columns);
  store_row(&sum0, &sum1, 3u, row, columns);
  store_row(&sum0, &sum1, 4u, row, columns);
  store_row(&sum0, &sum1, 5u, row, columns);
  store_row(&sum0, &sum1, 6u, row, columns);
  store_row(&sum0, &sum1, 7u, row, columns);
  store_row(&sum0, &sum1, 8u, row, columns);
  store_row(&sum0, &sum1, 9u, row, columns);
  store_row(&sum0, &sum1, 10u, row, columns);
  store_row(&sum0, &sum1, 11u, row, columns);
  store_row(&sum0, &sum1, 12u, row, columns);
  store_row(&sum0, &sum1, 13u, row, columns);
  store_row(&sum0, &sum1, 14u, row, columns);
  store_row(&sum0, &sum1, 15u, row, columns);
  if (ROWS > 16u) {
    store_row(&sum0, &sum1, 16u, row, columns);
    store_row(&sum0, &sum1, 17u, row, columns);
    store_row(&sum0, &sum1, 18u, row, columns);
    store_row(&sum0, &sum1, 19u, row, columns);
    store_row(&sum0, &sum1, 20u, row, columns);
    store_row(&sum0, &sum1, 21u, row, columns);
    store_row(&sum0, &sum1, 22u, row, columns);
    store_row(&sum0, &sum1, 23u, row, columns);
    store_row(&sum0, &sum1, 24u, row, columns);
    store_row(&sum0, &sum1, 25u, row, columns);
    store_row(&sum0, &sum1, 26u, row, columns);
    store_row(&sum0, &sum1, 27u, row, columns);
    store_row(&sum0, &sum1, 28u, row, columns);
    store_row(&sum0, &sum1, 29u, row, columns);
    store_row(&sum0, &sum1, 30u, row, columns);
    store_row(&sum0, &sum1, 31u, row, columns);
  }
}

// Winograd convolution, second of three: a matrix product for each frequency, as an outer product inside one subgroup.
//
//   products[f, tile, o] = Σ_i transformed[f, tile, i] · weights[f, i, o]
//
// One workgroup is one subgroup and owns ROWS tiles × QUADS·LANES quads of output channels of one frequency, in the manner of
// conv2d_subgroup.wgsl: 16 × 2, or 32 × 1 where that leaves fewer lanes without a channel. Rows up to tile_stride, a multiple
// of ROWS, are there whether or not a tile is in them, and so are columns up to product_quads, a multiple of QUADS·LANES:
// nobody reads what is written there. Both operands lie as winograd_input.wgsl
// and winograd_output.wgsl say. Weights: lines of tiles, as a convolution's whose taps are the frequencies.
struct Params { in_quads: u32, out_quads: u32, first_out_quad: u32, tile_stride: u32, product_quads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var transformed: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var products: texture_storage_2d<rgba32float, write>;

const POINTS = 6u;
const OWNED = (ROWS + LANES - 1u) / LANES;

fn multiply(a: vec4f, b: Outer) -> vec4f {
  return a.x * b.row0 + a.y * b.row1 + a.z * b.row2 + a.w * b.row3;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = workgroup.z % POINTS * params.tile_stride + workgroup.x * ROWS;
  let first_in = workgroup.z / POINTS * params.in_quads;
  let first_product = workgroup.z / POINTS * params.product_quads;
  let owned = row + lane % ROWS;
  let column0 = workgroup.y * QUADS * LANES + lane;
  let column1 = column0 + LANES;
  let weights0 = params.first_out_quad + min(column0, params.out_quads - 1u);
  let weights1 = params.first_out_quad + min(column1, params.out_quads - 1u);
  var line = workgroup.z * params.in_quads;
  var sum0: array<vec4f, ROWS>;
  var sum1: array<vec4f, ROWS>;
  var input: array<vec4f, OWNED>;
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
  textureStore(products, vec2u(first_product + column0, row + 0u), sum0[0u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 0u), sum1[0u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 1u), sum0[1u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 1u), sum1[1u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 2u), sum0[2u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 2u), sum1[2u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 3u), sum0[3u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 3u), sum1[3u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 4u), sum0[4u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 4u), sum1[4u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 5u), sum0[5u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 5u), sum1[5u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 6u), sum0[6u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 6u), sum1[6u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 7u), sum0[7u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 7u), sum1[7u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 8u), sum0[8u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 8u), sum1[8u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 9u), sum0[9u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 9u), sum1[9u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 10u), sum0[10u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 10u), sum1[10u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 11u), sum0[11u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 11u), sum1[11u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 12u), sum0[12u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 12u), sum1[12u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 13u), sum0[13u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 13u), sum1[13u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 14u), sum0[14u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 14u), sum1[14u % ROWS]); }
  textureStore(products, vec2u(first_product + column0, row + 15u), sum0[15u % ROWS]);
  if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 15u), sum1[15u % ROWS]); }
  if (ROWS > 16u) {
    textureStore(products, vec2u(first_product + column0, row + 16u), sum0[16u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 16u), sum1[16u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 17u), sum0[17u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 17u), sum1[17u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 18u), sum0[18u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 18u), sum1[18u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 19u), sum0[19u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 19u), sum1[19u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 20u), sum0[20u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 20u), sum1[20u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 21u), sum0[21u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 21u), sum1[21u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 22u), sum0[22u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 22u), sum1[22u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 23u), sum0[23u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 23u), sum1[23u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 24u), sum0[24u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 24u), sum1[24u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 25u), sum0[25u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 25u), sum1[25u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 26u), sum0[26u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 26u), sum1[26u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 27u), sum0[27u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 27u), sum1[27u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 28u), sum0[28u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 28u), sum1[28u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 29u), sum0[29u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 29u), sum1[29u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 30u), sum0[30u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 30u), sum1[30u % ROWS]); }
    textureStore(products, vec2u(first_product + column0, row + 31u), sum0[31u % ROWS]);
    if (QUADS > 1u) { textureStore(products, vec2u(first_product + column1, row + 31u), sum1[31u % ROWS]); }
  }
}

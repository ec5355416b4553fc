// Winograd convolution, second of three: a matrix product for each frequency, as an outer product inside one subgroup.
//
//   products[f, tile, o] = Σ_i transformed[f, tile, i] · weights[f, i, o]
//
// One workgroup is one subgroup and owns 16 tiles × 2·LANES quads of output channels of one frequency, in the manner of
// conv2d_subgroup.wgsl. Rows up to tile_stride, a multiple of 16, are there whether or not a tile is in them, and so are columns
// up to product_quads, a multiple of 2·LANES: nobody reads what is written there. Both operands lie as winograd_input.wgsl
// and winograd_output.wgsl say. Weights: lines of tiles, as a convolution's whose taps are the frequencies.
struct Params { in_quads: u32, out_quads: u32, first_out_quad: u32, tile_stride: u32, product_quads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var transformed: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var products: texture_storage_2d<rgba32float, write>;

const POINTS = 6u;
const ROWS = 16u;
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
  let column0 = workgroup.y * 2u * LANES + lane;
  let column1 = column0 + LANES;
  let weights0 = params.first_out_quad + min(column0, params.out_quads - 1u);
  let weights1 = params.first_out_quad + min(column1, params.out_quads - 1u);
  var line = workgroup.z * params.in_quads;
  var sum0: array<vec4f, ROWS>;
  var sum1: array<vec4f, ROWS>;
  var input: array<vec4f, OWNED>;
  for (var k = 0u; k < params.in_quads; k++) {
    let b0 = weight_tile(line, weights0);
    let b1 = weight_tile(line, weights1);
    line++;
    input[0] = textureLoad(transformed, vec2u(first_in + k, owned));
    if (OWNED > 1u) { input[1u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + LANES)); }
    if (OWNED > 2u) {
      input[2u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 2u * LANES));
      input[3u % OWNED] = textureLoad(transformed, vec2u(first_in + k, owned + 3u * LANES));
    }
    var a: vec4f;
    a = subgroupBroadcast(input[0u / LANES % OWNED], 0u % LANES);
    sum0[0] += multiply(a, b0);
    sum1[0] += multiply(a, b1);
    a = subgroupBroadcast(input[1u / LANES % OWNED], 1u % LANES);
    sum0[1] += multiply(a, b0);
    sum1[1] += multiply(a, b1);
    a = subgroupBroadcast(input[2u / LANES % OWNED], 2u % LANES);
    sum0[2] += multiply(a, b0);
    sum1[2] += multiply(a, b1);
    a = subgroupBroadcast(input[3u / LANES % OWNED], 3u % LANES);
    sum0[3] += multiply(a, b0);
    sum1[3] += multiply(a, b1);
    a = subgroupBroadcast(input[4u / LANES % OWNED], 4u % LANES);
    sum0[4] += multiply(a, b0);
    sum1[4] += multiply(a, b1);
    a = subgroupBroadcast(input[5u / LANES % OWNED], 5u % LANES);
    sum0[5] += multiply(a, b0);
    sum1[5] += multiply(a, b1);
    a = subgroupBroadcast(input[6u / LANES % OWNED], 6u % LANES);
    sum0[6] += multiply(a, b0);
    sum1[6] += multiply(a, b1);
    a = subgroupBroadcast(input[7u / LANES % OWNED], 7u % LANES);
    sum0[7] += multiply(a, b0);
    sum1[7] += multiply(a, b1);
    a = subgroupBroadcast(input[8u / LANES % OWNED], 8u % LANES);
    sum0[8] += multiply(a, b0);
    sum1[8] += multiply(a, b1);
    a = subgroupBroadcast(input[9u / LANES % OWNED], 9u % LANES);
    sum0[9] += multiply(a, b0);
    sum1[9] += multiply(a, b1);
    a = subgroupBroadcast(input[10u / LANES % OWNED], 10u % LANES);
    sum0[10] += multiply(a, b0);
    sum1[10] += multiply(a, b1);
    a = subgroupBroadcast(input[11u / LANES % OWNED], 11u % LANES);
    sum0[11] += multiply(a, b0);
    sum1[11] += multiply(a, b1);
    a = subgroupBroadcast(input[12u / LANES % OWNED], 12u % LANES);
    sum0[12] += multiply(a, b0);
    sum1[12] += multiply(a, b1);
    a = subgroupBroadcast(input[13u / LANES % OWNED], 13u % LANES);
    sum0[13] += multiply(a, b0);
    sum1[13] += multiply(a, b1);
    a = subgroupBroadcast(input[14u / LANES % OWNED], 14u % LANES);
    sum0[14] += multiply(a, b0);
    sum1[14] += multiply(a, b1);
    a = subgroupBroadcast(input[15u / LANES % OWNED], 15u % LANES);
    sum0[15] += multiply(a, b0);
    sum1[15] += multiply(a, b1);
  }
  textureStore(products, vec2u(first_product + column0, row + 0u), sum0[0]);
  textureStore(products, vec2u(first_product + column1, row + 0u), sum1[0]);
  textureStore(products, vec2u(first_product + column0, row + 1u), sum0[1]);
  textureStore(products, vec2u(first_product + column1, row + 1u), sum1[1]);
  textureStore(products, vec2u(first_product + column0, row + 2u), sum0[2]);
  textureStore(products, vec2u(first_product + column1, row + 2u), sum1[2]);
  textureStore(products, vec2u(first_product + column0, row + 3u), sum0[3]);
  textureStore(products, vec2u(first_product + column1, row + 3u), sum1[3]);
  textureStore(products, vec2u(first_product + column0, row + 4u), sum0[4]);
  textureStore(products, vec2u(first_product + column1, row + 4u), sum1[4]);
  textureStore(products, vec2u(first_product + column0, row + 5u), sum0[5]);
  textureStore(products, vec2u(first_product + column1, row + 5u), sum1[5]);
  textureStore(products, vec2u(first_product + column0, row + 6u), sum0[6]);
  textureStore(products, vec2u(first_product + column1, row + 6u), sum1[6]);
  textureStore(products, vec2u(first_product + column0, row + 7u), sum0[7]);
  textureStore(products, vec2u(first_product + column1, row + 7u), sum1[7]);
  textureStore(products, vec2u(first_product + column0, row + 8u), sum0[8]);
  textureStore(products, vec2u(first_product + column1, row + 8u), sum1[8]);
  textureStore(products, vec2u(first_product + column0, row + 9u), sum0[9]);
  textureStore(products, vec2u(first_product + column1, row + 9u), sum1[9]);
  textureStore(products, vec2u(first_product + column0, row + 10u), sum0[10]);
  textureStore(products, vec2u(first_product + column1, row + 10u), sum1[10]);
  textureStore(products, vec2u(first_product + column0, row + 11u), sum0[11]);
  textureStore(products, vec2u(first_product + column1, row + 11u), sum1[11]);
  textureStore(products, vec2u(first_product + column0, row + 12u), sum0[12]);
  textureStore(products, vec2u(first_product + column1, row + 12u), sum1[12]);
  textureStore(products, vec2u(first_product + column0, row + 13u), sum0[13]);
  textureStore(products, vec2u(first_product + column1, row + 13u), sum1[13]);
  textureStore(products, vec2u(first_product + column0, row + 14u), sum0[14]);
  textureStore(products, vec2u(first_product + column1, row + 14u), sum1[14]);
  textureStore(products, vec2u(first_product + column0, row + 15u), sum0[15]);
  textureStore(products, vec2u(first_product + column1, row + 15u), sum1[15]);
}

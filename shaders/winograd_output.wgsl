// Winograd convolution, last of three: the products back into pixels, and the epilogue.
//
//   out[pixels of a tile, o] = epilogue( Aᵀ m A ),   m[frequency] = products[frequency, tile, o]
//
// A texel is a quad of output channels; frequencies stand as in winograd_input.wgsl. One invocation makes one quad of the
// OUTPUTS × OUTPUTS pixels of one tile, of which some may lie outside the picture.
@group(0) @binding(7) var products: texture_storage_2d<rgba32float, read>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let quad = index % params.out_quads;
  let tile = index / params.out_quads;
  if (tile >= params.tile_count) { return; }
  let corner = tile_corner(params.first_tile + tile);

  var sum: array<array<vec4f, OUTPUTS>, OUTPUTS>;
  for (var y = 0u; y < POINTS; y++) {
    var m: array<vec4f, POINTS>;
    for (var x = 0u; x < POINTS; x++) {
      let column = y * (POINTS / FREQUENCY_ROWS) + x / FREQUENCY_ROWS;
      let row = x % FREQUENCY_ROWS;
      m[x] = textureLoad(products, vec2u(column * params.product_quads + quad, row * params.tile_stride + tile));
    }
    let along_x = output_transform(m);
    let along_y = OUTPUT_COLUMNS[y];
    for (var i = 0u; i < OUTPUTS; i++) {
      for (var j = 0u; j < OUTPUTS; j++) { sum[i][j] += along_y[i] * along_x[j]; }
    }
  }
  var pixels: array<vec4f, OUTPUTS * OUTPUTS>;
  for (var i = 0u; i < OUTPUTS; i++) { for (var j = 0u; j < OUTPUTS; j++) { pixels[i * OUTPUTS + j] = sum[i][j]; } }
  // Not unrolled, for the reason that conv2d_subgroup.wgsl gives: params.tile_pixels is OUTPUTS², and no compiler knows it.
  for (var i = 0u; i < params.tile_pixels; i++) {
    let y = corner.y + i / OUTPUTS;
    let x = corner.x + i % OUTPUTS;
    if (y < params.out_height && x < params.out_width) {
      finish((corner.image * params.out_height + y) * params.out_width + x, quad, pixels[i]);
    }
  }
}

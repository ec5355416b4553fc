// Winograd convolution, first of three: the tiles of the input, transformed.
//
//   transformed[frequency, tile, i] = Bᵀ d B,   d: the POINTS × POINTS inputs that OUTPUTS × OUTPUTS outputs see
//
// A texel is a quad of input channels. The 36 frequencies, f = POINTS · i + j, stand in FREQUENCY_ROWS rows (6 or a part of it):
// columns from ⌊f / FREQUENCY_ROWS⌋ · layer_in_quads on, row (f mod FREQUENCY_ROWS) · tile_stride + tile.
// One invocation transforms one quad of one tile; tiles count from first_tile over images, rows and columns. The loop over
// rows is a loop on purpose: 36 loads of a buffer one after the other are more code than an instruction cache holds.
@group(0) @binding(7) var transformed: texture_storage_2d<rgba32float, write>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let quad = index % params.in_quads;
  let tile = index / params.in_quads;
  if (tile >= params.tile_count) { return; }
  let corner = tile_corner(params.first_tile + tile);

  // Divisions are dear: once a column, not once a load. Loops whose length no compiler knows (tile_side is OUTPUTS) are not
  // unrolled: compiled in three quarters of the time.
  let points = params.tile_side + POINTS - OUTPUTS;
  var columns: array<u32, POINTS>;
  for (var x = 0u; x < points; x++) { columns[x] = source_column(corner, x); }
  var sum: array<array<vec4f, POINTS>, POINTS>;
  for (var y = 0u; y < POINTS; y++) {
    let row = source_row(corner, y);
    var d: array<vec4f, POINTS>;
    for (var x = 0u; x < POINTS; x++) { d[x] = load_input(source_quad(corner.image, row, columns[x]), quad); }
    let along_x = input_transform(d);
    let along_y = INPUT_COLUMNS[y];
    for (var i = 0u; i < POINTS; i++) {
      for (var j = 0u; j < POINTS; j++) { sum[i][j] += along_y[i] * along_x[j]; }
    }
  }
  var done = sum;
  for (var i = 0u; i < points; i++) {
    for (var j = 0u; j < points; j++) {
      let column = (i * POINTS + j) / FREQUENCY_ROWS * params.layer_in_quads + params.first_in_quad + quad;
      textureStore(transformed, vec2u(column, j % FREQUENCY_ROWS * params.tile_stride + tile), done[i][j]);
    }
  }
}

// The part that the variants of convolution share: parameters, bindings, addresses and the epilogue.
//
//   out[m, o] = act₂( act₁( Σ_taps Σ_i x[pixel(m, tap), i] · w[tap, i, o] + bias[o] + per_image[image(m), o] ) + residual[m, o] )
//
// m counts output pixels over images, rows and columns. A matrix product is a convolution of kernel 1×1 over
// pictures one pixel high. x, residual, out: NHWC, channels in quads. Weights: tiles [tap][input quad][output quad].
// The input may be read as if it had been resized by nearest neighbour to virtual_height × virtual_width first.
// x may be a part of the layer's input channels, from first_in_quad on: then the first part's dispatch leaves its sum in
// out, the others add to it (accumulate), and the last one does the epilogue. residual and out may be a slice of the
// layer's output channels, from first_out_quad on; bias has all of them, and
// per_image too, as columns of rows that may be longer: from first_per_image_quad on. Binding 2 is the weights: tiles_*.wgsl.
// epilogue_*.wgsl says which parts of the epilogue a dispatch has. A dispatch may make one of the four phases of an output twice
// as high and wide, the pixels (2y + phase_y, 2x + phase_x): out_height and out_width are then those of the phase.
struct Params {
  in_height: u32, in_width: u32, in_quads: u32, first_in_quad: u32,
  virtual_height: u32, virtual_width: u32, out_height: u32, out_width: u32,
  rows: u32, out_quads: u32, first_out_quad: u32, stride: u32,
  kernel_height: u32, kernel_width: u32, pad_top: u32, pad_left: u32,
  layer_in_quads: u32, layer_out_quads: u32, accumulate: u32, has_bias: u32,
  has_per_image: u32, has_residual: u32, activation: u32, activation_after_residual: u32,
  grid_width: u32,
  first_tile: u32, tile_count: u32, tile_stride: u32, product_quads: u32,   // Winograd's tiles: tile_corner
  tiles_high: u32, tiles_wide: u32, tile_side: u32, tile_pixels: u32,
  per_image_quads: u32, first_per_image_quad: u32,
  phased: u32, phase_y: u32, phase_x: u32,
  gated: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;
@group(0) @binding(4) var<storage, read> per_image: array<Quad>;
@group(0) @binding(5) var<storage, read> residual: array<Quad>;
@group(0) @binding(6) var<storage, read_write> out: array<Quad>;

const HALO = 0xffffffffu;

struct Pixel { image: u32, y: u32, x: u32 }

fn output_pixel(row: u32) -> Pixel {
  let m = min(row, params.rows - 1u);
  let line = m / params.out_width;
  return Pixel(line / params.out_height, line % params.out_height, m % params.out_width);
}

// The output pixel in the upper left corner of a tile of tile_side × tile_side pixels.
fn tile_corner(tile: u32) -> Pixel {
  let line = tile / params.tiles_wide;
  return Pixel(line / params.tiles_high, line % params.tiles_high * params.tile_side, tile % params.tiles_wide * params.tile_side);
}

// Row and column of the input that `pixel` sees at tap ky or kx, or HALO outside the picture.
fn source_row(pixel: Pixel, ky: u32) -> u32 {
  let y = pixel.y * params.stride + ky - params.pad_top;  // wraps below zero, and is then too large
  return select(y * params.in_height / params.virtual_height, HALO, y >= params.virtual_height);
}
fn source_column(pixel: Pixel, kx: u32) -> u32 {
  let x = pixel.x * params.stride + kx - params.pad_left;
  return select(x * params.in_width / params.virtual_width, HALO, x >= params.virtual_width);
}

// Index of the first quad of an input pixel, or HALO where row or column is.
fn source_quad(image: u32, row: u32, column: u32) -> u32 {
  let quad = ((image * params.in_height + row) * params.in_width + column) * params.in_quads;
  return select(quad, HALO, row == HALO || column == HALO);
}

fn input_quad(pixel: Pixel, ky: u32, kx: u32) -> u32 {
  return source_quad(pixel.image, source_row(pixel, ky), source_column(pixel, kx));
}

fn load_input(first: u32, quad: u32) -> vec4f {
  return select(vec4f(0.0), widen(x[select(first, 0u, first == HALO) + quad]), first != HALO);
}

// The line of tiles of weights (one tile for each output quad of the layer) that begins this dispatch's inputs at a tap.
fn first_line(ky: u32, kx: u32) -> u32 {
  return (ky * params.kernel_width + kx) * params.layer_in_quads + params.first_in_quad;
}

// In a gated layer the first half of its channels is multiplied by the GELU of the second. The layer's column of a column of
// the output, in either half.
fn gated_column(column: u32, is_gate: bool) -> u32 {
  return min(column, params.out_quads - 1u) + select(0u, params.out_quads, is_gate);
}

// The row in the output of a row of this dispatch. The line is found by a quotient of floats, which may be one off: divisions
// of integers are done lane by lane.
fn output_row(row: u32) -> u32 {
  let width = params.out_width;
  var line = u32(f32(row) / f32(width));
  line = select(line, line - 1u, line * width > row);
  line = select(line, line + 1u, row - line * width >= width);
  return select(row, 2u * (row + (line + params.phase_y) * width) + params.phase_x, params.phased != 0u);
}

struct Epilogue {
  accumulate: bool, has_bias: bool, has_per_image: bool, has_residual: bool,
  activation: u32, activation_after_residual: bool,
  gated: bool,  // the activation is the gate's, a GELU
}

fn is_inside(row: u32, column: u32) -> bool { return row < params.rows && column < params.out_quads; }

fn finish(row: u32, column: u32, sum: vec4f) {
  if (!is_inside(row, column)) { return; }
  let wanted = epilogue();
  var own_bias = vec4f(0.0);
  if (wanted.has_bias) { own_bias = bias[params.first_out_quad + column]; }
  end(row, row, column, sum, own_bias, vec4f(0.0), wanted, true);
}

fn finish_gated(row: u32, column: u32, value: vec4f, gate: vec4f) {
  if (!is_inside(row, column)) { return; }
  let has_bias = epilogue().has_bias;
  var own_bias = vec4f(0.0);
  var gate_bias = vec4f(0.0);
  if (has_bias) {
    own_bias = bias[column];
    gate_bias = bias[params.out_quads + column];
  }
  let wanted = Epilogue(false, has_bias, false, false, GELU, true, true);
  end(row, row, column, value, own_bias, gate + gate_bias, wanted, true);
}

// The epilogue of a pixel and channels that are inside, `out_row` the pixel's row in the output. Where `any_activation` is
// false there is none, or RELU.
fn end(
  out_row: u32, row: u32, column: u32, sum: vec4f, own_bias: vec4f, gate: vec4f, wanted: Epilogue, any_activation: bool,
) {
  let index = out_row * params.out_quads + column;
  var value = sum;
  if (wanted.accumulate) { value += widen(out[index]); }
  if (wanted.has_bias) { value += own_bias; }
  if (wanted.has_per_image) {
    let image = row / (params.out_height * params.out_width);
    let quad = params.first_per_image_quad + params.first_out_quad + column;
    value += widen(per_image[image * params.per_image_quads + quad]);
  }
  // `activate` stands here once: it is the longest part of the epilogue.
  var added = vec4f(0.0);
  if (wanted.has_residual) { added = widen(residual[index]); }
  if (wanted.activation_after_residual) { value += added; }
  var ended = select(value, gate, wanted.gated);
  if (any_activation) {
    ended = activate(ended, wanted.activation);
  } else if (wanted.activation == RELU) {
    ended = max(ended, vec4f(0.0));
  }
  if (wanted.gated) { ended *= value; }
  if (!wanted.activation_after_residual) { ended += added; }
  out[index] = narrow(ended);
}

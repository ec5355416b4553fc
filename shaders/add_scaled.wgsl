// A weighted addition, with a factor for each image:  out[n] = x[n] + factors[n, column] · y[n]
// y has x's shape, or is one row an image ([image, 1, channel], added to every pixel). factors: [image, factor_quads] quads.
struct Params {
  count: u32, quads: u32, image_quads: u32, per_image: u32,
  column: u32, factor_quads: u32, row_quads: u32, first_row_quad: u32,
  grid_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> y: array<Quad>;
@group(0) @binding(3) var<storage, read> factors: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.count) { return; }
  let image = index / params.image_quads;
  let factor = factors[image * params.factor_quads + params.column / 4u][params.column % 4u];
  var place = index;
  if (params.per_image == 1u) { place = image * params.row_quads + params.first_row_quad + index % params.quads; }
  // Padding is zero in both, and stays so.
  out[index] = narrow(widen(x[index]) + factor * widen(y[place]));
}

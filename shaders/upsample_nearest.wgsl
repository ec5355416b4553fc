// Nearest-neighbour resize to any size:  out[n, y, x] = in[n, ⌊y · in_height / out_height⌋, ⌊x · in_width / out_width⌋]
// NHWC; in and out may be parts of the channels, from first_in_quad and first_out_quad on. (Convolutions read their input resized without this pass; it is for a resize that no convolution follows.)
struct Params {
  images: u32, in_height: u32, in_width: u32, out_height: u32, out_width: u32,
  quads: u32, in_quads: u32, first_in_quad: u32, out_quads: u32, first_out_quad: u32, grid_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let quad = index % params.quads;
  let pixel = index / params.quads;
  let column = pixel % params.out_width;
  let row = pixel / params.out_width % params.out_height;
  let image = pixel / params.out_width / params.out_height;
  if (image >= params.images) { return; }
  let y = row * params.in_height / params.out_height;
  let xx = column * params.in_width / params.out_width;
  let source = ((image * params.in_height + y) * params.in_width + xx) * params.in_quads + params.first_in_quad + quad;
  out[pixel * params.out_quads + params.first_out_quad + quad] = x[source];
}

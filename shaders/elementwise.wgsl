// One pass over a tensor:  out = act( x · input_scale ) · scale + shift + y
// y is left out, has x's shape, or is one row an image ([image, 1, channel], added to every pixel; of it, the channels
// from first_row_quad on).
struct Params {
  count: u32, quads: u32, image_quads: u32, addend: u32,
  activation: u32, input_scale: f32, scale: f32, shift: f32,
  channels: u32, row_quads: u32, first_row_quad: u32, grid_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> y: array<Quad>;
@group(0) @binding(3) var<storage, read_write> out: array<Quad>;

const NO_ADDEND = 0u;
const SAME_SHAPE = 1u;
const PER_IMAGE = 2u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.count) { return; }
  var value = activate(widen(x[index]) * params.input_scale, params.activation) * params.scale + params.shift;
  if (params.addend == SAME_SHAPE) { value += widen(y[index]); }
  if (params.addend == PER_IMAGE) { value += widen(y[index / params.image_quads * params.row_quads + params.first_row_quad + index % params.quads]); }
  let channel = vec4u(index % params.quads * 4u) + vec4u(0u, 1u, 2u, 3u);
  out[index] = narrow(select(vec4f(0.0), value, channel < vec4u(params.channels)));  // padding stays zero
}

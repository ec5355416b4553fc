// Edges one pixel wide (Canny 1986): of the gradient's magnitude, what is no less than its two neighbours across the edge.
// out = 1 where it is above `high`, ½ where it is above `low`, else 0. Directions are the nearest of four, as in OpenCV.
struct Params { pixels: u32, height: u32, width: u32, grid_width: u32, low: f32, high: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<Quad>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;

const TAN_22_5 = 0.41421356;

fn magnitude(image: u32, row: i32, column: i32) -> f32 {
  if (row < 0 || column < 0 || row >= i32(params.height) || column >= i32(params.width)) { return 0.0; }
  return widen(gradient[(image * params.height + u32(row)) * params.width + u32(column)]).x;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.pixels) { return; }
  let column = i32(index % params.width);
  let row = i32(index / params.width % params.height);
  let image = index / params.width / params.height;
  let here = widen(gradient[index]);
  let steep = abs(here.z) > abs(here.y) / TAN_22_5;
  let flat = abs(here.z) < abs(here.y) * TAN_22_5;
  var across = vec2i(1, select(1, -1, here.y * here.z < 0.0));
  if (flat) { across = vec2i(1, 0); }
  if (steep) { across = vec2i(0, 1); }
  let before = magnitude(image, row - across.y, column - across.x);
  let after = magnitude(image, row + across.y, column + across.x);
  let is_ridge = here.x > before && here.x >= after;
  var value = 0.0;
  if (is_ridge && here.x > params.low) { value = 0.5; }
  if (is_ridge && here.x > params.high) { value = 1.0; }
  out[index] = narrow(vec4f(value, 0.0, 0.0, 0.0));
}

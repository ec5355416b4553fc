// The gradient of a picture's brightness:  out = (|gx| + |gy|, gx, gy, 0), Sobel's 3 × 3 kernels over 0.299 R + 0.587 G + 0.114 B.
// Beyond its edge a picture goes on as it ends. x: [image, row, column, 3].
struct Params { pixels: u32, height: u32, width: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;

fn brightness(image: u32, row: i32, column: i32) -> f32 {
  let y = u32(clamp(row, 0, i32(params.height) - 1));
  let z = u32(clamp(column, 0, i32(params.width) - 1));
  return dot(widen(x[(image * params.height + y) * params.width + z]).rgb, vec3f(0.299, 0.587, 0.114));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.pixels) { return; }
  let column = i32(index % params.width);
  let row = i32(index / params.width % params.height);
  let image = index / params.width / params.height;
  var gx = 0.0;
  var gy = 0.0;
  for (var d = -1; d <= 1; d++) {
    let weight = f32(2 - abs(d));
    gx += weight * (brightness(image, row + d, column + 1) - brightness(image, row + d, column - 1));
    gy += weight * (brightness(image, row + 1, column + d) - brightness(image, row - 1, column + d));
  }
  out[index] = narrow(vec4f(abs(gx) + abs(gy), gx, gy, 0.0));
}

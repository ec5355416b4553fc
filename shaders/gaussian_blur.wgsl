// One pass of a Gaussian blur, along rows or columns:  out[p] = Σ_d w(d) · x[p + d] / Σ_d w(d),  w(d) = exp(−d² / 2σ²),
// |d| ≤ radius. Beyond its edge a picture goes on as it ends.
struct Params { count: u32, height: u32, width: u32, quads: u32, radius: u32, is_vertical: u32, falloff: f32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.count) { return; }
  let quad = index % params.quads;
  let pixel = index / params.quads;
  let column = i32(pixel % params.width);
  let row = i32(pixel / params.width % params.height);
  let image = pixel / params.width / params.height;
  let radius = i32(params.radius);
  var sum = vec4f(0.0);
  var total = 0.0;
  for (var d = -radius; d <= radius; d++) {
    let weight = exp(-f32(d * d) * params.falloff);
    let y = clamp(row + select(0, d, params.is_vertical == 1u), 0, i32(params.height) - 1);
    let z = clamp(column + select(d, 0, params.is_vertical == 1u), 0, i32(params.width) - 1);
    sum += weight * widen(x[((image * params.height + u32(y)) * params.width + u32(z)) * params.quads + quad]);
    total += weight;
  }
  out[index] = narrow(sum / total);
}

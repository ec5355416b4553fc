// Averages of a picture's windows:  out[n, y, x] = mean of in[n, y·window .. (y+1)·window − 1, x·window ..]
// A window at the edge averages the pixels that there are (PyTorch's AvgPool2d with ceil_mode). A workgroup makes one quad of
// one output pixel; 64 invocations add up its window, each every 64th pixel of it.
struct Params {
  in_height: u32, in_width: u32, out_height: u32, out_width: u32,
  window_height: u32, window_width: u32, quads: u32, count: u32,
  grid_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;

var<workgroup> sums: array<vec4f, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * params.grid_width;
  let quad = index % params.quads;
  let pixel = index / params.quads;
  let column = pixel % params.out_width;
  let row = pixel / params.out_width % params.out_height;
  let image = pixel / params.out_width / params.out_height;
  let top = row * params.window_height;
  let left = column * params.window_width;
  let height = min(params.window_height, params.in_height - min(top, params.in_height));
  let width = min(params.window_width, params.in_width - min(left, params.in_width));
  var sum = vec4f(0.0);
  if (index < params.count) {
    for (var at = lane; at < height * width; at += 64u) {
      let place = (image * params.in_height + top + at / width) * params.in_width + left + at % width;
      sum += widen(x[place * params.quads + quad]);
    }
  }
  sums[lane] = sum;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half /= 2u) {
    if (lane < half) { sums[lane] += sums[lane + half]; }
    workgroupBarrier();
  }
  if (lane == 0u && index < params.count) { out[index] = narrow(sums[0] / f32(height * width)); }
}

// Two sequences of tokens one after the other:  out[n] = x[n] ‖ y[n] along the tokens. Lengths in quads of one image.
struct Params { count: u32, first: u32, second: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> y: array<Quad>;
@group(0) @binding(3) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.count) { return; }
  let image = index / (params.first + params.second);
  let at = index % (params.first + params.second);
  if (at < params.first) { out[index] = x[image * params.first + at]; }
  else { out[index] = y[image * params.second + at - params.first]; }
}

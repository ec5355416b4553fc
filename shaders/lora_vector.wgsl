// A difference added to a vector of a checkpoint (biases, norms):  changed[quad] += added[quad]
struct Params { quads: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> added: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> changed: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let quad = id.x + id.y * params.grid_width * 64u;
  if (quad >= params.quads) { return; }
  changed[quad] += added[quad];
}

// One row an image:  out[n] = x[n, index[n]].  x: [image, token, channel]; CLIP's pooling takes the end token's row.
struct Params { images: u32, tokens: u32, quads: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let image = id.x / params.quads;
  if (image >= params.images) { return; }
  out[id.x] = x[(image * params.tokens + min(rows[image], params.tokens - 1u)) * params.quads + id.x % params.quads];
}

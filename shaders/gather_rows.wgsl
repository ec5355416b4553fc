// One row an image:  out[n] = x[n, index[n]].  x: [image, token, channel], or [token, channel] for all images, whose rows are
// then none apart (image_rows 0). CLIP's pooling takes the end token's row, a denoiser's step the row of its timestep.
struct Params { images: u32, tokens: u32, quads: u32, image_rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let image = id.x / params.quads;
  if (image >= params.images) { return; }
  out[id.x] = x[(image * params.image_rows + min(rows[image], params.tokens - 1u)) * params.quads + id.x % params.quads];
}

// The cheapest preview: each latent pixel to RGB in [-1, 1] by a small matrix.
//   out[p] = matrix · latents[p] + bias,  matrix given as one vec4 (r, g, b, 0) per latent channel, then the bias.
// latents: [pixel, channel], f32.
struct Params { pixels: u32, quads: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> latents: array<vec4f>;
@group(0) @binding(2) var<storage, read> matrix: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.pixels) { return; }
  var rgb = matrix[params.quads * 4u];
  for (var quad = 0u; quad < params.quads; quad++) {
    let z = latents[index * params.quads + quad];
    rgb += z.x * matrix[quad * 4u] + z.y * matrix[quad * 4u + 1u] + z.z * matrix[quad * 4u + 2u] + z.w * matrix[quad * 4u + 3u];
  }
  out[index] = narrow(vec4f(rgb.xyz, 0.0));
}

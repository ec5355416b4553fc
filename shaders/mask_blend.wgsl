// Latents outside a mask put back to those of the picture, noised to the level that the step has reached:
//
//   latents = mask · latents + (1 − mask) · (k.x · original + k.y · noise)
//
// In place, for each image of a batch; mask: [n, h, w, 1], 1 where the picture is drawn anew; known: k of each image. All f32.
struct Params { images: u32, image_quads: u32, channel_quads: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> latents: array<vec4f>;
@group(0) @binding(2) var<storage, read> original: array<vec4f>;
@group(0) @binding(3) var<storage, read> noise: array<vec4f>;
@group(0) @binding(4) var<storage, read> mask: array<vec4f>;
@group(0) @binding(5) var<storage, read> known: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> blended: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.images * params.image_quads) { return; }
  let k = known[index / params.image_quads];
  let m = mask[index / params.channel_quads].x;
  let kept = k.x * original[index] + k.y * noise[index];
  let result = m * latents[index] + (1.0 - m) * kept;
  latents[index] = result;
  blended[index] = result;
}

// The model's input from the latents:  out[b] = latents[b mod n] · input_scale[b mod n]
// With classifier-free guidance the batch is [negative…, positive…] of the same latents. latents: f32; rows: see scheduler_step.wgsl.
struct Params { images: u32, image_quads: u32, batch: u32, row_quads: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> latents: array<vec4f>;
@group(0) @binding(2) var<storage, read> rows: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.batch * params.image_quads) { return; }
  let image = index / params.image_quads % params.images;
  out[index] = narrow(latents[image * params.image_quads + index % params.image_quads] * rows[image * params.row_quads].x);
}

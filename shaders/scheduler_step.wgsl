// One row of a scheduler's table for each image of a batch (src/diffusion/schedulers/schedule.ts defines the row):
//
//   model    = negative + guidance · (positive − negative), or the model's output as it is where there is one branch
//   x0       = clamp(a · sample + b · model, ±c)
//   next     = n · (sample, model, x0) + Σ_k h_k · history_k + s · noise
//   denoised = d · (sample, model, x0)
//   history[slot] ← p · (sample, model, x0)
//   history[keep] ← sample
//
// The latents are advanced in place. A coefficient of 0 skips its tensor, which may hold anything. All f32 but the model's output.
// Row of an image, in vec4: (input_scale, guidance, a, b) (n, s) (d, slot or −1) (p, c) (h0…h3) (h4, keep or −1, rescale, –).
struct Params { images: u32, image_quads: u32, branches: u32, row_quads: u32, slots: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> latents: array<vec4f>;
@group(0) @binding(2) var<storage, read> output: array<Quad>;
@group(0) @binding(3) var<storage, read> noise: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> history: array<vec4f>;
@group(0) @binding(5) var<storage, read> rows: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> denoised: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let count = params.images * params.image_quads;
  if (index >= count) { return; }
  let row = index / params.image_quads * params.row_quads;
  let first = rows[row];
  let n = rows[row + 1u];
  let d = rows[row + 2u];
  let p = rows[row + 3u];

  let sample = latents[index];
  var model = widen(output[index]);
  if (params.branches == 2u) { model += first.y * (widen(output[count + index]) - model); }
  let x0 = clamp(first.z * sample + first.w * model, vec4f(-p.w), vec4f(p.w));

  var next = n.x * sample + n.y * model + n.z * x0;
  for (var slot = 0u; slot < params.slots; slot++) {
    let h = rows[row + 4u + slot / 4u][slot % 4u];
    if (h != 0.0) { next += h * history[slot * count + index]; }
  }
  if (n.w != 0.0) { next += n.w * noise[index]; }
  latents[index] = next;
  denoised[index] = d.x * sample + d.y * model + d.z * x0;
  let keep = rows[row + 5u].y;
  if (keep >= 0.0) { history[u32(keep) * count + index] = sample; }
  if (d.w >= 0.0) { history[u32(d.w) * count + index] = p.x * sample + p.y * model + p.z * x0; }
}

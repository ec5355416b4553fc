// A picture for the encoder:  rgba8 = round(255 · clamp(x / 2 + ½, 0, 1)), half to even as NumPy rounds; alpha 255, and 0 where a
// colour is NaN or infinite (found by its bits: from limit on).
// x: [pixel, channel ≥ 3] in [-1, 1]; out: one u32 a pixel, R in the lowest byte.
struct Params { pixels: u32, quads: u32, grid_width: u32, limit: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.pixels) { return; }
  let colour = widen(x[index * params.quads]).xyz;
  let byte = vec3u(round(255.0 * clamp(colour * 0.5 + 0.5, vec3f(0.0), vec3f(1.0))));
  let broken = any((bitcast<vec3u>(colour) & vec3u(0x7fffffffu)) >= vec3u(params.limit));
  out[index] = byte.x | (byte.y << 8u) | (byte.z << 16u) | select(0xff000000u, 0u, broken);
}

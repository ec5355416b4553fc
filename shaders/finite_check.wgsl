// A check that a step has left numbers:  flags[image] = 1 if the network's prediction for the image (in any branch), or its
// latents, hold NaN, infinity or a magnitude from the limits on, else 0. Found by their bits, since a compiler may take
// it that no float is one of the first two. One workgroup for each image.
struct Params { images: u32, image_quads: u32, branches: u32, prediction_limit: u32, latents_limit: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> prediction: array<Quad>;
@group(0) @binding(2) var<storage, read> latents: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> flags: array<u32>;

const LANES = 256u;

var<workgroup> found: atomic<u32>;

fn reaches(value: vec4f, limit: u32) -> bool {
  return any((bitcast<vec4u>(value) & vec4u(0x7fffffffu)) >= vec4u(limit));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let image = group.x;
  var broken = false;
  for (var quad = lane; quad < params.image_quads; quad += LANES) {
    broken = broken || reaches(latents[image * params.image_quads + quad], params.latents_limit);
    for (var branch = 0u; branch < params.branches; branch++) {
      let row = branch * params.images + image;
      broken = broken || reaches(widen(prediction[row * params.image_quads + quad]), params.prediction_limit);
    }
  }
  if (broken) { atomicOr(&found, 1u); }
  workgroupBarrier();
  if (lane == 0u) { flags[image] = atomicLoad(&found); }
}

// Classifier-free guidance whose prediction gets back some of the deviation that the scale has taken it away from
// (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4):
//
//   guided = negative + guidance · (positive − negative)
//   out    = r · guided · deviation(positive) / deviation(guided) + (1 − r) · guided
//
// Deviations are those of a sample, over all values of an image. output: [negative…, positive…]; rows: see
// scheduler_step.wgsl. One workgroup for each image, two passes over it.
struct Params { images: u32, image_quads: u32, row_quads: u32, pixel_quads: u32, channels: u32, count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> output: array<Quad>;
@group(0) @binding(2) var<storage, read> rows: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<Quad>;

const LANES = 256u;

// Sums of the positive prediction and of the guided one, then those of squared distances from the mean.
var<workgroup> sums: array<vec2f, LANES>;

// The values of a quad that are channels; those that fill it up are left out.
fn used(quad: u32) -> vec4f {
  let first = quad % params.pixel_quads * 4u;
  return select(vec4f(0.0), vec4f(1.0), vec4u(first, first + 1u, first + 2u, first + 3u) < vec4u(params.channels));
}

fn total(lane: u32, own: vec2f) -> vec2f {
  workgroupBarrier();
  sums[lane] = own;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { sums[lane] += sums[lane + half]; }
  }
  workgroupBarrier();
  return sums[0];
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let image = group.x;
  let first = image * params.image_quads;
  let positives = params.images * params.image_quads;
  let guidance = rows[image * params.row_quads].y;
  let rescale = rows[image * params.row_quads + 5u].z;

  var own = vec2f(0.0);
  for (var quad = lane; quad < params.image_quads; quad += LANES) {
    let negative = widen(output[first + quad]);
    let positive = widen(output[positives + first + quad]);
    let guided = negative + guidance * (positive - negative);
    own += vec2f(dot(positive, used(quad)), dot(guided, used(quad)));
  }
  let mean = total(lane, own) / f32(params.count);

  own = vec2f(0.0);
  for (var quad = lane; quad < params.image_quads; quad += LANES) {
    let negative = widen(output[first + quad]);
    let positive = widen(output[positives + first + quad]);
    let guided = negative + guidance * (positive - negative);
    let far = (positive - mean.x) * used(quad);
    let guided_far = (guided - mean.y) * used(quad);
    own += vec2f(dot(far, far), dot(guided_far, guided_far));
  }
  // The divisors of both deviations are the same, and fall out.
  let squares = total(lane, own);
  let factor = rescale * sqrt(squares.x / max(squares.y, 1e-30)) + 1.0 - rescale;

  for (var quad = lane; quad < params.image_quads; quad += LANES) {
    let negative = widen(output[first + quad]);
    let positive = widen(output[positives + first + quad]);
    out[first + quad] = narrow((negative + guidance * (positive - negative)) * factor);
  }
}

// Group normalisation, first half: mean and sum of squared deviations of each channel over a chunk of pixels.
//
//   partial[image, chunk, quad] = ( mean[4], Σ (x − mean)²[4] )
//
// x: [image, pixel, channel], read from two sources one after the other along the channels (a skip connection is never
// concatenated in memory); quads of the first source come first. Both together may be a part of the layer's channels,
// from first_quad on; partial has all of them. One invocation reads one quad of one chunk twice:
// the two-pass form keeps all digits where the mean is large. group_norm_apply.wgsl merges the chunks.
struct Params {
  images: u32, pixels: u32, quads: u32, first_source_quads: u32,
  chunks: u32, chunk_pixels: u32, first_quad: u32, layer_quads: u32,
  grid_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> first_source: array<Quad>;
@group(0) @binding(2) var<storage, read> second_source: array<Quad>;
@group(0) @binding(3) var<storage, read_write> partial: array<vec4f>;

fn load(image: u32, pixel: u32, quad: u32) -> vec4f {
  let row = image * params.pixels + pixel;
  if (quad < params.first_source_quads) { return widen(first_source[row * params.first_source_quads + quad]); }
  let rest = params.quads - params.first_source_quads;
  return widen(second_source[row * rest + quad - params.first_source_quads]);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let quad = index % params.quads;
  let chunk = index / params.quads % params.chunks;
  let image = index / params.quads / params.chunks;
  if (image >= params.images) { return; }
  let begin = chunk * params.chunk_pixels;
  let end = min(begin + params.chunk_pixels, params.pixels);
  var sum = vec4f(0.0);
  for (var pixel = begin; pixel < end; pixel++) { sum += load(image, pixel, quad); }
  let mean = sum / f32(max(end, begin + 1u) - begin);
  var squares = vec4f(0.0);
  for (var pixel = begin; pixel < end; pixel++) {
    let deviation = load(image, pixel, quad) - mean;
    squares += deviation * deviation;
  }
  let place = (image * params.chunks + chunk) * params.layer_quads + params.first_quad + quad;
  partial[place * 2u] = mean;
  partial[place * 2u + 1u] = squares;
}

// Group normalisation, second half, with the activation that follows it.
//
//   out = act( (x − mean_group) / √(var_group + eps) · gamma + beta )
//
// Merges the partial means and squared deviations of group_norm_stats.wgsl by Chan's formula
// (Chan, Golub & LeVeque 1979): M2 = Σ M2ᵢ + Σ nᵢ (meanᵢ − mean)². One invocation owns one quad over a run of pixels.
// The sources and out may be a part of the layer's channels, from first_quad on; partial, gamma and beta have all of them.
struct Params {
  images: u32, pixels: u32, quads: u32, first_source_quads: u32,
  chunks: u32, chunk_pixels: u32, run_pixels: u32, runs: u32,
  layer_channels: u32, group_channels: u32, eps: f32, activation: u32,
  first_quad: u32, layer_quads: u32, grid_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> first_source: array<Quad>;
@group(0) @binding(2) var<storage, read> second_source: array<Quad>;
@group(0) @binding(3) var<storage, read> partial: array<vec4f>;
@group(0) @binding(4) var<storage, read> gamma: array<vec4f>;
@group(0) @binding(5) var<storage, read> beta: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> out: array<Quad>;

fn load(row: u32, quad: u32) -> vec4f {
  if (quad < params.first_source_quads) { return widen(first_source[row * params.first_source_quads + quad]); }
  let rest = params.quads - params.first_source_quads;
  return widen(second_source[row * rest + quad - params.first_source_quads]);
}

// Mean and 1/√(var + eps) of one group of one image.
fn group_statistics(image: u32, group: u32) -> vec2f {
  let begin = group * params.group_channels;
  let end = begin + params.group_channels;
  var sum = 0.0;
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let count = f32(min(params.chunk_pixels, params.pixels - chunk * params.chunk_pixels));
    let base = (image * params.chunks + chunk) * params.layer_quads;
    for (var c = begin; c < end; c++) { sum += count * partial[(base + c / 4u) * 2u][c % 4u]; }
  }
  let total = f32(params.group_channels) * f32(params.pixels);
  let mean = sum / total;
  var squares = 0.0;
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let count = f32(min(params.chunk_pixels, params.pixels - chunk * params.chunk_pixels));
    let base = (image * params.chunks + chunk) * params.layer_quads;
    for (var c = begin; c < end; c++) {
      let deviation = partial[(base + c / 4u) * 2u][c % 4u] - mean;
      squares += partial[(base + c / 4u) * 2u + 1u][c % 4u] + count * deviation * deviation;
    }
  }
  return vec2f(mean, inverseSqrt(squares / total + params.eps));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let quad = index % params.quads;
  let run = index / params.quads % params.runs;
  let image = index / params.quads / params.runs;
  if (image >= params.images) { return; }

  let layer_quad = params.first_quad + quad;
  var mean = vec4f(0.0);
  var scale = vec4f(0.0);
  var group = 0xffffffffu;
  var statistics = vec2f(0.0);
  for (var i = 0u; i < 4u; i++) {
    let channel = layer_quad * 4u + i;
    if (channel < params.layer_channels) {
      if (channel / params.group_channels != group) {
        group = channel / params.group_channels;
        statistics = group_statistics(image, group);
      }
      mean[i] = statistics.x;
      scale[i] = statistics.y;
    }
  }
  scale *= gamma[layer_quad];
  let shift = beta[layer_quad];

  let begin = run * params.run_pixels;
  let end = min(begin + params.run_pixels, params.pixels);
  for (var pixel = begin; pixel < end; pixel++) {
    let row = image * params.pixels + pixel;
    out[row * params.quads + quad] = narrow(activate((load(row, quad) - mean) * scale + shift, params.activation));
  }
}

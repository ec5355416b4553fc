// Standard normals as torch.randn draws them on CUDA: Philox4x32-10 (Salmon et al. 2011) and Box–Muller as in cuRAND.
// src/diffusion/philox.ts defines which words make which element; this file follows it.
//
//   out[n, pixel, channel] = element first[n] + channel · pixels + pixel of draw n   (a draw is laid out NCHW)
//
// draws: per image key (low, high), call (low, high), threads, first. out: [image, pixel, channel], f32, padding zero.
//
// The logarithm, sine and cosine are computed here: WGSL's own may be off by 2⁻²¹ near 1 and by 2⁻¹¹ (SwiftShader's sine is
// off by 2·10⁻⁴), and a seed should mean the same picture everywhere.
struct Params { images: u32, pixels: u32, channels: u32, quads: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> draws: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;

const DRAW_WORDS = 6u;

// High word of a product, by halves (WGSL has 32-bit integers only).
fn multiply_high(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let cross = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (cross >> 16u);
}

fn philox(first_counter: vec4u, first_key: vec2u) -> vec4u {
  var c = first_counter;
  var key = first_key;
  for (var round = 0u; round < 10u; round++) {
    c = vec4u(
      multiply_high(0xcd9e8d57u, c.z) ^ c.y ^ key.x, 0xcd9e8d57u * c.z,
      multiply_high(0xd2511f53u, c.x) ^ c.w ^ key.y, 0xd2511f53u * c.x,
    );
    key += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

// ln x for normal x > 0, to a few units in the last place also near 1:  x = m·2ᵉ, √½ ≤ m < √2, ln m = 2 artanh((m−1)/(m+1)).
fn natural_log(x: f32) -> f32 {
  let bits = bitcast<u32>(x) - 0x3f3504f3u;  // √½
  let exponent = f32(bitcast<i32>(bits) >> 23u);
  let m = bitcast<f32>((bits & 0x7fffffu) + 0x3f3504f3u);
  let s = (m - 1.0) / (m + 1.0);
  let t = s * s;
  let series = t * (0.33333333333 + t * (0.2 + t * (0.14285714286 + t * (0.11111111111 + t * 0.09090909091))));
  return exponent * 0.693359375 + (2.0 * s * (1.0 + series) - exponent * 2.12194440e-4);  // ln 2 in two parts
}

// Sine and cosine for 0 ≤ v ≤ 2π: reduced to ±π/4 by ½π in three parts, then their Taylor polynomials.
fn sine_and_cosine(v: f32) -> vec2f {
  let quadrant = floor(v * 0.63661977237 + 0.5);
  let r = ((v - quadrant * 1.5703125) - quadrant * 4.837512969970703125e-4) - quadrant * 7.549789948768648e-8;
  let t = r * r;
  let sine = r + r * t * (-0.16666666667 + t * (0.0083333333333 + t * (-1.9841269841e-4 + t * 2.7557319224e-6)));
  let cosine = 1.0 + t * (-0.5 + t * (0.041666666667 + t * (-0.0013888888889 + t * (2.4801587302e-5 - t * 2.7557319224e-7))));
  switch u32(quadrant) & 3u {
    case 1u: { return vec2f(cosine, -sine); }
    case 2u: { return vec2f(-sine, -cosine); }
    case 3u: { return vec2f(-cosine, sine); }
    default: { return vec2f(sine, cosine); }
  }
}

// The float nearest to an integer: both halves are exact, so their sum is rounded once. (SwiftShader's own conversion of
// 32 bits is not the nearest, and the radius of a rare draw is made of exactly that difference from 2³².)
fn nearest_float(x: u32) -> f32 { return f32(x >> 16u) * 65536.0 + f32(x & 0xffffu); }

fn normal(draw: u32, element: u32) -> f32 {
  let threads = draws[draw + 4u];
  let row = element / threads;
  let lane = row % 4u;
  let turn = row / 4u;
  let low = draws[draw + 2u] + turn;
  let high = draws[draw + 3u] + select(0u, 1u, low < turn);
  let words = philox(vec4u(low, high, element % threads, 0u), vec2u(draws[draw], draws[draw + 1u]));
  let pair = select(words.zw, words.xy, lane < 2u);
  let u = nearest_float(pair.x) * 2.3283064365386963e-10 + 1.16415321826934814e-10;  // 2⁻³², 2⁻³³
  let v = fma(nearest_float(pair.y), 1.462918119976564e-9, 7.31459059988282e-10);    // 2π·2⁻³² as cuRAND rounds it, and half
  let both = sine_and_cosine(v) * sqrt(max(-2.0 * natural_log(u), 0.0));
  return select(both.y, both.x, lane % 2u == 0u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let quad = index % params.quads;
  let pixel = index / params.quads % params.pixels;
  let image = index / params.quads / params.pixels;
  if (image >= params.images) { return; }
  let draw = image * DRAW_WORDS;
  var values = vec4f(0.0);
  for (var i = 0u; i < 4u; i++) {
    let channel = quad * 4u + i;
    if (channel < params.channels) { values[i] = normal(draw, draws[draw + 5u] + channel * params.pixels + pixel); }
  }
  out[index] = values;
}

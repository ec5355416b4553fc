// The part that the variants of attention share.
//
//   out[q, h] = Σ_k softmax_k( scale · ⟨query[q, h], key[k, h]⟩ ) · value[k, h]      (k ≤ q only, where causal)
//
// query, key, value: [image, token, …], read at an offset inside rows of any width, so that one product can make all
// three; a head is HEAD_QUADS quads, zero-padded where the head's width is not a multiple of four. out: [image, token, head, HEAD_QUADS].
// The softmax runs online (Milakov & Gimelshein 2018): no score matrix is ever stored.
struct Params {
  images: u32, heads: u32, queries: u32, keys: u32,
  query_row: u32, query_offset: u32, key_row: u32, key_offset: u32,
  value_row: u32, value_offset: u32, causal: u32, scale: f32,
  rows: u32, grid_width: u32,  // tokens of an image in a texture: the more of queries and keys
  head_quads: u32,  // HEAD_QUADS, for loops that no compiler is to unroll
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<Quad>;
@group(0) @binding(2) var<storage, read> key: array<Quad>;
@group(0) @binding(3) var<storage, read> value: array<Quad>;
@group(0) @binding(4) var<storage, read_write> out: array<Quad>;

const NEVER = -1e30;  // a score that no softmax notices; finite, so that differences of two of them are not NaN

fn query_quad(image: u32, head: u32, token: u32) -> u32 {
  return (image * params.queries + min(token, params.queries - 1u)) * params.query_row + params.query_offset + head * HEAD_QUADS;
}
fn key_quad(image: u32, head: u32, token: u32) -> u32 {
  return (image * params.keys + min(token, params.keys - 1u)) * params.key_row + params.key_offset + head * HEAD_QUADS;
}
fn value_quad(image: u32, head: u32, token: u32) -> u32 {
  return (image * params.keys + min(token, params.keys - 1u)) * params.value_row + params.value_offset + head * HEAD_QUADS;
}
fn out_quad(image: u32, head: u32, token: u32) -> u32 {
  return ((image * params.queries + token) * params.heads + head) * HEAD_QUADS;
}

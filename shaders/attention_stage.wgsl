// Queries, keys and values into one texture, for attention_textured.wgsl: a texel is a quad, widened; a row is a token.
// Columns: the heads' quads of the queries, then of the keys, then of the values. Rows: image · rows + token.
@group(0) @binding(5) var staged: texture_storage_2d<rgba32float, write>;

// One invocation copies one quad of each.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let width = params.heads * HEAD_QUADS;
  let quad = index % width;
  let row = index / width;
  let image = row / params.rows;
  let token = row % params.rows;
  if (image >= params.images) { return; }
  if (token < params.queries) {
    textureStore(staged, vec2u(quad, row), widen(query[query_quad(image, 0u, token) + quad]));
  }
  if (token < params.keys) {
    textureStore(staged, vec2u(width + quad, row), widen(key[key_quad(image, 0u, token) + quad]));
    textureStore(staged, vec2u(2u * width + quad, row), widen(value[value_quad(image, 0u, token) + quad]));
  }
}

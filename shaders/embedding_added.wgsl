// Embedding of tokens that textual inversion has added:  out[t] = added[ids[t] − first_id] + positions[t mod length]
// where ids[t] lies in first_id ≤ id < first_id + rows. Other tokens are left as they are (embedding.wgsl).
struct Params { tokens: u32, length: u32, quads: u32, first_id: u32, rows: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> added: array<vec4f>;
@group(0) @binding(3) var<storage, read> positions: array<TableQuad>;
@group(0) @binding(4) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let token = index / params.quads;
  let quad = index % params.quads;
  if (token >= params.tokens) { return; }
  let row = ids[token] - params.first_id;
  if (ids[token] < params.first_id || row >= params.rows) { return; }
  out[index] = narrow(added[row * params.quads + quad]
    + widen_table(positions[token % params.length * params.quads + quad]));
}

// Token and position embedding:  out[t] = table[ids[t]] + positions[t mod length]
// The table may be bound in ranges of rows when it is larger than one binding: a dispatch writes the tokens whose id
// lies in first_id ≤ id < end_id. The first one writes zeros for all others; they stay for ids beyond the whole table.
struct Params { tokens: u32, length: u32, quads: u32, first_id: u32, end_id: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<TableQuad>;
@group(0) @binding(3) var<storage, read> positions: array<TableQuad>;
@group(0) @binding(4) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let token = index / params.quads;
  let quad = index % params.quads;
  if (token >= params.tokens) { return; }
  let row = ids[token];
  if (row < params.first_id || row >= params.end_id) {
    if (params.first_id == 0u) { out[index] = narrow(vec4f(0.0)); }
    return;
  }
  out[index] = narrow(widen_table(table[(row - params.first_id) * params.quads + quad])
    + widen_table(positions[token % params.length * params.quads + quad]));
}

// Weights as f16 pairs in u32, widened on load. A Tile is 4 input channels × 4 output channels, row after row.
alias Tile = array<vec4u, 2>;
alias TableQuad = vec2u;
struct Outer { row0: vec4f, row1: vec4f, row2: vec4f, row3: vec4f }
fn unpack_tile(tile: Tile) -> Outer {
  return Outer(
    vec4f(unpack2x16float(tile[0].x), unpack2x16float(tile[0].y)),
    vec4f(unpack2x16float(tile[0].z), unpack2x16float(tile[0].w)),
    vec4f(unpack2x16float(tile[1].x), unpack2x16float(tile[1].y)),
    vec4f(unpack2x16float(tile[1].z), unpack2x16float(tile[1].w)),
  );
}
fn widen_table(stored: TableQuad) -> vec4f { return vec4f(unpack2x16float(stored.x), unpack2x16float(stored.y)); }
fn narrow_table(value: vec4f) -> TableQuad {
  let v = clamp(value, vec4f(-65504.0), vec4f(65504.0));
  return vec2u(pack2x16float(v.xy), pack2x16float(v.zw));
}

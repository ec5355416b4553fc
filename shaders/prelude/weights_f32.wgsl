// Weights as f32. A Tile is 4 input channels × 4 output channels; row j holds input channel j's part in each output.
alias Tile = array<vec4f, 4>;
alias TableQuad = vec4f;
struct Outer { row0: vec4f, row1: vec4f, row2: vec4f, row3: vec4f }
fn unpack_tile(tile: Tile) -> Outer { return Outer(tile[0], tile[1], tile[2], tile[3]); }
fn widen_table(stored: TableQuad) -> vec4f { return stored; }
fn narrow_table(value: vec4f) -> TableQuad { return value; }

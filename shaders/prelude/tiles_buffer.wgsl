// Weights in a buffer: lines of layer_out_quads tiles, a line for each tap and input quad.
@group(0) @binding(2) var<storage, read> weights: array<Tile>;
fn stored_tile(line: u32, column: u32) -> Tile { return weights[line * params.layer_out_quads + column]; }
fn weight_tile(line: u32, column: u32) -> Outer { return unpack_tile(stored_tile(line, column)); }

// Weights in a texture, as f16 pairs: a row of texels is a line of tiles, a texel half a tile (two input channels × 4 outputs).
@group(0) @binding(2) var weights: texture_storage_2d<rgba32uint, read>;
fn stored_tile(line: u32, column: u32) -> Tile {
  let x = column * 2u;
  return Tile(textureLoad(weights, vec2u(x, line)), textureLoad(weights, vec2u(x + 1u, line)));
}
fn weight_tile(line: u32, column: u32) -> Outer { return unpack_tile(stored_tile(line, column)); }

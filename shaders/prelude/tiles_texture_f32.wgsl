// Weights in a texture: a row of texels is a line of tiles, a texel a row of a tile (one input channel × 4 outputs).
@group(0) @binding(2) var weights: texture_storage_2d<rgba32float, read>;
fn weight_tile(line: u32, column: u32) -> Outer {
  let x = column * 4u;
  return Outer(
    textureLoad(weights, vec2u(x, line)),
    textureLoad(weights, vec2u(x + 1u, line)),
    textureLoad(weights, vec2u(x + 2u, line)),
    textureLoad(weights, vec2u(x + 3u, line)),
  );
}

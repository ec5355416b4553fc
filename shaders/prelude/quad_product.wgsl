// An outer product inside a subgroup of four lanes, as SwiftShader's are: four pixels, one a lane, by a tile of weights a lane.
//
// A broadcast is twenty instructions there, for each component, and a swap within a quad is one. So the pixels change
// places instead: lane l adds to the sums of pixels l, l ^ 1, l ^ 2 and l ^ 3, in this order.
alias Four = array<vec4f, 4>;

fn swapped(own: vec4f) -> Four { return Four(own, quadSwapX(own), quadSwapY(own), quadSwapDiagonal(own)); }

fn add_products(sums: Four, pixels: Four, weights: Outer) -> Four {
  return Four(
    add_product(sums[0], pixels[0], weights), add_product(sums[1], pixels[1], weights),
    add_product(sums[2], pixels[2], weights), add_product(sums[3], pixels[3], weights),
  );
}

// Component by component: code is made operation by operation, and products of whole vectors would all have to be kept
// until they are added.
fn add_product(sum: vec4f, a: vec4f, b: Outer) -> vec4f {
  return vec4f(
    sum.x + a.x * b.row0.x + a.y * b.row1.x + a.z * b.row2.x + a.w * b.row3.x,
    sum.y + a.x * b.row0.y + a.y * b.row1.y + a.z * b.row2.y + a.w * b.row3.y,
    sum.z + a.x * b.row0.z + a.y * b.row1.z + a.z * b.row2.z + a.w * b.row3.z,
    sum.w + a.x * b.row0.w + a.y * b.row1.w + a.z * b.row2.w + a.w * b.row3.w,
  );
}

// An outer product inside one subgroup: ROWS pixels (or tiles), of which lane l holds a quad of input channels for each of
// l, l + LANES, …, by one or two tiles of weights a lane. Each quad is broadcast, and no element is loaded twice.
//
// Written out row by row: WGSL wants the lane of a broadcast as a constant, and an array that a loop indexes lies in memory,
// not in registers.
const OWNED = (ROWS + LANES - 1u) / LANES;  // rows whose input one lane holds: 8, 4, 2 or 1
alias Sums = array<vec4f, ROWS>;
alias Owned = array<vec4f, OWNED>;

fn multiply(a: vec4f, b: Outer) -> vec4f {
  return a.x * b.row0 + a.y * b.row1 + a.z * b.row2 + a.w * b.row3;
}

fn add_row(sum0: ptr<function, Sums>, sum1: ptr<function, Sums>, row: u32, a: vec4f, b0: Outer, b1: Outer) {
  (*sum0)[row % ROWS] += multiply(a, b0);
  if (QUADS > 1u) { (*sum1)[row % ROWS] += multiply(a, b1); }
}

// Adds the products of all rows to sum0 and, of the second tile, to sum1.
fn add_products(
  sum0: ptr<function, Sums>, sum1: ptr<function, Sums>, input: ptr<function, Owned>, b0: Outer, b1: Outer,
) {
  add_row(sum0, sum1, 0u, subgroupBroadcast((*input)[0u / LANES % OWNED], 0u % LANES), b0, b1);
  add_row(sum0, sum1, 1u, subgroupBroadcast((*input)[1u / LANES % OWNED], 1u % LANES), b0, b1);
  add_row(sum0, sum1, 2u, subgroupBroadcast((*input)[2u / LANES % OWNED], 2u % LANES), b0, b1);
  add_row(sum0, sum1, 3u, subgroupBroadcast((*input)[3u / LANES % OWNED], 3u % LANES), b0, b1);
  add_row(sum0, sum1, 4u, subgroupBroadcast((*input)[4u / LANES % OWNED], 4u % LANES), b0, b1);
  add_row(sum0, sum1, 5u, subgroupBroadcast((*input)[5u / LANES % OWNED], 5u % LANES), b0, b1);
  add_row(sum0, sum1, 6u, subgroupBroadcast((*input)[6u / LANES % OWNED], 6u % LANES), b0, b1);
  add_row(sum0, sum1, 7u, subgroupBroadcast((*input)[7u / LANES % OWNED], 7u % LANES), b0, b1);
  if (ROWS > 8u) {
    add_row(sum0, sum1, 8u, subgroupBroadcast((*input)[8u / LANES % OWNED], 8u % LANES), b0, b1);
    add_row(sum0, sum1, 9u, subgroupBroadcast((*input)[9u / LANES % OWNED], 9u % LANES), b0, b1);
    add_row(sum0, sum1, 10u, subgroupBroadcast((*input)[10u / LANES % OWNED], 10u % LANES), b0, b1);
    add_row(sum0, sum1, 11u, subgroupBroadcast((*input)[11u / LANES % OWNED], 11u % LANES), b0, b1);
    add_row(sum0, sum1, 12u, subgroupBroadcast((*input)[12u / LANES % OWNED], 12u % LANES), b0, b1);
    add_row(sum0, sum1, 13u, subgroupBroadcast((*input)[13u / LANES % OWNED], 13u % LANES), b0, b1);
    add_row(sum0, sum1, 14u, subgroupBroadcast((*input)[14u / LANES % OWNED], 14u % LANES), b0, b1);
    add_row(sum0, sum1, 15u, subgroupBroadcast((*input)[15u / LANES % OWNED], 15u % LANES), b0, b1);
  }
  if (ROWS > 16u) {
    add_row(sum0, sum1, 16u, subgroupBroadcast((*input)[16u / LANES % OWNED], 16u % LANES), b0, b1);
    add_row(sum0, sum1, 17u, subgroupBroadcast((*input)[17u / LANES % OWNED], 17u % LANES), b0, b1);
    add_row(sum0, sum1, 18u, subgroupBroadcast((*input)[18u / LANES % OWNED], 18u % LANES), b0, b1);
    add_row(sum0, sum1, 19u, subgroupBroadcast((*input)[19u / LANES % OWNED], 19u % LANES), b0, b1);
    add_row(sum0, sum1, 20u, subgroupBroadcast((*input)[20u / LANES % OWNED], 20u % LANES), b0, b1);
    add_row(sum0, sum1, 21u, subgroupBroadcast((*input)[21u / LANES % OWNED], 21u % LANES), b0, b1);
    add_row(sum0, sum1, 22u, subgroupBroadcast((*input)[22u / LANES % OWNED], 22u % LANES), b0, b1);
    add_row(sum0, sum1, 23u, subgroupBroadcast((*input)[23u / LANES % OWNED], 23u % LANES), b0, b1);
    add_row(sum0, sum1, 24u, subgroupBroadcast((*input)[24u / LANES % OWNED], 24u % LANES), b0, b1);
    add_row(sum0, sum1, 25u, subgroupBroadcast((*input)[25u / LANES % OWNED], 25u % LANES), b0, b1);
    add_row(sum0, sum1, 26u, subgroupBroadcast((*input)[26u / LANES % OWNED], 26u % LANES), b0, b1);
    add_row(sum0, sum1, 27u, subgroupBroadcast((*input)[27u / LANES % OWNED], 27u % LANES), b0, b1);
    add_row(sum0, sum1, 28u, subgroupBroadcast((*input)[28u / LANES % OWNED], 28u % LANES), b0, b1);
    add_row(sum0, sum1, 29u, subgroupBroadcast((*input)[29u / LANES % OWNED], 29u % LANES), b0, b1);
    add_row(sum0, sum1, 30u, subgroupBroadcast((*input)[30u / LANES % OWNED], 30u % LANES), b0, b1);
    add_row(sum0, sum1, 31u, subgroupBroadcast((*input)[31u / LANES % OWNED], 31u % LANES), b0, b1);
  }
}

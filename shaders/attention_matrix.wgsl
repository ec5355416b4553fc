// Attention on the matrix unit of a GPU: operands in f16, scores, sums and the softmax in f32.
//
// A workgroup of SUBGROUPS subgroups owns as many times MATRIX_ROWS queries of one head, each subgroup its own; BLOCK keys at a
// time are staged, with their values, for all of them. No lane can reach into a matrix, so that what a subgroup has summed
// cannot be rescaled as a maximum grows; therefore keys are gone over twice: for the largest score of each query, and then for
// the weights, which are staged as halves in turn, and the weighted values. Arrays are of octets, as in conv2d_matrix.wgsl.
const INVOCATIONS = SUBGROUPS * LANES;
const HEAD_OCTETS = HEAD_MATRICES * HEAD_UNIT / 8u;  // zero-padded to whole matrices
const TILE_ROWS = SUBGROUPS * MATRIX_ROWS;
const ROW_STRIDE = HEAD_OCTETS + 1u;                 // of queries, keys and values
const SCORE_QUADS = BLOCK / 4u + 1u;
const WEIGHT_STRIDE = BLOCK / 8u + 1u;
const BLOCK_COLUMNS = BLOCK / MATRIX_COLUMNS;
const MATRIX_SIZE = MATRIX_ROWS * MATRIX_COLUMNS;
// Neighbouring lanes share a row of scores where there are more lanes than rows; where there are fewer, a lane has several rows.
const PARTS = max(LANES / MATRIX_ROWS, 1u);

// A row of a matrix more than there is: bounds are checked for offset + stride × rows.
var<workgroup> staged_rows: array<vec4u, max(BLOCK, TILE_ROWS) * ROW_STRIDE + ROW_STRIDE>;  // queries at first, then keys
var<workgroup> staged_values: array<vec4u, BLOCK * ROW_STRIDE + ROW_STRIDE>;
var<workgroup> staged_sums: array<vec4f, TILE_ROWS * SCORE_QUADS + SCORE_QUADS>;
var<workgroup> staged_weights: array<vec2u, TILE_ROWS * WEIGHT_STRIDE * 2u + 2u * WEIGHT_STRIDE>;
var<workgroup> staged_totals: array<f32, TILE_ROWS>;

@compute @workgroup_size(INVOCATIONS)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let head = workgroup.y;
  let image = workgroup.z;
  let first_query = workgroup.x * TILE_ROWS;
  let own_row = subgroup * MATRIX_ROWS;

  for (var i = index; i < TILE_ROWS * HEAD_OCTETS; i += INVOCATIONS) {
    let quad = i % HEAD_OCTETS * 2u;
    let source = query_quad(image, head, first_query + i / HEAD_OCTETS) + quad;
    var octet = vec4u(0u);
    if (quad < HEAD_QUADS) { octet = vec4u(query[source], octet.zw); }
    if (quad + 1u < HEAD_QUADS) { octet = vec4u(octet.xy, query[source + 1u]); }
    staged_rows[i / HEAD_OCTETS * ROW_STRIDE + i % HEAD_OCTETS] = octet;
  }
  workgroupBarrier();
  var queries: array<Left, HEAD_INNERS>;
  for (var d = 0u; d < HEAD_INNERS; d++) { // unrolled
    queries[d] = load_left(own_row * ROW_STRIDE + d * MATRIX_INNER / 8u);
  }
  workgroupBarrier();

  var sums: array<Sum, HEAD_COLUMNS>;
  var maximum: array<f32, ITEMS>;
  var total: array<f32, ITEMS>;
  for (var i = 0u; i < ITEMS; i++) { // unrolled
    maximum[i] = NEVER;
    total[i] = 0.0;
  }
  let blocks = (params.keys + BLOCK - 1u) / BLOCK;
  for (var turn = 0u; turn < 2u * blocks; turn++) {
    let weighs = turn >= blocks;
    let first = turn % blocks * BLOCK;
    for (var i = index; i < BLOCK * HEAD_OCTETS; i += INVOCATIONS) {
      let quad = i % HEAD_OCTETS * 2u;
      let source = key_quad(image, head, first + i / HEAD_OCTETS) + quad;
      var octet = vec4u(0u);
      if (quad < HEAD_QUADS) { octet = vec4u(key[source], octet.zw); }
      if (quad + 1u < HEAD_QUADS) { octet = vec4u(octet.xy, key[source + 1u]); }
      staged_rows[i / HEAD_OCTETS * ROW_STRIDE + i % HEAD_OCTETS] = octet;
      if (weighs) {
        let value_source = value_quad(image, head, first + i / HEAD_OCTETS) + quad;
        octet = vec4u(0u);
        if (quad < HEAD_QUADS) { octet = vec4u(value[value_source], octet.zw); }
        if (quad + 1u < HEAD_QUADS) { octet = vec4u(octet.xy, value[value_source + 1u]); }
        staged_values[i / HEAD_OCTETS * ROW_STRIDE + i % HEAD_OCTETS] = octet;
      }
    }
    workgroupBarrier();
    for (var column = 0u; column < BLOCK_COLUMNS; column++) {
      var scores = Sum();
      for (var d = 0u; d < HEAD_INNERS; d++) { // unrolled
        let right = load_key(column * MATRIX_COLUMNS * ROW_STRIDE + d * MATRIX_INNER / 8u);
        scores = multiply_add(queries[d], right, scores);
      }
      store_sum(scores, own_row * SCORE_QUADS + column * MATRIX_COLUMNS / 4u);
    }
    workgroupBarrier();
    for (var i = 0u; i < ITEMS; i++) { // unrolled
      let row = own_row + (lane + i * LANES) / PARTS;
      let token = first_query + row;
      for (var quad = lane % PARTS; quad < BLOCK / 4u; quad += PARTS) {
        let keys = first + quad * 4u + vec4u(0u, 1u, 2u, 3u);
        let seen = (keys < vec4u(params.keys)) & (vec4<bool>(params.causal == 0u) | (keys <= vec4u(token)));
        let scores = select(vec4f(NEVER), staged_sums[row * SCORE_QUADS + quad] * params.scale, seen);
        if (weighs) {
          let weights = exp(scores - maximum[i]);
          total[i] += weights.x + weights.y + weights.z + weights.w;
          staged_weights[row * WEIGHT_STRIDE * 2u + quad] = vec2u(pack2x16float(weights.xy), pack2x16float(weights.zw));
        } else {
          maximum[i] = max(maximum[i], max(max(scores.x, scores.y), max(scores.z, scores.w)));
        }
      }
      if (turn + 1u == blocks) {
        for (var other = 1u; other < PARTS; other *= 2u) { maximum[i] = max(maximum[i], subgroupShuffleXor(maximum[i], other)); }
      }
    }
    workgroupBarrier();
    if (weighs) {
      for (var inner = 0u; inner < BLOCK / MATRIX_INNER; inner++) {
        let left = load_weights(own_row * WEIGHT_STRIDE * 2u + inner * MATRIX_INNER / 4u);
        for (var d = 0u; d < HEAD_COLUMNS; d++) { // unrolled
          sums[d] = multiply_add(left, load_value(inner * MATRIX_INNER * ROW_STRIDE + d * MATRIX_COLUMNS / 8u), sums[d]);
        }
      }
      workgroupBarrier();
    }
  }

  for (var i = 0u; i < ITEMS; i++) { // unrolled
    for (var other = 1u; other < PARTS; other *= 2u) { total[i] += subgroupShuffleXor(total[i], other); }
    staged_totals[own_row + (lane + i * LANES) / PARTS] = total[i];
  }
  for (var d = 0u; d < HEAD_COLUMNS; d++) { // unrolled
    store_sum(sums[d], own_row * SCORE_QUADS);
    workgroupBarrier();
    for (var i = lane; i < MATRIX_SIZE / 4u; i += LANES) {
      let row = own_row + i / (MATRIX_COLUMNS / 4u);
      let quad = d * MATRIX_COLUMNS / 4u + i % (MATRIX_COLUMNS / 4u);
      if (first_query + row < params.queries && quad < HEAD_QUADS) {
        let sum = staged_sums[row * SCORE_QUADS + i % (MATRIX_COLUMNS / 4u)];
        out[out_quad(image, head, first_query + row) + quad] = narrow(sum / staged_totals[row]);
      }
    }
    workgroupBarrier();
  }
}

// Attention inside one subgroup, of operands in a texture (attention_stage.wgsl): the form for lavapipe where keys are many.
// Loads of a texture take little time and little code there, so that this is two outer products in the manner of
// conv2d_subgroup.wgsl.
//
// One workgroup is one subgroup and owns 16 queries of one head. It takes 4·LANES keys at a time. For the scores, lane l
// has keys 4l … 4l + 3 of them as the components of a vector; for the weighted values it has quads l, l + LANES, … of the
// head. The running maximum is rescaled once a block of keys.
@group(0) @binding(5) var staged: texture_storage_2d<rgba32float, read>;

const ROWS = 16u;
const OWNED = (ROWS + LANES - 1u) / LANES;               // queries that one lane loads
const QUADS = (HEAD_QUADS + LANES - 1u) / LANES;         // quads of the head that one lane adds up: 1, 2 or 3

struct Values { key0: vec4f, key1: vec4f, key2: vec4f, key3: vec4f }

fn values(column: u32, row: u32, last: u32) -> Values {
  return Values(
    textureLoad(staged, vec2u(column, min(row, last))),
    textureLoad(staged, vec2u(column, min(row + 1u, last))),
    textureLoad(staged, vec2u(column, min(row + 2u, last))),
    textureLoad(staged, vec2u(column, min(row + 3u, last))),
  );
}

fn multiply(p: vec4f, v: Values) -> vec4f {
  return p.x * v.key0 + p.y * v.key1 + p.z * v.key2 + p.w * v.key3;
}

fn masked(score: vec4f, tokens: vec4u, query_token: u32) -> vec4f {
  let seen = (tokens < vec4u(params.keys)) & (vec4<bool>(params.causal == 0u) | (tokens <= vec4u(query_token)));
  return select(vec4f(NEVER), score * params.scale, seen);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let first_query = workgroup.x * ROWS;
  let head = workgroup.y;
  let first_row = workgroup.z * params.rows;
  let query_column = head * HEAD_QUADS;
  let key_column = (params.heads + head) * HEAD_QUADS;
  let value_column = (2u * params.heads + head) * HEAD_QUADS + lane;
  let last_query = first_row + params.queries - 1u;
  let last_key = first_row + params.keys - 1u;
  let query_row = first_row + first_query + lane % ROWS;

  var maximum: array<f32, ROWS>;
  var total: array<vec4f, ROWS>;
  var sum0: array<vec4f, ROWS>;
  var sum1: array<vec4f, ROWS>;
  var sum2: array<vec4f, ROWS>;
  for (var r = 0u; r < ROWS; r++) { maximum[r] = NEVER; }

  for (var first = 0u; first < params.keys; first += 4u * LANES) {
    var s = array<vec4f, ROWS>();  // said outright: Dawn does not clear a bare `var` again on each turn of a loop
    let tokens = first + 4u * lane + vec4u(0u, 1u, 2u, 3u);
    for (var d = 0u; d < HEAD_QUADS; d++) {
      let k = values(key_column + d, first_row + tokens.x, last_key);
      let k0 = k.key0;
      let k1 = k.key1;
      let k2 = k.key2;
      let k3 = k.key3;
      var a: array<vec4f, OWNED>;
      a[0] = textureLoad(staged, vec2u(query_column + d, min(query_row, last_query)));
      if (OWNED > 1u) { a[1u % OWNED] = textureLoad(staged, vec2u(query_column + d, min(query_row + LANES, last_query))); }
      if (OWNED > 2u) {
        a[2u % OWNED] = textureLoad(staged, vec2u(query_column + d, min(query_row + 2u * LANES, last_query)));
        a[3u % OWNED] = textureLoad(staged, vec2u(query_column + d, min(query_row + 3u * LANES, last_query)));
      }
      var q: vec4f;
      q = subgroupBroadcast(a[0u / LANES % OWNED], 0u % LANES); s[0] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[1u / LANES % OWNED], 1u % LANES); s[1] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[2u / LANES % OWNED], 2u % LANES); s[2] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[3u / LANES % OWNED], 3u % LANES); s[3] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[4u / LANES % OWNED], 4u % LANES); s[4] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[5u / LANES % OWNED], 5u % LANES); s[5] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[6u / LANES % OWNED], 6u % LANES); s[6] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[7u / LANES % OWNED], 7u % LANES); s[7] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[8u / LANES % OWNED], 8u % LANES); s[8] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[9u / LANES % OWNED], 9u % LANES); s[9] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[10u / LANES % OWNED], 10u % LANES); s[10] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[11u / LANES % OWNED], 11u % LANES); s[11] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[12u / LANES % OWNED], 12u % LANES); s[12] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[13u / LANES % OWNED], 13u % LANES); s[13] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[14u / LANES % OWNED], 14u % LANES); s[14] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
      q = subgroupBroadcast(a[15u / LANES % OWNED], 15u % LANES); s[15] += vec4f(dot(k0, q), dot(k1, q), dot(k2, q), dot(k3, q));
    }
    var x: vec4f;
    var highest: f32;
    var rescale: f32;
    x = masked(s[0], tokens, first_query + 0u);
    highest = max(maximum[0], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[0] - highest);
    maximum[0] = highest;
    s[0] = exp(x - highest);
    total[0] = total[0] * rescale + s[0];
    sum0[0] *= rescale;
    if (QUADS > 1u) { sum1[0] *= rescale; }
    if (QUADS > 2u) { sum2[0] *= rescale; }
    x = masked(s[1], tokens, first_query + 1u);
    highest = max(maximum[1], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[1] - highest);
    maximum[1] = highest;
    s[1] = exp(x - highest);
    total[1] = total[1] * rescale + s[1];
    sum0[1] *= rescale;
    if (QUADS > 1u) { sum1[1] *= rescale; }
    if (QUADS > 2u) { sum2[1] *= rescale; }
    x = masked(s[2], tokens, first_query + 2u);
    highest = max(maximum[2], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[2] - highest);
    maximum[2] = highest;
    s[2] = exp(x - highest);
    total[2] = total[2] * rescale + s[2];
    sum0[2] *= rescale;
    if (QUADS > 1u) { sum1[2] *= rescale; }
    if (QUADS > 2u) { sum2[2] *= rescale; }
    x = masked(s[3], tokens, first_query + 3u);
    highest = max(maximum[3], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[3] - highest);
    maximum[3] = highest;
    s[3] = exp(x - highest);
    total[3] = total[3] * rescale + s[3];
    sum0[3] *= rescale;
    if (QUADS > 1u) { sum1[3] *= rescale; }
    if (QUADS > 2u) { sum2[3] *= rescale; }
    x = masked(s[4], tokens, first_query + 4u);
    highest = max(maximum[4], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[4] - highest);
    maximum[4] = highest;
    s[4] = exp(x - highest);
    total[4] = total[4] * rescale + s[4];
    sum0[4] *= rescale;
    if (QUADS > 1u) { sum1[4] *= rescale; }
    if (QUADS > 2u) { sum2[4] *= rescale; }
    x = masked(s[5], tokens, first_query + 5u);
    highest = max(maximum[5], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[5] - highest);
    maximum[5] = highest;
    s[5] = exp(x - highest);
    total[5] = total[5] * rescale + s[5];
    sum0[5] *= rescale;
    if (QUADS > 1u) { sum1[5] *= rescale; }
    if (QUADS > 2u) { sum2[5] *= rescale; }
    x = masked(s[6], tokens, first_query + 6u);
    highest = max(maximum[6], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[6] - highest);
    maximum[6] = highest;
    s[6] = exp(x - highest);
    total[6] = total[6] * rescale + s[6];
    sum0[6] *= rescale;
    if (QUADS > 1u) { sum1[6] *= rescale; }
    if (QUADS > 2u) { sum2[6] *= rescale; }
    x = masked(s[7], tokens, first_query + 7u);
    highest = max(maximum[7], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[7] - highest);
    maximum[7] = highest;
    s[7] = exp(x - highest);
    total[7] = total[7] * rescale + s[7];
    sum0[7] *= rescale;
    if (QUADS > 1u) { sum1[7] *= rescale; }
    if (QUADS > 2u) { sum2[7] *= rescale; }
    x = masked(s[8], tokens, first_query + 8u);
    highest = max(maximum[8], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[8] - highest);
    maximum[8] = highest;
    s[8] = exp(x - highest);
    total[8] = total[8] * rescale + s[8];
    sum0[8] *= rescale;
    if (QUADS > 1u) { sum1[8] *= rescale; }
    if (QUADS > 2u) { sum2[8] *= rescale; }
    x = masked(s[9], tokens, first_query + 9u);
    highest = max(maximum[9], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[9] - highest);
    maximum[9] = highest;
    s[9] = exp(x - highest);
    total[9] = total[9] * rescale + s[9];
    sum0[9] *= rescale;
    if (QUADS > 1u) { sum1[9] *= rescale; }
    if (QUADS > 2u) { sum2[9] *= rescale; }
    x = masked(s[10], tokens, first_query + 10u);
    highest = max(maximum[10], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[10] - highest);
    maximum[10] = highest;
    s[10] = exp(x - highest);
    total[10] = total[10] * rescale + s[10];
    sum0[10] *= rescale;
    if (QUADS > 1u) { sum1[10] *= rescale; }
    if (QUADS > 2u) { sum2[10] *= rescale; }
    x = masked(s[11], tokens, first_query + 11u);
    highest = max(maximum[11], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[11] - highest);
    maximum[11] = highest;
    s[11] = exp(x - highest);
    total[11] = total[11] * rescale + s[11];
    sum0[11] *= rescale;
    if (QUADS > 1u) { sum1[11] *= rescale; }
    if (QUADS > 2u) { sum2[11] *= rescale; }
    x = masked(s[12], tokens, first_query + 12u);
    highest = max(maximum[12], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[12] - highest);
    maximum[12] = highest;
    s[12] = exp(x - highest);
    total[12] = total[12] * rescale + s[12];
    sum0[12] *= rescale;
    if (QUADS > 1u) { sum1[12] *= rescale; }
    if (QUADS > 2u) { sum2[12] *= rescale; }
    x = masked(s[13], tokens, first_query + 13u);
    highest = max(maximum[13], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[13] - highest);
    maximum[13] = highest;
    s[13] = exp(x - highest);
    total[13] = total[13] * rescale + s[13];
    sum0[13] *= rescale;
    if (QUADS > 1u) { sum1[13] *= rescale; }
    if (QUADS > 2u) { sum2[13] *= rescale; }
    x = masked(s[14], tokens, first_query + 14u);
    highest = max(maximum[14], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[14] - highest);
    maximum[14] = highest;
    s[14] = exp(x - highest);
    total[14] = total[14] * rescale + s[14];
    sum0[14] *= rescale;
    if (QUADS > 1u) { sum1[14] *= rescale; }
    if (QUADS > 2u) { sum2[14] *= rescale; }
    x = masked(s[15], tokens, first_query + 15u);
    highest = max(maximum[15], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
    rescale = exp(maximum[15] - highest);
    maximum[15] = highest;
    s[15] = exp(x - highest);
    total[15] = total[15] * rescale + s[15];
    sum0[15] *= rescale;
    if (QUADS > 1u) { sum1[15] *= rescale; }
    if (QUADS > 2u) { sum2[15] *= rescale; }
    for (var j = 0u; j < LANES; j++) {
      let row = first_row + first + 4u * j;
      let v0 = values(value_column, row, last_key);
      var v1 = v0;
      var v2 = v0;
      if (QUADS > 1u) { v1 = values(value_column + LANES, row, last_key); }
      if (QUADS > 2u) { v2 = values(value_column + 2u * LANES, row, last_key); }
      var p: vec4f;
      p = subgroupShuffle(s[0], j);
      sum0[0] += multiply(p, v0);
      if (QUADS > 1u) { sum1[0] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[0] += multiply(p, v2); }
      p = subgroupShuffle(s[1], j);
      sum0[1] += multiply(p, v0);
      if (QUADS > 1u) { sum1[1] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[1] += multiply(p, v2); }
      p = subgroupShuffle(s[2], j);
      sum0[2] += multiply(p, v0);
      if (QUADS > 1u) { sum1[2] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[2] += multiply(p, v2); }
      p = subgroupShuffle(s[3], j);
      sum0[3] += multiply(p, v0);
      if (QUADS > 1u) { sum1[3] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[3] += multiply(p, v2); }
      p = subgroupShuffle(s[4], j);
      sum0[4] += multiply(p, v0);
      if (QUADS > 1u) { sum1[4] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[4] += multiply(p, v2); }
      p = subgroupShuffle(s[5], j);
      sum0[5] += multiply(p, v0);
      if (QUADS > 1u) { sum1[5] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[5] += multiply(p, v2); }
      p = subgroupShuffle(s[6], j);
      sum0[6] += multiply(p, v0);
      if (QUADS > 1u) { sum1[6] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[6] += multiply(p, v2); }
      p = subgroupShuffle(s[7], j);
      sum0[7] += multiply(p, v0);
      if (QUADS > 1u) { sum1[7] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[7] += multiply(p, v2); }
      p = subgroupShuffle(s[8], j);
      sum0[8] += multiply(p, v0);
      if (QUADS > 1u) { sum1[8] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[8] += multiply(p, v2); }
      p = subgroupShuffle(s[9], j);
      sum0[9] += multiply(p, v0);
      if (QUADS > 1u) { sum1[9] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[9] += multiply(p, v2); }
      p = subgroupShuffle(s[10], j);
      sum0[10] += multiply(p, v0);
      if (QUADS > 1u) { sum1[10] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[10] += multiply(p, v2); }
      p = subgroupShuffle(s[11], j);
      sum0[11] += multiply(p, v0);
      if (QUADS > 1u) { sum1[11] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[11] += multiply(p, v2); }
      p = subgroupShuffle(s[12], j);
      sum0[12] += multiply(p, v0);
      if (QUADS > 1u) { sum1[12] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[12] += multiply(p, v2); }
      p = subgroupShuffle(s[13], j);
      sum0[13] += multiply(p, v0);
      if (QUADS > 1u) { sum1[13] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[13] += multiply(p, v2); }
      p = subgroupShuffle(s[14], j);
      sum0[14] += multiply(p, v0);
      if (QUADS > 1u) { sum1[14] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[14] += multiply(p, v2); }
      p = subgroupShuffle(s[15], j);
      sum0[15] += multiply(p, v0);
      if (QUADS > 1u) { sum1[15] += multiply(p, v1); }
      if (QUADS > 2u) { sum2[15] += multiply(p, v2); }
    }
  }

  // Not unrolled, for the reason that conv2d_subgroup.wgsl gives.
  var totals = total;
  var done0 = sum0;
  var done1 = sum1;
  var done2 = sum2;
  let count = min(ROWS, params.queries - first_query);
  for (var r = 0u; r < count; r++) {
    let norm = 1.0 / subgroupAdd(dot(totals[r], vec4f(1.0)));
    let quad = out_quad(workgroup.z, head, first_query + r) + lane;
    if (lane < HEAD_QUADS) { out[quad] = narrow(done0[r] * norm); }
    if (lane + LANES < HEAD_QUADS) { out[quad + LANES] = narrow(done1[r] * norm); }
    if (lane + 2u * LANES < HEAD_QUADS) { out[quad + 2u * LANES] = narrow(done2[r] * norm); }
  }
}

// Attention inside one subgroup: the form for software adapters (no workgroup memory, no barrier).
//
// One workgroup is one subgroup; a lane owns four queries, held as the four components of a vector, so that the whole
// softmax happens inside the lane. Sixteen keys are worked on at a time: each lane loads the quads of the keys it owns
// (l, l + LANES, …), which are then broadcast. The running maximum is rescaled once a block of keys.
const BLOCK = 16u;
const OWNED = (BLOCK + LANES - 1u) / LANES;

var<private> sums: array<vec4f, 4u * HEAD_QUADS>;  // per quad of the head, the four queries' weighted values

fn score(k: vec4f, q0: vec4f, q1: vec4f, q2: vec4f, q3: vec4f) -> vec4f {
  return vec4f(dot(k, q0), dot(k, q1), dot(k, q2), dot(k, q3));
}

fn masked(score: vec4f, token: u32, queries: vec4u) -> vec4f {
  let seen = vec4<bool>(token < params.keys) & (vec4<bool>(params.causal == 0u) | (vec4u(token) <= queries));
  return select(vec4f(NEVER), score * params.scale, seen);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let head = workgroup.y;
  let image = workgroup.z;
  let first_query = (workgroup.x * LANES + lane) * 4u;
  let tokens = first_query + vec4u(0u, 1u, 2u, 3u);
  let query0 = query_quad(image, head, tokens.x);
  let query1 = query_quad(image, head, tokens.y);
  let query2 = query_quad(image, head, tokens.z);
  let query3 = query_quad(image, head, tokens.w);
  for (var i = 0u; i < 4u * HEAD_QUADS; i++) { sums[i] = vec4f(0.0); }
  var maximum = vec4f(NEVER);
  var total = vec4f(0.0);
  let owned = lane % BLOCK;
  var loaded: array<vec4f, 4>;

  for (var first = 0u; first < params.keys; first += BLOCK) {
    var s = array<vec4f, BLOCK>();  // said outright: Dawn does not clear a bare `var` again on each turn of a loop
    let key0 = key_quad(image, head, first + owned);
    let key1 = key_quad(image, head, first + owned + LANES);
    let key2 = key_quad(image, head, first + owned + 2u * LANES);
    let key3 = key_quad(image, head, first + owned + 3u * LANES);
    for (var d = 0u; d < HEAD_QUADS; d++) {
      let q0 = widen(query[query0 + d]);
      let q1 = widen(query[query1 + d]);
      let q2 = widen(query[query2 + d]);
      let q3 = widen(query[query3 + d]);
      loaded[0] = widen(key[key0 + d]);
      if (OWNED > 1u) { loaded[1] = widen(key[key1 + d]); }
      if (OWNED > 2u) { loaded[2] = widen(key[key2 + d]); loaded[3] = widen(key[key3 + d]); }
      s[0] += score(subgroupBroadcast(loaded[0u / LANES], 0u % LANES), q0, q1, q2, q3);
      s[1] += score(subgroupBroadcast(loaded[1u / LANES], 1u % LANES), q0, q1, q2, q3);
      s[2] += score(subgroupBroadcast(loaded[2u / LANES], 2u % LANES), q0, q1, q2, q3);
      s[3] += score(subgroupBroadcast(loaded[3u / LANES], 3u % LANES), q0, q1, q2, q3);
      s[4] += score(subgroupBroadcast(loaded[4u / LANES], 4u % LANES), q0, q1, q2, q3);
      s[5] += score(subgroupBroadcast(loaded[5u / LANES], 5u % LANES), q0, q1, q2, q3);
      s[6] += score(subgroupBroadcast(loaded[6u / LANES], 6u % LANES), q0, q1, q2, q3);
      s[7] += score(subgroupBroadcast(loaded[7u / LANES], 7u % LANES), q0, q1, q2, q3);
      s[8] += score(subgroupBroadcast(loaded[8u / LANES], 8u % LANES), q0, q1, q2, q3);
      s[9] += score(subgroupBroadcast(loaded[9u / LANES], 9u % LANES), q0, q1, q2, q3);
      s[10] += score(subgroupBroadcast(loaded[10u / LANES], 10u % LANES), q0, q1, q2, q3);
      s[11] += score(subgroupBroadcast(loaded[11u / LANES], 11u % LANES), q0, q1, q2, q3);
      s[12] += score(subgroupBroadcast(loaded[12u / LANES], 12u % LANES), q0, q1, q2, q3);
      s[13] += score(subgroupBroadcast(loaded[13u / LANES], 13u % LANES), q0, q1, q2, q3);
      s[14] += score(subgroupBroadcast(loaded[14u / LANES], 14u % LANES), q0, q1, q2, q3);
      s[15] += score(subgroupBroadcast(loaded[15u / LANES], 15u % LANES), q0, q1, q2, q3);
    }
    s[0] = masked(s[0], first + 0u, tokens);
    s[1] = masked(s[1], first + 1u, tokens);
    s[2] = masked(s[2], first + 2u, tokens);
    s[3] = masked(s[3], first + 3u, tokens);
    s[4] = masked(s[4], first + 4u, tokens);
    s[5] = masked(s[5], first + 5u, tokens);
    s[6] = masked(s[6], first + 6u, tokens);
    s[7] = masked(s[7], first + 7u, tokens);
    s[8] = masked(s[8], first + 8u, tokens);
    s[9] = masked(s[9], first + 9u, tokens);
    s[10] = masked(s[10], first + 10u, tokens);
    s[11] = masked(s[11], first + 11u, tokens);
    s[12] = masked(s[12], first + 12u, tokens);
    s[13] = masked(s[13], first + 13u, tokens);
    s[14] = masked(s[14], first + 14u, tokens);
    s[15] = masked(s[15], first + 15u, tokens);
    let block_maximum = max(
      max(max(max(s[0], s[1]), max(s[2], s[3])), max(max(s[4], s[5]), max(s[6], s[7]))),
      max(max(max(s[8], s[9]), max(s[10], s[11])), max(max(s[12], s[13]), max(s[14], s[15]))),
    );
    let new_maximum = max(maximum, block_maximum);
    let rescale = exp(maximum - new_maximum);
    maximum = new_maximum;
    s[0] = exp(s[0] - maximum);
    s[1] = exp(s[1] - maximum);
    s[2] = exp(s[2] - maximum);
    s[3] = exp(s[3] - maximum);
    s[4] = exp(s[4] - maximum);
    s[5] = exp(s[5] - maximum);
    s[6] = exp(s[6] - maximum);
    s[7] = exp(s[7] - maximum);
    s[8] = exp(s[8] - maximum);
    s[9] = exp(s[9] - maximum);
    s[10] = exp(s[10] - maximum);
    s[11] = exp(s[11] - maximum);
    s[12] = exp(s[12] - maximum);
    s[13] = exp(s[13] - maximum);
    s[14] = exp(s[14] - maximum);
    s[15] = exp(s[15] - maximum);
    total = total * rescale + (((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])))
      + (((s[8] + s[9]) + (s[10] + s[11])) + ((s[12] + s[13]) + (s[14] + s[15])));

    let value0 = value_quad(image, head, first + owned);
    let value1 = value_quad(image, head, first + owned + LANES);
    let value2 = value_quad(image, head, first + owned + 2u * LANES);
    let value3 = value_quad(image, head, first + owned + 3u * LANES);
    for (var d = 0u; d < HEAD_QUADS; d++) {
      loaded[0] = widen(value[value0 + d]);
      if (OWNED > 1u) { loaded[1] = widen(value[value1 + d]); }
      if (OWNED > 2u) { loaded[2] = widen(value[value2 + d]); loaded[3] = widen(value[value3 + d]); }
      var sum0 = sums[4u * d] * rescale.x;
      var sum1 = sums[4u * d + 1u] * rescale.y;
      var sum2 = sums[4u * d + 2u] * rescale.z;
      var sum3 = sums[4u * d + 3u] * rescale.w;
      var v: vec4f;
      v = subgroupBroadcast(loaded[0u / LANES], 0u % LANES); sum0 += s[0].x * v; sum1 += s[0].y * v; sum2 += s[0].z * v; sum3 += s[0].w * v;
      v = subgroupBroadcast(loaded[1u / LANES], 1u % LANES); sum0 += s[1].x * v; sum1 += s[1].y * v; sum2 += s[1].z * v; sum3 += s[1].w * v;
      v = subgroupBroadcast(loaded[2u / LANES], 2u % LANES); sum0 += s[2].x * v; sum1 += s[2].y * v; sum2 += s[2].z * v; sum3 += s[2].w * v;
      v = subgroupBroadcast(loaded[3u / LANES], 3u % LANES); sum0 += s[3].x * v; sum1 += s[3].y * v; sum2 += s[3].z * v; sum3 += s[3].w * v;
      v = subgroupBroadcast(loaded[4u / LANES], 4u % LANES); sum0 += s[4].x * v; sum1 += s[4].y * v; sum2 += s[4].z * v; sum3 += s[4].w * v;
      v = subgroupBroadcast(loaded[5u / LANES], 5u % LANES); sum0 += s[5].x * v; sum1 += s[5].y * v; sum2 += s[5].z * v; sum3 += s[5].w * v;
      v = subgroupBroadcast(loaded[6u / LANES], 6u % LANES); sum0 += s[6].x * v; sum1 += s[6].y * v; sum2 += s[6].z * v; sum3 += s[6].w * v;
      v = subgroupBroadcast(loaded[7u / LANES], 7u % LANES); sum0 += s[7].x * v; sum1 += s[7].y * v; sum2 += s[7].z * v; sum3 += s[7].w * v;
      v = subgroupBroadcast(loaded[8u / LANES], 8u % LANES); sum0 += s[8].x * v; sum1 += s[8].y * v; sum2 += s[8].z * v; sum3 += s[8].w * v;
      v = subgroupBroadcast(loaded[9u / LANES], 9u % LANES); sum0 += s[9].x * v; sum1 += s[9].y * v; sum2 += s[9].z * v; sum3 += s[9].w * v;
      v = subgroupBroadcast(loaded[10u / LANES], 10u % LANES); sum0 += s[10].x * v; sum1 += s[10].y * v; sum2 += s[10].z * v; sum3 += s[10].w * v;
      v = subgroupBroadcast(loaded[11u / LANES], 11u % LANES); sum0 += s[11].x * v; sum1 += s[11].y * v; sum2 += s[11].z * v; sum3 += s[11].w * v;
      v = subgroupBroadcast(loaded[12u / LANES], 12u % LANES); sum0 += s[12].x * v; sum1 += s[12].y * v; sum2 += s[12].z * v; sum3 += s[12].w * v;
      v = subgroupBroadcast(loaded[13u / LANES], 13u % LANES); sum0 += s[13].x * v; sum1 += s[13].y * v; sum2 += s[13].z * v; sum3 += s[13].w * v;
      v = subgroupBroadcast(loaded[14u / LANES], 14u % LANES); sum0 += s[14].x * v; sum1 += s[14].y * v; sum2 += s[14].z * v; sum3 += s[14].w * v;
      v = subgroupBroadcast(loaded[15u / LANES], 15u % LANES); sum0 += s[15].x * v; sum1 += s[15].y * v; sum2 += s[15].z * v; sum3 += s[15].w * v;
      sums[4u * d] = sum0;
      sums[4u * d + 1u] = sum1;
      sums[4u * d + 2u] = sum2;
      sums[4u * d + 3u] = sum3;
    }
  }

  let norm = 1.0 / total;
  // Unrolled, the stores would be half of the kernel's code.
  for (var d = 0u; d < params.head_quads; d++) {
    if (tokens.x < params.queries) { out[out_quad(image, head, tokens.x) + d] = narrow(sums[4u * d] * norm.x); }
    if (tokens.y < params.queries) { out[out_quad(image, head, tokens.y) + d] = narrow(sums[4u * d + 1u] * norm.y); }
    if (tokens.z < params.queries) { out[out_quad(image, head, tokens.z) + d] = narrow(sums[4u * d + 2u] * norm.z); }
    if (tokens.w < params.queries) { out[out_quad(image, head, tokens.w) + d] = narrow(sums[4u * d + 3u] * norm.w); }
  }
}

// Attention over tiles in workgroup memory: the form for GPUs, and for any adapter whose subgroup size is not known
// before the pipeline is made.
//
// A workgroup of 64 invocations owns 64 queries of one head, one each; BLOCK keys, then their values, are staged in
// workgroup memory (BLOCK · HEAD_QUADS ≤ 1024 quads, 16 KiB) and read by all. The running maximum is rescaled once a block.
const BLOCK = clamp(1024u / HEAD_QUADS, 1u, 32u);

var<workgroup> staged: array<vec4f, BLOCK * HEAD_QUADS>;
var<private> sums: array<vec4f, HEAD_QUADS>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) index: u32) {
  let head = workgroup.y;
  let image = workgroup.z;
  let token = workgroup.x * 64u + index;
  let own_query = query_quad(image, head, token);
  for (var d = 0u; d < HEAD_QUADS; d++) { sums[d] = vec4f(0.0); }
  var maximum = NEVER;
  var total = 0.0;
  var scores: array<f32, BLOCK>;

  for (var first = 0u; first < params.keys; first += BLOCK) {
    for (var i = index; i < BLOCK * HEAD_QUADS; i += 64u) {
      staged[i] = widen(key[key_quad(image, head, first + i / HEAD_QUADS) + i % HEAD_QUADS]);
    }
    workgroupBarrier();
    var block_maximum = maximum;
    for (var k = 0u; k < BLOCK; k++) { scores[k] = 0.0; }
    for (var d = 0u; d < HEAD_QUADS; d++) {
      let q = widen(query[own_query + d]);
      for (var k = 0u; k < BLOCK; k++) { scores[k] += dot(q, staged[k * HEAD_QUADS + d]); }
    }
    for (var k = 0u; k < BLOCK; k++) {
      let seen = first + k < params.keys && (params.causal == 0u || first + k <= token);
      scores[k] = select(NEVER, scores[k] * params.scale, seen);
      block_maximum = max(block_maximum, scores[k]);
    }
    workgroupBarrier();
    for (var i = index; i < BLOCK * HEAD_QUADS; i += 64u) {
      staged[i] = widen(value[value_quad(image, head, first + i / HEAD_QUADS) + i % HEAD_QUADS]);
    }
    workgroupBarrier();
    let rescale = exp(maximum - block_maximum);
    maximum = block_maximum;
    total *= rescale;
    for (var k = 0u; k < BLOCK; k++) {
      scores[k] = exp(scores[k] - maximum);
      total += scores[k];
    }
    for (var d = 0u; d < HEAD_QUADS; d++) {
      var sum = sums[d] * rescale;
      for (var k = 0u; k < BLOCK; k++) { sum += scores[k] * staged[k * HEAD_QUADS + d]; }
      sums[d] = sum;
    }
    workgroupBarrier();
  }

  if (token >= params.queries) { return; }
  for (var d = 0u; d < HEAD_QUADS; d++) { out[out_quad(image, head, token) + d] = narrow(sums[d] / total); }
}

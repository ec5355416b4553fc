// A LoRA added to a copy of packed weights:  merged[tap][i][o] += scale · Σ_r up[o, r] · down[r, i, tap]
// merged: tiles as pack_weights.wgsl lays them out. up: [out, rank]; down: [rank, in, tap], both f32.
struct Params {
  outputs: u32, inputs: u32, taps: u32, rank: u32,
  out_quads: u32, in_quads: u32, first_packed_quad: u32, packed_quads: u32,
  out_head: u32, out_head_padded: u32, in_head: u32, in_head_padded: u32,
  scale: f32, grid_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> down: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read_write> merged: array<TableQuad>;

const PADDING = 0xffffffffu;

fn unpadded(channel: u32, head: u32, padded: u32) -> u32 {
  if (head == 0u) { return channel; }
  let within = channel % padded;
  return select(PADDING, channel / padded * head + within, within < head);
}

// One invocation owns one row of one tile: one input channel, four output channels.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let row = index % 4u;
  let column = index / 4u % params.packed_quads;
  let in_quad = index / 4u / params.packed_quads % params.in_quads;
  let tap = index / 4u / params.packed_quads / params.in_quads;
  if (tap >= params.taps) { return; }
  let input = unpadded(in_quad * 4u + row, params.in_head, params.in_head_padded);
  if (input >= params.inputs) { return; }
  let at = ((tap * params.in_quads + in_quad) * params.out_quads + params.first_packed_quad + column) * 4u + row;
  var values = widen_table(merged[at]);
  for (var i = 0u; i < 4u; i++) {
    let output = unpadded(column * 4u + i, params.out_head, params.out_head_padded);
    if (output >= params.outputs) { continue; }
    var sum = 0.0;
    for (var r = 0u; r < params.rank; r++) { sum += up[output * params.rank + r] * down[(r * params.inputs + input) * params.taps + tap]; }
    values[i] += params.scale * sum;
  }
  merged[at] = narrow_table(values);
}

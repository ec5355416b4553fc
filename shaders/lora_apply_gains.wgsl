// Weights with a gain for each output or input channel, as a change of weights:  changed += weights · (1 + gain) − before
// All but `gains` are f32 tiles as pack_weights.wgsl lays them out (before may be f16); this run changes the output quads of
// one of the sources that stand in them side by side. gains: quads of stored channels of that source.
struct Params {
  taps: u32, in_quads: u32, out_quads: u32, first_packed_quad: u32,
  packed_quads: u32, of_outputs: u32, grid_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<vec4f>;
@group(0) @binding(2) var<storage, read> gains: array<vec4f>;
@group(0) @binding(3) var<storage, read> before: array<TableQuad>;
@group(0) @binding(4) var<storage, read_write> changed: array<vec4f>;

// One invocation changes one row of one tile: one input channel, four output channels.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let row = index % 4u;
  let column = index / 4u % params.packed_quads;
  let in_quad = index / 4u / params.packed_quads % params.in_quads;
  let tap = index / 4u / params.packed_quads / params.in_quads;
  if (tap >= params.taps) { return; }
  let at = ((tap * params.in_quads + in_quad) * params.out_quads + params.first_packed_quad + column) * 4u + row;
  var gain = vec4f(gains[in_quad][row]);
  if (params.of_outputs == 1u) { gain = gains[column]; }
  changed[at] += weights[at] * (1.0 + gain) - widen_table(before[at]);
}

// Weights as a checkpoint stores them into the tiles that the kernels read.
//
// source: [out, in, tap] as F32, F16 or BF16 (a linear layer has one tap), a run of whole output rows.
// packed: tiles [tap][input quad][output quad], as f32 or as f16 pairs. Several sources may stand side by side along
// the output channels (query ‖ key ‖ value). Heads may be widened to a multiple of four channels, on the output side
// (query, key, value) or on the input side (output projection): what is between two heads then is zero.
// broken[tensor] becomes 1 if an element is NaN or infinite.
struct Params {
  outputs: u32, inputs: u32, taps: u32, format: u32,                       // of the source
  out_quads: u32, in_quads: u32, first_packed_quad: u32, packed_quads: u32, // of the packed tensor; the output quads this run fills
  first_channel: u32, first_source_row: u32,                               // of this run: first channel of this source, padded; row that source begins with
  out_head: u32, out_head_padded: u32, in_head: u32, in_head_padded: u32,   // widths of a head; 0: no heads
  grid_width: u32, tensor: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> packed: array<TableQuad>;
@group(0) @binding(3) var<storage, read_write> broken: array<atomic<u32>>;

// One invocation writes one row of one tile: one input channel, four output channels.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let row = index % 4u;
  let column = index / 4u % params.packed_quads;
  let in_quad = index / 4u / params.packed_quads % params.in_quads;
  let tap = index / 4u / params.packed_quads / params.in_quads;
  if (tap >= params.taps) { return; }
  let input = unpadded(in_quad * 4u + row, params.in_head, params.in_head_padded);
  var values = vec4f(0.0);
  var finite = true;
  for (var i = 0u; i < 4u; i++) {
    let output = unpadded(params.first_channel + column * 4u + i, params.out_head, params.out_head_padded);
    if (output < params.outputs && input < params.inputs) {
      values[i] = element(((output - params.first_source_row) * params.inputs + input) * params.taps + tap, params.format);
      finite = finite && is_finite(values[i]);
    }
  }
  if (!finite) { atomicStore(&broken[params.tensor], 1u); }
  packed[((tap * params.in_quads + in_quad) * params.out_quads + params.first_packed_quad + column) * 4u + row] = narrow_table(values);
}

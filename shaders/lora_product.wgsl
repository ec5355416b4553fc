// The change of an adapter that is one factor or two, added to weights:
//   changed[tap][i][o] += coefficient · F[o / row_block, i / column_block, tap] · G[o % rows, i % columns, tap]
// A factor is [rows, columns, taps], with taps = 1 where the tap makes no difference. If its rank is 0, `down` has its values;
// else it is Σ_r up[row, r] · down[r, column, tap]. So two factors as large as the weight are multiplied element by element
// (LoHa), and smaller ones by Kronecker's product (LoKr). A single factor has a G of one number.
// changed: f32 tiles as pack_weights.wgsl lays them out; this run changes the output quads of one of the sources that stand in
// them side by side. Factors: f32 in the order of the file.
struct Params {
  outputs: u32, inputs: u32, taps: u32, coefficient: f32,
  in_quads: u32, out_quads: u32, first_packed_quad: u32, packed_quads: u32,
  out_head: u32, out_head_padded: u32, in_head: u32, in_head_padded: u32,
  first_rank: u32, first_columns: u32, first_taps: u32, row_block: u32,
  column_block: u32, second_rank: u32, second_rows: u32, second_columns: u32,
  second_taps: u32, grid_width: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> first_up: array<f32>;
@group(0) @binding(2) var<storage, read> first_down: array<f32>;
@group(0) @binding(3) var<storage, read> second_up: array<f32>;
@group(0) @binding(4) var<storage, read> second_down: array<f32>;
@group(0) @binding(5) var<storage, read_write> changed: array<vec4f>;

fn first(row: u32, column: u32, tap: u32) -> f32 {
  if (params.first_rank == 0u) { return first_down[(row * params.first_columns + column) * params.first_taps + tap]; }
  var sum = 0.0;
  for (var r = 0u; r < params.first_rank; r++) {
    sum += first_up[row * params.first_rank + r] * first_down[(r * params.first_columns + column) * params.first_taps + tap];
  }
  return sum;
}

fn second(row: u32, column: u32, tap: u32) -> f32 {
  if (params.second_rank == 0u) { return second_down[(row * params.second_columns + column) * params.second_taps + tap]; }
  var sum = 0.0;
  for (var r = 0u; r < params.second_rank; r++) {
    sum += second_up[row * params.second_rank + r] * second_down[(r * params.second_columns + column) * params.second_taps + tap];
  }
  return sum;
}

// One invocation changes one row of one tile: one input channel, four output channels.
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
  var change = vec4f(0.0);
  for (var i = 0u; i < 4u; i++) {
    let output = unpadded(column * 4u + i, params.out_head, params.out_head_padded);
    if (output >= params.outputs) { continue; }
    change[i] = params.coefficient
      * first(output / params.row_block, input / params.column_block, tap % params.first_taps)
      * second(output % params.second_rows, input % params.second_columns, tap % params.second_taps);
  }
  changed[((tap * params.in_quads + in_quad) * params.out_quads + params.first_packed_quad + column) * 4u + row] += change;
}

// Gated GELU (Shazeer 2020):  out = value · GELU(gate). value and gate: [row, …], each read at an offset inside rows of any
// width, since they may be two halves of one tensor; out: [row, channel].
struct Params { rows: u32, out_quads: u32, value_row: u32, value_offset: u32, gate_row: u32, gate_offset: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> value: array<Quad>;
@group(0) @binding(2) var<storage, read> gate: array<Quad>;
@group(0) @binding(3) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.rows * params.out_quads) { return; }
  let row = index / params.out_quads;
  let quad = index % params.out_quads;
  let gated = activate(widen(gate[row * params.gate_row + params.gate_offset + quad]), GELU);
  out[index] = narrow(widen(value[row * params.value_row + params.value_offset + quad]) * gated);
}

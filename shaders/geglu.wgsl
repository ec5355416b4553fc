// Gated GELU (Shazeer 2020):  out = value · GELU(gate), where x: [row, value ‖ gate], out: [row, value].
struct Params { rows: u32, out_quads: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  if (index >= params.rows * params.out_quads) { return; }
  let row = index / params.out_quads;
  let quad = index % params.out_quads;
  let base = row * 2u * params.out_quads + quad;
  out[index] = narrow(widen(x[base]) * activate(widen(x[base + params.out_quads]), GELU));
}

// An embedding table as a checkpoint stores it into rows of quads:  packed[row, quad] = source[row, 4·quad …], zero-padded.
// broken[tensor] becomes 1 if an element is NaN or infinite.
struct Params { rows: u32, channels: u32, quads: u32, format: u32, first_row: u32, grid_width: u32, tensor: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> packed: array<TableQuad>;
@group(0) @binding(3) var<storage, read_write> broken: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let row = index / params.quads;
  let quad = index % params.quads;
  if (row >= params.rows) { return; }
  var values = vec4f(0.0);
  var finite = true;
  for (var i = 0u; i < 4u; i++) {
    if (quad * 4u + i < params.channels) {
      values[i] = element(row * params.channels + quad * 4u + i, params.format);
      finite = finite && is_finite(values[i]);
    }
  }
  if (!finite) { atomicStore(&broken[params.tensor], 1u); }
  packed[(params.first_row + row) * params.quads + quad] = narrow_table(values);
}

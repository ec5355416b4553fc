// Two tensors side by side along the channels:  out[row] = first[row] ‖ second[row]
// Only where the first's channels are no multiple of four, so that the second does not begin on a quad; elsewhere whoever
// reads a concatenation reads the two tensors as they are.
struct Params { rows: u32, first_channels: u32, second_channels: u32, grid_width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> first: array<Quad>;
@group(0) @binding(2) var<storage, read> second: array<Quad>;
@group(0) @binding(3) var<storage, read_write> out: array<Quad>;

fn channel(row: u32, index: u32) -> f32 {
  if (index < params.first_channels) {
    return widen(first[row * ((params.first_channels + 3u) / 4u) + index / 4u])[index % 4u];
  }
  let rest = index - params.first_channels;
  if (rest >= params.second_channels) { return 0.0; }
  return widen(second[row * ((params.second_channels + 3u) / 4u) + rest / 4u])[rest % 4u];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let index = id.x + id.y * params.grid_width * 64u;
  let quads = (params.first_channels + params.second_channels + 3u) / 4u;
  let row = index / quads;
  if (row >= params.rows) { return; }
  let first_channel = index % quads * 4u;
  out[index] = narrow(vec4f(
    channel(row, first_channel), channel(row, first_channel + 1u), channel(row, first_channel + 2u), channel(row, first_channel + 3u),
  ));
}

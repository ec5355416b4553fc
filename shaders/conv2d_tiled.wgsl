// Convolution and matrix product over tiles in workgroup memory: the form for GPUs, and for any adapter whose subgroup
// size is not known before the pipeline is made.
//
// A workgroup of 16 × 16 invocations owns 64 output pixels × 64 output channels; an invocation owns 4 pixels × 1 quad.
// For 16 input channels at a time it stages 64 × 4 quads of input and 4 × 16 tiles of weights.
//
// In a gated layer the first eight columns of a tile are of the first half of its channels, and the others the same of the
// other half: whose sums go to the first by way of workgroup memory.
const TILE_ROWS = 64u;
const TILE_QUADS = 16u;  // output channels, in quads
const STEP_QUADS = 4u;   // input channels staged at a time, in quads
const HALF = TILE_QUADS / 2u;

var<workgroup> staged_input: array<array<vec4f, STEP_QUADS>, TILE_ROWS>;
var<workgroup> staged_weights: array<array<array<vec4f, 4>, TILE_QUADS>, STEP_QUADS>;

@compute @workgroup_size(16, 16)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(local_invocation_id) local: vec3u,
  @builtin(local_invocation_index) index: u32,
) {
  let first_row = (workgroup.x + workgroup.z * params.grid_width) * TILE_ROWS;
  let first_column = workgroup.y * (TILE_QUADS >> GATED);

  // This invocation stages one quad of input and one row of a tile of weights.
  let input_row = index / STEP_QUADS;
  let input_step = index % STEP_QUADS;
  let pixel = output_pixel(first_row + input_row);
  let weight_step = index / 64u;
  let weight_column = index % 16u;
  let weight_row = (index / 16u) % 4u;
  var weight_quad = params.first_out_quad + min(first_column + weight_column, params.out_quads - 1u);
  if (GATED == 1u) { weight_quad = gated_column(first_column + weight_column % HALF, weight_column >= HALF); }

  var sum: array<vec4f, 4>;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      let line = first_line(ky, kx);
      let source = input_quad(pixel, ky, kx);
      for (var k = 0u; k < params.in_quads; k += STEP_QUADS) {
        var quad = vec4f(0.0);
        if (k + input_step < params.in_quads) { quad = load_input(source, k + input_step); }
        staged_input[input_row][input_step] = quad;
        var row = vec4f(0.0);
        if (k + weight_step < params.in_quads) {
          let outer = weight_tile(line + k + weight_step, weight_quad);
          row = select(select(outer.row0, outer.row1, weight_row == 1u), select(outer.row2, outer.row3, weight_row == 3u), weight_row > 1u);
        }
        staged_weights[weight_step][weight_column][weight_row] = row;
        workgroupBarrier();
        for (var step = 0u; step < STEP_QUADS; step++) {
          let b0 = staged_weights[step][local.x][0];
          let b1 = staged_weights[step][local.x][1];
          let b2 = staged_weights[step][local.x][2];
          let b3 = staged_weights[step][local.x][3];
          let a0 = staged_input[local.y][step];
          let a1 = staged_input[local.y + 16u][step];
          let a2 = staged_input[local.y + 32u][step];
          let a3 = staged_input[local.y + 48u][step];
          sum[0] += a0.x * b0 + a0.y * b1 + a0.z * b2 + a0.w * b3;
          sum[1] += a1.x * b0 + a1.y * b1 + a1.z * b2 + a1.w * b3;
          sum[2] += a2.x * b0 + a2.y * b1 + a2.z * b2 + a2.w * b3;
          sum[3] += a3.x * b0 + a3.y * b1 + a3.z * b2 + a3.w * b3;
        }
        workgroupBarrier();
      }
    }
  }
  if (GATED == 1u) {
    for (var i = 0u; i < 4u; i++) {
      let place = local.y * HALF + local.x % HALF;
      if (local.x >= HALF) { staged_input[place / STEP_QUADS][place % STEP_QUADS] = sum[i]; }
      workgroupBarrier();
      if (local.x < HALF) {
        let gate = staged_input[place / STEP_QUADS][place % STEP_QUADS];
        finish_gated(first_row + local.y + i * 16u, first_column + local.x, sum[i], gate);
      }
      workgroupBarrier();
    }
    return;
  }
  let column = first_column + local.x;
  finish(first_row + local.y, column, sum[0]);
  finish(first_row + local.y + 16u, column, sum[1]);
  finish(first_row + local.y + 32u, column, sum[2]);
  finish(first_row + local.y + 48u, column, sum[3]);
}

// Convolution and matrix product on the matrix unit of a GPU (prelude/matrix_unit.wgsl): operands in f16, sums in f32.
//
// A workgroup of four subgroups owns 64 output pixels × 64 output channels, a subgroup 32 × 32 of them. For 32 input channels
// at a time the workgroup stages 64 × 32 of the input and 32 × 64 of the weights, as halves; sums go by way of workgroup
// memory to the epilogue, a matrix of each subgroup at a time. Not run on hardware yet: see docs/kernels.md.
const SUBGROUPS = 4u;
const SIDE = 32u;            // pixels, and channels, of a subgroup
const TILE_ROWS = 2u * SIDE;
const TILE_CHANNELS = 2u * SIDE;
const TILE_QUADS = TILE_CHANNELS / 4u;
const STEP = 32u;            // input channels staged at a time
const STEP_QUADS = STEP / 4u;
const INVOCATIONS = SUBGROUPS * LANES;
// Rows are eight halves longer than they need be: 16-byte aligned still, but not all in the same banks of memory.
const INPUT_STRIDE = STEP + 8u;
const WEIGHT_STRIDE = TILE_CHANNELS + 8u;
const LOADS = TILE_ROWS * STEP_QUADS / INVOCATIONS;  // quads of the input that an invocation stages at a time
const LOAD_ROWS = INVOCATIONS / STEP_QUADS;          // so many pixels apart
const DOWN = SIDE / MATRIX_ROWS;       // matrices of a subgroup below each other
const ACROSS = SIDE / MATRIX_COLUMNS;  // and beside each other
const MATRIX_SIZE = MATRIX_ROWS * MATRIX_COLUMNS;
const MATRIX_QUADS = MATRIX_COLUMNS / 4u;

// A load is within bounds where offset + stride × rows is, so each array goes on for what its last rows begin with.
var<workgroup> staged_input: array<f16, TILE_ROWS * INPUT_STRIDE + STEP>;
var<workgroup> staged_weights: array<f16, STEP * WEIGHT_STRIDE + TILE_CHANNELS>;
var<workgroup> staged_sums: array<f32, SUBGROUPS * MATRIX_SIZE>;

fn stage_input(first: u32, stored: Quad) {
  let value = bitcast<vec4<f16>>(stored);
  for (var i = 0u; i < 4u; i++) { staged_input[first + i] = value[i]; }
}

fn stage_weights(first: u32, stored: vec2u) {
  let value = bitcast<vec4<f16>>(stored);
  for (var i = 0u; i < 4u; i++) { staged_weights[first + i] = value[i]; }
}

@compute @workgroup_size(INVOCATIONS)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first_row = (workgroup.x + workgroup.z * params.grid_width) * TILE_ROWS;
  let first_column = workgroup.y * TILE_QUADS;
  let own_row = subgroup / 2u * SIDE;
  let own_channel = subgroup % 2u * SIDE;

  var sums: array<array<Sum, ACROSS>, DOWN>;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      let line = first_line(ky, kx);
      var sources: array<u32, LOADS>;
      for (var i = 0u; i < LOADS; i++) {
        sources[i] = input_quad(output_pixel(first_row + index / STEP_QUADS + i * LOAD_ROWS), ky, kx);
      }
      for (var k = 0u; k < params.in_quads; k += STEP_QUADS) {
        let quad = k + index % STEP_QUADS;
        for (var i = 0u; i < LOADS; i++) {
          var stored = Quad(0u);
          if (quad < params.in_quads && sources[i] != HALO) { stored = x[sources[i] + quad]; }
          stage_input((index / STEP_QUADS + i * LOAD_ROWS) * INPUT_STRIDE + index % STEP_QUADS * 4u, stored);
        }
        for (var i = index; i < STEP_QUADS * TILE_QUADS; i += INVOCATIONS) {
          let step = i / TILE_QUADS;
          let column = i % TILE_QUADS;
          var tile = Tile();
          if (k + step < params.in_quads) {
            tile = stored_tile(line + k + step, params.first_out_quad + min(first_column + column, params.out_quads - 1u));
          }
          let first = step * 4u * WEIGHT_STRIDE + column * 4u;
          stage_weights(first, tile[0].xy);
          stage_weights(first + WEIGHT_STRIDE, tile[0].zw);
          stage_weights(first + 2u * WEIGHT_STRIDE, tile[1].xy);
          stage_weights(first + 3u * WEIGHT_STRIDE, tile[1].zw);
        }
        workgroupBarrier();
        for (var step = 0u; step < STEP; step += MATRIX_INNER) {
          for (var down = 0u; down < DOWN; down++) {
            let left = load_left((own_row + down * MATRIX_ROWS) * INPUT_STRIDE + step);
            for (var across = 0u; across < ACROSS; across++) {
              let right = load_right(step * WEIGHT_STRIDE + own_channel + across * MATRIX_COLUMNS);
              sums[down][across] = multiply_add(left, right, sums[down][across]);
            }
          }
        }
        workgroupBarrier();
      }
    }
  }
  let first_sum = subgroup * MATRIX_SIZE;
  for (var down = 0u; down < DOWN; down++) {
    for (var across = 0u; across < ACROSS; across++) {
      store_sum(sums[down][across], first_sum);
      workgroupBarrier();
      for (var i = lane; i < MATRIX_SIZE / 4u; i += LANES) {
        let at = first_sum + i * 4u;
        let row = first_row + own_row + down * MATRIX_ROWS + i / MATRIX_QUADS;
        let column = first_column + (own_channel + across * MATRIX_COLUMNS) / 4u + i % MATRIX_QUADS;
        finish(row, column, vec4f(staged_sums[at], staged_sums[at + 1u], staged_sums[at + 2u], staged_sums[at + 3u]));
      }
      workgroupBarrier();
    }
  }
}

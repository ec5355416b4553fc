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
const DOWN = SIDE / MATRIX_ROWS;       // matrices of a subgroup below each other
const ACROSS = SIDE / MATRIX_COLUMNS;  // and beside each other
const MATRIX_SIZE = MATRIX_ROWS * MATRIX_COLUMNS;
const MATRIX_QUADS = MATRIX_COLUMNS / 4u;

var<workgroup> staged_input: array<f16, TILE_ROWS * STEP>;
var<workgroup> staged_weights: array<f16, STEP * TILE_CHANNELS>;
var<workgroup> staged_sums: array<f32, SUBGROUPS * MATRIX_SIZE>;

fn stage_row(first: u32, row: vec4f) {
  staged_weights[first] = f16(row.x);
  staged_weights[first + 1u] = f16(row.y);
  staged_weights[first + 2u] = f16(row.z);
  staged_weights[first + 3u] = f16(row.w);
}

@compute @workgroup_size(SUBGROUPS * LANES)
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
      for (var k = 0u; k < params.in_quads; k += STEP_QUADS) {
        for (var i = index; i < TILE_ROWS * STEP_QUADS; i += SUBGROUPS * LANES) {
          let quad = k + i % STEP_QUADS;
          var value = vec4f(0.0);
          if (quad < params.in_quads) {
            value = load_input(input_quad(output_pixel(first_row + i / STEP_QUADS), ky, kx), quad);
          }
          staged_input[i * 4u] = f16(value.x);
          staged_input[i * 4u + 1u] = f16(value.y);
          staged_input[i * 4u + 2u] = f16(value.z);
          staged_input[i * 4u + 3u] = f16(value.w);
        }
        for (var i = index; i < STEP_QUADS * TILE_QUADS; i += SUBGROUPS * LANES) {
          let step = i / TILE_QUADS;
          let column = i % TILE_QUADS;
          var tile = Outer();
          if (k + step < params.in_quads) {
            tile = weight_tile(line + k + step, params.first_out_quad + min(first_column + column, params.out_quads - 1u));
          }
          let first = step * 4u * TILE_CHANNELS + column * 4u;
          stage_row(first, tile.row0);
          stage_row(first + TILE_CHANNELS, tile.row1);
          stage_row(first + 2u * TILE_CHANNELS, tile.row2);
          stage_row(first + 3u * TILE_CHANNELS, tile.row3);
        }
        workgroupBarrier();
        for (var step = 0u; step < STEP; step += MATRIX_INNER) {
          for (var down = 0u; down < DOWN; down++) {
            let left = load_left((own_row + down * MATRIX_ROWS) * STEP + step);
            for (var across = 0u; across < ACROSS; across++) {
              let right = load_right(step * TILE_CHANNELS + own_channel + across * MATRIX_COLUMNS);
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

// Convolution and matrix product on the matrix unit of a GPU (prelude/matrix_unit.wgsl): operands in f16, sums in f32.
//
// A subgroup owns DOWN × ACROSS matrices of sums, a workgroup GROUP_DOWN × GROUP_ACROSS subgroups. For STEP input channels at a
// time the workgroup stages its pixels of the input and its channels of the weights in workgroup memory, eight halves (an octet) to
// an element, so that stores are of 16 bytes and rows of matrices begin at 16. The next step's input is loaded into registers
// before a step's products, and stored behind them: into the other of BUFFERS = 2, or after a second barrier into the same one.
// At the end sums go by way of workgroup memory to the epilogue, BATCH matrices of each subgroup at a time. Loops marked
// `unrolled` are written out before the compiler sees them (kernels/matrix.ts): no lane can index matrices that are in registers.
const INVOCATIONS = GROUP_DOWN * GROUP_ACROSS * LANES;
const SIDE_ROWS = DOWN * MATRIX_ROWS;               // pixels of a subgroup
const SIDE_CHANNELS = ACROSS * MATRIX_COLUMNS;      // and output channels
const TILE_ROWS = GROUP_DOWN * SIDE_ROWS;           // of a workgroup
const TILE_CHANNELS = GROUP_ACROSS * SIDE_CHANNELS;
const TILE_OCTETS = TILE_CHANNELS / 8u;
const STEP_QUADS = STEP / 4u;
const STEP_OCTETS = STEP / 8u;
// Rows are an odd number of octets, so that eight of them below each other are in different banks of memory.
const INPUT_STRIDE = STEP_OCTETS + 1u;
const WEIGHT_STRIDE = TILE_OCTETS + 1u;
const INPUT_SIZE = TILE_ROWS * INPUT_STRIDE;
const WEIGHT_SIZE = STEP * WEIGHT_STRIDE;
const INPUT_UNITS = TILE_ROWS * STEP_OCTETS;        // units that are loaded at a time: an octet of the input,
const WEIGHT_UNITS = STEP / 2u * TILE_OCTETS;       // two neighbouring octets of weights below each other
const MATRIX_SIZE = MATRIX_ROWS * MATRIX_COLUMNS;
const BATCH_QUADS = BATCH * MATRIX_COLUMNS / 4u;
const BATCHES = ACROSS / BATCH;

// A load is within bounds where offset + stride × rows is: a row of a matrix more than there is at the end.
var<workgroup> staged_input: array<vec4u, BUFFERS * INPUT_SIZE + STEP_OCTETS>;
var<workgroup> staged_weights: array<vec4u, BUFFERS * WEIGHT_SIZE + TILE_OCTETS>;
var<workgroup> staged_sums: array<vec4f, GROUP_DOWN * GROUP_ACROSS * MATRIX_ROWS * BATCH_QUADS>;

@compute @workgroup_size(INVOCATIONS)
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first_row = (workgroup.x + workgroup.z * params.grid_width) * TILE_ROWS;
  let first_column = workgroup.y * TILE_CHANNELS / 4u;
  let own_row = subgroup / GROUP_ACROSS * SIDE_ROWS;
  let own_channel = subgroup % GROUP_ACROSS * SIDE_CHANNELS;

  var pixels: array<Pixel, INPUT_LOADS>;
  var sources: array<u32, INPUT_LOADS>;
  var held_input: array<vec4u, INPUT_LOADS>;
  var held_low: array<vec4u, WEIGHT_LOADS>;
  var held_high: array<vec4u, WEIGHT_LOADS>;
  for (var i = 0u; i < INPUT_LOADS; i++) { // unrolled
    pixels[i] = output_pixel(first_row + (index + i * INVOCATIONS) / STEP_OCTETS);
    sources[i] = input_quad(pixels[i], 0u, 0u);
  }
  var ky = 0u;
  var kx = 0u;
  var k = 0u;
  var line = first_line(0u, 0u);
  let steps = params.kernel_height * params.kernel_width * ((params.in_quads + STEP_QUADS - 1u) / STEP_QUADS);

  var sums: array<Sum, DOWN * ACROSS>;
  for (var step = 0u; step <= steps; step++) {
    if (step < steps) {
      for (var i = 0u; i < INPUT_LOADS; i++) { // unrolled
        let quad = k + (index + i * INVOCATIONS) % STEP_OCTETS * 2u;
        var low = Quad(0u);
        var high = Quad(0u);
        if (quad < params.in_quads && sources[i] != HALO) { low = x[sources[i] + quad]; }
        if (quad + 1u < params.in_quads && sources[i] != HALO) { high = x[sources[i] + quad + 1u]; }
        held_input[i] = vec4u(low, high);
      }
      for (var i = 0u; i < WEIGHT_LOADS; i++) { // unrolled
        let unit = index + i * INVOCATIONS;
        let quad = k + unit / 2u / TILE_OCTETS;
        let column = first_column + unit / 2u % TILE_OCTETS * 2u;
        held_low[i] = vec4u(0u);
        held_high[i] = vec4u(0u);
        if (quad < params.in_quads) {
          held_low[i] = stored_rows(line + quad, min(column, params.out_quads - 1u), unit % 2u);
          held_high[i] = stored_rows(line + quad, min(column + 1u, params.out_quads - 1u), unit % 2u);
        }
      }
      k += STEP_QUADS;
      if (k >= params.in_quads) {
        k = 0u;
        kx++;
        if (kx == params.kernel_width) { kx = 0u; ky++; }
        line = first_line(ky, kx);
        for (var i = 0u; i < INPUT_LOADS; i++) { // unrolled
          sources[i] = input_quad(pixels[i], ky, kx);
        }
      }
    }
    if (step > 0u) {
      let input = (step - 1u) % BUFFERS * INPUT_SIZE + own_row * INPUT_STRIDE;
      let weight = (step - 1u) % BUFFERS * WEIGHT_SIZE + own_channel / 8u;
      var lefts: array<Left, DOWN>;
      for (var inner = 0u; inner < INNERS; inner++) { // unrolled
        for (var down = 0u; down < DOWN; down++) { // unrolled
          lefts[down] = load_left(input + down * MATRIX_ROWS * INPUT_STRIDE + inner * MATRIX_INNER / 8u);
        }
        for (var across = 0u; across < ACROSS; across++) { // unrolled
          let right = load_right(weight + inner * MATRIX_INNER * WEIGHT_STRIDE + across * MATRIX_COLUMNS / 8u);
          for (var down = 0u; down < DOWN; down++) { // unrolled
            sums[down * ACROSS + across] = multiply_add(lefts[down], right, sums[down * ACROSS + across]);
          }
        }
      }
    }
    if (BUFFERS == 1u) { workgroupBarrier(); }
    if (step < steps) {
      let input = step % BUFFERS * INPUT_SIZE;
      let weight = step % BUFFERS * WEIGHT_SIZE;
      for (var i = 0u; i < INPUT_LOADS; i++) { // unrolled
        let unit = index + i * INVOCATIONS;
        if (unit < INPUT_UNITS) { staged_input[input + unit / STEP_OCTETS * INPUT_STRIDE + unit % STEP_OCTETS] = held_input[i]; }
      }
      for (var i = 0u; i < WEIGHT_LOADS; i++) { // unrolled
        let unit = index + i * INVOCATIONS;
        let row = unit / 2u / TILE_OCTETS * 4u + unit % 2u * 2u;
        let at = weight + row * WEIGHT_STRIDE + unit / 2u % TILE_OCTETS;
        if (unit < WEIGHT_UNITS) {
          staged_weights[at] = vec4u(held_low[i].xy, held_high[i].xy);
          staged_weights[at + WEIGHT_STRIDE] = vec4u(held_low[i].zw, held_high[i].zw);
        }
      }
    }
    workgroupBarrier();
  }

  // The epilogue stands here once, whichever matrices it is for.
  let area = subgroup * MATRIX_ROWS * BATCH_QUADS;
  for (var part = 0u; part < DOWN * BATCHES; part++) {
    for (var down = 0u; down < DOWN; down++) { // unrolled
      for (var across = 0u; across < ACROSS; across++) { // unrolled
        if (part == down * BATCHES + across / BATCH) {
          store_sum(sums[down * ACROSS + across], area + across % BATCH * MATRIX_COLUMNS / 4u);
        }
      }
    }
    workgroupBarrier();
    let row = first_row + own_row + part / BATCHES * MATRIX_ROWS;
    let column = first_column + own_channel / 4u + part % BATCHES * BATCH_QUADS;
    for (var i = lane; i < MATRIX_ROWS * BATCH_QUADS; i += LANES) {
      finish(row + i / BATCH_QUADS, column + i % BATCH_QUADS, staged_sums[area + i]);
    }
    workgroupBarrier();
  }
}

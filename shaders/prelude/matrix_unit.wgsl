// The matrix unit (tensor cores) as the chromium_experimental_subgroup_matrix extension of WGSL has it: a subgroup multiplies
// matrices of MATRIX_ROWS × MATRIX_INNER by MATRIX_INNER × MATRIX_COLUMNS halves and adds in f32. No lane knows which elements
// it holds; they come from workgroup memory and go back there. Types name columns before rows; places and strides count
// elements of the array, whatever their type.
alias Left = subgroup_matrix_left<f16, MATRIX_INNER, MATRIX_ROWS>;
alias Right = subgroup_matrix_right<f16, MATRIX_COLUMNS, MATRIX_INNER>;
alias Sum = subgroup_matrix_result<f32, MATRIX_COLUMNS, MATRIX_ROWS>;

fn load_left(first: u32) -> Left { return subgroupMatrixLoad<Left, row_major>(&staged_input, first, INPUT_STRIDE); }
fn load_right(first: u32) -> Right { return subgroupMatrixLoad<Right, row_major>(&staged_weights, first, WEIGHT_STRIDE); }
fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum { return subgroupMatrixMultiplyAccumulate(left, right, sum); }
fn store_sum(sum: Sum, first: u32) { subgroupMatrixStore<row_major>(&staged_sums, first, sum, BATCH_QUADS); }

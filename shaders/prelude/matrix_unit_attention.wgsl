// The matrix unit as attention_matrix.wgsl uses it; see matrix_unit.wgsl.
alias Left = subgroup_matrix_left<f16, MATRIX_INNER, MATRIX_ROWS>;
alias Right = subgroup_matrix_right<f16, MATRIX_COLUMNS, MATRIX_INNER>;
alias Sum = subgroup_matrix_result<f32, MATRIX_COLUMNS, MATRIX_ROWS>;

fn load_left(first: u32) -> Left { return subgroupMatrixLoad<Left, row_major>(&staged_rows, first, ROW_STRIDE); }
fn load_key(first: u32) -> Right { return subgroupMatrixLoad<Right, col_major>(&staged_rows, first, ROW_STRIDE); }
fn load_weights(first: u32) -> Left { return subgroupMatrixLoad<Left, row_major>(&staged_weights, first, WEIGHT_STRIDE * 2u); }
fn load_value(first: u32) -> Right { return subgroupMatrixLoad<Right, row_major>(&staged_values, first, ROW_STRIDE); }
fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum { return subgroupMatrixMultiplyAccumulate(left, right, sum); }
fn store_sum(sum: Sum, first: u32) { subgroupMatrixStore<row_major>(&staged_sums, first, sum, SCORE_QUADS); }

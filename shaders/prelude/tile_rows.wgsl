// Two neighbouring rows of a tile of weights that is stored in f16, the upper ones or the lower.
fn stored_rows(line: u32, column: u32, lower: u32) -> vec4u { return weights[line * params.layer_out_quads + column][lower]; }

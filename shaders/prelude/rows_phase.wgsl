// A dispatch makes one of the four phases of an output twice as high and wide: the pixels (2y + phase_y, 2x + phase_x).
// out_height and out_width are those of the phase.
fn output_row(row: u32) -> u32 {
  let pixel = output_pixel(row);
  let line = 2u * (pixel.image * params.out_height + pixel.y) + params.phase_y;
  return 2u * (line * params.out_width + pixel.x) + params.phase_x;
}

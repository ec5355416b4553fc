// Elements of a checkpoint's tensor, bound as raw words.
const F32 = 0u;
const F16 = 1u;
const BF16 = 2u;

fn element(index: u32, format: u32) -> f32 {
  if (format == F32) { return bitcast<f32>(source[index]); }
  let half = (source[index / 2u] >> (16u * (index % 2u))) & 0xffffu;
  if (format == BF16) { return bitcast<f32>(half << 16u); }
  return unpack2x16float(half).x;
}

// By its bits, since a compiler may take it that no float is NaN or infinite.
fn is_finite(value: f32) -> bool { return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u; }

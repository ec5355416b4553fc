// Activations as f16 pairs in u32: a Quad is four neighbouring channels of one pixel or token.
// Core WGSL, so it needs no shader-f16; arithmetic is f32. Values beyond f16 saturate instead of becoming undefined.
alias Quad = vec2u;
fn widen(stored: Quad) -> vec4f { return vec4f(unpack2x16float(stored.x), unpack2x16float(stored.y)); }
fn narrow(value: vec4f) -> Quad {
  let v = clamp(value, vec4f(-65504.0), vec4f(65504.0));
  return vec2u(pack2x16float(v.xy), pack2x16float(v.zw));
}

// Activations as f32: a Quad is four neighbouring channels of one pixel or token.
alias Quad = vec4f;
fn widen(stored: Quad) -> vec4f { return stored; }
fn narrow(value: vec4f) -> Quad { return value; }

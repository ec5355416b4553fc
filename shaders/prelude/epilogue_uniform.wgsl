// The end of a convolution, by its parameters: one pipeline does for all layers.
fn epilogue() -> Epilogue {
  return Epilogue(
    params.accumulate != 0u, params.has_bias != 0u, params.has_per_image != 0u, params.has_residual != 0u,
    params.activation, params.activation_after_residual != 0u, false,
  );
}

// The end of a convolution, fixed for a pipeline: for SwiftShader, which goes through both sides of every branch.
fn epilogue() -> Epilogue {
  return Epilogue(
    ACCUMULATE != 0u, HAS_BIAS != 0u, HAS_PER_IMAGE != 0u, HAS_RESIDUAL != 0u,
    ACTIVATION, ACTIVATION_AFTER_RESIDUAL != 0u, false,
  );
}

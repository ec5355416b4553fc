/** A model asked for something its tensors do not allow. */
export class GraphError extends Error {
  override readonly name: string = "GraphError";
}

/** A tensor is larger than the adapter binds; a smaller picture, or part of one, may fit. */
export class TensorTooLargeError extends GraphError {
  override readonly name = "TensorTooLargeError";
}

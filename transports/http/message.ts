/**
 * The bounds of one message, whether it is JSON, msgpack or a form. They are checked before it is decoded.
 *
 * A byte of JSON or msgpack can become a hundred bytes of objects, so a bound in bytes bounds little. A request of ours has
 * some thirty values; a run of somebody's own may take long lists, and gets twenty thousand.
 */

export interface MessageBounds {
  /** Items and names: every element of a list, every name and every value of a map, at all levels. */
  readonly values: number;
  /** Levels of lists and maps. */
  readonly depth: number;
}

export const MESSAGE_BOUNDS: MessageBounds = { values: 20_000, depth: 32 };
/** Bytes of a name: as a property of an object a long one takes long. */
export const NAME_BYTES = 256;

/** The message cannot be taken. The text may be shown. */
export class MessageError extends Error {
  override readonly name = "MessageError";
  /** 400: it is malformed. 413: it holds more than it may. */
  readonly status: 400 | 413;

  constructor(message: string, status: 400 | 413 = 400) {
    super(message);
    this.status = status;
  }
}

export function tooManyValues({ values }: MessageBounds): MessageError {
  return new MessageError(`a message may hold ${values} items and names; this one holds more`, 413);
}

export function nameTooLong(): MessageError {
  return new MessageError(`a name may be ${NAME_BYTES} bytes long; this one is longer`, 413);
}

export function tooDeep({ depth }: MessageBounds): MessageError {
  return new MessageError(`values may be nested ${depth} deep; these are nested deeper`);
}

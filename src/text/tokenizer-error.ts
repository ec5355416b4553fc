// The one error of this folder: tokenizer files that are missing, malformed or of a kind we do not read. Its message
// names the file within its folder and the field, never the folder's path.

/** Thrown by `loadClipTokenizer` and `createClipTokenizer`. */
export class TokenizerError extends Error {
  override readonly name = "TokenizerError";
  /** The file's name, such as `vocab.json`. */
  readonly file: string;

  constructor(file: string, reason: string, options?: ErrorOptions) {
    super(`tokenizer: ${file}: ${reason}`, options);
    this.file = file;
  }
}

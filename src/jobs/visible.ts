/** The only place that decides which viewers may see a job. */

/** A client that asks for a job. */
export interface Viewer {
  /** The owner whose jobs are the viewer's own; undefined: a viewer without a name. */
  readonly owner: string | undefined;
}

/**
 * True if a viewer may see a job, and so cancel and change it: its owner may, and everybody who knows its id if it
 * has no owner. Without a viewer (a store that knows no owners) everybody may.
 */
export function visible({ owner }: { readonly owner: string | undefined }, viewer: Viewer | undefined): boolean {
  return viewer === undefined || owner === undefined || owner === viewer.owner;
}

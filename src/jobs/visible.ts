/** Who may see a job: the only place that decides it. */

/** Who asks for a job. */
export interface Viewer {
  /** The owner whose jobs are the viewer's own; undefined: a viewer without a name. */
  readonly owner: string | undefined;
}

/**
 * Whether a viewer may see a job, and so cancel and change it: its owner may, and everybody who knows its id if it has no
 * owner. Without a viewer (a store that knows no owners) everybody may.
 */
export function visible({ owner }: { readonly owner: string | undefined }, viewer: Viewer | undefined): boolean {
  return viewer === undefined || owner === undefined || owner === viewer.owner;
}

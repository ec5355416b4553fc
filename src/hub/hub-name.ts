/** Names of models on a hub, as people write them: `owner/name`, `owner/name@revision`, `owner/name/file@revision`. */

/** A model on a hub, or one file of it. */
export interface HubName {
  /** `owner/name` */
  readonly repository: string;
  /** A branch, a tag or a commit; undefined: `main`. */
  readonly revision: string | undefined;
  /** A file's path within the repository. */
  readonly file: string | undefined;
}

/** Owners' and models' names on a hub: letters, digits, `-`, `_` and `.`, at most 96 characters. */
const PART = /^[A-Za-z0-9][\w.-]{0,95}$/;
/** Branches, tags, commits and `refs/pr/1`. It becomes the path of a file in the cache. */
const REVISION = /^(?!.*(?:\.\.|\/\/))[\w][\w./+-]{0,199}$/;

/** The parts of a name; undefined for a text that is none. */
export function parseHubName(text: string): HubName | undefined {
  const at = text.indexOf("@");
  const [owner = "", name = "", ...rest] = (at < 0 ? text : text.slice(0, at)).split("/");
  const revision = at < 0 ? undefined : text.slice(at + 1);
  if (!PART.test(owner) || !PART.test(name) || name.includes("--") || owner.includes("--")) return undefined;
  if (revision !== undefined && !isRevision(revision)) return undefined;
  const file = rest.length === 0 ? undefined : rest.join("/");
  if (file !== undefined && !isFileName(file)) return undefined;
  return { repository: `${owner}/${name}`, revision, file };
}

export function isRevision(text: string): boolean {
  return REVISION.test(text) && !text.endsWith("/") && !text.endsWith(".lock");
}

/** The same name as it is written. */
export function hubNameText({ repository, revision, file }: HubName): string {
  return `${repository}${file === undefined ? "" : `/${file}`}${revision === undefined ? "" : `@${revision}`}`;
}

/**
 * True for a path that stays within the folder it is joined to, on every system: a repository is written by a stranger.
 * No `.`, `..` or empty part, no backslash or drive, no control character.
 */
export function isFileName(path: string): boolean {
  if (path.length === 0 || path.length > 1024 || /[\\:\p{Cc}\p{Cf}]/u.test(path)) return false;
  return path.split("/").every((part) => part !== "" && part !== "." && part !== ".." && part.length <= 255);
}

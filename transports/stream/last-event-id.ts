/**
 * The id of an event, by which a client that comes back says where it goes on: `<job>:<n>`, so that one that knows nothing
 * else comes back to its job, over whatever address. A number alone goes on in the job that the request names otherwise.
 *
 * `EventSource` and its kin send it as the header `Last-Event-ID`, over POST too; polyfills that may set no header write it
 * into the query, each under a name of its own (`lastEventId`, `last_event_id`, `evs_last_event_id`).
 */
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";

/** Where a stream goes on. */
export interface Place {
  /** The job's id; undefined where the client has sent a number alone. */
  readonly job: string | undefined;
  /** The number of the last event that the client has; 0: none. */
  readonly after: number;
}

/** Ids that stand in a header and in an address as they are. */
const PLAIN_ID = /^[\w.:-]+$/;

export function eventId(job: string, n: number): string {
  return `${PLAIN_ID.test(job) ? job : encodeURIComponent(job)}:${n}`;
}

/**
 * The place that a request names; undefined where it names none.
 *
 * @throws HTTPException 400
 */
export function placeOf(c: Context): Place | undefined {
  const text = c.req.header("last-event-id") || inQuery(c);
  if (!text) return undefined;
  const [, job, number] = /^(?:(.{1,1024}):)?(\d{1,15})$/.exec(text) ?? [];
  if (number === undefined) {
    throw new HTTPException(400, { message: "Last-Event-ID must be the id of an event, or its whole number" });
  }
  return { job: job && jobOf(job), after: Number(number) };
}

/** True if a request begins a job. One that goes on in a job, or names an event that is none, begins nothing. */
export function beginsJob(c: Context): boolean {
  try {
    return !goesOn(placeOf(c));
  } catch {
    return false;
  }
}

/** True if the client has seen a part of a job. */
export function goesOn(place: Place | undefined): place is Place {
  return place !== undefined && (place.job !== undefined || place.after > 0);
}

/** The names of polyfills, less their hyphens and underscores. */
const NAMES = new Set(["lasteventid", "evslasteventid"]);

const isNamed = (name: string) => NAMES.has(name.toLowerCase().replace(/[-_]/g, ""));

function inQuery(c: Context): string | undefined {
  return Object.entries(c.req.query()).find(([name]) => isNamed(name))?.[1];
}

/** The fields of a query that say what is asked, and not where the stream goes on. */
export function withoutPlace(query: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(query).filter(([name]) => !isNamed(name)));
}

function jobOf(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

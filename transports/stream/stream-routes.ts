/** The routes of streams: start one, or follow a job that another request has started. */
import type { Jobs } from "../../src/jobs/jobs.ts";
import {
  COMMON,
  EVENT,
  failure,
  GENERATION,
  GONE,
  IDEMPOTENCY,
  inHeader,
  inQuery,
  JOB,
  STARTS,
} from "../openapi/describe.ts";
import type { Route } from "../route.ts";
import { EVENT_STREAM } from "./job-stream.ts";
import { beginsJob } from "./last-event-id.ts";
import { resume, type SseOptions, sse } from "./sse.ts";

const STREAM = { description: "numbered events; the last is the result", schema: EVENT, type: EVENT_STREAM };
const SEEN = { description: "nothing follows: all was seen, or the job is not there" };
const LAST_EVENT_ID = inHeader(
  "Last-Event-ID",
  "the id of the last event seen: the stream goes on after it, in the same job; ?lastEventId= says the same",
);
const HOW_TO_STREAM = [
  inQuery("detached", "true: the job goes on when nobody watches"),
  inQuery("resume_grace_s", "seconds that the job waits for a broken connection to come back", { type: "number" }),
];

export function streamRoutes<Input, Event>(jobs: Jobs<Input, Event>, options: SseOptions<Input>): Route[] {
  const start = sse(jobs, options);
  return [
    {
      method: "POST",
      path: "/stream",
      work: beginsJob,
      about: {
        tag: "pictures",
        summary: "The picture while it forms, as server-sent events",
        parameters: [...HOW_TO_STREAM, IDEMPOTENCY, LAST_EVENT_ID],
        body: { schema: GENERATION },
        answers: { 200: STREAM, 204: SEEN, ...STARTS, 410: GONE[410]! },
      },
      handlers: [(c) => start(c)],
    },
    {
      method: "GET",
      path: "/stream",
      work: beginsJob,
      about: {
        tag: "pictures",
        summary: "The same for EventSource: the fields of a generation in the query",
        parameters: [
          { ...inQuery("prompt", "what it should be"), required: true },
          inQuery("request_id", "the job's id; with it a broken EventSource goes on where it stopped"),
          inQuery("fal_jwt_token", "a token, where no header can be sent"),
          ...HOW_TO_STREAM,
          LAST_EVENT_ID,
        ],
        answers: { 200: STREAM, 204: SEEN, ...STARTS, 410: GONE[410]! },
      },
      handlers: [(c) => start(c)],
    },
    {
      method: "GET",
      path: "/stream/:job",
      about: {
        tag: "pictures",
        summary: "Follow a job, or go on after the last event seen",
        parameters: [JOB, LAST_EVENT_ID, inQuery("after", "the number of the last event seen", { type: "integer" })],
        answers: { 200: STREAM, 204: SEEN, 400: failure("not the id of an event of this job"), ...COMMON, ...GONE },
      },
      handlers: [resume(jobs, options)],
    },
  ];
}

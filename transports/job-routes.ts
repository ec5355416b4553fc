/** The routes of a job besides its streams: look at it, change it while it runs, cancel it. */
import type { Context } from "hono";
import { z } from "zod";
import { updateSchema } from "../src/engine/request.ts";
import { faultOf } from "../src/faults/fault.ts";
import type { Job, Jobs } from "../src/jobs/jobs.ts";
import { failureOf, failureResponse } from "./failure.ts";
import { type InputOptions, readInput } from "./http/input.ts";
import { type Answer, COMMON, failure, GONE, JOB, type NamedSchema } from "./openapi/describe.ts";
import type { Route } from "./route.ts";
import { type OwnerOf, viewerOf } from "./source.ts";
import { idHeaders } from "./wire/wire.ts";

export interface JobRouteOptions {
  /** The owner of this client's requests; a job of another owner is not there. */
  ownerOf?: OwnerOf;
}

type Handler = (c: Context) => Promise<Response>;

function answering<Input, Event>(
  jobs: Jobs<Input, Event>,
  { ownerOf }: JobRouteOptions,
  answer: (job: Job<Input, Event>, c: Context) => Response | Promise<Response>,
): Handler {
  return async (c) => {
    try {
      return await answer(jobs.find(c.req.param("job") ?? "", viewerOf(c, ownerOf)), c);
    } catch (error) {
      return failureResponse(failureOf(error));
    }
  };
}

/** `DELETE /jobs/{job}`: it stops before its next step. 202, or 400 `ALREADY_COMPLETED`. */
export function cancelJob<Input, Event>(jobs: Jobs<Input, Event>, options: JobRouteOptions = {}): Handler {
  return answering(jobs, options, (job) =>
    job.cancel()
      ? Response.json({ status: "CANCELLATION_REQUESTED" }, { status: 202, headers: idHeaders({ requestId: job.id }) })
      : Response.json({ status: "ALREADY_COMPLETED", detail: "The job has ended already" }, { status: 400 }),
  );
}

/** `PATCH /jobs/{job}`: changes from the next step on. 202, 400 `ALREADY_COMPLETED`, or 409 `NOT_UPDATABLE`. */
export function updateJob<Input, Event>(
  jobs: Jobs<Input, Event>,
  options: JobRouteOptions & InputOptions<Readonly<Record<string, unknown>>>,
): Handler {
  return answering(jobs, options, async (job, c) => {
    const change = await readInput(c, options);
    try {
      return job.update(change)
        ? Response.json({ status: "UPDATE_REQUESTED" }, { status: 202, headers: idHeaders({ requestId: job.id }) })
        : Response.json({ status: "ALREADY_COMPLETED", detail: "The job has ended already" }, { status: 400 });
    } catch (error) {
      const { code, status, message } = faultOf(error);
      if (code !== "not-updatable") throw error;
      return Response.json({ status: "NOT_UPDATABLE", detail: message }, { status });
    }
  });
}

/** `GET /jobs/{job}`: its state and times, without its events. */
export function jobStatus<Input, Event>(jobs: Jobs<Input, Event>, options: JobRouteOptions = {}): Handler {
  return answering(jobs, options, ({ id, state, position, submittedAt, startedAt, endedAt, log }) =>
    Response.json(
      {
        request_id: id,
        state,
        position,
        submitted_at: new Date(submittedAt).toISOString(),
        started_at: startedAt === undefined ? null : new Date(startedAt).toISOString(),
        ended_at: endedAt === undefined ? null : new Date(endedAt).toISOString(),
        last_event_id: log.lastId,
      },
      { headers: idHeaders({ requestId: id }) },
    ),
  );
}

const STATUS: NamedSchema = {
  name: "Job",
  schema: z.object({
    request_id: z.string(),
    state: z.enum(["queued", "running", "completed", "failed", "cancelled"]),
    position: z.int(),
    submitted_at: z.iso.datetime(),
    started_at: z.iso.datetime().nullable(),
    ended_at: z.iso.datetime().nullable(),
    last_event_id: z.int(),
  }),
};

/** The answer to a request to change or cancel a job. */
export const DONE: NamedSchema = {
  name: "Done",
  schema: z.object({
    status: z.enum(["CANCELLATION_REQUESTED", "UPDATE_REQUESTED", "ALREADY_COMPLETED", "NOT_UPDATABLE", "NOT_FOUND"]),
    detail: z.string().optional(),
  }),
};
export const DONE_ANSWERS: Readonly<Record<202 | 400, Answer>> = {
  202: { description: "asked", schema: DONE },
  400: { description: "ended already", schema: DONE },
};

export function jobRoutes<Input, Event>(
  jobs: Jobs<Input, Event>,
  options: JobRouteOptions & InputOptions<Readonly<Record<string, unknown>>>,
): Route[] {
  return [
    {
      method: "GET",
      path: "/jobs/:job",
      about: {
        tag: "jobs",
        summary: "A job's state and times",
        parameters: [JOB],
        answers: { 200: { description: "its state", schema: STATUS }, ...COMMON, ...GONE },
      },
      handlers: [jobStatus(jobs, options)],
    },
    {
      method: "PATCH",
      path: "/jobs/:job",
      about: {
        tag: "jobs",
        summary: "Change a running job from its next step on",
        parameters: [JOB],
        body: { schema: { name: "Update", schema: updateSchema } },
        answers: {
          ...DONE_ANSWERS,
          409: { description: "the run takes no changes", schema: DONE },
          422: failure("fields at fault"),
          ...COMMON,
          ...GONE,
        },
      },
      handlers: [updateJob(jobs, options)],
    },
    {
      method: "DELETE",
      path: "/jobs/:job",
      about: {
        tag: "jobs",
        summary: "Cancel a job before its next step",
        parameters: [JOB],
        answers: { ...DONE_ANSWERS, ...COMMON, ...GONE },
      },
      handlers: [cancelJob(jobs, options)],
    },
  ];
}

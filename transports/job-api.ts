/** The routes of jobs: `job-routes.ts`, described. */
import { z } from "zod";
import { updateSchema } from "../src/engine/request.ts";
import type { Jobs } from "../src/jobs/jobs.ts";
import type { InputOptions } from "./http/input.ts";
import { cancelJob, type JobRouteOptions, jobStatus, updateJob } from "./job-routes.ts";
import { type Answer, COMMON, failure, GONE, JOB, type NamedSchema } from "./openapi/describe.ts";
import type { Route } from "./route.ts";

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

/** How a request to change or cancel a job is answered. */
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

/** One rule says who may see a job, on every route. */
import { Hono } from "hono";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { RunEvent } from "../src/engine/events.ts";
import type { GenerationRequest } from "../src/engine/request.ts";
import { createJobs, type Jobs } from "../src/jobs/jobs.ts";
import { failureResponse } from "./failure.ts";
import { queue } from "./fal/fal-queue.ts";
import { createAuthenticator, guard, ownerOf } from "./gate/auth.ts";
import { type Listening, listen } from "./http/listen.ts";
import { cancelJob, jobStatus, updateJob } from "./job-routes.ts";
import { resume, sse } from "./stream/sse.ts";

const authenticator = createAuthenticator({
  keys: [
    { name: "mine", key: "k-mine" },
    { name: "other", key: "k-other" },
  ],
});
let jobs: Jobs<GenerationRequest, RunEvent>;
let server: Listening;
const owners = new Map<string, string | undefined>();

beforeAll(async () => {
  jobs = createJobs(async function* () {
    yield { type: "progress", step: 1, steps: 1, progress: 1, elapsed_ms: 1 };
    yield { type: "result", pictures: [], seed: 1, prompt: "x", timings: {} };
  });
  const app = new Hono();
  app.use(guard({ authenticator, scopeOf: () => "any", model: "", refuse: (_, failure) => failureResponse(failure) }));
  app.get("/owner", (c) => c.text(ownerOf(c) ?? ""));
  app.get("/stream", sse(jobs, { ownerOf }));
  app.get("/stream/:job", resume(jobs, { ownerOf }));
  app.get("/jobs/:job", jobStatus(jobs, { ownerOf }));
  app.delete("/jobs/:job", cancelJob(jobs, { ownerOf }));
  app.patch("/jobs/:job", updateJob(jobs, { ownerOf }));
  app.route("/queue", queue(jobs, { parse: (raw) => raw as GenerationRequest }));
  server = await listen(app, 0, "127.0.0.1");
  for (const key of ["mine", "other"]) owners.set(key, await (await as(key, "/owner")).text());
});
afterAll(() => server.close());

const as = (key: string, path: string, init: RequestInit = {}) =>
  fetch(server.url + path, { ...init, headers: { ...init.headers, authorization: `Bearer k-${key}` } });

const ROUTES: [string, string, RequestInit, seen: number, unseen: number][] = [
  ["its state", "/jobs/ID", {}, 200, 404],
  ["its cancelling", "/jobs/ID", { method: "DELETE" }, 400, 404],
  ["its change", "/jobs/ID", { method: "PATCH", body: '{"prompt":"y"}' }, 400, 404],
  ["its stream", "/stream/ID", {}, 200, 404],
  ["an EventSource that comes back", "/stream?request_id=ID", { headers: { "last-event-id": "1" } }, 200, 204],
  ["fal's result", "/queue/a/b/requests/ID", {}, 200, 404],
  ["fal's status", "/queue/a/b/requests/ID/status", {}, 200, 404],
  ["fal's stream of states", "/queue/a/b/requests/ID/status/stream", {}, 200, 404],
  ["fal's cancelling", "/queue/a/b/requests/ID/cancel", { method: "PUT" }, 400, 404],
];

it.each(ROUTES)("%s is for the owner; for everybody where there is none", async (name, path, init, seen, unseen) => {
  const ids = { own: `own of ${name}`, nobodys: `nobody's of ${name}` };
  const input = { prompt: "x" } as GenerationRequest;
  await jobs.submit(input, { id: ids.own, owner: owners.get("mine"), detached: true }).ended;
  await jobs.submit(input, { id: ids.nobodys, detached: true }).ended;
  const status = async (key: string, id: string) => {
    const answer = await as(key, path.replace("ID", encodeURIComponent(id)), init);
    await answer.text();
    return answer.status;
  };
  expect(owners.get("mine")).not.toBe(owners.get("other"));
  expect(await status("mine", ids.own)).toBe(seen);
  expect(await status("other", ids.own)).toBe(unseen);
  expect(await status("mine", ids.nobodys)).toBe(seen);
  expect(await status("other", ids.nobodys)).toBe(seen);
});

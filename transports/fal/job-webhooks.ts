/** The webhooks of jobs: each job is reported once, to one address, however often it was submitted. */
import { randomUUID } from "node:crypto";
import { RequestError } from "../../src/engine/errors.ts";
import type { RunEvent } from "../../src/engine/events.ts";
import type { GenerationRequest } from "../../src/engine/request.ts";
import { type Account, PROCESS_ACCOUNT } from "../../src/jobs/account.ts";
import type { Job } from "../../src/jobs/jobs.ts";
import type { JsonText } from "../wire/json-text.ts";
import { deliverWebhook, type WebhookPolicy } from "./webhook.ts";

type ImageJob = Job<GenerationRequest, RunEvent>;

export interface JobWebhooksOptions {
  readonly policy: WebhookPolicy;
  readonly account?: Account;
  /** Makes what is posted of a job that has ended. */
  readonly bodyOf: (job: ImageJob) => Promise<JsonText>;
  /** Told of what could not be delivered. */
  readonly onError?: (error: unknown, requestId: string) => void;
}

export class JobWebhooks {
  readonly #options: JobWebhooksOptions;
  /** Where each job is reported. */
  readonly #targets = new WeakMap<ImageJob, string>();

  constructor(options: JobWebhooksOptions) {
    this.#options = options;
  }

  /**
   * Reports a job to `target` when it has ended, unless it is reported there already.
   *
   * @param key the name of the key whose secrets sign it; undefined: those of the server do
   * @throws RequestError if the job is reported to another address
   */
  report(job: ImageJob, target: URL, key: string | undefined): void {
    const known = this.#targets.get(job);
    if (known === target.href) return;
    if (known !== undefined) {
      throw new RequestError("fal_webhook", "this job is reported to another address already; one job has one webhook");
    }
    this.#targets.set(job, target.href);
    const { onError } = this.#options;
    void job.ended.then(() => this.#deliver(job, target, key)).catch((error: unknown) => onError?.(error, job.id));
  }

  /** A webhook that waits for its host is on the client's account, like an answer. */
  async #deliver(job: ImageJob, target: URL, key: string | undefined): Promise<void> {
    const { account = PROCESS_ACCOUNT, policy, bodyOf } = this.#options;
    const body = await bodyOf(job);
    const stop = new AbortController();
    const hold = account.open("answers", job.client ?? "", () =>
      stop.abort(new Error(`webhook to ${target.host} was given up: answers take all the memory that they may`)),
    );
    hold.resize(body.heldBytes);
    // The id of a job may be used again after its end, that of a webhook never is.
    const message = { id: `msg_${randomUUID()}`, body, secrets: secretsOf(policy, key) };
    try {
      await deliverWebhook(target, message, { policy, signal: stop.signal });
    } finally {
      hold.release();
    }
  }
}

function secretsOf({ secrets = [], keySecrets }: WebhookPolicy, key: string | undefined): readonly string[] {
  return (key === undefined ? undefined : keySecrets?.get(key)) ?? secrets;
}

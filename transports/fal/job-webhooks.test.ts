/** Webhooks as a receiver sees them: one for each job, signed, and verified by a library and by the sample of the docs. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { Webhook } from "standardwebhooks";
import { afterEach, describe, expect, it } from "vitest";
import { gradientRun, until } from "../../test/gradient-run.ts";
import { seenJobs } from "../../test/seen-jobs.ts";
import { createApp } from "../app.ts";
import { createAuthenticator } from "../gate/auth.ts";
import { listen } from "../http/listen.ts";
import type { WebhookPolicy } from "./webhook.ts";
import { webhookSecret } from "./webhook-signature.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const newSecret = () => `whsec_${randomBytes(32).toString("base64")}`;

interface Call {
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** Somebody's server: answers with the given statuses in turn, then 200. */
async function receiver(...statuses: number[]) {
  const calls: Call[] = [];
  const server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    calls.push({ headers: request.headers as Record<string, string>, body: Buffer.concat(chunks).toString() });
    response.writeHead(statuses[calls.length - 1] ?? 200).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  return { port, hook: `http://127.0.0.1:${port}/hook`, calls };
}

async function serving(hosts: readonly string[], policy: Partial<WebhookPolicy> = {}, keys: readonly string[] = []) {
  const { metrics, jobs } = seenJobs();
  const app = createApp({
    run: (input, context) => gradientRun()({ ...input, side: input.prompt === "large" ? 512 : 16 }, context),
    health: () => ({}),
    metrics,
    gate: { authenticator: createAuthenticator({ keys: keys.map((key) => ({ name: key, key })) }) },
    webhooks: { hosts, allowPrivate: true, ...policy },
  });
  const server = await listen(app, 0, "127.0.0.1");
  closing.push(() => server.close());
  const submit = (hook: string, body: object = { prompt: "x" }, headers: Record<string, string> = {}) =>
    fetch(`${server.url}/queue/a/b?fal_webhook=${encodeURIComponent(hook)}`, {
      method: "POST",
      body: JSON.stringify({ num_inference_steps: 2, ...body }),
      headers,
    });
  return { submit, jobs };
}

describe("a job's webhook", () => {
  it("is one, however often it was submitted, while it runs and after its end", async () => {
    const { port, hook, calls } = await receiver();
    const { submit, jobs } = await serving([`127.0.0.1:${port}`]);
    const key = { "idempotency-key": "k" };
    const named = { prompt: "x", request_id: "mine", num_inference_steps: 20 };
    const ids = await Promise.all(
      [1, 2, 3]
        .flatMap(() => [submit(hook, { prompt: "x" }, key), submit(hook, named)])
        .map(async (answer) => {
          const { request_id } = (await (await answer).json()) as { request_id: string };
          return request_id;
        }),
    );
    expect(new Set(ids).size).toBe(2);
    await Promise.all(jobs.map((job) => job.ended));
    await until(() => calls.length === 2);
    await submit(hook, { prompt: "x" }, key);
    await sleep(100);
    expect(jobs).toHaveLength(2);
    expect(calls.map(({ body }) => JSON.parse(body).request_id).sort()).toEqual([...new Set(ids)].sort());
    expect(new Set(calls.map(({ headers }) => headers["webhook-id"])).size).toBe(2);
  });

  it("can be asked for late, and goes to one address", async () => {
    const { port, hook, calls } = await receiver();
    const { submit, jobs } = await serving([`127.0.0.1:${port}`]);
    const key = { "idempotency-key": "k" };
    await submit(hook, { prompt: "x" }, key);
    const other = await submit(`${hook}/other`, { prompt: "x" }, key);
    expect(other.status).toBe(422);
    expect(await other.text()).toContain("one job has one webhook");
    await until(() => calls.length === 1);
    expect(jobs).toHaveLength(1);
    expect(jobs[0]!.state).toBe("completed");
  });

  it("keeps its id at every try, and has the time of each", async () => {
    const { port, hook, calls } = await receiver(500);
    const secret = newSecret();
    const { submit } = await serving([`127.0.0.1:${port}`], { secrets: [secret] });
    await submit(hook);
    await until(() => calls.length === 2);
    const [first, second] = calls.map(({ headers }) => headers);
    expect(first!["webhook-id"]).toMatch(/^msg_[\w-]{36}$/);
    expect(second!["webhook-id"]).toBe(first!["webhook-id"]);
    expect(Number(second!["webhook-timestamp"])).toBeGreaterThan(Number(first!["webhook-timestamp"]));
    expect(second!["webhook-signature"]).not.toBe(first!["webhook-signature"]);
    for (const { headers, body } of calls)
      expect(new Webhook(secret).verify(body, headers)).toMatchObject({ status: "OK" });
  });
});

describe("signatures", () => {
  it("hold for the whole body, with each secret while one replaces the other, and with no other", async () => {
    const { port, hook, calls } = await receiver();
    const [older, newer, foreign] = [newSecret(), newSecret(), newSecret()];
    const { submit } = await serving([`127.0.0.1:${port}`], { secrets: [newer, older] });
    await submit(hook, { prompt: "large", output_format: "png" });
    await until(() => calls.length === 1);
    const { headers, body } = calls[0]!;
    expect(body.length).toBeGreaterThan(200_000);
    expect(headers["webhook-signature"]).toMatch(/^v1,[\w+/]{43}= v1,[\w+/]{43}=$/);
    for (const secret of [older, newer])
      expect(new Webhook(secret).verify(body, headers)).toMatchObject({ status: "OK" });
    expect(() => new Webhook(foreign).verify(body, headers)).toThrow();
    const at = body.length / 2;
    const changed = `${body.slice(0, at)}${body[at] === "A" ? "B" : "A"}${body.slice(at + 1)}`;
    expect(() => new Webhook(older).verify(changed, headers)).toThrow();
    for (const name of ["webhook-id", "webhook-timestamp"]) {
      const other = { ...headers, [name]: name === "webhook-id" ? "msg_2" : String(Number(headers[name]) + 1) };
      expect(() => new Webhook(older).verify(body, other)).toThrow();
    }
  });

  it("are those of the key that asked, where it has secrets of its own", async () => {
    const { port, hook, calls } = await receiver();
    const [general, own] = [newSecret(), newSecret()];
    const keySecrets = new Map([["a", [own]]]);
    const { submit } = await serving([`127.0.0.1:${port}`], { secrets: [general], keySecrets }, ["a", "b"]);
    await submit(hook, { prompt: "x" }, { authorization: "Key a" });
    await until(() => calls.length === 1);
    await submit(hook, { prompt: "x" }, { authorization: "Key b" });
    await until(() => calls.length === 2);
    for (const [index, secret] of [own, general].entries()) {
      const { body, headers } = calls[index]!;
      expect(new Webhook(secret).verify(body, headers)).toMatchObject({ status: "OK" });
    }
  });

  it("are left out where there is no secret; id and time are sent all the same", async () => {
    const { port, hook, calls } = await receiver();
    const { submit } = await serving([`127.0.0.1:${port}`]);
    await submit(hook);
    await until(() => calls.length === 1);
    expect(Object.keys(calls[0]!.headers).filter((name) => name.startsWith("webhook-"))).toEqual([
      "webhook-id",
      "webhook-timestamp",
    ]);
  });

  it.each([
    ["whsec_", false],
    ["hunter2", false],
    [newSecret().replace("whsec_", ""), false],
    [`whsec_${randomBytes(23).toString("base64")}`, false],
    [`whsec_${randomBytes(24).toString("base64")}`, true],
    [`whsec_${randomBytes(64).toString("base64")}`, true],
    [`whsec_${randomBytes(65).toString("base64")}`, false],
    [`whsec_${"-".repeat(40)}`, false],
  ])("take a secret only if it is one: %s", (text, isOne) => {
    expect(webhookSecret(text) !== undefined).toBe(isOne);
  });
});

describe("docs/webhooks.md", () => {
  /** The document's n-th sample, as a module beside this file: so it finds the packages that it imports. */
  async function sample(n: number) {
    const text = await readFile(path.resolve(import.meta.dirname, "../../docs/webhooks.md"), "utf8");
    const code = [...text.matchAll(/```js\n(.+?)```/gs)][n]![1]!;
    const file = path.resolve(import.meta.dirname, `.sample-${process.pid}-${n}.mjs`);
    await writeFile(file, code);
    closing.push(() => rm(file));
    return file;
  }

  it("has a receiver that takes webhooks of its secret alone", async () => {
    const file = await sample(0);
    const [secret, other] = [newSecret(), newSecret()];
    const { port, hook } = await receiver();
    await new Promise((resolve) => (closing.pop() as () => http.Server)().once("close", resolve));
    const child = spawn(process.execPath, [file], {
      env: { ...process.env, WEBHOOK_SECRET: secret, PORT: String(port) },
    });
    closing.push(() => child.kill());
    let out = "";
    child.stdout.on("data", (text) => {
      out += text;
    });
    await until(
      () =>
        fetch(hook, { method: "POST" }).then(
          ({ status }) => status === 401,
          () => false,
        ),
      10_000,
    );
    const forged = await serving([`127.0.0.1:${port}`], { secrets: [other] });
    await forged.submit(hook, { prompt: "x", request_id: "forged" });
    const genuine = await serving([`127.0.0.1:${port}`], { secrets: [secret] });
    await genuine.submit(hook, { prompt: "x", request_id: "genuine" });
    await until(() => out !== "");
    expect(out).toBe("genuine OK\n");
  });

  it("has a function that says the same without a library", async () => {
    const { verify } = (await import(pathToFileURL(await sample(1)).href)) as {
      verify: (secret: string, headers: Record<string, string>, body: string) => void;
    };
    const { port, hook, calls } = await receiver();
    const secrets = [newSecret(), newSecret()];
    const { submit } = await serving([`127.0.0.1:${port}`], { secrets });
    await submit(hook);
    await until(() => calls.length === 1);
    const { headers, body } = calls[0]!;
    for (const secret of secrets) verify(secret, headers, body);
    expect(() => verify(newSecret(), headers, body)).toThrow("not signed");
    expect(() => verify(secrets[0]!, headers, `${body} `)).toThrow("not signed");
    expect(() => verify(secrets[0]!, { ...headers, "webhook-timestamp": "1" }, body)).toThrow("too old");
    expect(() => verify(secrets[0]!, {}, body)).toThrow();
  });
});

/** Sessions whose token expires while pictures are made over them. */
import { setTimeout as sleep } from "node:timers/promises";
import { fal } from "@fal-ai/client";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { gradientRun, until } from "../../test/gradient-run.ts";
import { createApp } from "../app.ts";
import { createAuthenticator } from "../gate/auth.ts";
import { type Listening, listen } from "../http/listen.ts";

const SECRET = "0123456789abcdef0123456789abcdef";
const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

async function serving(stepMs: number): Promise<Listening> {
  const run = gradientRun();
  const app = createApp({
    run: (input, context) => run({ ...input, step_ms: stepMs, side: 64, preview_every: 0 }, context),
    health: () => ({}),
    gate: { authenticator: createAuthenticator({ keys: [{ name: "studio", key: "k" }], tokenSecret: SECRET }) },
  });
  const server = await listen(app, 0, "127.0.0.1");
  open.push(server);
  return server;
}

interface Token {
  readonly token: string;
  readonly subject: string;
}

async function tokenOf({ url }: Listening, wanted: object): Promise<Token> {
  const response = await fetch(`${url}/auth/token`, {
    method: "POST",
    headers: { authorization: "Key k" },
    body: JSON.stringify({ scopes: ["realtime", "run"], ...wanted }),
  });
  return (await response.json()) as Token;
}

describe("@fal-ai/client with tokens of a few seconds", () => {
  it.each([
    ["a picture after another", 60],
    ["pictures that take longer than their token lives", 700],
  ])("gets every picture: %s", async (_, stepMs) => {
    const server = await serving(stepMs);
    const { WebSocket: before } = globalThis;
    let sockets = 0;
    globalThis.WebSocket = class extends WebSocket {
      constructor(address: string) {
        super(address.replace(/^wss:\/\/fal\.run\/[^?]*/, `${server.url.replace("http", "ws")}/realtime`));
        sockets++;
      }
    } as unknown as typeof globalThis.WebSocket;
    open.push({
      close: () => {
        globalThis.WebSocket = before;
      },
    });
    const results: string[] = [];
    const errors: unknown[] = [];
    let tokens = 0;
    let subject: string | undefined;
    const connection = fal.realtime.connect("somebody/daguerre", {
      throttleInterval: 0,
      connectionKey: crypto.randomUUID(),
      tokenProvider: async () => {
        tokens++;
        const made = await tokenOf(server, { seconds: 5, ...(subject && { subject }) });
        subject = made.subject;
        return made.token;
      },
      // biome-ignore lint/suspicious/noExplicitAny: an event
      onResult: (event: any) => {
        if (event.type === "result") results.push(event.prompt);
      },
      onError: (error) => errors.push(error),
    });
    const wanted: string[] = [];
    const end = Date.now() + 12_000;
    while (Date.now() < end) {
      const prompt = `picture ${wanted.length}`;
      wanted.push(prompt);
      connection.send({ prompt, num_inference_steps: 10 });
      await until(() => results.includes(prompt), 20_000);
      await sleep(50);
    }
    connection.close();
    expect(results).toEqual(wanted);
    expect(errors).toEqual([]);
    expect(tokens).toBeGreaterThan(1);
    expect(sockets).toBeGreaterThan(1);
  });
});

describe("a session whose token has expired", () => {
  interface Client {
    readonly socket: WebSocket;
    // biome-ignore lint/suspicious/noExplicitAny: whatever a server says
    readonly messages: any[];
    code: number;
  }
  async function connect({ url }: Listening, query: string): Promise<Client> {
    const socket = new WebSocket(`${url.replace("http", "ws")}/realtime?${query}`);
    const client: Client = { socket, messages: [], code: 0 };
    socket.on("message", (data: Buffer, binary) => {
      if (!binary) client.messages.push(JSON.parse(data.toString()));
      else
        client.messages.push({ type: data.includes("result") ? "result" : "event", error: data.includes("expired") });
    });
    socket.on("close", (code) => {
      client.code = code;
    });
    open.push({ close: () => socket.terminate() });
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    return client;
  }
  const unauthorized = ({ messages }: Client) => messages.some(({ error }) => error === "Unauthorized");
  const draw = ({ socket }: Client, steps: number) =>
    socket.send(JSON.stringify({ prompt: "x", num_inference_steps: steps, request_id: `r${steps}` }));

  it("is told, takes requests for some seconds more, and none after them; what was begun comes", async () => {
    const server = await serving(100);
    const { token } = await tokenOf(server, { seconds: 1 });
    const client = await connect(server, `fal_jwt_token=${token}&mode=queue`);
    draw(client, 90);
    await until(() => unauthorized(client), 3_000);
    draw(client, 1);
    await sleep(5_500);
    draw(client, 2);
    await until(() => client.messages.some(({ type, error }) => type === "event" && error));
    await until(() => client.messages.filter(({ type }) => type === "result").length === 2, 10_000);
    await until(() => client.code !== 0);
    expect(client.code).toBe(1000);
  });

  it("is taken up by a new token of its subject, and of nobody else", async () => {
    const server = await serving(100);
    const { token, subject } = await tokenOf(server, { seconds: 1 });
    const client = await connect(server, `fal_jwt_token=${token}`);
    const held = () => client.messages.find(({ action }) => action === "session")?.session;
    await until(() => held() !== undefined);
    draw(client, 60);
    await until(() => unauthorized(client), 3_000);
    const [stranger, mine] = [await tokenOf(server, {}), await tokenOf(server, { subject })];
    const other = await connect(server, `fal_jwt_token=${stranger.token}&session=${held()}`);
    await until(() => other.messages.length > 0);
    expect(other.messages[0]).toMatchObject({ resumed: false });
    const next = await connect(server, `fal_jwt_token=${mine.token}&session=${held()}`);
    await until(() => next.messages.some(({ type }) => type === "result"), 10_000);
    expect(next.messages[0]).toMatchObject({ resumed: true });
    await sleep(5_500);
    draw(next, 1);
    await until(() => next.messages.filter(({ type }) => type === "result").length === 2);
    expect(next.code).toBe(0);
  });
});

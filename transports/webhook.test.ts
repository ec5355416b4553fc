import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { deliverWebhook, parseWebhook, type WebhookPolicy } from "./webhook.ts";

const servers: http.Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function receiver(answer: (call: number) => { status: number; location?: string }) {
  const received: string[] = [];
  const server = http.createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    received.push(text);
    const { status, location } = answer(received.length);
    response.writeHead(status, location === undefined ? {} : { Location: location }).end();
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: (server.address() as AddressInfo).port, received };
}

const loopback = async () => [{ address: "127.0.0.1", family: 4 }];
const lenient: WebhookPolicy = { hosts: ["hooks.example", "127.0.0.1"], allowPrivate: true };
const strict: WebhookPolicy = { hosts: ["hooks.example", "93.184.216.34", "[::1]", "::1"], allowPrivate: false };
const fast = { backoffMs: 1 };

describe("addresses", () => {
  it.each([
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:a00:1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "ff02::1",
  ])("a name that resolves to %s is never connected to", async (address) => {
    const family = address.includes(":") ? 6 : 4;
    let asked = 0;
    const resolve = async () => {
      asked++;
      return [{ address, family }];
    };
    const delivery = deliverWebhook(new URL("https://hooks.example/"), "{}", { policy: strict, resolve, ...fast });
    await expect(delivery).rejects.toThrow(/not public/);
    // Refused for good: not tried again.
    expect(asked).toBe(1);
  });

  it("one private address among public ones refuses the name", async () => {
    const resolve = async () => [
      { address: "93.184.216.34", family: 4 },
      { address: "10.0.0.1", family: 4 },
    ];
    const delivery = deliverWebhook(new URL("https://hooks.example/"), "{}", { policy: strict, resolve, ...fast });
    await expect(delivery).rejects.toThrow(/not public/);
  });

  it.each(["https://[::1]/", "https://2130706433/", "https://0x7f.1/", "https://hooks.example@127.0.0.1/"])(
    "%s is refused although written differently",
    (text) => {
      const policy = { ...strict, hosts: [...strict.hosts, "127.0.0.1"] };
      expect(() => parseWebhook(text, policy)).toThrow(/fal_webhook/);
    },
  );

  it("a listed name passes, in any case and with a final dot", () => {
    for (const text of ["https://HOOKS.example/a?b=c", "https://hooks.example./", "https://hooks.example:8443/"]) {
      expect(parseWebhook(text, strict).protocol).toBe("https:");
    }
  });
});

describe("delivery", () => {
  it("goes to the address that was checked, with the body", async () => {
    const { port, received } = await receiver(() => ({ status: 204 }));
    const url = new URL(`http://hooks.example:${port}/x`);
    expect(await deliverWebhook(url, '{"a":1}', { policy: lenient, resolve: loopback })).toBe(204);
    expect(received).toEqual(['{"a":1}']);
  });

  it("is tried so many times and no more", async () => {
    const { port, received } = await receiver(() => ({ status: 503 }));
    const url = new URL(`http://127.0.0.1:${port}/`);
    const delivery = deliverWebhook(url, "{}", { policy: lenient, attempts: 3, ...fast });
    await expect(delivery).rejects.toThrow(/failed 3 times/);
    expect(received).toHaveLength(3);
  });

  it("follows a redirect with the body, and not off the list, to a private address, or for ever", async () => {
    const target = await receiver(() => ({ status: 200 }));
    const to = (location: string, status: number = 307) => receiver(() => ({ status, location }));
    const deliver = async (port: number, policy: WebhookPolicy = lenient) =>
      deliverWebhook(new URL(`http://hooks.example:${port}/`), '{"a":1}', {
        policy,
        resolve: loopback,
        attempts: 1,
        ...fast,
      });
    expect(await deliver((await to(`http://127.0.0.1:${target.port}/`)).port)).toBe(200);
    expect(target.received).toEqual(['{"a":1}']);
    await expect(deliver((await to(`http://localhost:${target.port}/`)).port)).rejects.toThrow(/may call/);
    await expect(deliver((await to("file:///etc/passwd")).port)).rejects.toThrow(/https/);
    await expect(deliver((await to(`http://127.0.0.1:${target.port}/`, 302)).port)).rejects.toThrow();
    const loop = await receiver(() => ({ status: 308, location: "/again" }));
    await expect(deliver(loop.port)).rejects.toThrow();
    expect(loop.received).toHaveLength(4);
    expect(target.received).toHaveLength(1);
  });

  it("gives up on a host that does not answer, and when told to", async () => {
    const server = http.createServer(() => {});
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    const options = { policy: lenient, attempts: 2, timeoutMs: 50, ...fast };
    await expect(deliverWebhook(url, "{}", options)).rejects.toThrow(/failed 2 times/);
    const leaving = new AbortController();
    setTimeout(() => leaving.abort(), 20);
    const left = deliverWebhook(url, "{}", { ...options, timeoutMs: 5_000, signal: leaving.signal });
    await expect(left).rejects.toThrow(/abort/i);
    server.closeAllConnections();
  });
});

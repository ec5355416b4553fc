import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { allowedHost, deliverWebhook, parseWebhook, type WebhookPolicy } from "./webhook.ts";

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
const lenient = (...ports: number[]): WebhookPolicy => ({
  hosts: ports.flatMap((port) => [`hooks.example:${port}`, `127.0.0.1:${port}`]),
  allowPrivate: true,
});
const strict: WebhookPolicy = { hosts: ["hooks.example", "93.184.216.34", "[::1]", "::1"], allowPrivate: false };
const fast = { backoffMs: 1 };
const message = (body: string) => ({ id: "msg_1", body, secrets: [] });

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
    // IPv4 within IPv6, in every form that has a number: compatible, mapped, translated, NAT64, 6to4, Teredo, ISATAP.
    "::7f00:1",
    "::127.0.0.1",
    "::169.254.169.254",
    "::a00:1",
    "::8.8.8.8",
    "::808:808",
    "::ffff:c0a8:101",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:0:127.0.0.1",
    "::ffff:0:a9fe:a9fe",
    "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "64:ff9b:1:7f00:0:100::",
    "64:ff9b:1:ffff::10.0.0.1",
    "2002:a00:1::",
    "2002:a9fe:a9fe::1",
    "2002:c0a8:0101:1:2:3:4:5",
    "2001:0:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "fe80::5efe:7f00:1",
    "2a00:1450::5efe:127.0.0.1",
    "2a00:1450::200:5efe:a00:1",
    "2a00:1450:1:2:0:5efe:a9fe:a9fe",
    // A secret that nobody has.
    "::2",
    "::1:0:0",
    "1::1",
    "4000::1",
    "8000::1",
    "fec0::1",
    "100::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "2001:2::1",
    "2001:20::1",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "240.0.0.1",
    "fe80::1%lo",
    "nonsense",
  ])("a name that resolves to %s is never connected to", async (address) => {
    const family = address.includes(":") ? 6 : 4;
    let asked = 0;
    const resolve = async () => {
      asked++;
      return [{ address, family }];
    };
    const delivery = deliverWebhook(new URL("https://hooks.example/"), message("{}"), {
      policy: strict,
      resolve,
      ...fast,
    });
    await expect(delivery).rejects.toThrow(/not public/);
    // Refused for good: not tried again.
    expect(asked).toBe(1);
  });

  // Addresses themselves are checked as those of names are, and nothing is connected to.
  it.each(["93.184.216.34", "[::ffff:93.184.216.34]", "[2606:2800:220:1::1946]", "[2a00:1450::5efe:93.184.216.34]"])(
    "%s is public",
    (host) => {
      expect(parseWebhook(`https://${host}/`, { hosts: [host], allowPrivate: false }).protocol).toBe("https:");
    },
  );

  it("one private address among public ones refuses the name", async () => {
    const resolve = async () => [
      { address: "93.184.216.34", family: 4 },
      { address: "10.0.0.1", family: 4 },
    ];
    const delivery = deliverWebhook(new URL("https://hooks.example/"), message("{}"), {
      policy: strict,
      resolve,
      ...fast,
    });
    await expect(delivery).rejects.toThrow(/not public/);
  });

  it.each([
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://hooks.example@127.0.0.1/",
    "https://[::7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:0:7f00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[2a00:1450::5efe:7f00:1]/",
  ])("%s is not public, although its host is listed", (text) => {
    const policy = { ...strict, hosts: [...strict.hosts, "127.0.0.1", new URL(text).hostname] };
    expect(() => parseWebhook(text, policy)).toThrow(/fal_webhook.*not (public|hold)/);
  });

  it("a listed name passes, in any case and with a final dot", () => {
    for (const text of ["https://HOOKS.example/a?b=c", "https://hooks.example./", "https://hooks.example:443/"]) {
      expect(parseWebhook(text, strict).protocol).toBe("https:");
    }
  });
});

describe("the allow-list", () => {
  const passes = (host: string, text: string, allowPrivate: boolean = false) => {
    try {
      parseWebhook(text, { hosts: [host], allowPrivate });
      return true;
    } catch (error) {
      expect((error as Error).message).toMatch(/^fal_webhook: /);
      return false;
    }
  };

  it.each([
    // host, address, whether it may be called, also with allow_private
    ["hooks.example", "https://hooks.example/", true, true],
    ["hooks.example", "https://hooks.example:443/", true, true],
    ["hooks.example", "https://hooks.example:8443/", false, false],
    ["hooks.example", "https://hooks.example:80/", false, false],
    ["hooks.example", "https://hooks.example:22/", false, false],
    ["hooks.example", "https://hooks.example:0/", false, false],
    ["hooks.example", "http://hooks.example/", false, true],
    ["hooks.example", "http://hooks.example:80/", false, true],
    ["hooks.example", "http://hooks.example:443/", false, false],
    ["hooks.example", "http://hooks.example:8080/", false, false],
    ["hooks.example:8443", "https://hooks.example:8443/", true, true],
    ["hooks.example:8443", "https://hooks.example:08443/", true, true],
    ["hooks.example:8443", "https://hooks.example/", false, false],
    ["hooks.example:8443", "https://hooks.example:84/", false, false],
    ["hooks.example:8443", "http://hooks.example:8443/", false, true],
    ["hooks.example:8443", "https://a.hooks.example:8443/", false, false],
    ["hooks.example:443", "https://hooks.example/", true, true],
    ["hooks.example:443", "http://hooks.example/", false, false],
    ["hooks.example:443", "http://hooks.example:443/", false, true],
    ["hooks.example:80", "http://hooks.example/", false, true],
    ["hooks.example:80", "https://hooks.example/", false, false],
    ["HOOKS.Example.:8443", "https://hooks.example:8443/", true, true],
    ["*.hooks.example", "https://a.b.hooks.example/", true, true],
    ["*.hooks.example", "https://hooks.example/", false, false],
    ["*.hooks.example", "https://evilhooks.example/", false, false],
    ["*.hooks.example", "https://a.hooks.example:22/", false, false],
    ["*.hooks.example:8443", "https://a.hooks.example:8443/", true, true],
    ["*.hooks.example:8443", "https://a.hooks.example/", false, false],
    ["bücher.example", "https://xn--bcher-kva.example/", true, true],
    ["93.184.216.34:99", "https://93.184.216.34:99/", true, true],
    ["93.184.216.34:99", "https://93.184.216.34/", false, false],
    ["2606:2800:220:1::1946", "https://[2606:2800:220:1:0:0:0:1946]/", true, true],
    ["[2606:2800:220:1::1946]", "https://[2606:2800:220:1::1946]/", true, true],
    ["[2606:2800:220:1::1946]:99", "https://[2606:2800:220:1::1946]:99/", true, true],
    ["[2606:2800:220:1::1946]:99", "https://[2606:2800:220:1::1946]/", false, false],
    ["::1", "https://[::1]/", false, true],
    // No entry, and so nothing.
    ["*", "https://hooks.example/", false, false],
    ["*.*", "https://hooks.example/", false, false],
    ["https://hooks.example", "https://hooks.example/", false, false],
  ] as const)("%s: %s passes: %s, with private ones: %s", (host, text, usual, withPrivate) => {
    expect([passes(host, text), passes(host, text, true)]).toEqual([usual, withPrivate]);
  });

  it("says that the port is at fault", () => {
    expect(() => parseWebhook("https://hooks.example:22/", strict)).toThrow(/port \(22\)/);
  });

  it.each([
    "",
    "*",
    "*.",
    "*.*.example",
    "hooks.*",
    "a*.example",
    "https://hooks.example",
    "hooks.example/path",
    "hooks.example?x",
    "hooks.example#x",
    "hooks.example:",
    "hooks.example:x",
    "hooks.example:65536",
    "hooks.example:-1",
    "user@hooks.example",
    "hooks example",
    "[::1",
    "::1]:80",
    "\\hooks.example",
  ])("has no entry such as '%s'", (text) => {
    expect(allowedHost(text)).toBeUndefined();
  });
});

describe("delivery", () => {
  it("goes to the address that was checked, with the body", async () => {
    const { port, received } = await receiver(() => ({ status: 204 }));
    const url = new URL(`http://hooks.example:${port}/x`);
    expect(await deliverWebhook(url, message('{"a":1}'), { policy: lenient(port), resolve: loopback })).toBe(204);
    expect(received).toEqual(['{"a":1}']);
  });

  it("is tried so many times and no more", async () => {
    const { port, received } = await receiver(() => ({ status: 503 }));
    const url = new URL(`http://127.0.0.1:${port}/`);
    const delivery = deliverWebhook(url, message("{}"), { policy: lenient(port), attempts: 3, ...fast });
    await expect(delivery).rejects.toThrow(/failed 3 times/);
    expect(received).toHaveLength(3);
  });

  it("follows a redirect with the body, and not off the list, to a private address, or for ever", async () => {
    const target = await receiver(() => ({ status: 200 }));
    const to = (location: string, status: number = 307) => receiver(() => ({ status, location }));
    const deliver = async (port: number, ...ports: number[]) =>
      deliverWebhook(new URL(`http://hooks.example:${port}/`), message('{"a":1}'), {
        policy: lenient(port, ...ports),
        resolve: loopback,
        attempts: 1,
        ...fast,
      });
    expect(await deliver((await to(`http://127.0.0.1:${target.port}/`)).port, target.port)).toBe(200);
    expect(target.received).toEqual(['{"a":1}']);
    await expect(deliver((await to(`http://localhost:${target.port}/`)).port, target.port)).rejects.toThrow(/may call/);
    // The same host, and a port that is not listed.
    await expect(deliver((await to(`http://127.0.0.1:${target.port}/`)).port)).rejects.toThrow(/may not call/);
    await expect(deliver((await to("file:///etc/passwd")).port)).rejects.toThrow(/https/);
    await expect(deliver((await to(`http://127.0.0.1:${target.port}/`, 302)).port, target.port)).rejects.toThrow();
    const loop = await receiver(() => ({ status: 308, location: "/again" }));
    await expect(deliver(loop.port)).rejects.toThrow();
    expect(loop.received).toHaveLength(4);
    expect(target.received).toHaveLength(1);
  });

  it("gives up on a host that does not answer, and when told to", async () => {
    const server = http.createServer(() => {});
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const url = new URL(`http://127.0.0.1:${port}/`);
    const options = { policy: lenient(port), attempts: 2, timeoutMs: 50, ...fast };
    await expect(deliverWebhook(url, message("{}"), options)).rejects.toThrow(/failed 2 times/);
    const leaving = new AbortController();
    setTimeout(() => leaving.abort(), 20);
    const left = deliverWebhook(url, message("{}"), { ...options, timeoutMs: 5_000, signal: leaving.signal });
    await expect(left).rejects.toThrow(/abort/i);
    server.closeAllConnections();
  });
});

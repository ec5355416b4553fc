/** Downloads from a hub on loopback: what is fetched, what survives, what is refused, and what the cache looks like. */
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scanCacheDir } from "@huggingface/hub";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { EVERYTHING, weights } from "../../test/hub/hub-models.ts";
import { gitBlob, LoopbackHub, sha256 } from "../../test/hub/loopback-hub.ts";
import { cachedModels, removeCached } from "./listing.ts";
import { type PullOptions, type PullReport, pull } from "./pull.ts";
import type { HubSettings } from "./settings.ts";
import { findSnapshot, RepositoryFolder } from "./snapshots.ts";

const NAME = "studio/painter";
const MODEL = { repository: NAME, revision: undefined, file: undefined };
const ONE = weights("one file", 60_000);

let hub: LoopbackHub;
let root: string;
let settings: HubSettings;
beforeAll(async () => {
  hub = await LoopbackHub.start();
});
afterAll(() => hub.close());
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "daguerre-hub-"));
  settings = {
    endpoint: hub.url,
    cache: join(root, "hub"),
    files: join(root, "files"),
    token: undefined,
    isOffline: false,
  };
  hub.repositories.clear();
  hub.faults.clear();
  hub.asked.length = 0;
  hub.repositories.set(NAME, { files: EVERYTHING });
  hub.repositories.set("studio/one", { files: { "one.safetensors": ONE, "README.md": "" } });
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(root, { recursive: true, force: true });
});

const pullOne = (options?: PullOptions) => pull(settings, { ...MODEL, repository: "studio/one" }, options);
const oneBlob = () => new RepositoryFolder(settings.cache, "studio/one").blob(sha256(ONE));

async function problemOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => expect.fail("should have been refused"),
    (error: Error & { code?: string }) => {
      expect(error.name).toBe("HubError");
      return `${error.code}: ${error.message}`;
    },
  );
}

describe("the cache", () => {
  it("holds the files that are needed, and other tools read it", async () => {
    const begun: Parameters<NonNullable<PullReport["begins"]>>[0][] = [];
    const { path, revision, variants } = await pull(settings, MODEL, {
      report: { begins: (facts) => begun.push(facts) },
    });
    expect(revision).toBe(hub.commit(NAME));
    expect([...variants].sort()).toEqual(["", "fp16"]);
    expect(begun).toEqual([expect.objectContaining({ name: NAME, revision, files: 11 })]);
    const files = (await readdir(path, { recursive: true, withFileTypes: true })).filter(
      (entry) => !entry.isDirectory(),
    );
    expect(files).toHaveLength(11);
    for (const entry of files) expect(entry.isSymbolicLink()).toBe(true);
    const unet = join(path, "unet/diffusion_pytorch_model.fp16.safetensors");
    const bytes = EVERYTHING["unet/diffusion_pytorch_model.fp16.safetensors"] as Uint8Array;
    expect(await readlink(unet)).toBe(`../../../blobs/${sha256(bytes)}`);
    expect(await readFile(unet)).toEqual(Buffer.from(bytes));
    // Two small files are the same bytes, so the same blob.
    const blobs = await readdir(join(settings.cache, "models--studio--painter/blobs"));
    expect(blobs).toContain(gitBlob(Buffer.from("{}")));
    expect(blobs).toHaveLength(9);

    const { repos, warnings } = await scanCacheDir(settings.cache);
    expect(warnings).toEqual([]);
    expect(repos).toMatchObject([
      { id: { name: NAME, type: "model" }, revisions: [{ commitOid: revision, refs: ["main"], path }] },
    ]);
    expect(repos[0]!.revisions[0]!.files.map((file) => file.path)).toEqual([join(path, "model_index.json")]);
    expect(hub.asked.length).toBeGreaterThan(0);
  });

  it("is not filled twice, and gains what is missing", async () => {
    await pull(settings, MODEL);
    hub.downloads();
    await pull(settings, MODEL);
    expect(hub.downloads()).toEqual([]);
    await pull(settings, MODEL, { variant: "non_ema" });
    expect(hub.downloads()).toEqual(["unet/diffusion_pytorch_model.non_ema.safetensors"]);
  });

  it("knows revisions", async () => {
    hub.repositories.set("studio/one", {
      files: { "one.safetensors": ONE },
      revisions: { "v1.0": { "one.safetensors": weights("older") }, "refs/pr/1": { "one.safetensors": ONE } },
    });
    const name = { ...MODEL, repository: "studio/one" };
    const folder = new RepositoryFolder(settings.cache, "studio/one");
    // The hub is asked for a revision with a slash as `refs%2Fpr%2F1`.
    for (const revision of ["v1.0", undefined, "refs/pr/1", hub.commit("studio/one", "v1.0")]) {
      const pulled = await pull(settings, { ...name, revision });
      expect(await findSnapshot(settings.cache, { ...name, revision })).toBe(pulled.path);
    }
    const refs = [...(await folder.refs())].sort();
    expect(refs).toEqual(["main", "refs/pr/1", "v1.0"].map((ref) => [ref, hub.commit("studio/one", ref)]));
    expect(await findSnapshot(settings.cache, { ...name, revision: "v2" })).toBeUndefined();

    const models = await cachedModels(settings);
    expect(models.map(({ refs, bytes }) => [refs, bytes])).toEqual(
      expect.arrayContaining([
        [["v1.0"], weights("older").byteLength],
        [["main"], ONE.byteLength],
      ]),
    );
    // Bytes that another snapshot has as well stay.
    expect(await removeCached(settings, "studio/one@refs/pr/1")).toBe(0);
    expect(await removeCached(settings, "studio/one@v1.0")).toBe(weights("older").byteLength);
    expect([...(await folder.refs()).keys()]).toEqual(["main"]);
    expect(await readFile(join((await findSnapshot(settings.cache, name))!, "one.safetensors"))).toEqual(
      Buffer.from(ONE),
    );
    expect(await removeCached(settings, "studio/one")).toBe(ONE.byteLength);
    expect(await cachedModels(settings)).toEqual([]);
    expect(await problemOf(removeCached(settings, "studio/one"))).toContain("studio/one is not in the cache");
  });

  it("of another tool is found: a snapshot without refs, and one that is not the newest", async () => {
    const folder = new RepositoryFolder(settings.cache, "other/tool");
    const name = { ...MODEL, repository: "other/tool" };
    await mkdir(folder.snapshot("a".repeat(40)), { recursive: true });
    expect(await findSnapshot(settings.cache, name)).toBe(folder.snapshot("a".repeat(40)));
    await mkdir(folder.snapshot("b".repeat(40)));
    expect(await findSnapshot(settings.cache, name)).toBeUndefined();
    await mkdir(join(folder.root, "refs"));
    await writeFile(folder.ref("main"), "b".repeat(40));
    expect(await findSnapshot(settings.cache, name)).toBe(folder.snapshot("b".repeat(40)));
  });

  it("is all there is if HF_HUB_OFFLINE is set", async () => {
    const offline = { ...settings, isOffline: true };
    expect(await problemOf(pull(offline, MODEL))).toMatch(/^offline: studio\/painter is not in the hub's cache/);
    const { path } = await pull(settings, MODEL);
    hub.asked.length = 0;
    expect(await pull(offline, MODEL)).toMatchObject({ path });
    expect(hub.asked).toEqual([]);
  });
});

describe("a file", () => {
  it("survives cut connections: each goes on where the last ended", async () => {
    hub.faults.set("one.safetensors", { cuts: { after: 20_000, times: 3 } });
    const { path } = await pullOne();
    expect(await readFile(join(path, "one.safetensors"))).toEqual(Buffer.from(ONE));
    const ranges = hub.downloads();
    expect(ranges).toHaveLength(4);
    expect(ranges.slice(1).every((text) => /bytes=[1-9]\d*-$/.test(text))).toBe(true);
  });

  it("is given up after so many cuts without a byte", async () => {
    hub.faults.set("one.safetensors", { cuts: { after: 0, times: 99 } });
    expect(await problemOf(pullOne())).toMatch(
      /^unreachable: .*broke the connection 5 times; the same command goes on/,
    );
  });

  it.each<[string, Uint8Array, boolean]>([
    ["goes on with a part that is there", ONE.subarray(0, 30_000), true],
    ["does not go on with a part of something else", new Uint8Array(30_000), true],
    ["does not go on with a part that is too long", new Uint8Array(ONE.byteLength + 1), false],
    ["takes a part that is the whole", ONE, true],
  ])("%s", async (what, part, isRanged) => {
    await mkdir(join(settings.cache, "models--studio--one/blobs"), { recursive: true });
    await writeFile(`${oneBlob()}.incomplete`, part);
    const { path } = await pullOne();
    expect(await readFile(join(path, "one.safetensors"))).toEqual(Buffer.from(ONE));
    const [first, ...more] = hub.downloads();
    if (part === ONE) expect(first).toBeUndefined();
    else expect(first).toBe(`one.safetensors${isRanged ? " bytes=30000-" : ""}`);
    expect(more).toEqual(what.includes("something else") ? ["one.safetensors"] : []);
  });

  it("comes whole from a server without ranges, after a cut too", async () => {
    hub.faults.set("one.safetensors", { hasNoRanges: true, cuts: { after: 20_000, times: 1 } });
    const { path } = await pullOne();
    expect(await readFile(join(path, "one.safetensors"))).toEqual(Buffer.from(ONE));
  });

  const changed = Buffer.from(ONE);
  changed[40_000]! ^= 1;
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256(ONE)}\nsize ${ONE.byteLength}\n`;
  it.each<[string, Uint8Array, RegExp]>([
    ["changed bytes", changed, /^bad-answer: "one.safetensors" has not the checksum that it should have/],
    ["a Git LFS pointer", Buffer.from(pointer), /sent a Git LFS pointer in place of "one.safetensors"/],
    ["too few bytes", ONE.subarray(0, 5000), /sends 5000 bytes for "one.safetensors", which should have \d+$/],
    ["too many bytes", Buffer.concat([ONE, ONE]), /sends \d+ bytes for "one.safetensors", which should have \d+$/],
  ])("%s: refused, and nothing of it is a model", async (_, bytes, words) => {
    hub.faults.set("one.safetensors", { bytes });
    expect(await problemOf(pullOne())).toMatch(words);
    await expect(stat(oneBlob())).rejects.toThrow();
    expect(await findSnapshot(settings.cache, { ...MODEL, repository: "studio/one" })).toBeUndefined();
    hub.faults.clear();
    await pullOne();
  });

  it("is downloaded by one process at a time", async () => {
    const [first, second] = await Promise.allSettled([pullOne(), pullOne()]);
    expect([first.status, second.status].sort()).toEqual(["fulfilled", "rejected"]);
    const reason = first.status === "rejected" ? first.reason : (second as PromiseRejectedResult).reason;
    expect(reason).toMatchObject({ code: "busy", message: expect.stringContaining("studio/one is being downloaded") });
    await pullOne();
  });

  it("stays in part when it is interrupted", async () => {
    hub.faults.set("one.safetensors", { stallsAfter: 10_000 });
    const stop = new AbortController();
    const progress = vi.fn((bytes: number) => bytes >= 10_000 && stop.abort());
    await expect(pullOne({ signal: stop.signal, report: { progress } })).rejects.toThrow();
    expect((await stat(`${oneBlob()}.incomplete`)).size).toBe(10_000);
    expect(await cachedModels(settings)).toMatchObject([{ name: "studio/one", isComplete: false, bytes: 10_000 }]);
    // Other tools see a repository without a snapshot, and no fault.
    expect(await scanCacheDir(settings.cache)).toMatchObject({ warnings: [], repos: [{ revisions: [] }] });
    hub.faults.clear();
    hub.downloads();
    await pullOne();
    expect(hub.downloads()).toEqual(["one.safetensors bytes=10000-"]);
  });
});

describe("the token", () => {
  it("goes to the hub and nowhere else", async () => {
    hub.repositories.set("studio/one", { files: { "one.safetensors": ONE }, token: "hf_mine", gate: "hf_mine" });
    settings = { ...settings, token: "hf_mine" };
    await pullOne();
    const seen = (origin: string) =>
      new Set(hub.asked.filter((one) => one.origin === origin).map((one) => one.authorization));
    expect(seen("hub")).toEqual(new Set(["Bearer hf_mine"]));
    expect(seen("storage")).toEqual(new Set([undefined]));
  });
});

describe("a refusal says what to do", () => {
  const gated = { files: EVERYTHING, gate: "hf_friend" };
  it.each<[string, () => void, Partial<HubSettings>, RegExp]>([
    [
      "no such model",
      () => hub.repositories.clear(),
      {},
      /^not-found: .* has no model "studio\/painter", or it is private: check the name, or set HF_TOKEN/,
    ],
    [
      "no such model, with a token",
      () => hub.repositories.clear(),
      { token: "hf_x" },
      /^not-found: .* has no model "studio\/painter"/,
    ],
    [
      "a gate",
      () => hub.repositories.set(NAME, gated),
      {},
      /^no-access: studio\/painter is gated: open http:.*\/studio\/painter in a browser and accept its terms, then set HF_TOKEN to a token of that account \(http:.*\/settings\/tokens\)$/,
    ],
    [
      "a gate, with a token",
      () => hub.repositories.set(NAME, gated),
      { token: "hf_x" },
      /accept its terms with the account of the token; its authors may have to approve$/,
    ],
    [
      "a token that is no more",
      () => {},
      { token: "hf_expired" },
      /^no-access: the token was refused: set HF_TOKEN to a valid one/,
    ],
    [
      "too many requests",
      () => hub.faults.set("api", { refusals: { status: 429, times: 1, headers: { "retry-after": "900" } } }),
      {},
      /^rate-limit: .* allows no more requests for now: try again in 900 s; with a token in HF_TOKEN it allows more$/,
    ],
    [
      "a window of requests",
      () => hub.faults.set("api", { refusals: { status: 429, times: 1, headers: { ratelimit: '"api";r=0;t=400' } } }),
      {},
      /^rate-limit: .* try again in 400 s/,
    ],
    [
      "a disabled model",
      () =>
        hub.faults.set("api", {
          refusals: { status: 403, times: 1, headers: { "x-error-message": "Access to this resource is disabled." } },
        }),
      {},
      /^no-access: studio\/painter was disabled by/,
    ],
    [
      "a token without the right",
      () =>
        hub.faults.set("api", {
          refusals: {
            status: 403,
            times: 1,
            headers: { "x-error-message": "Forbidden: pass a token with read rights" },
          },
        }),
      { token: "hf_x" },
      /may not be read \("Forbidden: pass a token with read rights"\): the token needs the right/,
    ],
    [
      "a hub with a fault",
      () => hub.faults.set("api", { refusals: { status: 503, times: 9 } }),
      {},
      /^unreachable: 127\.0\.0\.1:\d+ answered 503 each time/,
    ],
    [
      "nobody there",
      () => {},
      { endpoint: "http://127.0.0.1:47" },
      /^unreachable: 127\.0\.0\.1:47 cannot be reached \(\w+\): check the network, or name a mirror/,
    ],
    [
      "a name that is nobody's",
      () => {},
      { endpoint: "http://hub.invalid" },
      /^unreachable: hub\.invalid cannot be reached/,
    ],
  ])("%s", async (_, prepare, change, words) => {
    prepare();
    const said = await problemOf(pull({ ...settings, ...change }, MODEL));
    expect(said).toMatch(words);
    expect(said).not.toMatch(/hf_|\/tmp|\n/);
  });

  it("no such revision or file", async () => {
    expect(await problemOf(pull(settings, { ...MODEL, revision: "v9" }))).toMatch(
      /^not-found: studio\/painter has no such revision/,
    );
    expect(await problemOf(pull(settings, { ...MODEL, file: "x.safetensors" }))).toMatch(
      /^not-found: studio\/painter has no file "x.safetensors" at [0-9a-f]{7}$/,
    );
  });

  it("a page in place of a hub", async () => {
    const page = createServer((_, response) => response.setHeader("content-type", "text/html").end("<html>"));
    await new Promise<void>((resolve) => page.listen(0, "127.0.0.1", resolve));
    const endpoint = `http://127.0.0.1:${(page.address() as AddressInfo).port}`;
    expect(await problemOf(pull({ ...settings, endpoint }, MODEL))).toMatch(/is HF_ENDPOINT a hub\?$/);
    page.close();
  });

  it("waits as long as the hub asks", async () => {
    hub.faults.set("stored one.safetensors", { refusals: { status: 429, times: 1, headers: { "retry-after": "1" } } });
    hub.faults.set("api", { refusals: { status: 502, times: 1 } });
    const waits = vi.fn();
    const begun = performance.now();
    await pullOne({ report: { waits } });
    expect(waits.mock.calls).toEqual([[1]]);
    expect(performance.now() - begun).toBeGreaterThan(1000);
  });
});

describe("a hostile hub", () => {
  const entry = { type: "file", path: "x.json", size: 3, oid: "a".repeat(40) };
  it.each<[string, object]>([
    ["a name that leads out", { ...entry, path: "../../../.bashrc" }],
    ["a name from the root", { ...entry, path: "/etc/cron.d/x" }],
    ["a name of Windows", { ...entry, path: "C:\\x" }],
    ["a name that acts on a terminal", { ...entry, path: "a\u001b[2Jb" }],
    ["no name", { ...entry, path: 7 }],
    ["a checksum that is a path", { ...entry, oid: "../../../../x" }],
    ["a checksum of LFS that is a path", { ...entry, lfs: { oid: `${"../".repeat(21)}x`, size: 3 } }],
    ["a negative size", { ...entry, size: -1 }],
    ["a size that is none", { ...entry, size: "3" }],
    ["an entry that is none", []],
  ])("lists %s: nothing is downloaded", async (_, bad) => {
    hub.repositories.set(NAME, { files: EVERYTHING, entries: [bad] });
    const said = await problemOf(pull(settings, MODEL));
    expect(said).toMatch(/^bad-answer: the hub lists a file .* that cannot be one: nothing was downloaded$/);
    expect(said).not.toContain("\u001b");
    await expect(lstat(settings.cache)).rejects.toThrow();
  });

  it("lists more than the disk holds: refused before a byte has come", async () => {
    const size = 2 ** 50;
    const huge = {
      ...entry,
      path: "vae/diffusion_pytorch_model.fp16.safetensors",
      size,
      lfs: { oid: "b".repeat(64), size },
    };
    hub.repositories.set(NAME, { files: EVERYTHING, entries: [huge] });
    expect(await problemOf(pull(settings, MODEL))).toMatch(
      /^disk: studio\/painter needs 1024 TiB, and the disk of the cache has .* free: free some \(daguerre models/,
    );
    expect(hub.downloads()).toEqual([]);
  });

  it("has an index that is none", async () => {
    for (const index of ["[1]", "{", "null"]) {
      hub.repositories.set(NAME, { files: { ...EVERYTHING, "model_index.json": index } });
      expect(await problemOf(pull(settings, MODEL))).toContain('"model_index.json" of studio/painter is not the JSON');
    }
  });

  it("redirects without end", async () => {
    hub.faults.set("one.safetensors", { location: `${hub.url}/studio/one/resolve/main/one.safetensors` });
    expect(await problemOf(pullOne())).toMatch(/^bad-answer: .* redirects without end$/);
  });

  // To the client it is a public hub: its name is known to nobody but a proxy.
  describe("that is public", () => {
    const proxy = createServer();
    const tunnels: string[] = [];
    beforeAll(async () => {
      proxy.on("connect", (request, socket) => {
        tunnels.push(request.url!);
        const target = connect(Number(new URL(hub.url).port), "127.0.0.1", () => {
          socket.write("HTTP/1.1 200 OK\r\n\r\n");
          target.pipe(socket).pipe(target);
        });
        for (const end of [target, socket]) end.on("error", () => {});
      });
      await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    });
    afterAll(() => proxy.close());

    it.each<[string, RegExp]>([
      ["https://127.0.0.1/x", /a redirect to 127\.0\.0\.1 was not followed: the address is not public \(loopback\)$/],
      ["https://10.0.0.1/x", /not public \(private\)$/],
      ["https://169.254.169.254/latest/meta-data", /not public \(linkLocal\)$/],
      ["https://[::1]/x", /not public \(loopback\)$/],
      ["https://[::ffff:192.168.0.1]/x", /not public \(private\)$/],
      ["https://[fd00::1]/x", /not public \(uniqueLocal\)$/],
      ["https://2130706433/x", /not public \(loopback\)$/],
      ["https://localhost/x", /not public \(loopback\)$/],
      ["http://storage.invalid/x", /a redirect to http:\/\/storage\.invalid was not followed: it is plain http$/],
      ["file:///etc/passwd", /was not followed: it is no address of a web server$/],
      ["https://user:word@storage.invalid/x", /was not followed: it holds a name or password$/],
    ])("redirects to %s: not followed", async (location, words) => {
      const { port } = proxy.address() as AddressInfo;
      vi.stubEnv("http_proxy", `http://127.0.0.1:${port}`);
      vi.stubEnv("https_proxy", `http://127.0.0.1:${port}`);
      vi.stubEnv("no_proxy", "");
      tunnels.length = 0;
      hub.faults.set("one.safetensors", { location });
      settings = { ...settings, endpoint: "http://hub.invalid" };
      expect(await problemOf(pullOne())).toMatch(words);
      expect(new Set(tunnels)).toEqual(new Set(["hub.invalid:80"]));
    });
  });
});

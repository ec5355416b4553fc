import { describe, expect, it } from "vitest";
import { hubNameText, isFileName, parseHubName } from "./hub-name.ts";

describe("a name on a hub", () => {
  it.each([
    ["stabilityai/sd-turbo", "stabilityai/sd-turbo", undefined, undefined],
    ["a/b@main", "a/b", "main", undefined],
    ["a/b@refs/pr/1", "a/b", "refs/pr/1", undefined],
    ["a/b.c_d@v1.0+x", "a/b.c_d", "v1.0+x", undefined],
    ["a/b/c.safetensors", "a/b", undefined, "c.safetensors"],
    ["a/b/c/d.gguf@0123abc", "a/b", "0123abc", "c/d.gguf"],
  ])("%s", (text, repository, revision, file) => {
    const name = parseHubName(text);
    expect(name).toEqual({ repository, revision, file });
    expect(hubNameText(name!)).toBe(text);
  });

  it.each([
    "a",
    "",
    "/a/b",
    "./a/b",
    "../b",
    "a/..",
    "~/b",
    "a//b",
    "a/b@",
    "a/b@..",
    "a/b@../../x",
    "a/b@x/",
    "a/b@x.lock",
    "a/b@/etc",
    "a/b/",
    "a/b/../c.safetensors",
    "a/b\\c",
    "a--b/c",
    "a/b--c",
    "a b/c",
    `a/${"b".repeat(97)}`,
    "C:/b",
    "a/b@\u001b",
  ])("%j is none", (text) => {
    expect(parseHubName(text)).toBeUndefined();
  });
});

it.each([
  "/etc/passwd",
  "../x",
  "a/../../x",
  "a\\..\\x",
  "C:x",
  "",
  "a//b",
  "a/./b",
  "a\u0000",
  "a\u202eb",
  "x".repeat(300),
])("%j is no file of a repository", (path) => {
  expect(isFileName(path)).toBe(false);
});

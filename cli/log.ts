/** The server's log on stderr: lines for people on a terminal, JSON elsewhere. */
import pino from "pino";
import type { Config } from "./config-schema.ts";

/** Fields that must never be in a log, should an object that holds them ever be logged. */
const REDACTED = [
  "authorization",
  "key",
  "token",
  "token_secret",
  "tokenSecret",
  "fal_jwt_token",
  "headers",
  "cookie",
  "secrets",
  "webhook_secrets",
];

/** The message of a line about a request. */
export const REQUEST = "request";

export async function openLog({ log_level: level, log_format }: Config): Promise<pino.Logger> {
  const { fd, isTTY } = process.stderr;
  const stderr = pino.destination(fd);
  // A log that cannot be written (a full disk, a closed pipe) is no reason to end.
  stderr.on("error", () => {});
  const redact = [...REDACTED, ...REDACTED.map((name) => `*.${name}`)];
  const options = { name: "daguerre", level, redact };
  if (log_format === "json" || (log_format === "auto" && !isTTY)) return pino(options, stderr);
  const { default: pretty } = await import("pino-pretty");
  const lines = pretty({
    destination: stderr,
    colorize: isTTY === true,
    singleLine: true,
    translateTime: "SYS:HH:MM:ss",
    ignore: "pid,hostname,name,method,path,status,ended,ms,headers_ms",
    messageFormat: (entry, key) => messageOf(entry, String(entry[key] ?? "")),
  });
  return pino(options, lines);
}

function messageOf(entry: Readonly<Record<string, unknown>>, message: string): string {
  if (message !== REQUEST) return message;
  const { method, path, status, ended, ms } = entry;
  return `${method} ${path} ${status}, ${ended} in ${(Number(ms) / 1000).toFixed(2)} s`;
}

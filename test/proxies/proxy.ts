/** The proxies of `docs/behind-a-proxy.md`: each configuration of the page, run by the program that it is for. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import net, { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { until } from "../gradient-run.ts";

/** Debian's programs, by the language of the page's blocks. */
const PROGRAMS = {
  nginx: "/usr/sbin/nginx",
  haproxy: "/usr/sbin/haproxy",
  caddyfile: "/usr/bin/caddy",
  apache: "/usr/sbin/apache2",
};
type Language = keyof typeof PROGRAMS;

interface Block {
  readonly language: Language;
  readonly text: string;
}

/** The blocks of the page, by the comment that each begins with. */
export const CONFIGURATIONS: ReadonlyMap<string, Block> = new Map(
  [
    ...readFileSync(new URL("../../docs/behind-a-proxy.md", import.meta.url), "utf8").matchAll(
      /^```(nginx|haproxy|caddyfile|apache)\n# (.*)\n([\s\S]*?)^```$/gm,
    ),
  ].map(([, language, title, text]) => [String(title), { language: language as Language, text: String(text) }]),
);

/** The program that a configuration needs, if it is not installed. */
export function missingProgram(title: string): string | undefined {
  const program = PROGRAMS[CONFIGURATIONS.get(title)!.language];
  return existsSync(program) ? undefined : program;
}

export interface RunningProxy {
  close(): Promise<void>;
}

export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * Starts a configuration of the page: as it stands there, but for its ports and the folder of its certificate.
 *
 * @param port takes the place of 80 and 443
 * @param upstream takes the place of 8080
 */
export async function startProxy(title: string, port: number, upstream: number): Promise<RunningProxy> {
  const { language, text } = CONFIGURATIONS.get(title)!;
  const folder = await mkdtemp(path.join(tmpdir(), "daguerre-proxy-"));
  makeCertificate(folder);
  const configuration = text
    .replace(/\b8080\b/g, "UPSTREAM")
    .replace(/\b(80|443)\b/g, String(port))
    .replaceAll("UPSTREAM", String(upstream))
    .replaceAll("/etc/ssl/", `${folder}/`);
  const child = await START[language](folder, configuration, port);
  let said = "";
  child.stderr?.on("data", (part) => {
    said += part;
  });
  child.stdout?.resume();
  const close = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      const forced = setTimeout(() => child.kill("SIGKILL"), 5_000);
      await ended;
      clearTimeout(forced);
    }
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await until(() => {
      if (child.exitCode !== null) throw new Error(`${title} ended: ${said}`);
      return answers(port);
    }, 20_000);
  } catch (error) {
    await close();
    throw error;
  }
  return { close };
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

function makeCertificate(folder: string): void {
  const [key, certificate] = [path.join(folder, "pictures.key"), path.join(folder, "pictures.crt")];
  const names = ["-subj", "/CN=pictures.example", "-addext", "subjectAltName=DNS:pictures.example"];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", ...kind, ...names, "-keyout", key, "-out", certificate], { stdio: "ignore" });
  writeFileSync(path.join(folder, "pictures.pem"), readFileSync(certificate, "utf8") + readFileSync(key, "utf8"));
}

/** The rest of the program's configuration, around a block as it is installed. */
const START: Readonly<Record<Language, (folder: string, block: string, port: number) => Promise<ChildProcess>>> = {
  async nginx(folder, block) {
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (kind) => `${kind}_temp_path ${folder}/${kind};`,
    );
    const file = written(
      folder,
      `daemon off; worker_processes 1; pid ${folder}/pid; error_log stderr warn;
events {}
http {
access_log off; ${temporary.join(" ")}
${block}
}`,
    );
    return spawn(PROGRAMS.nginx, ["-p", folder, "-e", "stderr", "-c", file]);
  },
  async haproxy(folder, block) {
    return spawn(PROGRAMS.haproxy, ["-db", "-f", written(folder, block)]);
  },
  async caddyfile(folder, block) {
    const options = "{\n  admin off\n  auto_https disable_redirects\n  skip_install_trust\n}\n";
    const env = { ...process.env, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder, HOME: folder };
    const file = written(folder, options + block);
    return spawn(PROGRAMS.caddyfile, ["run", "--config", file, "--adapter", "caddyfile"], { env });
  },
  async apache(folder, block, port) {
    await mkdir(path.join(folder, "run"));
    const modules = ["mpm_event", "authz_core", "proxy", "proxy_http", "headers", "ssl", "http2"].map(
      (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
    );
    const file = written(
      folder,
      `${modules.join("\n")}
ServerName localhost
PidFile ${folder}/pid
DefaultRuntimeDir ${folder}/run
ErrorLog ${folder}/error.log
User www-data
Group www-data
Listen 127.0.0.1:${port}
${block}`,
    );
    return spawn(PROGRAMS.apache, ["-f", file, "-DFOREGROUND"]);
  },
};

function written(folder: string, text: string): string {
  const file = path.join(folder, "configuration");
  writeFileSync(file, text);
  return file;
}

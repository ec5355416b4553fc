/** A client of a proxy, over HTTP/1.1 or over TLS and HTTP/2, under a name that leads to this machine. */
import http from "node:http";
import http2 from "node:http2";
import type { Readable } from "node:stream";
import WebSocket from "ws";

export interface Answer {
  readonly status: number;
  readonly body: Readable;
  /** Leaves in the middle. */
  cut(): void;
}

export interface Asked {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export class Visitor {
  readonly #port: number;
  readonly #tls: boolean;
  /** As a browser says it: the name, and the port. */
  readonly #host: string;

  constructor(port: number, tls: boolean, name: string = "pictures.example") {
    this.#port = port;
    this.#tls = tls;
    this.#host = `${name}:${port}`;
  }

  get origin(): string {
    return `${this.#tls ? "https" : "http"}://${this.#host}`;
  }

  ask(path: string, { method = "GET", headers = {}, body }: Asked = {}): Promise<Answer> {
    return this.#tls ? this.#askTwo(path, method, headers, body) : this.#askOne(path, method, headers, body);
  }

  async text(path: string, asked?: Asked): Promise<{ status: number; text: string }> {
    const { status, body } = await this.ask(path, asked);
    return { status, text: Buffer.concat(await body.toArray()).toString() };
  }

  socket(path: string, headers: Readonly<Record<string, string>>): WebSocket {
    const address = `${this.#tls ? "wss" : "ws"}://127.0.0.1:${this.#port}${path}`;
    return new WebSocket(address, {
      headers: { ...headers, host: this.#host },
      rejectUnauthorized: false,
      servername: this.#host.split(":")[0],
    });
  }

  #askOne(path: string, method: string, headers: Asked["headers"], body?: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
      const request = http.request({
        host: "127.0.0.1",
        port: this.#port,
        path,
        method,
        agent: false,
        headers: { ...headers, ...length, host: this.#host },
      });
      request.on("error", reject).on("response", (response) => {
        response.on("error", () => {});
        resolve({ status: response.statusCode ?? 0, body: response, cut: () => request.destroy() });
      });
      request.end(body);
    });
  }

  #askTwo(path: string, method: string, headers: Asked["headers"], body?: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const servername = this.#host.split(":")[0];
      const client = http2.connect(`https://127.0.0.1:${this.#port}`, { rejectUnauthorized: false, servername });
      client.on("error", reject);
      const stream = client.request({ ...headers, ":path": path, ":method": method, ":authority": this.#host });
      stream.on("error", reject).on("response", ({ ":status": status }) => {
        resolve({
          status: status ?? 0,
          body: stream,
          cut: () => {
            stream.close(http2.constants.NGHTTP2_CANCEL);
            client.destroy();
          },
        });
      });
      stream.on("close", () => client.close());
      stream.end(body);
    });
  }
}

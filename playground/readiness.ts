/** Asks the server whether it can make pictures now (`GET /ready`), until it can. */

/** Milliseconds between two questions. */
const PACE_MS = 1_000;

export class Readiness {
  private asking = false;

  /** @param show gets the reason in words while the server is not ready, and an empty text once it is */
  constructor(
    private readonly address: URL,
    private readonly show: (text: string) => void,
  ) {}

  /** Asks until the server is ready; one such round at a time. */
  async watch(): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    for (let reason = await this.ask(); reason !== undefined; reason = await this.ask()) {
      this.show(readyWords(reason));
      await new Promise((resolve) => setTimeout(resolve, PACE_MS));
    }
    this.asking = false;
    this.show("");
  }

  /** The reason why the server is not ready. A server that does not answer this question counts as ready. */
  private async ask(): Promise<string | undefined> {
    try {
      const response = await fetch(this.address, { cache: "no-store" });
      if (response.status !== 503) return undefined;
      const { status, reason } = (await response.json()) as { status?: unknown; reason?: unknown };
      return status === "unready" ? String(reason ?? "") : undefined;
    } catch {
      return undefined;
    }
  }
}

function readyWords(reason: string): string {
  if (reason === "draining") return "The server is shutting down";
  return reason === "" ? "The server is starting" : `The server is not ready yet: ${reason}`;
}

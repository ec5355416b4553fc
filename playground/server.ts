/** The server's own facts, from `GET /health`, and their place on the page. */
import type { ServerFacts } from "./form.ts";

/** @throws Error if the server does not answer, or answers with an error */
export async function readFacts(health: URL): Promise<ServerFacts> {
  const response = await fetch(health);
  if (!response.ok) throw new Error(`the server says ${response.status}`);
  // biome-ignore lint/suspicious/noExplicitAny: each field is looked at before it is used
  const facts = (await response.json()) as any;
  return {
    model: typeof facts.model === "string" ? facts.model : "",
    adapter: typeof facts.adapter?.name === "string" ? facts.adapter.name : "",
    defaults: facts.defaults ?? {},
    fewStep: facts.few_step ?? undefined,
  };
}

/** Names the model and the adapter in `place`; one that the server does not name is left out. */
export function showMachine(place: HTMLElement, { model, adapter }: ServerFacts): void {
  const part = (kind: string, text: string) => {
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = text;
    return span;
  };
  place.replaceChildren(
    ...(model === "" ? [] : [part("model", model)]),
    ...(adapter === "" ? [] : [part("adapter", adapter)]),
  );
}

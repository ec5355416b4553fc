declare module "event-source-polyfill" {
  export class EventSourcePolyfill extends EventTarget {
    constructor(url: string, options?: { heartbeatTimeout?: number; lastEventIdQueryParameterName?: string });
    readonly readyState: number;
    onmessage: ((event: { data: string; lastEventId: string }) => void) | null;
    onerror: ((event: object) => void) | null;
    close(): void;
  }
}

/** The urgency of a request: somebody draws with it, somebody waits for it, nobody does. */
export type Priority = "realtime" | "stream" | "detached";

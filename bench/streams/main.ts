/**
 * The cost and the capacity of the transports: `npm run bench:streams -- [what] [clients] [seconds]`.
 *
 * - `latency`: from an event's yield to its arrival, beside a minimal `node:http` and `ws` server (`latency.ts`).
 * - `sse`, `websocket`, `both`: so many clients of each kind, in another process, follow jobs at two events of 20 KB a
 *   second (`followers.ts`). Default: 1000 clients, 20 seconds; the measure is 300 seconds.
 * - `stopped`: 200 clients of each kind that stop reading (`stopped.ts`).
 *
 * Without `what`, all of them.
 */
import { followers } from "./followers.ts";
import { latency } from "./latency.ts";
import { stopped } from "./stopped.ts";

const [, , what = "all", clients = "1000", seconds = "20"] = process.argv;
const load = { clients: Number(clients), seconds: Number(seconds) };
const all = what === "all";

if (all || what === "latency") await latency();
if (all || what === "sse") await followers({ sse: load.clients, websocket: 0, seconds: load.seconds });
if (all || what === "websocket") await followers({ sse: 0, websocket: load.clients, seconds: load.seconds });
if (all || what === "both") await followers({ sse: load.clients, websocket: load.clients, seconds: load.seconds });
if (all || what === "stopped") await stopped(200);
process.exit();

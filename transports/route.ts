/**
 * A route: a path, what it needs, what it says of itself, and its handler, in one place. The gate, the OpenAPI document and
 * the app read the same routes, so a transport is its own file and a line in `app.ts`.
 *
 * Ours, and not `@hono/zod-openapi` or `hono-openapi`: these read and check a body by themselves, whole and unbounded,
 * while ours come in slices and on their client's account (`http/input.ts`); and neither tells a gate, before a body is
 * read, which scope a request needs and in which words it is refused.
 */
import type { Context, Handler, Hono, MiddlewareHandler } from "hono";
import { matchedRoutes } from "hono/route";
import { findTargetHandler } from "hono/utils/handler";
import { type Failure, failureResponse } from "./failure.ts";
import type { Access } from "./gate/auth.ts";
import type { Description } from "./openapi/describe.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export interface Route {
  readonly method: Method;
  /** In Hono's form, below the group's base: `/jobs/:job`. */
  readonly path: string;
  /** What it needs; left out: the scope of its group. */
  readonly scope?: Access;
  /** Whether it starts something, and so counts against a client's rate. Left out: whether it is a POST. */
  readonly work?: boolean | ((c: Context) => boolean);
  /** It upgrades a GET to a WebSocket. */
  readonly webSocket?: boolean;
  /** Left out: it is not described. */
  readonly about?: Description;
  /** Asked in turn, until one answers. */
  readonly handlers: readonly (Handler | MiddlewareHandler)[];
}

/** Routes below one path, with the words of their clients. */
export interface RouteGroup {
  /** `/v1`, or empty. */
  readonly base: string;
  /** What a path below it needs that is no route. */
  readonly scope: Access;
  /** A refusal in the words that its clients understand; left out: `failureResponse`. */
  readonly refuse?: (failure: Failure) => Response;
  /** In the order in which they are asked. */
  readonly routes: readonly Route[];
}

export interface RouteDescription {
  readonly method: Method;
  /** In OpenAPI's form: `/jobs/{job}`. */
  readonly path: string;
  readonly scope: Access;
  readonly about: Description;
}

/** What the gate knows of requests before they are routed. */
export interface RouteRules {
  /** What a request needs. */
  scopeOf(c: Context): Access;
  /** Whether its route starts something. Watching, cancelling and asking for a status are free. */
  startsWork(c: Context): boolean;
  /** Whether its route upgrades to a WebSocket. */
  isWebSocket(c: Context): boolean;
  /** A refusal in the words that its client understands. */
  refuse(c: Context, failure: Failure): Response;
}

/** Adds a group's routes to an app. */
export function addRoutes(app: Hono, { routes }: RouteGroup, base: string = ""): Hono {
  for (const { method, path, handlers } of routes) app.on(method, [base + path], ...(handlers as Handler[]));
  return app;
}

/** The routes of an app. A request is looked up as the app itself will route it. */
export class RouteTable implements RouteRules {
  readonly #groups: readonly RouteGroup[];
  readonly #byHandler = new Map<unknown, { readonly route: Route; readonly group: RouteGroup }>();

  constructor(groups: readonly RouteGroup[]) {
    this.#groups = groups;
    for (const group of groups) {
      for (const route of group.routes)
        for (const handler of route.handlers) this.#byHandler.set(handler, { route, group });
    }
  }

  addTo(app: Hono): void {
    for (const group of this.#groups) addRoutes(app, group, group.base);
  }

  /** The routes that say something of themselves. */
  get descriptions(): readonly RouteDescription[] {
    return this.#groups.flatMap(({ base, scope: usual, routes }) =>
      routes.flatMap(({ method, path, scope = usual, about }) =>
        about === undefined ? [] : [{ method, path: openapiPath(base + path), scope, about }],
      ),
    );
  }

  scopeOf(c: Context): Access {
    if (c.req.method === "OPTIONS") return "open";
    const found = this.#routeOf(c);
    return found === undefined ? this.#groupOf(c).scope : (found.route.scope ?? found.group.scope);
  }

  startsWork(c: Context): boolean {
    const work = this.#routeOf(c)?.route.work ?? c.req.method === "POST";
    return typeof work === "boolean" ? work : work(c);
  }

  isWebSocket(c: Context): boolean {
    return this.#routeOf(c)?.route.webSocket === true;
  }

  refuse(c: Context, failure: Failure): Response {
    const { refuse = failureResponse } = this.#routeOf(c)?.group ?? this.#groupOf(c);
    return refuse(failure);
  }

  #routeOf(c: Context) {
    for (const { handler } of matchedRoutes(c)) {
      // An app that is a part of another one has its handlers wrapped.
      const found = this.#byHandler.get(findTargetHandler(handler as Handler));
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #groupOf(c: Context): RouteGroup {
    return this.#groups.find(({ base }) => base !== "" && c.req.path.startsWith(`${base}/`)) ?? UNKNOWN;
  }
}

/** A path that nobody has thought of. */
const UNKNOWN: RouteGroup = { base: "", scope: "run", routes: [] };

function openapiPath(path: string): string {
  return path.replace(/\{[^}]*\}/g, "").replace(/:(\w+)/g, "{$1}");
}

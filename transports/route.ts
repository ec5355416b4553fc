/**
 * A route: a path, what it needs, what it says of itself, and its handler, in one place. The gate, the OpenAPI document and
 * the app read the same routes, so a transport is its own file and a line in `app.ts`.
 *
 * Ours, and not `@hono/zod-openapi` or `hono-openapi`: these read and check a body by themselves, whole and unbounded,
 * while ours come in slices and on their client's account (`http/input.ts`); and neither tells a gate, before a body is
 * read, which scope a request needs and in which words it is refused.
 */
import type { Context, Handler, Hono, MiddlewareHandler } from "hono";
import { baseRoutePath, matchedRoutes } from "hono/route";
import { findTargetHandler } from "hono/utils/handler";
import { type Failure, failureResponse } from "./failure.ts";
import type { Access } from "./gate/auth.ts";
import type { Description } from "./openapi/describe.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export interface Route {
  readonly method: Method;
  /** Hono's path pattern, below the group's base: `/jobs/:job`. */
  readonly path: string;
  /** The scope that it needs; left out: the scope of its group. */
  readonly scope?: Access;
  /** True if it starts something, and so counts against a client's rate. Left out: whether it is a POST. */
  readonly work?: boolean | ((c: Context) => boolean);
  /** It upgrades a GET to a WebSocket. */
  readonly webSocket?: boolean;
  /**
   * True if a path of this pattern, as seen from the app, is there at all; left out: it is. If the pattern begins with
   * a parameter, paths that begin as those of other routes do are never asked about: they are theirs.
   */
  readonly isThere?: (path: string, c: Context) => boolean;
  /**
   * True if Hono gets it as `*`: beside patterns such as `/queue/:app{.+}/…` its fast router takes no fixed path, and its
   * other one takes seconds for a path of thousands of parts.
   */
  readonly asWildcard?: boolean;
  /** Left out: it is not described. */
  readonly about?: Description;
  /** Asked in turn, until one answers. */
  readonly handlers: readonly (Handler | MiddlewareHandler)[];
}

/** Routes below one path, with the words of their clients. */
export interface RouteGroup {
  /** `/v1`, or empty. */
  readonly base: string;
  /** The scope of a path below it that is no route. */
  readonly scope: Access;
  /** Its clients may send their credential as Basic, with the key as the password. */
  readonly basicAuth?: boolean;
  /** A refusal in the words that its clients understand; left out: `failureResponse`. */
  readonly refuse?: (failure: Failure) => Response;
  /** In the order in which they are asked. */
  readonly routes: readonly Route[];
}

export interface RouteDescription {
  readonly method: Method;
  /** OpenAPI's path template: `/jobs/{job}`. */
  readonly path: string;
  readonly scope: Access;
  readonly about: Description;
}

/** The gate's knowledge of requests before they are routed. */
export interface RouteRules {
  /** The scope that a request needs. */
  scopeOf(c: Context): Access;
  /** True if its route starts something. Watching, cancelling and asking for a status are free. */
  startsWork(c: Context): boolean;
  /** True if its route upgrades to a WebSocket. */
  isWebSocket(c: Context): boolean;
  /** True if the client may send its credential as Basic. */
  takesBasic(c: Context): boolean;
  /** A refusal in the words that its client understands. */
  refuse(c: Context, failure: Failure): Response;
}

/** Adds a group's routes to an app. */
export function addRoutes(app: Hono, { routes }: RouteGroup, base: string = ""): Hono {
  for (const { method, path, handlers } of routes) app.on(method, [base + path], ...(handlers as Handler[]));
  return app;
}

/** A route as the app has it. */
interface Entry {
  readonly route: Route;
  readonly group: RouteGroup;
  /** The route's path as Hono's pattern. */
  readonly path: string;
  /** True if a path, as seen from the app, is this route's. */
  readonly isAt: (path: string, c: Context) => boolean;
}

/** The route of each handler. */
const ENTRIES = new WeakMap<object, Entry>();
/** All routes of an app, by its last handler, whatever their methods. */
const ALL_ENTRIES = new WeakMap<object, readonly Entry[]>();

/** The routes that a request has come to, the first to be asked first; those of other methods are not among them. */
function entriesAt(c: Context): Entry[] {
  return findEntries(c, (handler) => [ENTRIES.get(handler)]);
}

/** All routes of the request's path. */
function entriesOfPath(c: Context): Entry[] {
  return findEntries(c, (handler) => ALL_ENTRIES.get(handler) ?? []);
}

function findEntries(c: Context, behind: (handler: object) => readonly (Entry | undefined)[]): Entry[] {
  return matchedRoutes(c).flatMap(({ handler, basePath }) => {
    const path = pathBelow(basePath, c);
    // An app that is a part of another one has its handlers wrapped.
    const entries = behind(findTargetHandler(handler as Handler));
    return entries.flatMap((entry) => (entry?.isAt(path, c) ? [entry] : []));
  });
}

/** The request's path as an app sees it that is mounted below `base`. */
function pathBelow(base: string, c: Context): string {
  return base === "/" ? c.req.path : c.req.path.slice(base.length);
}

/** The request's path as the app sees it whose handler runs, wherever that is mounted. */
export function pathInApp(c: Context): string {
  return pathBelow(baseRoutePath(c), c);
}

/** The pattern of the request's route (`/jobs/:job`): one of few, whatever clients ask for. */
export function routePathOf(c: Context): string | undefined {
  const [entry] = [...entriesAt(c), ...entriesOfPath(c)];
  return entry?.path ?? matchedRoutes(c).findLast(({ path }) => !path.endsWith("*"))?.path;
}

/** The routes of an app. A request is looked up as the app itself will route it. */
export class RouteTable implements RouteRules {
  readonly #groups: readonly RouteGroup[];
  readonly #entries: readonly Entry[];

  constructor(groups: readonly RouteGroup[]) {
    this.#groups = groups;
    const all = groups.flatMap((group) =>
      group.routes.map((route) => ({ route, group, path: group.base + route.path })),
    );
    const taken = new Set(all.map(({ path }) => firstPart(path)));
    this.#entries = all.map(({ route, group, path }) => {
      const { isThere } = route;
      const pattern = patternOf(path);
      const isAt = (target: string, c: Context) =>
        pattern.test(target) && !(isWild(path) && taken.has(firstPart(target))) && (isThere?.(target, c) ?? true);
      return { route, group, path, isAt };
    });
  }

  addTo(app: Hono): void {
    for (const entry of this.#entries) {
      const { method, isThere, asWildcard = isWild(entry.path), handlers } = entry.route;
      for (const handler of handlers as Handler[]) {
        const asked: Handler =
          isThere === undefined && !asWildcard
            ? handler
            : (c, next) => (entry.isAt(pathInApp(c), c) ? handler(c, next) : next());
        ENTRIES.set(asked, entry);
        app.on(method, [asWildcard ? "*" : entry.path], asked);
      }
    }
    const last: Handler = (c, next) => this.#otherMethod(c) ?? next();
    ALL_ENTRIES.set(last, this.#entries);
    app.all("*", last);
  }

  /** The answer to a method that no route of the path has; undefined if one has it, or if there is none of this path. */
  #otherMethod(c: Context): Response | undefined {
    const { method } = c.req;
    const methods = new Set<string>(entriesOfPath(c).map(({ route }) => route.method));
    if (methods.has("GET")) methods.add("HEAD");
    if (methods.size === 0 || methods.has(method)) return undefined;
    const Allow = [...methods, "OPTIONS"].join(", ");
    if (method === "OPTIONS") return new Response(null, { status: 204, headers: { Allow } });
    const response = this.refuse(c, { status: 405, detail: `${method} is not for this path: ${Allow} are` });
    response.headers.set("Allow", Allow);
    return response;
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
    const [entry] = entriesAt(c);
    return entry === undefined ? this.#groupOf(c).scope : (entry.route.scope ?? entry.group.scope);
  }

  startsWork(c: Context): boolean {
    const work = entriesAt(c)[0]?.route.work ?? c.req.method === "POST";
    return typeof work === "boolean" ? work : work(c);
  }

  isWebSocket(c: Context): boolean {
    return entriesAt(c)[0]?.route.webSocket === true;
  }

  takesBasic(c: Context): boolean {
    return this.#ownerOf(c).basicAuth === true;
  }

  refuse(c: Context, failure: Failure): Response {
    const { refuse = failureResponse } = this.#ownerOf(c);
    return refuse(failure);
  }

  /** The group of the path's first route, or else the one that its beginning names. */
  #ownerOf(c: Context): RouteGroup {
    const [entry] = [...entriesAt(c), ...entriesOfPath(c)];
    return entry?.group ?? this.#groupOf(c);
  }

  #groupOf(c: Context): RouteGroup {
    return this.#groups.find(({ base }) => base !== "" && c.req.path.startsWith(`${base}/`)) ?? UNKNOWN;
  }
}

/** A path that nobody has thought of. */
const UNKNOWN: RouteGroup = { base: "", scope: "run", routes: [] };

/** True if its pattern begins with a parameter. Hono cannot route such a path beside others of more than one part. */
function isWild(path: string): boolean {
  return path.startsWith("/:");
}

/** The pattern of a path in Hono's notation. */
function patternOf(path: string): RegExp {
  const parts = path.split(/(:\w+(?:\{[^}]*\})?)/).map((part, place) => {
    if (place % 2 === 0) return part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    return /\{(.*)\}$/.exec(part)?.[1] ?? "[^/]+";
  });
  return new RegExp(`^${parts.join("")}$`);
}

/** `jobs` of `/jobs/:job`. */
function firstPart(path: string): string {
  return path.split("/", 2)[1] ?? "";
}

function openapiPath(path: string): string {
  return path.replace(/\{[^}]*\}/g, "").replace(/:(\w+)/g, "{$1}");
}

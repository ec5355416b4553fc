/**
 * The model that answers a request: the one that it names, or else the first that its client may use. A key may be limited
 * to some models; the others are no secret to it, and not for it.
 */
import type { Context } from "hono";
import { FaultError } from "../../src/faults/fault.ts";
import { type Principal, principalOf } from "./auth.ts";

/** The facts about a model that transports need. Pixels and steps. */
export interface ServedModel {
  readonly name: string;
  readonly defaultWidth: number;
  readonly defaultHeight: number;
  readonly defaultSteps: number;
}

/** Names of models that a fault shows. */
const MOST_NAMES = 20;

/** Chooses the model of a request by the name that it has, if it has one. */
export type ChooseModel = (name: string | undefined) => ServedModel;

export class ModelChoice {
  /** The default first. */
  readonly all: readonly ServedModel[];

  constructor(all: readonly ServedModel[]) {
    this.all = all;
  }

  get areSeveral(): boolean {
    return this.all.length > 1;
  }

  /** The models that the client of a request may use, the default first. */
  of(c: Context): readonly ServedModel[] {
    return this.all.filter(({ name }) => mayUse(principalOf(c), name));
  }

  /**
   * The model that a request of this client means.
   * @throws FaultError `model-not-found` with the names that there are, `model-forbidden`
   */
  choose(name: string | undefined, c: Context): ServedModel {
    const own = this.of(c);
    const found = name === undefined ? own[0] : own.find((model) => model.name === name);
    if (found !== undefined) return found;
    if (name === undefined || this.all.some((model) => model.name === name)) {
      const message = `This credential may not use the model '${name ?? this.all[0]?.name ?? ""}'`;
      throw new FaultError({ code: "model-forbidden", status: 403, message });
    }
    const names = own.map((model) => model.name);
    const more = names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : "";
    const message = `The model '${name}' is not served here; '${names.slice(0, MOST_NAMES).join("', '")}'${more} ${names.length > 1 ? "are" : "is"}`;
    const issues = [{ path: ["model"], message, type: "model_not_found" }];
    throw new FaultError({ code: "model-not-found", status: 404, message, field: "model", issues });
  }

  /**
   * The model that a client calls by an app's id, as fal writes them: by its name, or `owner/name`. Where one model answers,
   * any id means it.
   */
  named(app: string): string | undefined {
    if (!this.areSeveral) return undefined;
    return this.all.find(({ name }) => app === name || app.endsWith(`/${name}`))?.name ?? app;
  }
}

function mayUse({ models }: Principal, model: string): boolean {
  return models?.includes(model) ?? true;
}

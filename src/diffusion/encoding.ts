/** The tools of a family's `encode`: plans of a run, and results that are kept for the next one. */

import type { Plan } from "../graph/plan.ts";
import type { Leases, PlanSpec } from "../memory/model-memory.ts";
import type { InTurn } from "./device-turns.ts";
import type { EncodedPicture, Encoders, FamilyModel } from "./model.ts";

/** @param inTurn has what is done on the device done in turns */
export function encodersOf({ encoders }: Pick<FamilyModel, "encoders">, leases: Leases, inTurn: InTurn): Encoders {
  const owner = leases.set.ownerOf(encoders.flatMap(({ components }) => components));
  const plans: Encoders["plans"] = (specs = encoders) => leases.plans(specs);
  return {
    plans,
    async remember<T extends object>(key: readonly (string | number)[], make: () => Promise<T>): Promise<T> {
      const name = JSON.stringify(key);
      const known = owner.prompts.get(name) as T | undefined;
      if (known) return known;
      await plans(); // compiled before the turn: others have the device meanwhile
      const made = await inTurn(make);
      owner.prompts.set(name, made);
      return made;
    },
    async picture<T extends EncodedPicture>(
      spec: PlanSpec,
      key: readonly (string | number)[],
      make: (plan: Plan) => Promise<T>,
    ): Promise<T> {
      const { pictures } = leases.set.ownerOf(spec.components);
      const name = JSON.stringify([spec.part, spec.shape, key]);
      const known = pictures.get(name) as T | undefined;
      if (known) return known;
      const plan = await leases.plan(spec);
      const made = await inTurn(() => make(plan));
      pictures.set(name, made);
      return made;
    },
  };
}

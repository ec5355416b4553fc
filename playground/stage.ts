/**
 * The plate: where one picture develops in place. Each new state is laid over the one before and faded in, so that the
 * eye sees one picture become clear and not a row of pictures.
 */
import type { Shown } from "./connection.ts";

export interface Stage {
  /** Sets the plate's form before there is a picture. */
  shape(width: number, height: number): void;
  /** Lays a picture over what is there. */
  show(image: Shown, description: string): void;
  /** Dims what is there: it belongs to the run before. */
  dim(on: boolean): void;
  progress(fraction: number | undefined): void;
  /** Puts an earlier picture beside the present one, with a divider between; undefined takes it away. */
  compare(earlier: { image: Shown; name: string } | undefined, present?: string): void;
}

const FADE_MS = 260;

export function openStage(): Stage {
  const at = (id: string) => document.getElementById(id)!;
  const plate = at("plate");
  const pictures = at("pictures");
  const progress = at("progress");
  const compare = at("compare");
  const before = at("before");
  const divider = at("divider") as HTMLInputElement;
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const divide = () => compare.style.setProperty("--divider", `${divider.value}%`);
  divider.addEventListener("input", divide);

  return {
    shape(width, height) {
      const room = plate.closest("main")!;
      room.style.setProperty("--ratio", String(width / height));
      room.style.setProperty("--pixels", String(Math.max(width, height)));
    },
    show(image, description) {
      const next = new Image(image.width, image.height);
      next.src = image.url;
      next.alt = description;
      const put = () => {
        plate.classList.add("exposed");
        pictures.append(next);
        const older = Array.from(pictures.children).slice(0, -1);
        if (still.matches) for (const one of older) one.remove();
        else {
          next.animate([{ opacity: 0 }, { opacity: 1 }], { duration: FADE_MS, easing: "ease-out" }).finished.then(
            () => {
              for (const one of older) one.remove();
            },
            () => {},
          );
        }
      };
      // Undecoded it would flash; one that cannot be decoded is not shown.
      next.decode().then(put, () => {});
    },
    dim(on) {
      plate.classList.toggle("dimmed", on);
    },
    progress(fraction) {
      progress.classList.toggle("running", fraction !== undefined);
      const percent = Math.round((fraction ?? 0) * 100);
      progress.setAttribute("aria-valuenow", String(percent));
      progress.style.setProperty("--done", String(fraction ?? 0));
    },
    compare(earlier, present = "now") {
      compare.hidden = earlier === undefined;
      before.replaceChildren();
      if (earlier === undefined) return;
      const picture = new Image(earlier.image.width, earlier.image.height);
      picture.src = earlier.image.url;
      picture.alt = earlier.name;
      before.append(picture);
      at("before-tag").textContent = earlier.name;
      at("after-tag").textContent = present;
      divide();
    },
  };
}

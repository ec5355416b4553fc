/**
 * The plate, on which one picture develops in place. Each new state is laid over the one before and faded in, so that the
 * eye sees one picture become clear and not a row of pictures.
 */
import type { Shown } from "./connection.ts";

export interface Stage {
  /** Sets the proportions of the empty plate. A plate with a picture keeps the picture's. */
  shape(width: number, height: number): void;
  /**
   * Lays a picture over the one that is there, and gives the plate its proportions.
   * @param side the longer side of the finished picture in pixels: previews may be smaller
   */
  show(image: Shown, description: string, side: number): void;
  /** Dims what is there: it belongs to the run before. */
  dim(on: boolean): void;
  /** @param fraction of the run that is done, 0 to 1; undefined: nothing runs */
  progress(fraction: number | undefined): void;
  /** @param fraction of the preparation that is done, 0 to 1 */
  preparing(fraction: number, words: string): void;
  /** Puts an earlier picture beside the present one, with a divider between; undefined takes it away. */
  compare(earlier: { image: Shown; name: string } | undefined, present?: string): void;
}

const FADE_MS = 260;
/** Proportions that differ by less are the same: the sides of a small preview are rounded. */
const SAME = 0.02;

export function openStage(): Stage {
  const at = (id: string) => document.getElementById(id)!;
  const plate = at("plate");
  const pictures = at("pictures");
  const progress = at("progress");
  const compare = at("compare");
  const before = at("before");
  const divider = at("divider") as HTMLInputElement;
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  /** The proportions of the newest picture. */
  let ratio = 0;

  const proportion = (width: number, height: number, side: number) => {
    const stage = plate.closest<HTMLElement>(".stage")!;
    stage.style.setProperty("--ratio", String(width / height));
    stage.style.setProperty("--pixels", String(side));
  };
  const bar = (fraction: number | undefined, words: string | undefined) => {
    progress.classList.toggle("running", fraction !== undefined);
    progress.classList.toggle("preparing", words !== undefined);
    progress.setAttribute("aria-valuenow", String(Math.round((fraction ?? 0) * 100)));
    if (words === undefined) progress.removeAttribute("aria-valuetext");
    else progress.setAttribute("aria-valuetext", words);
    progress.style.setProperty("--done", String(fraction ?? 0));
  };
  const divide = () => compare.style.setProperty("--divider", `${divider.value}%`);
  divider.addEventListener("input", divide);

  return {
    shape(width, height) {
      if (ratio === 0) proportion(width, height, Math.max(width, height));
    },
    show(image, description, side) {
      const next = new Image(image.width, image.height);
      next.src = image.url;
      next.alt = description;
      const put = () => {
        const older = Array.from(pictures.children);
        const { naturalWidth, naturalHeight } = next;
        const last = ratio;
        ratio = naturalWidth / naturalHeight;
        plate.classList.add("exposed");
        proportion(naturalWidth, naturalHeight, Math.max(naturalWidth, naturalHeight, side));
        pictures.append(next);
        // A picture of other proportions does not fit onto this plate, not even while it fades.
        if (still.matches || Math.abs(ratio / last - 1) > SAME) for (const one of older) one.remove();
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
      bar(fraction, undefined);
    },
    preparing: bar,
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

/**
 * The states of one picture, in order. Choosing one lays it beside the finished picture; choosing it again, or Escape,
 * takes it away. The strip is one stop of the Tab key; arrow keys go along it.
 */

import type { Shown } from "./connection.ts";

export interface Frame {
  readonly image: Shown;
  readonly name: string;
}

export interface Filmstrip {
  add(frame: Frame): void;
  clear(): void;
  /** Takes the choice away, if there is one. */
  unchoose(): boolean;
}

export function openFilmstrip(strip: HTMLElement, chosen: (frame: Frame | undefined) => void): Filmstrip {
  let frames: Frame[] = [];
  let choice: number | undefined;
  const cells = () => Array.from(strip.children) as HTMLElement[];

  function choose(index: number | undefined): void {
    choice = index === choice ? undefined : index;
    cells().forEach((cell, at) => {
      cell.setAttribute("aria-selected", String(at === choice));
    });
    chosen(choice === undefined ? undefined : frames[choice]);
  }

  function reach(index: number): void {
    const all = cells();
    const cell = all[Math.max(0, Math.min(all.length - 1, index))];
    for (const other of all) other.tabIndex = other === cell ? 0 : -1;
    cell?.focus();
  }

  strip.addEventListener("click", (event) => {
    const cell = (event.target as Element).closest<HTMLElement>("[role=option]");
    if (cell === null) return;
    const index = cells().indexOf(cell);
    reach(index);
    choose(index);
  });
  strip.addEventListener("keydown", (event) => {
    const index = cells().indexOf(event.target as HTMLElement);
    if (index < 0) return;
    const goal = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: frames.length - 1 }[event.key];
    if (goal !== undefined) reach(goal);
    else if (event.key === "Enter" || event.key === " ") choose(index);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return {
    add(frame) {
      frames.push(frame);
      strip.hidden = false;
      const cell = document.createElement("div");
      cell.setAttribute("role", "option");
      cell.setAttribute("aria-selected", "false");
      cell.setAttribute("aria-label", frame.name);
      cell.tabIndex = frames.length === 1 ? 0 : -1;
      const picture = new Image();
      picture.src = frame.image.url;
      picture.alt = "";
      const name = document.createElement("span");
      name.textContent = frame.name;
      cell.append(picture, name);
      strip.append(cell);
      strip.scrollTo({ left: strip.scrollWidth });
    },
    clear() {
      frames = [];
      choice = undefined;
      strip.replaceChildren();
      strip.hidden = true;
    },
    unchoose() {
      if (choice === undefined) return false;
      choose(choice);
      return true;
    },
  };
}

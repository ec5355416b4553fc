/** A picture that is dropped on the page gives back the settings that stand in its file, whichever program has written them. */
import { readInfotext, type SettingsInPicture, settingsOf } from "../src/image/infotext.ts";
import { textsOf } from "../src/image/picture-texts.ts";

/** Bytes of a file that are read: the largest picture of this server as PNG. */
const MAX_BYTES = 24 * 1024 * 1024;

/** The settings in a file; undefined if there are none. */
export async function settingsIn(file: Blob): Promise<SettingsInPicture | undefined> {
  const bytes = new Uint8Array(await file.slice(0, MAX_BYTES).arrayBuffer());
  const { infotext } = await textsOf(bytes);
  return infotext.trim() === "" ? undefined : settingsOf(readInfotext(infotext));
}

/** Hears of files that are dropped anywhere on the page, and marks the page while one is held over it. */
export function wireDrop(page: HTMLElement, dropped: (file: File) => void): void {
  const hasFile = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  const mark = (isOver: boolean) => page.classList.toggle("dropping", isOver);
  page.addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    // Without this the browser opens the file in place of the page.
    event.preventDefault();
    mark(true);
  });
  page.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) mark(false);
  });
  page.addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    mark(false);
    const file = event.dataTransfer?.files[0];
    if (file !== undefined) dropped(file);
  });
}

/** The bar that commands show on a terminal; it is gone when they are done. */
import { SingleBar } from "cli-progress";

/** `format` as cli-progress has it, such as `{bar} step {value}/{total}`. */
export function progressBar(screen: NodeJS.WritableStream, format: string): SingleBar {
  return new SingleBar({
    format,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 32,
    stream: screen,
    hideCursor: true,
    clearOnComplete: true,
  });
}

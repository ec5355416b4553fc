/** The screen of a command while its model is made ready: a bar on a terminal, elsewhere a line now and then. */
import type { LoadProgress } from "../src/engine/contract.ts";
import { progressBar } from "./progress-bar.ts";

export interface LoadingScreen {
  show(progress: LoadProgress): void;
  end(): void;
}

/** Milliseconds between two lines; a model that is ready sooner is not worth one. */
const LINE_EVERY_MS = 1000;

export function loadingScreen(screen: NodeJS.WritableStream & { readonly isTTY?: boolean }): LoadingScreen {
  return screen.isTTY ? bar(screen) : lines(screen);
}

function bar(screen: NodeJS.WritableStream): LoadingScreen {
  const single = progressBar(screen, "{bar} {what} {percentage}%  {duration_formatted}");
  let shown: string | undefined;
  const end = () => {
    if (shown !== undefined) single.stop();
    shown = undefined;
  };
  return {
    show({ what, done, total }) {
      if (shown !== what) {
        end();
        single.start(total, done, { what });
        shown = what;
      }
      single.update(done, { what });
    },
    end,
  };
}

function lines(screen: NodeJS.WritableStream): LoadingScreen {
  const begun = performance.now();
  let last = begun;
  let isShown = false;
  const write = (text: string) => {
    last = performance.now();
    screen.write(`getting ready: ${text}  ${((last - begun) / 1000).toFixed(1)} s\n`);
  };
  return {
    show({ what, done, total }) {
      if (performance.now() - last < LINE_EVERY_MS) return;
      write(`${what} ${Math.floor((100 * done) / Math.max(total, 1))}%`);
      isShown = true;
    },
    end() {
      if (isShown) write("done");
      isShown = false;
    },
  };
}

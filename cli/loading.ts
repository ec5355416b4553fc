/** What a command shows while its model is made ready: a bar on a terminal, elsewhere a line now and then. */
import type { LoadProgress } from "../src/engine/contract.ts";
import { progressBar } from "./progress-bar.ts";

export interface LoadingScreen {
  show(progress: LoadProgress): void;
  end(): void;
}

/** What takes less is not worth a line. */
const LINE_EVERY_MS = 2000;

export function loadingScreen(screen: NodeJS.WritableStream & { readonly isTTY?: boolean }): LoadingScreen {
  return screen.isTTY ? bar(screen) : lines(screen);
}

function bar(screen: NodeJS.WritableStream): LoadingScreen {
  const single = progressBar(screen, "{bar} {what} {percentage}%");
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
  return {
    show({ what, done, total }) {
      const now = performance.now();
      if (now - last < LINE_EVERY_MS) return;
      last = now;
      const percent = Math.floor((100 * done) / Math.max(total, 1));
      screen.write(`getting ready: ${what} ${percent}%  ${((now - begun) / 1000).toFixed(1)} s\n`);
    },
    end() {},
  };
}

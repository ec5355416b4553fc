import { t as progressBar } from "./progress-bar-Ci6L2ji0.js";
//#region src/cli/loading.ts
/** What takes less is not worth a line. */
const LINE_EVERY_MS = 2e3;
function loadingScreen(screen) {
	return screen.isTTY ? bar(screen) : lines(screen);
}
function bar(screen) {
	const single = progressBar(screen, "{bar} {what} {percentage}%");
	let shown;
	const end = () => {
		if (shown !== void 0) single.stop();
		shown = void 0;
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
		end
	};
}
function lines(screen) {
	const begun = performance.now();
	let last = begun;
	return {
		show({ what, done, total }) {
			const now = performance.now();
			if (now - last < LINE_EVERY_MS) return;
			last = now;
			const percent = Math.floor(100 * done / Math.max(total, 1));
			screen.write(`getting ready: ${what} ${percent}%  ${((now - begun) / 1e3).toFixed(1)} s\n`);
		},
		end() {}
	};
}
//#endregion
export { loadingScreen };

import { SingleBar } from "cli-progress";
//#region src/cli/progress-bar.ts
/** The bar that commands show on a terminal; it is gone when they are done. */
/** `format` as cli-progress has it, such as `{bar} step {value}/{total}`. */
function progressBar(screen, format) {
	return new SingleBar({
		format,
		barCompleteChar: "█",
		barIncompleteChar: "░",
		barsize: 32,
		stream: screen,
		hideCursor: true,
		clearOnComplete: true
	});
}
//#endregion
export { progressBar as t };

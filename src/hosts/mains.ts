/**
 * The files that a thread and a process of ours begin with. The build puts them beside this one. In a checkout the sources
 * run through a loader that a thread does not inherit, so the files there load it first.
 */
const isSource = import.meta.url.endsWith(".ts");
const mainFile = (name: string) => new URL(isSource ? `../../tooling/${name}.mjs` : `./${name}.js`, import.meta.url);

/** The module of an engine in a process. */
export const ENGINE_MAIN = isSource ? new URL("./engine/engine-main.ts", import.meta.url) : mainFile("engine-main");
export const THREAD_MAIN = mainFile("thread-main");
export const PROCESS_MAIN = mainFile("process-main");

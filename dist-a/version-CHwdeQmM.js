//#endregion
//#region src/cli/version.ts
/** The version, from the package itself. */
const version = "0.1.0";
//#endregion
export { version as t };

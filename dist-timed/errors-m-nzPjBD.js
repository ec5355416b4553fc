//#region src/image/errors.ts
var ImageError = class extends Error {
	code;
	constructor(code, message, options) {
		super(message, options);
		this.name = "ImageError";
		this.code = code;
	}
};
//#endregion
export { ImageError as t };

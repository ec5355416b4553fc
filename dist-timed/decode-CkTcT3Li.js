import { t as ImageError } from "./errors-m-nzPjBD.js";
import sharp from "sharp";
//#region src/image/decode.ts
/**
* JPEG, PNG or WebP to pixels, for pictures that strangers send.
*
* Only the three formats we write are read, told by their first bytes: libvips would also open SVG, PDF and others,
* each of them a larger thing to be attacked through. The pixel limit is checked on the header, before pixels exist.
*/
/** SDXL's 1024 × 1024 sixteen times over: what a camera makes is welcome, it is resized anyway. */
const DEFAULT_MAX_PIXELS = 4096 * 4096;
/** A hostile file may decode slowly; nothing real takes this long. */
const DECODE_SECONDS = 20;
/**
* Decodes to 8-bit sRGB, turned as EXIF says, transparency laid on white; alpha is 255 everywhere.
*
* @throws ImageError
*/
async function decodePicture(bytes, options = {}) {
	const { maxPixels = DEFAULT_MAX_PIXELS, width, height } = options;
	if (pictureFormat(bytes) === void 0) throw new ImageError("image-format", "is not a JPEG, PNG or WebP picture");
	try {
		const header = await sharp(bytes, { limitInputPixels: false }).metadata();
		if (header.width * header.height > maxPixels) throw new ImageError("image-too-large", `has ${header.width}x${header.height} pixels; at most ${maxPixels} in all are allowed`);
		let image = sharp(bytes, {
			limitInputPixels: maxPixels,
			failOn: "error"
		}).timeout({ seconds: DECODE_SECONDS }).autoOrient().flatten({ background: "white" }).toColourspace("srgb");
		if (width !== void 0 && height !== void 0) image = image.resize({
			width,
			height,
			fit: "fill"
		});
		const { data, info } = await image.ensureAlpha().raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
		return {
			width: info.width,
			height: info.height,
			rgba: new Uint8Array(data.buffer, data.byteOffset, data.length)
		};
	} catch (error) {
		if (error instanceof ImageError) throw error;
		throw new ImageError("image-damaged", "cannot be decoded; the file is damaged or cut short", { cause: error });
	}
}
/** The format that the first bytes announce, or undefined. */
function pictureFormat(bytes) {
	const starts = (at, ...magic) => magic.every((byte, index) => bytes[at + index] === byte);
	if (starts(0, 255, 216, 255)) return "jpeg";
	if (starts(0, 137, 80, 78, 71, 13, 10, 26, 10)) return "png";
	if (starts(0, 82, 73, 70, 70) && starts(8, 87, 69, 66, 80)) return "webp";
}
//#endregion
export { decodePicture };

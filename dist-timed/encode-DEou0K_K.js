import sharp from "sharp";
//#region src/image/encode.ts
/**
* Pixels to JPEG, PNG or WebP.
*
* libvips does the work on its own threads (sharp), so the event loop goes on serving while a picture is packed.
* It can shrink a picture on the way, as previews want; it knows nothing of data URIs: that is how one transport happens to carry bytes.
*/
/** JPEG quality of a picture that is replaced in a moment. */
const PREVIEW_QUALITY = 70;
/** JPEG and WebP quality of a picture to keep. */
const RESULT_QUALITY = 95;
/** From here on colour is kept at full resolution (4:4:4): at preview quality nobody sees it, at 95 it is the error. */
const FULL_COLOUR_QUALITY = 90;
/**
* Encodes `picture`.
*
* An opaque picture is stored without alpha. JPEG has none: transparency is laid on white.
*
* @param options.quality 1..100 for JPEG and WebP; PNG is exact and ignores it
* @param options.maxSide pixels of the longer side; a larger picture is shrunk to it, a smaller one left as it is
* @throws RangeError when the bytes are not `width * height * 4`
*/
async function encodePicture(picture, options = {}) {
	const { width, height, rgba } = picture;
	const { format = "jpeg", quality = 95, maxSide } = options;
	if (rgba.byteLength !== width * height * 4) throw new RangeError(`a picture of ${width}x${height} has ${width * height * 4} bytes, not ${rgba.byteLength}`);
	let image = sharp(rgba, { raw: {
		width,
		height,
		channels: 4
	} });
	if (isOpaque(rgba)) image = image.removeAlpha();
	else if (format === "jpeg") image = image.flatten({ background: "white" });
	if (maxSide !== void 0) image = image.resize({
		width: maxSide,
		height: maxSide,
		fit: "inside",
		withoutEnlargement: true
	});
	switch (format) {
		case "jpeg":
			image = image.jpeg({
				quality,
				chromaSubsampling: quality >= FULL_COLOUR_QUALITY ? "4:4:4" : "4:2:0"
			});
			break;
		case "png":
			image = image.png();
			break;
		case "webp":
			image = image.webp({ quality });
			break;
		default:
	}
	const { data, info } = await image.toBuffer({ resolveWithObject: true });
	return {
		bytes: data,
		content_type: `image/${format}`,
		width: info.width,
		height: info.height
	};
}
function isOpaque(rgba) {
	for (let alpha = 3; alpha < rgba.length; alpha += 4) if (rgba[alpha] !== 255) return false;
	return true;
}
//#endregion
export { RESULT_QUALITY as n, encodePicture as r, PREVIEW_QUALITY as t };

import { n as RESULT_QUALITY, r as encodePicture, t as PREVIEW_QUALITY } from "./encode-DEou0K_K.js";
export { PREVIEW_QUALITY, RESULT_QUALITY, encodePicture };

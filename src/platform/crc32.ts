/** The checksum of PNG's chunks. */
export { crc32 } from "node:zlib";

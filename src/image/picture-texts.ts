/** The settings that stand in a picture's file. Pure, as what it joins: the server and the page read files with it. */
import { exifComment } from "./exif-comment.ts";
import { isPng, pngTexts } from "./png-texts.ts";

/** The keyword of the settings in a PNG, as the web UI has it. */
export const INFOTEXT_KEYWORD = "parameters";

export interface PictureTexts {
  /** The settings; empty if there are none. */
  readonly infotext: string;
  /** Other texts, by their keywords. */
  readonly others: ReadonlyMap<string, string>;
}

/** Reads a PNG, JPEG or WebP; of anything else there is no text. */
export async function textsOf(bytes: Uint8Array): Promise<PictureTexts> {
  if (!isPng(bytes)) return { infotext: exifComment(bytes) ?? "", others: new Map() };
  const texts = new Map(await pngTexts(bytes));
  const infotext = texts.get(INFOTEXT_KEYWORD) ?? "";
  texts.delete(INFOTEXT_KEYWORD);
  return { infotext, others: texts };
}

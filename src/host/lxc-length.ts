import { utf8Bytes } from '../model/utf8.ts';

/** Whether a text has more bytes of UTF-8 than that. */
export function isLonger(text: string, bytes: number): boolean {
  // A UTF-16 unit is one to three bytes of UTF-8, so most texts need no encoding.
  if (text.length > bytes) return true;
  return text.length * 3 > bytes && utf8Bytes(text).length > bytes;
}

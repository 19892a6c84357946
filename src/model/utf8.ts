/** Encodes a string as UTF-8 bytes, without TextEncoder, which not every engine has. */
export function utf8Bytes(text: string): number[] {
  const bytes: number[] = [];
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 0x3f));
    else if (code < 0x10000)
      bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f));
    else
      bytes.push(
        0xf0 | (code >> 18),
        0x80 | ((code >> 12) & 0x3f),
        0x80 | ((code >> 6) & 0x3f),
        0x80 | (code & 0x3f),
      );
  }
  return bytes;
}

/** How many bytes follow a first one, and between which the next one must be; none for a bad one. */
function following(
  first: number,
): { readonly count: number; readonly min: number; readonly max: number } | undefined {
  if (first >= 0xc2 && first <= 0xdf) return { count: 1, min: 0x80, max: 0xbf };
  if (first >= 0xe0 && first <= 0xef) {
    // Neither a longer form than needed nor half of a surrogate pair.
    return { count: 2, min: first === 0xe0 ? 0xa0 : 0x80, max: first === 0xed ? 0x9f : 0xbf };
  }
  if (first >= 0xf0 && first <= 0xf4) {
    return { count: 3, min: first === 0xf0 ? 0x90 : 0x80, max: first === 0xf4 ? 0x8f : 0xbf };
  }
  return undefined;
}

/**
 * Decodes bytes, each given as a character, as TextDecoder does: U+FFFD stands for what is no
 * UTF-8, one for each part that could have begun a character.
 */
export function decodeUtf8(bytes: string): string {
  let text = '';
  let plain = 0;
  for (let at = 0; at < bytes.length;) {
    const first = bytes.charCodeAt(at);
    if (first < 0x80) {
      at++;
      continue;
    }
    text += bytes.slice(plain, at);
    const form = following(first);
    let next = at + 1;
    let code = 0xfffd;
    if (form !== undefined) {
      let { min, max } = form;
      const end = next + form.count;
      let read = first & (0x3f >> form.count);
      for (; next < end; next++) {
        const byte = bytes.charCodeAt(next);
        if (!(byte >= min && byte <= max)) break;
        read = (read << 6) | (byte & 0x3f);
        min = 0x80;
        max = 0xbf;
      }
      if (next === end) code = read;
    }
    text += String.fromCodePoint(code);
    at = next;
    plain = next;
  }
  return plain === 0 ? bytes : text + bytes.slice(plain);
}

/** Whether bytes, each given as a character, are UTF-8. */
export function isUtf8(bytes: string): boolean {
  // U+FFFD itself is three bytes.
  return !decodeUtf8(bytes.replaceAll('\xef\xbf\xbd', '')).includes('\ufffd');
}

/** Callers' own words in messages. */

const shownLength = 64;

/**
 * A caller's own word in a message to that caller: shortened, and without characters that would
 * change how the message looks.
 */
export function quoted(text: string): string {
  const plain = text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}"]/gu, '?');
  const characters = Array.from(plain);
  const short = characters.length > shownLength;
  return `"${short ? `${characters.slice(0, shownLength).join('')}...` : plain}"`;
}

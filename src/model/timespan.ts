const units = new Set(
  (
    'usec us msec ms seconds second sec s minutes minute min m hours hour hr h ' +
    'days day d weeks week w'
  ).split(' '),
);

/** One number with its unit. It matches a text in only one way, so matching takes linear time. */
const part = /\d+(?:\.\d+)?[ \t]*(?:([a-z]+)[ \t]*)?/y;

/**
 * Whether systemd accepts the text as a time span (systemd.time(7)): `90`, `5min`, `1min 30s`,
 * `infinity`. A bare number counts seconds. Months and years are refused on purpose, because in a
 * timeout they are typing errors.
 */
export function isTimespan(text: string): boolean {
  if (text === 'infinity') return true;
  if (text === '' || text.length > 64) return false;
  part.lastIndex = 0;
  while (part.lastIndex < text.length) {
    const [found, unit = 's'] = part.exec(text) ?? [];
    if (found === undefined || !units.has(unit)) return false;
  }
  return true;
}

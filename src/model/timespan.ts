/** Time spans, in systemd's notation (systemd.time(7)). */

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

const unitUsec: Readonly<Record<string, number>> = {
  us: 1,
  usec: 1,
  ms: 1e3,
  msec: 1e3,
  '': 1e6,
  s: 1e6,
  sec: 1e6,
  second: 1e6,
  seconds: 1e6,
  m: 60e6,
  min: 60e6,
  minute: 60e6,
  minutes: 60e6,
  h: 3600e6,
  hr: 3600e6,
  hour: 3600e6,
  hours: 3600e6,
  d: 86_400e6,
  day: 86_400e6,
  days: 86_400e6,
  w: 604_800e6,
  week: 604_800e6,
  weeks: 604_800e6,
};

/** Microseconds of `90`, `5min`, `1min 30s`; null for `infinity`; undefined for no time span. */
export function parseTimespan(text: string): bigint | null | undefined {
  const span = text.trim();
  if (!isTimespan(span)) return undefined;
  if (span === 'infinity') return null;
  let usec = 0;
  for (const [, number = '0', unit = ''] of span.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]*)/g)) {
    usec += Number(number) * (unitUsec[unit] ?? 0);
  }
  return Number.isSafeInteger(Math.round(usec)) ? BigInt(Math.round(usec)) : undefined;
}

const units =
  'usec|us|msec|ms|seconds|second|sec|s|minutes|minute|min|m|hours|hour|hr|h|days|day|d|weeks|week|w';
const timespan = new RegExp(`^(?:\\d+(?:\\.\\d+)?\\s*(?:${units})?(?:\\s+|$|(?=\\d)))+$`);

/**
 * Whether systemd reads the text as a time span (systemd.time(7)): `90`, `5min`, `1min 30s`,
 * `infinity`. A bare number counts seconds. Months and years are left out on purpose: as a
 * timeout they are typing errors.
 */
export function isTimespan(text: string): boolean {
  return text === 'infinity' || (text.length <= 64 && timespan.test(text));
}

/** Points in time, in systemd's notation (systemd.time(7)). */

/** `Sun 2026-11-22 10:00:00 UTC`, in the local time zone. */
export function formatTimestamp(usec: bigint): string {
  const time = new Date(Number(usec / 1000n));
  const format = new Intl.DateTimeFormat('en-US', {
    weekday: 'short',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
    timeZoneName: 'short',
  });
  const parts = new Map(format.formatToParts(time).map(({ type, value }) => [type, value]));
  const part = (type: Intl.DateTimeFormatPartTypes): string => parts.get(type) ?? '';
  const date = `${part('year')}-${part('month')}-${part('day')}`;
  const clock = `${part('hour')}:${part('minute')}:${part('second')}`;
  return `${part('weekday')} ${date} ${clock} ${part('timeZoneName')}`;
}

/** `10:00:00`, in the local time zone. */
export function formatClock(time: Date): string {
  const two = (number: number): string => String(number).padStart(2, '0');
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':');
}

/** `5min 3s ago` */
export function formatAgo(usec: bigint, nowUsec: bigint): string {
  const seconds = (nowUsec - usec) / 1_000_000n;
  if (seconds < 0n) return 'in the future';
  if (seconds < 1n) return 'just now';
  return `${formatSpan(nowUsec - usec)} ago`;
}

/** `5min 3s`: the two largest units of a time in microseconds; `0s` for less than a second. */
export function formatSpan(usec: bigint): string {
  const seconds = usec / 1_000_000n;
  if (seconds < 1n) return '0s';
  const units: [string, bigint][] = [
    ['w', 604_800n],
    ['d', 86_400n],
    ['h', 3600n],
    ['min', 60n],
    ['s', 1n],
  ];
  const first = units.findIndex(([, length]) => seconds >= length);
  let rest = seconds;
  const words = units.slice(first, first + 2).flatMap(([name, length]) => {
    const count = rest / length;
    rest %= length;
    return count > 0n ? [`${count}${name}`] : [];
  });
  return words.join(' ');
}

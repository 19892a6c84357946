import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isTimespan } from '../../src/model/timespan.ts';

/** Which of the texts the real systemd takes for time spans. */
function takenBySystemd(texts: readonly string[]): string[] {
  return texts.filter(
    (text) => spawnSync('systemd-analyze', ['timespan', '--', text]).status === 0,
  );
}

const valid = [
  '0',
  '90',
  '90s',
  '5min',
  '5 min',
  '1min 30s',
  '1min30s',
  '1h 2min 3.5s',
  '2 weeks',
  '1d',
  '100ms',
  '250us',
  '1.5h',
  'infinity',
];
const invalid = [
  '',
  ' ',
  's',
  'soon',
  '-5',
  '5 parsecs',
  '1,5s',
  'infinity s',
  '5min,',
  '1e3',
  '0x10',
  '5\nExecStart=/bin/sh',
  '5%n',
];

test.each(valid)('%j is a time span', (text) => {
  expect(isTimespan(text)).toBe(true);
});

test.each(invalid)('%j is none', (text) => {
  expect(isTimespan(text)).toBe(false);
});

test('a typing error at the end of a long text is found at once', () => {
  const before = performance.now();
  expect(isTimespan(`${'1'.repeat(63)}!`)).toBe(false);
  expect(isTimespan(`${'1s'.repeat(31)}1!`)).toBe(false);
  expect(performance.now() - before).toBeLessThan(1000);
});

test('months and years are none on purpose', () => {
  expect(['1 month', '1M', '2y', '1 year'].filter(isTimespan)).toEqual([]);
});

test('systemd takes what is taken here', () => {
  expect(takenBySystemd(valid)).toEqual(valid);
  const part = fc.constantFrom('1', '30', '.5', '2.', 's', 'min', 'ms', 'h', ' ', '  ', 'w', 'us');
  const generated = fc
    .sample(fc.array(part, { minLength: 1, maxLength: 5 }), { numRuns: 400, seed: 5 })
    .map((parts) => parts.join(''));
  const taken = [...new Set(generated.filter(isTimespan))];
  expect(taken.length).toBeGreaterThan(20);
  expect(takenBySystemd(taken)).toEqual(taken);
});

test('systemd refuses what is refused here, but for blanks, months and years', () => {
  expect(takenBySystemd(invalid.filter((text) => text.trim() !== ''))).toEqual([]);
});

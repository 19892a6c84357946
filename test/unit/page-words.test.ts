import { describe, expect, test } from 'vitest';
import { jobOf } from '../../src/cockpit/objects.ts';
import { unwrap } from '../../src/cockpit/values.ts';
import { parseSize, sizeText, spanText, stallWords } from '../../src/cockpit/words.ts';

describe('how long a guest stood still', () => {
  const told = (verb: string, stallUsec: number) =>
    stallWords(
      jobOf('/job', unwrap({ Verb: { t: 's', v: verb }, StallUsec: { t: 't', v: stallUsec } })),
    );

  test.each([
    ['balloon', 1_234_567, ['The guest stood still for 1235 ms.']],
    ['balloon', 400, ['The guest did not stand still.']],
    // 2^64-1, as the two bridges say it: the kernel does not count.
    ['balloon', 2 ** 64, []],
    ['balloon', -1, []],
    ['start', 0, []],
  ])('%s, %d µs', (verb, usec, words) => {
    expect(told(verb, usec)).toEqual(words);
  });
});

test.each([
  ['512M', 512 * 2 ** 20],
  ['1.5 GiB', 1.5 * 2 ** 30],
  ['4096', 4096],
  ['-1', undefined],
  ['9999999 EiB', undefined],
  ['ten', undefined],
])('%s as a size', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test('sizes and spans for people', () => {
  expect(sizeText(1.5 * 2 ** 30)).toBe('1.5 GiB');
  expect(sizeText(undefined, 'no limit')).toBe('no limit');
  expect([0.5e6, 61e6, 7_260e6, 90_000e6].map(spanText)).toEqual([
    ...['0 s', '1 min', '2 h 1 min', '1 d 1 h'],
  ]);
});

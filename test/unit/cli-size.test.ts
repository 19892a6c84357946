import { formatBytes, unlimited } from '../../src/model/memory-limit.ts';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { changedLimit, formatLimit, parseSizeChange } from '../../src/cli/size.ts';
import { parseBytes } from '../../src/model/byte-size.ts';

const gigabyte = 2n ** 30n;
const anyBytes = fc.bigInt({ min: 0n, max: unlimited - 1n });

describe('formatBytes', () => {
  test.each([
    [0n, '0B'],
    [17n, '17B'],
    [1023n, '1023B'],
    [1024n, '1K'],
    [1536n, '1.5K'],
    [126_353_408n, '120.5M'],
    [2n * gigabyte, '2G'],
    // Cut, not rounded: 2G is not there yet.
    [2n * gigabyte - 1n, '1.9G'],
    [unlimited - 1n, '15.9E'],
  ])('%s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  test('is read back as at most the same size, less than a tenth of the unit away', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        const back = parseBytes(formatBytes(bytes)) ?? -1n;
        const unit = formatBytes(bytes).slice(-1);
        const factor = unit === 'B' ? 1n : 1024n ** BigInt(1 + 'KMGTPE'.indexOf(unit));
        expect(back <= bytes && (bytes - back) * 10n <= factor).toBe(true);
      }),
    );
  });

  test('takes at most seven characters, so that columns stay narrow', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        expect(formatBytes(bytes).length).toBeLessThanOrEqual(7);
      }),
    );
  });

  test('no limit has a word', () => {
    expect(formatLimit(unlimited)).toBe('max');
    expect(formatLimit(1024n)).toBe('1K');
  });
});

describe('parseBytes', () => {
  test.each([
    ['4096', 4096n],
    ['17B', 17n],
    ['2G', 2n * gigabyte],
    ['2GiB', 2n * gigabyte],
    ['1.5G', (3n * gigabyte) / 2n],
    ['0.001K', 1n],
    ['15E', 15n * 2n ** 60n],
  ])('%s', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  test.each(['', 'G', '2g', '2GB', '1.5', '1.5B', '-1', '+1', '2 G', '0x10', '1e3', '16E', '1,5G'])(
    'not "%s"',
    (text) => {
      expect(parseBytes(text)).toBeUndefined();
    },
  );

  test('whole numbers stand for themselves', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        expect(parseBytes(String(bytes))).toBe(bytes);
      }),
    );
  });

  test('any text gives a size below "no limit", or nothing', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'0123456789.KMGTPEiB+-% '.split(/(?=.)/)) }),
        (text) => {
          const bytes = parseBytes(text);
          expect(bytes === undefined || (bytes >= 0n && bytes < unlimited)).toBe(true);
        },
      ),
    );
  });
});

function limitAfter(size: string, present: bigint): bigint {
  return changedLimit(parseSizeChange(size), present);
}

describe('the size of a balloon', () => {
  test.each([
    ['2G', gigabyte, 2n * gigabyte],
    ['2G', unlimited, 2n * gigabyte],
    ['max', gigabyte, unlimited],
    ['+512M', gigabyte, gigabyte + gigabyte / 2n],
    ['-512M', gigabyte, gigabyte / 2n],
    ['-25%', gigabyte, (gigabyte * 3n) / 4n],
    ['+25%', 1000n, 1250n],
    ['+12.5%', 1000n, 1125n],
    ['-99.99%', 10_000n, 1n],
    ['+300%', 1000n, 4000n],
  ])('%s of %s is %s', (size, present, limit) => {
    expect(limitAfter(size, present)).toBe(limit);
  });

  test.each([
    ['25%', /of what\? Write \+25% or -25%/],
    ['lots', /"lots" is not a size/],
    ['', /is not a size/],
    ['+', /is not a size/],
    ['+-1G', /is not a size/],
    ['+max', /is not a size/],
    ['1.234%', /is not a size/],
  ])('"%s" is refused', (size, message) => {
    expect(() => parseSizeChange(size)).toThrow(message);
  });

  test.each([
    ['+1G', unlimited, /no memory limit to start from/],
    ['-25%', unlimited, /no memory limit to start from/],
    ['-1G', gigabyte, /nothing would be left of its memory limit, which is 1G/],
    ['-2G', gigabyte, /nothing would be left/],
    ['-100%', gigabyte, /nothing would be left/],
    ['+15E', 2n ** 63n, /too large/],
  ])('%s of %s is refused', (size, present, message) => {
    expect(() => limitAfter(size, present)).toThrow(message);
  });

  test('what is added can be taken away again', () => {
    const size = fc.bigInt({ min: 1n, max: 2n ** 62n });
    fc.assert(
      fc.property(size, size, (present, change) => {
        expect(limitAfter(`-${change}`, limitAfter(`+${change}`, present))).toBe(present);
      }),
    );
  });

  test('per cent down stays above nothing, per cent up never goes down', () => {
    const present = fc.bigInt({ min: 1n, max: 2n ** 50n });
    fc.assert(
      fc.property(present, fc.integer({ min: 0, max: 99 }), (limit, percent) => {
        const less = limitAfter(`-${percent}%`, limit);
        expect(less > 0n && less <= limit).toBe(true);
        expect(limitAfter(`+${percent}%`, limit) >= limit).toBe(true);
      }),
    );
  });
});

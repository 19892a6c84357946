import { isUtf8 as isUtf8OfNode } from 'node:buffer';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeUtf8, isUtf8 } from '../../src/model/utf8.ts';

/** Bytes that begin, continue or break characters. */
const bytes = fc
  .array(
    fc.oneof(
      fc.constantFrom(0x41, 0x7f, 0x80, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe2, 0xed, 0xef),
      fc.constantFrom(0xf0, 0xf4, 0xf5, 0xff, 0x9f, 0x90, 0x8f, 0xbd),
      fc.integer({ min: 0, max: 255 }),
    ),
    { maxLength: 12 },
  )
  .map((list) => Buffer.from(list));

test('bytes are decoded as Node decodes them', () => {
  fc.assert(
    fc.property(bytes, (buffer) => {
      const text = buffer.toString('latin1');
      expect(decodeUtf8(text)).toBe(buffer.toString('utf8'));
      expect(isUtf8(text)).toBe(isUtf8OfNode(buffer));
    }),
    { numRuns: 20_000 },
  );
});

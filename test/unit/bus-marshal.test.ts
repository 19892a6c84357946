import fc from 'fast-check';
import dbusMarshall from 'dbus-next/lib/marshall-compat.js';
import { Message } from 'dbus-next';
import { describe, expect, test } from 'vitest';
import { encodeFrame, FrameReader, type Frame } from '../../src/bus/frame.ts';
import { escapeLabel, unescapeLabel } from '../../src/model/object-label.ts';
import { marshal, MarshalError } from '../../src/bus/marshal.ts';
import { unmarshal, UnmarshalError } from '../../src/bus/unmarshal.ts';
import { parseSignature } from '../../src/bus/signature.ts';
import { Variant } from '../../src/bus/values.ts';

const text = fc.string({ unit: 'binary' }).map((value) => value.replaceAll('\0', ''));
const key = text.filter((value) => value !== '__proto__');

type Typed = [signature: string, value: unknown];

/** Types with values of them. */
const typed: fc.Arbitrary<Typed> = fc
  .letrec<{ typed: [string, unknown] }>((tie) => ({
    typed: fc.oneof(
      { depthSize: 'small' },
      fc.tuple(fc.constant('y'), fc.nat(255)),
      fc.tuple(fc.constant('b'), fc.boolean()),
      fc.tuple(fc.constant('n'), fc.integer({ min: -0x8000, max: 0x7fff })),
      fc.tuple(fc.constant('q'), fc.nat(0xffff)),
      fc.tuple(fc.constant('i'), fc.integer()),
      fc.tuple(fc.constant('u'), fc.nat(0xffffffff)),
      fc.tuple(fc.constant('x'), fc.bigInt({ min: -(2n ** 63n) + 1n, max: 2n ** 63n - 1n })),
      fc.tuple(fc.constant('t'), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
      fc.tuple(
        fc.constant('d'),
        fc
          .double({ noNaN: true, noDefaultInfinity: true })
          // dbus-next loses the sign of -0, which has a test of its own.
          .filter((value) => !Object.is(value, -0)),
      ),
      fc.tuple(fc.constant('s'), text),
      fc.tuple(fc.constant('o'), fc.stringMatching(/^(\/[A-Za-z0-9_]{1,9}){1,5}$/)),
      fc.tuple(fc.constant('g'), fc.constantFrom('', 'a{sv}', '(sa(ut))')),
      fc.tuple(
        fc.constant('ay'),
        fc.uint8Array().map((bytes) => Buffer.from(bytes)),
      ),
      tie('typed').map(([signature, value]): Typed => ['v', new Variant(signature, value)]),
      fc
        .tuple(tie('typed'), fc.nat(4))
        .map(([[type, value], count]): Typed =>
          type === 'y' ? ['u', 0] : [`a${type}`, Array.from({ length: count }, () => value)],
        ),
      fc
        .array(tie('typed'), { minLength: 1, maxLength: 4 })
        .map((fields): Typed => [
          `(${fields.map(([type]) => type).join('')})`,
          fields.map(([, value]) => value),
        ]),
      fc
        .tuple(fc.array(key, { maxLength: 4 }), tie('typed'))
        .map(([keys, [type, value]]): Typed => [
          `a{s${type}}`,
          Object.fromEntries(keys.map((name) => [name, value])),
        ]),
    ),
  }))
  .typed.filter(([signature]) => signature.length < 200);

const bodies = fc.array(typed, { maxLength: 4 }).map((list) => ({
  signature: list.map(([type]) => type).join(''),
  values: list.map(([, value]) => value),
}));

test('what was encoded decodes to the same', () => {
  fc.assert(
    fc.property(bodies, ({ signature, values }) => {
      fc.pre(signature.length <= 255);
      const bytes = marshal(signature, values);
      const decoded = unmarshal(signature, bytes);
      // Without regard to prototypes; and encoded again it has the same bytes.
      expect(decoded).toEqual(values);
      expect(marshal(signature, decoded).equals(bytes)).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test('the bytes are those of dbus-next', () => {
  fc.assert(
    fc.property(bodies, ({ signature, values }) => {
      fc.pre(signature.length <= 255);
      const header = { type: 1, flags: 0, serial: 7, path: '/a', member: 'B', signature };
      const message = new Message({ ...header, body: [...values] });
      const [theirs] = dbusMarshall.marshallMessage(message);
      expect(encodeFrame(header, values).equals(theirs)).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test('a negative zero keeps its sign', () => {
  expect(unmarshal('d', marshal('d', [-0]))).toEqual([-0]);
});

test('any bytes decode or are refused', () => {
  fc.assert(
    fc.property(
      bodies,
      fc.uint8Array({ maxLength: 200 }),
      fc.boolean(),
      ({ signature }, noise, big) => {
        fc.pre(signature.length <= 255);
        try {
          unmarshal(signature, Buffer.from(noise), big);
        } catch (error) {
          expect(error).toBeInstanceOf(UnmarshalError);
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test('frames arrive whole, however the stream is cut', () => {
  const frame = encodeFrame(
    { type: 4, flags: 1, serial: 9, path: '/a', interface: 'a.b', member: 'C', signature: 'as' },
    [['one', 'two']],
  );
  const stream = Buffer.concat([frame, frame, frame]);
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length), { maxLength: 9 }), (cuts) => {
      const frames: Frame[] = [];
      const reader = new FrameReader((received) => frames.push(received));
      const ends = [...cuts.sort((a, b) => a - b), stream.length];
      ends.reduce((start, end) => {
        reader.push(stream.subarray(start, end));
        return end;
      }, 0);
      expect(frames.map(({ serial, member }) => [serial, member])).toEqual(
        Array.from({ length: 3 }, () => [9, 'C']),
      );
      for (const { signature, body } of frames)
        expect(unmarshal(signature, body ?? Buffer.alloc(0))).toEqual([['one', 'two']]);
    }),
  );
});

test.each([
  ['y', 256],
  ['u', -1],
  ['i', 1.5],
  ['t', -1n],
  ['t', 5],
  ['x', 2n ** 63n],
  ['b', 1],
  ['s', 'a\0b'],
  ['o', '/a/'],
  ['g', 'a'],
  ['as', 'text'],
  ['(ss)', ['one']],
  ['v', 'text'],
  ['h', 0],
  ['a{sv}', new Map()],
  ['s', undefined],
])('%s does not take %s', (signature, value) => {
  expect(() => marshal(signature, [value])).toThrow(MarshalError);
});

test.each([
  'a',
  '(',
  '()',
  ')',
  'a{s}',
  'a{sss}',
  'a{vs}',
  '{ss}',
  'r',
  'as)',
  'a'.repeat(33) + 's',
])('the signature %s is refused', (signature) => {
  expect(() => parseSignature(signature)).toThrow('invalid signature');
});

describe('labels', () => {
  // From sd_bus_path_encode(3) and its description of the escaping.
  test.each([
    ['', '_'],
    ['web', 'web'],
    ['web-1', 'web_2d1'],
    ['1web', '_31web'],
    ['a_b', 'a_5fb'],
    ['über', '_c3_bcber'],
    ['a.b@c d', 'a_2eb_40c_20d'],
    ['9', '_39'],
  ])('%j is %s', (name, label) => {
    expect(escapeLabel(name)).toBe(label);
    expect(unescapeLabel(label)).toBe(name);
  });

  test('every name has one label, and every label one name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (name) => {
        expect(escapeLabel(name)).toMatch(/^[A-Za-z0-9_]+$/);
        expect(unescapeLabel(escapeLabel(name))).toBe(name);
      }),
    );
    for (const label of ['1', 'a_2D', '_61', 'a_', '_zz', 'a-b', '_ff', ''])
      expect(unescapeLabel(label), label).toBeUndefined();
  });
});

test('of a dict among the arguments only the wanted entries are read, whatever the others are', () => {
  const values: [string, unknown][] = [
    ['y', 7],
    ['b', true],
    ['n', -3],
    ['t', 2n ** 63n],
    ['d', 0.5],
    ['s', 'text'],
    ['o', '/a/b'],
    ['g', 'a{sv}'],
    ['as', []],
    ['as', ['one', 'three']],
    ['at', [1n]],
    ['a(sb)', [['x', true]]],
    ['(uo)', [5, '/job/5']],
    ['v', new Variant('a{sv}', { in: new Variant('s', 'deep') })],
    ['a{sv}', { in: new Variant('(yv)', [1, new Variant('x', -1n)]) }],
  ];
  const dict = Object.fromEntries(
    values.flatMap(([signature, value], index) => [
      [`${signature}${index}`, new Variant(signature, value)],
      [`wanted${index}`, new Variant('u', index)],
    ]),
  );
  const bytes = marshal('sa{sv}as', ['name', dict, ['after']]);
  const keys = new Set(values.map((_, index) => `wanted${index}`));
  const [name, read, after] = unmarshal('sa{sv}as', bytes, false, { keys });
  expect([name, after]).toEqual(['name', ['after']]);
  expect(Object.keys(read as object)).toEqual([...keys]);
  // A dict in a dict is nobody's to choose from.
  const inner = marshal('a{sv}', [{ wanted: new Variant('a{sv}', { x: new Variant('y', 1) }) }]);
  const [outer] = unmarshal('a{sv}', inner, false, { keys: new Set(['wanted']) });
  expect(outer).toMatchObject({ wanted: { value: { x: { value: 1 } } } });
  // Lengths count of what is passed over too.
  for (let cut = 1; cut < bytes.length; cut += 3) {
    expect(() => unmarshal('sa{sv}as', bytes.subarray(0, -cut), false, { keys })).toThrow();
  }
});

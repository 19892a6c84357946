import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { includeTarget, splitLxcText } from '../../src/host/grammar.ts';

const key = 'lxc.uts.name';

describe('one line', () => {
  test.each([
    ['lxc.uts.name = web', 'web'],
    ['lxc.uts.name=web', 'web'],
    [' \t lxc.uts.name \t = \t web \t ', 'web'],
    ['lxc.uts.name = web # prod', 'web # prod'],
    ['lxc.uts.name = a=b', 'a=b'],
    ['lxc.uts.name =', ''],
    ['lxc.uts.name = \t ', ''],
    ['lxc.uts.name = "web"', 'web'],
    ["lxc.uts.name = 'web'", 'web'],
    ['lxc.uts.name = " web "', ' web '],
    ['lxc.uts.name = ""web""', '"web"'],
    ['lxc.uts.name = "\'web\'"', "'web'"],
    ['lxc.uts.name = ""', ''],
    ['lxc.uts.name = "', '"'],
    ['lxc.uts.name = "web', '"web'],
    ['lxc.uts.name = web"', 'web"'],
    ['lxc.uts.name = "web\'', '"web\''],
    ['lxc.uts.name = w"e"b', 'w"e"b'],
    ['lxc.uts.name = a\\"b\\n', 'a\\"b\\n'],
    ['lxc.uts.name = \u00a0web\u2003', '\u00a0web\u2003'],
    ['lxc.uts.name = \v\fweb\v', '\v\fweb\v'],
  ])('%j gives %j', (line, value) => {
    expect(splitLxcText(line).lines).toEqual([{ line: 1, key, value }]);
  });

  test.each([
    '',
    ' \t ',
    '# lxc.uts.name = web',
    ' \t# lxc.uts.name',
    'LXC.uts.name = web',
    'lxc',
    'lxcfs = 1',
    '\flxc.uts.name = web',
    '\u00a0lxc.uts.name = web',
    'name = lxc.uts.name',
    '= lxc.',
  ])('%j is ignored', (line) => {
    expect(splitLxcText(line).lines).toEqual([]);
  });

  test.each([
    ['lxc.', undefined],
    ['lxc.uts.name web', undefined],
    [' lxc.uts.name', undefined],
    ['lxc. = x', 'lxc.'],
    ['lxc.a b=x', 'lxc.a b'],
    ['lxc.#=x', 'lxc.#'],
  ])('%j has the key %j', (line, found) => {
    const [first] = splitLxcText(line).lines;
    expect(first).toEqual(
      found === undefined
        ? { line: 1, error: 'a line that starts with "lxc." has no "="' }
        : { line: 1, key: found, value: 'x' },
    );
  });
});

describe('several lines', () => {
  test.each([
    ['a newline', '\n', 2],
    ['a carriage return, which is not a line for editors', '\r', 1],
    ['both', '\r\n', 2],
    ['blank lines', '\n\r\n\n', 4],
  ])('are parted by %s', (_, end, second) => {
    expect(splitLxcText(`lxc.a=1${end}lxc.b=2`).lines).toEqual([
      { line: 1, key: 'lxc.a', value: '1' },
      { line: second, key: 'lxc.b', value: '2' },
    ]);
  });

  test('other separators of Unicode part nothing', () => {
    const value = '1\u0085\u2028\u2029\v2';
    expect(splitLxcText(`lxc.a=${value}`).lines).toEqual([{ line: 1, key: 'lxc.a', value }]);
  });

  test('a NUL byte ends the file', () => {
    const text = splitLxcText('lxc.a=1\nlxc.b=2\0 3\nlxc.c=4\n');
    expect(text.lines.map((line) => ('key' in line ? line.value : ''))).toEqual(['1', '2']);
    expect(text.nulLine).toBe(2);
    expect(text.control).toBeUndefined();
  });

  test('a control character is found, also after a NUL byte', () => {
    expect(splitLxcText('\n\0\n\x01\n\x02').control).toEqual({ line: 3, code: 1 });
    expect(splitLxcText('\t\n\v\f\r\x1b\x7f').control).toBeUndefined();
    for (const char of ['\x01', '\b', '\x0e', '\x1a', '\x1c', '\x1f']) {
      expect(splitLxcText(`# ${char}`).control).toEqual({ line: 1, code: char.charCodeAt(0) });
    }
  });

  test('a byte order mark matters only before a key', () => {
    expect(splitLxcText('\uFEFFlxc.a=1').markHidesKey).toBe(true);
    expect(splitLxcText('\uFEFFlxc.a=1').lines).toEqual([]);
    expect(splitLxcText('\uFEFF# note\nlxc.a=1').markHidesKey).toBe(false);
  });
});

test('an include needs a value', () => {
  const [full, empty, other] = splitLxcText('lxc.include="/a"\nlxc.include=""\nlxc.a=1').lines;
  expect(full && includeTarget(full)).toBe('/a');
  expect(empty && includeTarget(empty)).toBeUndefined();
  expect(other && includeTarget(other)).toBeUndefined();
});

test.each([
  ['one long line', `lxc.a = "${' x'.repeat(1 << 19)}`],
  ['blanks', ' '.repeat(1 << 20)],
  ['blanks in a value', `lxc.a =${' '.repeat(1 << 20)}x`],
  ['carriage returns', '\r'.repeat(1 << 20)],
  ['lines without an end', 'lxc.a=\n'.repeat(1 << 17)],
  ['keys without a value', 'lxc.\n'.repeat(1 << 17)],
])('1 MiB takes linear time, or this would not end within the time of a test: %s', (_, text) => {
  expect(() => splitLxcText(text)).not.toThrow();
});

test('a text that is known to be plain is cut as any other', () => {
  const piece = fc.constantFrom(
    ...['lxc.uts.name', 'lxc.', ' ', '\t', '=', '"', "'", '#', '\n', 'x', '/a b'],
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const text = pieces.join('');
      expect(splitLxcText(text, true)).toEqual(splitLxcText(text));
    }),
    { numRuns: 2000 },
  );
});

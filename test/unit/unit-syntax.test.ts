import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  execArgument,
  fitsRestOfLine,
  fitsUnitFile,
  printable,
  unitText,
  unitWord,
} from '../../src/model/unit-syntax.ts';
import { loadBySystemd } from './systemd.ts';

/** Characters that mean something to systemd, a shell or a terminal, among harmless ones. */
const awkward = fc.constantFrom(
  ...[
    ...Array.from('ab "\'\\%$;#=@-+!:~*?[]{}()<>|&`^,.ü日𝕨'),
    '${x}',
    '$(x)',
    '%n',
    '%%',
    ' ; ',
    '\\x41',
    '\\n',
  ],
);
const awkwardText = fc
  .array(awkward, { minLength: 1, maxLength: 12 })
  .map((parts) => parts.join(''));
const samples = fc.sample(awkwardText, { numRuns: 400, seed: 11 });
const listed = ['', ' ', 'a b', '%n', '"', "'", '\\', '$HOME', '${x}', ';', '#', '-', '@/bin/sh'];

/** Undoes how systemd shows a command line. */
function shownArguments(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/gs)].map(
    ([, quoted, bare]) => bare ?? (quoted ?? '').replaceAll(/\\(.)/gs, '$1'),
  );
}

describe('the real systemd reads back', () => {
  test('every argument of a command', () => {
    const all = [...listed, ...samples];
    const lines = loadBySystemd(
      `[Service]\nExecStart=/bin/true ${all.map(execArgument).join(' ')}\n`,
    );
    const shown = lines.find((line) => line.startsWith('Command Line: /bin/true '));
    // "$$" stays until the command runs; systemd then makes "$" of it.
    const read = shownArguments((shown ?? '').slice('Command Line: /bin/true '.length));
    expect(read.map((word) => word.replaceAll('$$', '$'))).toEqual(all);
  });

  test('every word of a list', () => {
    const paths = [...new Set([...listed, ...samples].map((text) => `/x${text}`))];
    const lines = loadBySystemd(
      `[Unit]\n${paths.map((path) => `RequiresMountsFor=${unitWord(path)}\n`).join('')}` +
        '[Service]\nExecStart=/bin/true\n',
    );
    const read = lines
      .map((line) => /^RequiresMountsFor: (.*) \(origin-file\)$/.exec(line)?.[1])
      .filter((path) => path !== undefined);
    expect(read.sort()).toEqual(paths.sort());
  });

  test('every word of Environment=', () => {
    const values = [...listed, ...samples].map((text, index) => `V${index}=${text}`);
    const lines = loadBySystemd(
      `[Service]\n${values.map((value) => `Environment=${unitWord(value)}\n`).join('')}` +
        'ExecStart=/bin/true\n',
    );
    const read = lines
      .filter((line) => line.startsWith('Environment: V'))
      .map((line) => line.slice('Environment: '.length));
    // Blanks at the end are lost when the lines are trimmed here, not by systemd.
    expect(read).toEqual(values.map((value) => value.trim()));
  });

  test.each(samples.filter(fitsRestOfLine).slice(0, 12))('the rest of a line: %s', (text) => {
    const lines = loadBySystemd(
      `[Unit]\nDescription=x${unitText(text)}\n[Service]\nExecStart=/bin/true\n`,
    );
    expect(lines).toContain(`Description: x${text}`);
  });
});

describe('no value can begin a new line', () => {
  const anyText = fc.string({ unit: 'binary', maxLength: 40 });

  test.each([
    ['unitWord', unitWord],
    ['execArgument', execArgument],
    ['unitText', unitText],
  ])('%s', (_name, quote) => {
    fc.assert(
      fc.property(anyText, (text) => {
        let quoted: string;
        try {
          quoted = quote(text);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
          expect(fitsRestOfLine(text)).toBe(false);
          return;
        }
        expect(quoted).not.toMatch(/[\0-\x1f\x7f]/);
        // An odd number of backslashes at the end would join the next line to this one.
        expect(/\\*$/.exec(quoted)?.[0].length ?? 0).toBe(0);
        // Every specifier is doubled.
        expect(quoted.replaceAll('%%', '')).not.toContain('%');
      }),
    );
  });

  test.each(['\n', '\r', '\0', '\t', '\x1b[0m', '\x7f', 'a\nExecStart=/bin/sh'])(
    'control characters are refused: %j',
    (text) => {
      expect(fitsUnitFile(text)).toBe(false);
      for (const quote of [unitWord, execArgument, unitText]) {
        expect(() => quote(text)).toThrow('control character');
      }
    },
  );
});

test.each([
  ['plain/path-1.2:x', 'plain/path-1.2:x'],
  ['a b', '"a b"'],
  ['', '""'],
  ['100%', '"100%%"'],
  ['say "hi"', '"say \\"hi\\""'],
  ['=x', '"=x"'],
  ['A=x', 'A=x'],
])('the word %j is written %s', (text, written) => {
  expect(unitWord(text)).toBe(written);
});

test('a dollar is doubled in commands only', () => {
  expect(unitWord('$x')).toBe('"$x"');
  expect(execArgument('$x')).toBe('"$$x"');
});

test.each([' a', 'a ', 'a\\', '\u00a0a'])('the rest of a line cannot be %j', (text) => {
  expect(() => unitText(text)).toThrow('read this back');
});

test('printable leaves one line without control characters', () => {
  expect(printable('a\nb\tc\x1b[1m\u0085\u2028ü')).toBe('a?b?c?[1m??ü');
});

import { posix } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cleanAbsolutePath, isAtOrBelow } from '../../src/model/path.ts';

test.each([
  ['/', '/'],
  ['/srv', '/srv'],
  ['//srv/./a//', '/srv/a'],
  ['/.', '/'],
  ['/...', '/...'],
  ['/a..b', '/a..b'],
  ['', undefined],
  ['srv', undefined],
  ['./srv', undefined],
  ['/srv/..', undefined],
  ['/srv/../etc', undefined],
])('%j cleans to %j', (path, clean) => {
  expect(cleanAbsolutePath(path)).toBe(clean);
});

test('agrees with the usual normalization where there is no ".."', () => {
  const part = fc.constantFrom('a', '.', '', '..', 'b c', '...');
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      const path = `/${parts.join('/')}`;
      const expected = parts.includes('..')
        ? undefined
        : posix.normalize(path).replace(/(?<=.)\/$/, '');
      expect(cleanAbsolutePath(path)).toBe(expected);
    }),
  );
});

test.each([
  ['/srv/lxc', '/srv', true],
  ['/srv', '/srv', true],
  ['/srv', '/', true],
  ['/', '/', true],
  ['/srvx', '/srv', false],
  ['/', '/srv', false],
])('%s at or below %s: %s', (path, directory, answer) => {
  expect(isAtOrBelow(path, directory)).toBe(answer);
});

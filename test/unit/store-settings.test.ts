import { parse as parseIni } from 'ini';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseSettings } from '../../src/host/settings.ts';
import { parseStores, storeKeys } from '../../src/host/store-settings.ts';
import { formatProblem } from '../../src/model/problem.ts';

function file(text: string, path = '/l.conf') {
  return { path, text, values: parseIni(text) };
}

function problems(text: string): string[] {
  return parseStores([file(text)]).problems.map(formatProblem);
}

test('one store of each type, with what it has by default', () => {
  const text = `
start-timeout = 5min
[store raid1]
type = lvm
volume-group = vg
[store thin.fast]
# a comment
type = lvm-thin
volume-group = "vg"
thin-pool = pool
filesystem = xfs
options = noatime, nosuid,nosuid
max-size = 1.5G
definition = fstab
[other]
type = nothing
[store b]
type=btrfs
path=/srv//b/
[store d]
type=directory
path=/srv/d
`;
  const { stores, problems: found } = parseStores([file(text)]);
  expect(found).toEqual([]);
  const options = ['nosuid', 'nodev'];
  expect(Object.fromEntries(stores)).toEqual({
    raid1: {
      name: 'raid1',
      type: 'lvm',
      volumeGroup: 'vg',
      fileSystem: 'ext4',
      options,
      definition: 'unit',
    },
    'thin.fast': {
      name: 'thin.fast',
      type: 'lvm-thin',
      volumeGroup: 'vg',
      thinPool: 'pool',
      fileSystem: 'xfs',
      options: ['noatime', 'nosuid'],
      maxSize: 1536n * 1024n * 1024n,
      definition: 'fstab',
    },
    b: { name: 'b', type: 'btrfs', path: '/srv/b', options, definition: 'unit' },
    d: { name: 'd', type: 'directory', path: '/srv/d', options, definition: 'unit' },
  });
});

test('the settings of host and containers have nothing to do with them', () => {
  const text = 'ready = booted\n[store a.b]\ntype = lvm\nready = never\n';
  const { problems: found, defaults } = parseSettings([file(text)]);
  expect(found).toEqual([]);
  expect(defaults.ready).toBe('booted');
});

test('a later file adds to a store and changes it', () => {
  const first = file('[store a]\ntype = lvm\nvolume-group = one\n', '/1');
  const second = file('[store a]\nvolume-group = two\nmax-size = 1G\n', '/2');
  const { stores } = parseStores([first, second]);
  expect(stores.get('a')).toMatchObject({ volumeGroup: 'two', maxSize: 1024n ** 3n });
});

describe('what is wrong is told with its line, and harms no other store', () => {
  const good = '[store good]\ntype = lvm\nvolume-group = vg\n';
  test.each([
    ['[store]\ntype = lvm\n', '/l.conf:4: "" cannot name a store; write [store NAME]'],
    ['[store a/b]\ntype = lvm\n', '/l.conf:4: "a/b" cannot name a store'],
    ['[store ..]\ntype = lvm\n', '/l.conf:4: ".." cannot name a store'],
    ['[store x]\n', '/l.conf:4: store "x" has no "type"; write "type = ", and "lvm", "lvm-thin"'],
    ['[store x]\ntype = zfs\n', '/l.conf:5: type="zfs" of store "x" is not valid; write "lvm"'],
    ['[store x]\ntype\n', '/l.conf:5: "type" of store "x" has no value'],
    ['[store x]\ntype = lvm\n', '/l.conf:4: store "x" has no "volume-group"'],
    ['[store x]\ntype = lvm-thin\nvolume-group = v\n', '/l.conf:4: store "x" has no "thin-pool"'],
    ['[store x]\ntype = btrfs\n', '/l.conf:4: store "x" has no "path"'],
    ['[store x]\ntype = lvm\npath = /a\n', '/l.conf:6: store "x" of type lvm has no "path"'],
    ['[store x]\ncolour = red\n', '/l.conf:5: unknown key "colour" of store "x"'],
    ['[store x]\nvolume-group = --all\n', '/l.conf:5: volume-group="--all" of store "x"'],
    ['[store x]\npath = ../a\n', '/l.conf:5: path="../a" of store "x" is not valid'],
    ['[store x]\npath = /\n', '/l.conf:5: path="/" of store "x" is not valid'],
    ['[store x]\npath = /a,b\n', '/l.conf:5: path="/a,b" of store "x" is not valid'],
    ['[store x]\nmax-size = 0\n', '/l.conf:5: max-size="0" of store "x" is not valid'],
    ['[store x]\nmax-size = lots\n', '/l.conf:5: max-size="lots" of store "x" is not valid'],
    ['[store x]\ndefinition = hosts\n', '/l.conf:5: definition="hosts" of store "x"'],
  ])('%j', (text, expected) => {
    const { stores } = parseStores([file(good + text)]);
    const [problem = '', ...more] = problems(good + text);
    expect(problem).toContain(expected);
    expect(more).toEqual([]);
    expect([...stores.keys()]).toEqual(['good']);
  });
});

test.each([
  'loop',
  'user',
  'bind',
  'remount',
  'context=x',
  'uid=0',
  'x-systemd.requires=a.service',
  'subvol=/other',
  'fd=3',
  'nosuid nodev',
  '',
])('options that are not known to be harmless are refused: %j', (option) => {
  expect(storeKeys['options']?.accepts(`nosuid,${option}`)).toBe(false);
});

test('whatever is written, nothing but a known store comes out', () => {
  const keys = [...Object.keys(storeKeys), 'colour', '__proto__'];
  const line = fc.oneof(
    fc.tuple(fc.constantFrom(...keys), fc.string()).map(([key, value]) => `${key} = ${value}`),
    fc.string().map((name) => `[store ${name}]`),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(line), (lines) => {
      const { stores, problems: found } = parseStores([file(lines.join('\n'))]);
      for (const [name, store] of stores) {
        expect(name).toMatch(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/);
        expect(['lvm', 'lvm-thin', 'btrfs', 'directory']).toContain(store.type);
      }
      for (const problem of found) expect(problem.line).toBeGreaterThan(0);
    }),
  );
});

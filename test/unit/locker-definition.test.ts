import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseFstab } from '../../src/model/fstab.ts';
import {
  addToFstab,
  fstabLineOf,
  parseFstabOrigin,
  parseUnitOrigin,
  removeFromFstab,
  unitOf,
} from '../../src/stores/definition.ts';
import type { Definition } from '../../src/stores/definition.ts';

const origin = { store: 'raid1', creator: 1000, change: '0123456789abcdef' };
const volume: Definition = {
  ...origin,
  locker: 'data-1',
  mountPoint: '/lockers/data-1',
  source: { what: '/dev/vg/locker-data-1', type: 'ext4', options: [], needs: [] },
  options: ['nosuid', 'nodev'],
};
const tree: Definition = {
  ...volume,
  encrypt: 'key-file',
  source: { what: '/srv/b/data-1', type: 'none', options: ['bind'], needs: ['/srv/b'] },
};

test('a unit of a volume is mounted by the boot, which does not wait for it, and checked before', () => {
  expect(unitOf(volume))
    .toBe(`# Made by lockerd; see lockerd(7). "lockerctl forget-locker" removes it, and no data.
[Unit]
Description=Locker "data-1"
Documentation=man:lockerd(7)
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target
After=local-fs-pre.target
Requires=systemd-fsck@dev-vg-locker\\x2ddata\\x2d1.service
After=systemd-fsck@dev-vg-locker\\x2ddata\\x2d1.service

[Mount]
What=/dev/vg/locker-data-1
Where=/lockers/data-1
Type=ext4
Options=nosuid,nodev

[Install]
WantedBy=local-fs.target

[X-Lockerd]
Store=raid1
Creator=1000
Change=0123456789abcdef
`);
});

test('a tree is bound, after the file system that has it', () => {
  const text = unitOf(tree);
  expect(text).toContain('\nRequiresMountsFor=/srv/b\n');
  expect(text).toContain('\nOptions=bind,nosuid,nodev\n');
  expect(text).not.toContain('systemd-fsck');
});

test('a line of fstab says the same', () => {
  expect(fstabLineOf(tree)).toBe(
    '/srv/b/data-1 /lockers/data-1 none nofail,bind,nosuid,nodev,x-systemd.requires-mounts-for=/srv/b,' +
      'x-lockerd.store=raid1,x-lockerd.creator=1000,x-lockerd.change=0123456789abcdef,' +
      'x-lockerd.encrypt=key-file 0 0\n',
  );
  expect(fstabLineOf(volume)).toMatch(/ 0 2\n$/);
});

test('what a definition says of its origin is read back', () => {
  expect(parseUnitOrigin(unitOf(volume))).toEqual(origin);
  expect(parseUnitOrigin(unitOf(tree))).toEqual({ ...origin, encrypt: 'key-file' });
  const [entry] = parseFstab(fstabLineOf(tree));
  expect(parseFstabOrigin(entry?.options ?? [])).toEqual({ ...origin, encrypt: 'key-file' });
});

test.each([
  '',
  '[Mount]\nStore=a\nCreator=0\n',
  '[X-Lockerd]\nCreator=0\n',
  '[X-Lockerd]\nStore=a\nCreator=root\n',
  '[X-Lockerd]\nStore=a\n[Install]\nCreator=0\n',
  '[X-Lockerd]\n#Store=a\nCreator=0\n',
])('what lockerd has not written has no origin: %j', (text) => {
  expect(parseUnitOrigin(text)).toBeUndefined();
});

test('a line is added and removed, and all else in fstab stays byte by byte', () => {
  const line = fstabLineOf(volume);
  const others = fc.array(fc.stringMatching(/^[ -~\t]*\n$/)).map((lines) => lines.join(''));
  fc.assert(
    fc.property(others, fc.stringMatching(/^[ -~]*$/), (before, last) => {
      const text = before + last;
      const added = addToFstab(text, line);
      expect(added.startsWith(text)).toBe(true);
      expect(added.endsWith(line)).toBe(true);
      const removed = removeFromFstab(added, (target) => target === volume.mountPoint);
      // The end of a last line without one is all that is new.
      expect(removed).toBe(last === '' ? before : `${text}\n`);
    }),
  );
});

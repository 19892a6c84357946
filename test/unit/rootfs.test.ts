import { expect, test } from 'vitest';
import { parseRootfs } from '../../src/model/rootfs.ts';

const none = { paths: [], devices: [], trees: [] };

test.each([
  ['none', { ...none, type: 'none' }],
  ['/srv/web', { ...none, type: 'dir', paths: ['/srv/web'], trees: ['/srv/web'] }],
  ['dir:/srv//web/', { ...none, type: 'dir', paths: ['/srv/web'], trees: ['/srv/web'] }],
  ['btrfs:/srv/web', { ...none, type: 'btrfs', paths: ['/srv/web'], trees: ['/srv/web'] }],
  ['/dev/sdb1', { ...none, type: 'device', devices: ['/dev/sdb1'] }],
  ['dir:/dev/sdb1', { ...none, type: 'device', devices: ['/dev/sdb1'] }],
  ['lvm:/dev/vg/web', { ...none, type: 'lvm', devices: ['/dev/vg/web'] }],
  ['rbd:/dev/rbd/rbd/web', { ...none, type: 'device', devices: ['/dev/rbd/rbd/web'] }],
  ['loop:/srv/web.img', { ...none, type: 'loop', paths: ['/srv/web.img'] }],
  ['nbd:/srv/web.qcow2', { ...none, type: 'nbd', paths: ['/srv/web.qcow2'] }],
  ['nbd:/srv/web.qcow2:12', { ...none, type: 'nbd', paths: ['/srv/web.qcow2'] }],
  ['zfs:tank/lxc/web', { ...none, type: 'zfs', dataset: 'tank/lxc/web' }],
  ['zfs:/tank/web', { ...none, type: 'zfs', paths: ['/tank/web'], trees: ['/tank/web'] }],
])('%s', (value, rootfs) => {
  expect(parseRootfs(value)).toEqual({ rootfs });
});

test.each(['overlay:/base:/app:/web', 'overlayfs:/base:/app:/web'])(
  '%s needs each layer, and the upper one wins',
  (value) => {
    expect(parseRootfs(value)).toEqual({
      rootfs: {
        type: 'overlay',
        paths: ['/base', '/app', '/web'],
        devices: [],
        trees: ['/web', '/app', '/base'],
      },
    });
  },
);

test('a colon inside the name of a layer does not cut it', () => {
  const result = parseRootfs('overlay:/a:b:/c');
  expect(result).toMatchObject({ rootfs: { paths: ['/a:b', '/c'] } });
});

test.each([
  ['web', 'web', '"web" is not an absolute path without ".."'],
  ['tank/lxc/web', 'tank/lxc/web', '"tank/lxc/web" is not an absolute path without ".."'],
  ['../web', undefined, '"../web" is not an absolute path without ".."'],
  ['dir:../web', undefined, '"../web" is not an absolute path without ".."'],
  ['loop:/srv/../web.img', undefined, '"/srv/../web.img" is not an absolute path without ".."'],
  ['lvm:vg/web', undefined, '"vg/web" is not an absolute path without ".."'],
  ['zfs:/tank/..', undefined, '"/tank/.." is not an absolute path without ".."'],
  ['overlay:base:/web', undefined, '"base" is not an absolute path without ".."'],
  ['floppy:/dev/fd0', undefined, '"floppy" is no storage type that lockerd knows'],
])('%s is left to LXC', (value, dataset, reason) => {
  expect(parseRootfs(value)).toEqual({
    rootfs: { ...none, type: 'other', ...(dataset === undefined ? {} : { dataset }) },
    warning: `${reason}, so nothing can be waited for`,
  });
});

test('an overlay of one layer is refused', () => {
  const reason = 'overlay needs a lower and an upper directory, found "/base"';
  expect(parseRootfs('overlay:/base')).toEqual({ reason });
});

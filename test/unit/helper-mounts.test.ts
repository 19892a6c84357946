import { expect, test } from 'vitest';
import { straysOf } from '../../src/helper/attach.ts';
import { copiesOf } from '../../src/helper/holders.ts';
import { isSameTree, mountAt, mountKey, parseMountinfo } from '../../src/host/mountinfo.ts';

const host = parseMountinfo(`
99 79 0:39 / / rw,relatime shared:1 - overlay root rw
59 99 8:1 / /lockers/data rw shared:27 - ext4 /dev/sda1 rw
60 59 8:1 /x /lockers/data/x rw shared:28 master:3 - ext4 /dev/sda1 rw
61 99 0:60 / /lockers/my\\040data%n rw - tmpfs blank rw
62 99 0:25 / /lockers/auto rw - autofs systemd-1 rw
330 99 0:59 / /var/locker-mappings/web rw,nosuid shared:107 - tmpfs tmpfs rw
331 330 8:1 / /var/locker-mappings/web/data ro shared:27 - ext4 /dev/sda1 rw
332 331 0:99 / /var/locker-mappings/web/data rw shared:29 - tmpfs tmpfs rw
333 330 0:61 / /var/locker-mappings/web/\\134 rw - tmpfs tmpfs ro,size=4k
short line
`);

test('mounts of a namespace', () => {
  expect(host.length).toBe(9);
  expect(mountAt(host, '/lockers/my data%n')?.id).toBe(61);
  expect(mountAt(host, '/var/locker-mappings/web/\\')).toMatchObject({ id: 333, readOnly: true });
  expect(mountAt(host, '/var/locker-mappings/web/data')).toMatchObject({
    id: 332,
    readOnly: false,
  });
  expect(mountAt(host, '/lockers/auto')).toBeUndefined();
  expect(mountAt(host, '/lockers')).toBeUndefined();
});

test('one directory of one file system', () => {
  const [data, below] = ['/lockers/data', '/lockers/data/x'].map((path) => mountAt(host, path));
  const attached = host.find(({ id }) => id === 331);
  expect(data && attached && isSameTree(data, attached)).toBe(true);
  expect(data && below && isSameTree(data, below)).toBe(false);
});

test('a locker that was mounted somewhere else', () => {
  const a = {
    locker: 'data',
    source: '/lockers/data',
    target: '/var/locker-mappings/web/data',
    readOnly: false,
    readOnlyOnHost: false,
  };
  const more = (text: string) =>
    straysOf(
      new Set(host.map(mountKey)),
      [...host, ...parseMountinfo(text)],
      a,
      '/var/locker-mappings',
    ).map(({ mountPoint }) => mountPoint);
  const mount = (id: number, path: string, device = '8:1') =>
    `${id} 99 ${device} / ${path} rw - ext4 /dev/sda1 rw\n`;
  expect(more(mount(400, '/etc/victim.d'))).toEqual(['/etc/victim.d']);
  expect(more(mount(400, '/var/locker-mappings/web/moved'))).toHaveLength(1);
  // The number of a mount that is gone is given to a new one.
  expect(more(mount(59, '/etc/victim.d'))).toHaveLength(1);
  expect(
    more(
      mount(400, '/var/locker-mappings/other/data') +
        mount(401, '/var/locker-mappings/web/data') +
        mount(402, '/run/lockerd/read-only/data') +
        mount(403, '/mnt', '8:2'),
    ),
  ).toEqual([]);
});

test('copies of an attachment, wherever a guest has put the wormhole', () => {
  const sought = { device: '0:59', container: 'web', locker: 'data' };
  const ids = (mountinfo: string): number[] =>
    copiesOf(parseMountinfo(mountinfo), sought).map(({ id }) => id);
  const ofHost = `
330 99 0:59 / /var/locker-mappings rw,nosuid shared:107 - ramfs lockerd rw
331 330 8:1 / /var/locker-mappings/web/data ro shared:27 - ext4 /dev/sda1 rw
332 330 8:1 / /var/locker-mappings/db/data ro shared:28 - ext4 /dev/sda1 rw
`;
  expect(ids(ofHost)).toEqual([331]);
  const ofGuest = `
1 0 0:1 / / rw - ext4 root rw
2 1 0:59 /web /lockers ro - ramfs lockerd rw
3 2 8:1 / /lockers/data rw - ext4 /dev/sda1 rw
4 1 8:1 / /data rw - ext4 /dev/sda1 rw
5 1 0:59 /web /mnt ro - ramfs lockerd rw
6 5 8:1 / /mnt/data rw - ext4 /dev/sda1 rw
7 5 8:1 / /mnt/data2 rw - ext4 /dev/sda1 rw
8 1 0:59 /web/data /opt ro - ramfs lockerd rw
9 8 8:1 / /opt rw - ext4 /dev/sda1 rw
`;
  expect(ids(ofGuest)).toEqual([3, 6, 9]);
  expect(ids(ofGuest.replaceAll('0:59 /web', '0:59 /db'))).toEqual([]);
});

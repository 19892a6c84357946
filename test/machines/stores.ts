/** Requests to the helper of stores without the service, and what is to be seen of lockers afterwards. */

import { expect } from 'vitest';
import type { TestHost } from './test-host.ts';

/** Sends one request to the stores' socket and writes what comes. */
const ask = `#!/usr/bin/perl
use strict; use IO::Socket::UNIX;
my $socket = IO::Socket::UNIX->new(Peer => '/run/lockerd/stores.sock') or die "connect: $!";
print $socket "$ARGV[0]\\n";
$socket->flush;
print while <$socket>;
`;

export type Json = Readonly<Record<string, unknown>>;

/** A store, and how it is looked at without lockerd. */
export interface StoreKind {
  readonly store: string;
  /** Of a new locker, and of the same one when it has grown; MiB. */
  readonly size: number;
  readonly more: number;
  readonly encrypt?: 'key-file';
  /** Commands that list all that the store has, without ids of changes. */
  readonly list: string;
  /** A command that writes the bytes that a locker's place and its file system have, a line each. */
  readonly sizes: (locker: string) => string;
  /** Commands that remove a locker's data. */
  readonly remove: (locker: string) => string;
  /** Commands that remove a snapshot. */
  readonly removeSnapshot: (locker: string, snapshot: string) => string;
}

export const mebibyte = 1024 * 1024;

/** Makes the stores' socket answer. */
export async function prepareStores(host: TestHost, settings: string): Promise<void> {
  await host.writeFile('/usr/local/sbin/ask', ask, 0o755);
  await host.writeFile('/etc/lockerd/lockerd.conf.d/stores.conf', settings);
  await host.shell('systemctl start lockerd-stores.socket', { timeoutMs: 180_000 });
}

/** A command of the shell that sends a request. */
export function askFor(value: Json): string {
  return `ask '${JSON.stringify(value)}'`;
}

/** The lines that a request is answered with, without those of progress. */
async function request(host: TestHost, value: Json): Promise<Json[]> {
  const { stdout } = await host.run('ask', [JSON.stringify(value)], { timeoutMs: 180_000 });
  return stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Json)
    .filter((line) => !('progress' in line));
}

export async function answer(host: TestHost, value: Json): Promise<Json> {
  return (await request(host, value)).at(-1) ?? {};
}

export async function done(host: TestHost, value: Json): Promise<Json> {
  const got = await answer(host, value);
  expect(got, JSON.stringify(value)).toMatchObject({ ok: true });
  return got;
}

export function newLocker(
  kind: Pick<StoreKind, 'store' | 'size' | 'encrypt'>,
  locker: string,
): Json {
  const { store, encrypt = 'no' } = kind;
  const size = (kind.size * mebibyte).toString();
  const rights = { owner: '1000:1001', mode: '2770', encrypt, creator: '1000' };
  return { verb: 'create-locker', locker, store, size, ...rights };
}

/** What is not as it should be, a line each; for a host on which no change is under way. */
export const inspect = `
ls -A /var/lib/lockerd/changes 2>/dev/null | sed 's/^/change /'
test ! -e /run/lvm || lvs --noheadings -o lv_name,lv_tags | grep lockerd.change= | sed 's/^/tag /'
ls -A /etc /etc/systemd/system /etc/lockerd/keys 2>/dev/null | grep '^[.].*[.]new$' | sed 's/^/file /'
for unit in /etc/systemd/system/lockers-*.mount; do
  test -e $unit || continue
  name=$(sed -n 's|^Where=/lockers/||p' $unit)
  test -h /etc/systemd/system/local-fs.target.wants/$(basename "$unit") || echo "not enabled: $name"
  mountpoint -q /lockers/$name || echo "not mounted: $name"
done
for place in /lockers/*; do
  test -e $place || continue
  mountpoint -q $place || echo "directory $place"
done
findmnt -rn -o TARGET | grep '^/run/lockerd/stores' | sed 's/^/mount /'
systemctl --failed --no-legend --plain | grep -e lockers- -e lockerd- | sed 's/^/failed /'
true`;

export async function expectClean(host: TestHost): Promise<void> {
  expect((await host.shell(inspect, { timeoutMs: 180_000 })).stdout).toBe('');
}

/** All that a change of a locker may change, in words that are the same each time. */
export async function stateOf(host: TestHost, { list }: StoreKind): Promise<string> {
  const script = `
${list}
for unit in /etc/systemd/system/lockers-*.mount; do
  test ! -e $unit || grep -v ^Change= $unit
done
grep /lockers/ /etc/fstab | sed 's/x-lockerd.change=[^, ]*//' || true
grep ^locker- /etc/crypttab 2>/dev/null | sed 's|keys/[^ ]*|keys/KEY|' || true
ls /etc/lockerd/keys 2>/dev/null | wc -l
ls /dev/mapper | grep ^locker- || true
grep -o ' /lockers/[^ ]* [^ ]*' /proc/mounts | sort || true
for file in /lockers/*/words; do test ! -e $file || cat $file; done`;
  return (await host.shell(script, { timeoutMs: 180_000 })).stdout;
}

/**
 * Logical volumes, in a group without any but those of lockers, pools and what the test has made. The names of
 * snapshots are random, and their order says nothing.
 */
const volumes = (group: string): string =>
  `lvs --noheadings --separator ' ' -o lv_name,origin,lv_tags,lv_suspended ${group} |
    sed 's/lockersnap-[0-9a-f]*/lockersnap/; s/^ *//' | sort`;

const removeSnapshotVolume =
  (group: string) =>
  (_: string, snapshot: string): string =>
    `lvremove -qqy $(lvs --noheadings -o lv_full_name -S 'lv_tags="lockerd.snapshot=${snapshot}"' ${group})`;

/** Both sizes of an ext4, which is on the volume or in what is opened of it. */
const sizesOfExt4 =
  (group: string, mapper = '') =>
  (locker: string): string => {
    const device = mapper === '' ? `/dev/${group}/locker-${locker}` : `${mapper}${locker}`;
    return `blockdev --getsize64 ${device}
    dumpe2fs -h ${device} 2>/dev/null | awk -F: '/^Block count/ { n = $2 } /^Block size/ { print n * $2 }'`;
  };

/** Settings with a store of volumes and one of thin volumes; what follows belongs to the latter. */
export const volumeStores = `default-store = thick
[store thick]
type = lvm
volume-group = raid
[store thin]
type = lvm-thin
volume-group = raid
thin-pool = pool
`;

export const kinds = {
  thick: {
    store: 'thick',
    size: 48,
    more: 64,
    list: volumes('raid'),
    sizes: sizesOfExt4('raid'),
    remove: (locker) => `lvremove -qqy raid/locker-${locker}`,
    removeSnapshot: removeSnapshotVolume('raid'),
  },
  safe: {
    store: 'thick',
    encrypt: 'key-file',
    size: 48,
    more: 64,
    list: volumes('raid'),
    sizes: sizesOfExt4('raid', '/dev/mapper/locker-'),
    remove: (locker) => `
      systemctl stop 'systemd-cryptsetup@locker\\x2d${locker}.service' || true
      test ! -e /dev/mapper/locker-${locker} || cryptsetup close locker-${locker}
      rm -f /etc/lockerd/keys/$(cryptsetup luksUUID /dev/raid/locker-${locker}).key
      lvremove -qqy raid/locker-${locker}`,
    removeSnapshot: removeSnapshotVolume('raid'),
  },
  thin: {
    store: 'thin',
    size: 304,
    more: 340,
    list: volumes('raid'),
    sizes: (locker) => `blockdev --getsize64 /dev/raid/locker-${locker}
      xfs_info /lockers/${locker} | sed -n 's/^data .*bsize=\\([0-9]*\\) *blocks=\\([0-9]*\\),.*/\\1 \\2/p' |
        { read -r size count; echo $((size * count)); }`,
    remove: (locker) => `lvremove -qqy raid/locker-${locker}`,
    removeSnapshot: removeSnapshotVolume('raid'),
  },
  tree: {
    store: 'tree',
    size: 40,
    more: 60,
    list: "find /srv/tree -mindepth 1 -maxdepth 3 -printf '%P %U:%G %m\\n' | grep -v words | sed 's/@[0-9]*@[0-9]*//' | sort",
    sizes: (locker) => `id=0/$(btrfs inspect-internal rootid /srv/tree/${locker})
      limit=$(btrfs qgroup show -r --raw /srv/tree | awk -v id=$id '$1 == id { print $4 }')
      echo $limit; echo $limit`,
    remove: (locker) => `btrfs -q subvolume delete /srv/tree/${locker}`,
    removeSnapshot: (locker, snapshot) =>
      `btrfs -q subvolume delete /srv/tree/.snapshots/${locker}/${snapshot}@*`,
  },
  files: {
    store: 'files',
    size: 20,
    more: 30,
    list: "find /srv/files -mindepth 1 -maxdepth 3 -printf '%P %U:%G %m\\n' | grep -v words | sed 's/@[0-9]*@[0-9]*//' | sort",
    sizes: (locker) => `id=$(lsattr -pd /srv/files/${locker} | awk '{ print $1 }')
      limit=$(repquota -P -n -v -O csv /srv/files | awk -F, -v id="#$id" '$1 == id { print $6 * 1024 }')
      echo $limit; echo $limit`,
    remove: (locker) => `rm -r /srv/files/${locker}`,
    removeSnapshot: (locker, snapshot) => `rm -r /srv/files/.snapshots/${locker}/${snapshot}@*`,
  },
} as const satisfies Readonly<Record<string, StoreKind>>;

// npm run bench -- moves [--mib N] [--files N] [--change PERCENT] [--count N]: how long a container is away while it
// is moved between two hosts, by lockerctl and by hand.
import { parseArgs } from 'node:util';
import type { Host } from '../host/host.ts';
import { bootPair } from '../host/pair.ts';
import { addresses } from '../machines/ssh-pair.ts';
import { offline } from '../machines/support.ts';

interface Load {
  readonly mib: number;
  readonly files: number;
  /** Per cent of the files that the guest writes anew again and again. */
  readonly change: number;
}

/** Milliseconds without the container, and of its parts. */
interface Away {
  readonly total: number;
  readonly stop: number;
  readonly copy: number;
  readonly start: number;
}

const address = `root@${addresses.target}`;

/** Writes one file of the changing ones after the other, with other content each time. */
const writer = (files: number, kib: number): string => `#!/bin/sh
number=0
while :; do
    number=$(((number + 1) % ${files}))
    dd if=/dev/urandom of=/data/$(printf %07d $number) conv=notrunc bs=${kib}k count=1 2>/dev/null
    busybox usleep 20000
done
`;

async function makeGuest(host: Host, name: string, { mib, files, change }: Load): Promise<void> {
  await host.createContainer(name, 'busybox', { config: offline });
  const rootfs = `/var/lib/lxc/${name}/rootfs`;
  const kib = Math.max(1, Math.round((mib * 1024) / files));
  await host.shell(
    `mkdir ${rootfs}/data; head -c ${mib}M /dev/urandom |
      split --bytes=${kib}k --numeric-suffixes --suffix-length=7 - ${rootfs}/data/`,
    { timeoutMs: 600_000 },
  );
  const changing = Math.max(1, Math.round((files * change) / 100));
  await host.writeFile(`${rootfs}/bin/write`, writer(changing, kib), 0o755);
  await host.shell(`echo '::respawn:/bin/write' >>${rootfs}/etc/inittab; systemctl daemon-reload
    systemctl start lxc@${name}`);
  await host.waitForGuest(name);
}

async function byLockerctl(source: Host, name: string): Promise<Away> {
  const { stdout } = await source.run('lockerctl', ['move', name, address, '--json'], {
    timeoutMs: 900_000,
  });
  const times = JSON.parse(stdout) as Record<string, number>;
  const ms = (member: string): number => (times[member] ?? 0) / 1000;
  return {
    ...{ total: ms('downtime_usec'), stop: ms('stop_usec'), copy: ms('copy_usec') },
    start: ms('start_usec'),
  };
}

/** The same steps as an admin types them: "ready" is when lxc-start has returned. */
async function byHand(source: Host, name: string, isCopiedBefore: boolean): Promise<Away> {
  const rsync = `rsync -aHAXS --numeric-ids --delete /var/lib/lxc/${name}/ ${address}:/var/lib/lxc/${name}/`;
  const { stdout } = await source.shell(
    `now() { date +%s%N; }
    ${isCopiedBefore ? `${rsync} || true; ${rsync} || true` : ':'}
    a=$(now); lxc-stop -n ${name}
    b=$(now); ${rsync}
    c=$(now); ssh ${address} lxc-start -n ${name}
    d=$(now); echo $((b - a)) $((c - b)) $((d - c))`,
    { timeoutMs: 900_000 },
  );
  const [stop = 0, copy = 0, start = 0] = stdout
    .trim()
    .split(' ')
    .map((ns) => Number(ns) / 1e6);
  return { total: stop + copy + start, stop, copy, start };
}

/** Prints one table. */
export async function benchMoves(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      mib: { type: 'string', default: '1024' },
      files: { type: 'string', default: '1024' },
      change: { type: 'string', default: '1' },
      count: { type: 'string', default: '2' },
    },
  });
  const [mib = 0, files = 0, change = 0, count = 0] = [
    ...[values.mib, values.files, values.change, values.count],
  ].map(Number);
  await using pair = await bootPair();
  const { source, target } = pair;
  console.log(`${mib} MiB in ${files} files, of which ${change} % change; milliseconds`);
  console.log('way                        away    stop    copy   start');
  const ways = {
    'lockerctl move': (name: string) => byLockerctl(source, name),
    'rsync, stop, rsync, start': (name: string) => byHand(source, name, true),
    'stop, rsync, start': (name: string) => byHand(source, name, false),
  };
  for (let round = 0; round < count; round++) {
    for (const [way, run] of Object.entries(ways)) {
      const name = `guest${round}${Object.keys(ways).indexOf(way)}`;
      await makeGuest(source, name, { mib, files, change });
      const { total, stop, copy, start } = await run(name);
      const figures = [total, stop, copy, start].map((ms) => ms.toFixed(0).padStart(8));
      console.log(`${way.padEnd(25)}${figures.join('')}`);
      for (const host of [source, target]) {
        await host.shell(
          `systemctl stop lxc@${name} || true; lxc-stop -k -n ${name} || true; rm -r /var/lib/lxc/${name}`,
          { reject: false, timeoutMs: 120_000 },
        );
      }
    }
  }
}

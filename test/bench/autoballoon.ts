// npm run bench -- autoballoon [--minutes N] [--without N]: three containers on a virtual host with less
// memory than their ceilings together, each busy in its turn, N minutes (10) without the automatic
// balloon and N minutes with it. Prints who was killed, how soon a container had the memory that it
// wanted, how long each stood still for want of it, what was changed and what the process itself cost.
import { parseArgs } from 'node:util';
import { messageIds } from '../../src/core/message-ids.ts';
import { MemoryGuest } from '../machines/memory-guest.ts';
import { offline } from '../machines/support.ts';
import { bootVm, type VirtualHost } from '../vm/vm.ts';

const service = 'lockerd-autoballoon.service';
const names = ['a', 'b', 'c'];
const floorMib = 64;
const ceilingMib = 1000;
/** What a container uses in its turn, and the page cache that it leaves behind. */
const busyMib = 900;
const cacheMib = 300;
/** It holds the memory for so long, while the next one begins, so that two are busy at a time. */
const holdMs = 20_000;
/** Who does not have it by then will not get it. */
const turnMaxMs = 180_000;

interface Figures {
  readonly kills: number;
  readonly stalledMs: number;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function figuresOf(guest: MemoryGuest): Promise<Figures> {
  const [, total] = /^full .*total=(\d+)$/m.exec(await guest.file('memory.pressure')) ?? [];
  return { kills: await guest.kills(), stalledMs: Number(total) / 1000 };
}

/** Fills a guest's page cache once, without use for it later. */
async function leaveCache({ host, name }: MemoryGuest): Promise<void> {
  const script = `head -c ${cacheMib}M /dev/zero >/var/tmp/read-once && sync`;
  const args = ['-n', name, '--clear-env', '--', 'sh', '-c', script];
  await host.run('lxc-attach', args, { timeoutMs: 180_000, reject: false });
}

/** Lets one guest after the other be busy; answers how many seconds each took to get its memory. */
async function takeTurns(guests: readonly MemoryGuest[], endMs: number): Promise<number[]> {
  const seconds: number[] = [];
  let release: Promise<void> = Promise.resolve();
  for (let turn = 0; Date.now() < endMs; turn++) {
    const guest = guests[turn % guests.length];
    if (guest === undefined) break;
    await leaveCache(guest);
    const begun = Date.now();
    // A load that was killed never holds what it wants.
    const loaded = guest.load({ kind: 'steady', processes: 1, mib: busyMib }).then(
      () => true,
      () => false,
    );
    const isLoaded = await Promise.race([loaded, sleep(turnMaxMs).then(() => false)]);
    seconds.push(isLoaded ? (Date.now() - begun) / 1000 : Infinity);
    await release;
    release = sleep(holdMs).then(async () => {
      await guest.unload();
      await loaded;
    });
  }
  await release;
  return seconds;
}

/** The kernel's own word about the whole host. */
async function hostKills(host: VirtualHost): Promise<number> {
  const [, kills] = /^oom_kill (\d+)$/m.exec(await host.readFile('/proc/vmstat')) ?? [];
  return Number(kills);
}

async function cpuMs(host: VirtualHost): Promise<number> {
  const nanoseconds = Number((await host.unit(service))['CPUUsageNSec']);
  return Number.isFinite(nanoseconds) ? nanoseconds / 1e6 : 0;
}

async function run(
  host: VirtualHost,
  guests: readonly MemoryGuest[],
  minutes: number,
): Promise<void> {
  for (const guest of guests) {
    await host.run('systemctl', ['restart', guest.unit], { timeoutMs: 180_000 });
    await guest.locate();
    await host.waitForGuest(guest.name);
  }
  const killsBefore = await hostKills(host);
  const idleFrom = await cpuMs(host);
  await sleep(60_000);
  const idle = (await cpuMs(host)) - idleFrom;
  const since = (await host.run('date', ['+%s'])).stdout.trim();
  const before = await Promise.all(guests.map(figuresOf));
  const busyFrom = await cpuMs(host);
  const waits = await takeTurns(guests, Date.now() + minutes * 60_000);
  const busy = (await cpuMs(host)) - busyFrom;
  for (const [index, guest] of guests.entries()) {
    const { kills, stalledMs } = await figuresOf(guest);
    const stalled = stalledMs - (before[index]?.stalledMs ?? 0);
    console.log(`  ${guest.name}: ${kills} kills, stood still ${(stalled / 1000).toFixed(1)} s`);
  }
  const match = `MESSAGE_ID=${messageIds.autoballoon}`;
  const args = ['-b', '--since', `@${since}`, '-o', 'cat', match];
  const { stdout } = await host.run('journalctl', args, { reject: false });
  const changes = stdout.split('\n').filter((line) => line.includes('may use'));
  console.log(`  kills on the host: ${(await hostKills(host)) - killsBefore}`);
  const reached = waits.filter(Number.isFinite).sort((one, other) => one - other);
  const median = reached[Math.floor(reached.length / 2)] ?? Infinity;
  console.log(
    `  turns: ${waits.length}, of which ${reached.length} got ${busyMib} MiB, after ${median.toFixed(0)} s ` +
      `in the median and ${(reached.at(-1) ?? Infinity).toFixed(0)} s at most`,
  );
  console.log(`  changes: ${changes.length}`);
  console.log(
    `  processor time of ${service}: ${busy.toFixed(0)} ms, in a minute of idleness ${idle.toFixed(0)} ms`,
  );
}

export async function benchAutoballoon(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { minutes: { type: 'string', default: '10' }, without: { type: 'string' } },
  });
  const minutes = Number(values.minutes);
  const without = Number(values.without ?? minutes);
  const host = await bootVm({ name: 'autoballoon-bench' });
  try {
    const guests = names.map((name) => new MemoryGuest(host, name));
    for (const guest of guests) {
      await host.createContainer(guest.name, 'sysvinit', { config: offline });
      const file = `/etc/lockerd/containers/${guest.name}.conf`;
      await host.writeFile(file, `autoballoon = ${floorMib}M ${ceilingMib}M\n`);
      await guest.prepare();
    }
    await host.run('systemctl', ['daemon-reload'], { timeoutMs: 180_000 });
    const total = /^MemTotal: +(\d+)/m.exec(await host.readFile('/proc/meminfo'))?.[1];
    console.log(
      `three containers with ceilings of ${ceilingMib} MiB on ${Math.round(Number(total) / 1024)} MiB, ` +
        `in turn busy with ${busyMib} MiB beside ${cacheMib} MiB of page cache, for ${without} and ${minutes} minutes`,
    );
    console.log('without the automatic balloon:');
    await host.run('systemctl', ['mask', '--runtime', '--now', service]);
    await run(host, guests, without);
    console.log('with it:');
    await host.run('systemctl', ['unmask', '--runtime', service]);
    await run(host, guests, minutes);
  } finally {
    await host.close();
  }
}

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { MemoryGuest, mib } from '../machines/memory-guest.ts';
import { offline } from '../machines/support.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 300_000 });

let host: Host;
let web: MemoryGuest;
let swap: ChildProcess | undefined;

/** Swap of the whole machine, since hosts share its kernel; it goes also when this process is killed. */
async function swapOn(file: string): Promise<ChildProcess> {
  const script = `
    loop=$(losetup --find --show "$1")
    mkswap -q "$loop" && swapon "$loop" && echo on && cat
    swapoff "$loop"; losetup --detach "$loop"`;
  const child = spawn('sh', ['-uc', script, 'sh', file], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const said = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
  if (!String(said[0]).startsWith('on')) throw new Error(`${file} cannot be used as swap`);
  return child;
}

beforeAll(async () => {
  host = await bootHost({ name: 'swap' });
  web = new MemoryGuest(host, 'web');
  await host.createContainer(web.name, 'sysvinit', { config: offline });
  await web.prepare();
  await host.shell('systemctl daemon-reload; systemctl start lockerd-helper.socket');
  await web.start();
  await host.shell('fallocate -l 512M /srv/swap.img');
  swap = await swapOn(`${host.root}/srv/swap.img`);
});
afterAll(async () => {
  if (swap !== undefined) {
    const ended = once(swap, 'exit');
    swap.stdin?.end();
    await ended;
  }
  await host.close();
});
attachJournalOnFailure(() => host);
afterEach(() => web.unload());

/** Limits of memory and of its sum with swap in the kernel, in MiB. */
async function kernelLimits(): Promise<number[]> {
  const files = ['memory.limit_in_bytes', 'memory.memsw.limit_in_bytes'];
  const texts = await Promise.all(files.map((name) => web.file(name)));
  return texts.map((text) => Number(text) / mib);
}

async function swapUsed(): Promise<number> {
  const [, bytes] = /^total_swap (\d+)$/m.exec(await web.file('memory.stat')) ?? [];
  return Number(bytes);
}

async function expectSound(): Promise<void> {
  expect({ kills: await web.kills(), leftovers: await web.leftovers() }).toEqual({
    kills: 0,
    leftovers: [],
  });
}

test('a shrink puts anonymous memory and a tmpfs into swap, as far as swap is allowed', async () => {
  await web.load({ kind: 'steady', processes: 1, mib: 80 });
  await web.load({ kind: 'file', processes: 1, mib: 80, directory: '/dev/shm' });
  expect(await web.balloon(120 * mib, { swap: '0' })).toMatchObject({
    ...{ ok: false, error: 'LimitBelowUsage' },
  });
  await expectSound();
  expect(await web.balloon(120 * mib, { swap: String(200 * mib) })).toMatchObject({
    ...{ ok: true, swap: String(200 * mib) },
  });
  expect(await kernelLimits()).toEqual([120, 320]);
  expect(await web.limit()).toBe(String(120 * mib));
  expect(await swapUsed()).toBeGreaterThan(20 * mib);
  await expectSound();
});

test('the sum goes along up and down, in an order that the kernel accepts', async () => {
  expect(await web.balloon(300 * mib)).toMatchObject({ ok: true });
  expect(await kernelLimits()).toEqual([300, 500]);
  expect(await web.balloon(200 * mib, { swap: String(50 * mib) })).toMatchObject({ ok: true });
  expect(await kernelLimits()).toEqual([200, 250]);
  await web.reset();
});

test('locked memory is not put into swap', async () => {
  await web.load({ kind: 'locked', processes: 1, mib: 150 });
  const answer = await web.balloon(100 * mib, { swap: 'max' });
  expect(answer).toMatchObject({ ok: false, error: 'LimitBelowUsage' });
  expect(Number(answer.lowest)).toBeGreaterThan(150 * mib);
  await expectSound();
});

test.for([1, 8, 48])('a hostile guest of %i processes loses nobody', async (processes) => {
  await web.load({ kind: 'saw', processes, mib: 200 });
  const answer = await web.balloon(150 * mib, { swap: String(200 * mib) });
  if (!answer.ok) expect(answer.error).toBe('LimitBelowUsage');
  await expectSound();
  await web.unload();
  await web.reset();
});

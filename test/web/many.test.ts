import fs from 'node:fs';
import { beforeAll, expect, test, vi } from 'vitest';
import type { Browser, CDPSession, Page } from 'playwright-core';
import type { Host } from '../host/host.ts';
import { systemctl } from '../machines/support.ts';
import { closeAfterwards, makeWebHost, openPage } from './web-host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

const count = 200;
/** What a person does not notice, in milliseconds. */
const unnoticedMs = 100;

let host: Host;
let browser: Browser;
let page: Page;
let devtools: CDPSession;

beforeAll(async () => {
  host = await makeWebHost('many');
  // One runs, so that there are figures to ask for.
  await host.createContainer('c001', 'busybox', {
    config: ['lxc.net.0.type = empty', 'lxc.group = group1'],
  });
  for (let index = 2; index <= count; index++) {
    const name = `c${String(index).padStart(3, '0')}`;
    const directory = `${host.root}/var/lib/lxc/${name}`;
    fs.mkdirSync(`${directory}/rootfs/sbin`, { recursive: true });
    const lines = [
      `lxc.rootfs.path = dir:/var/lib/lxc/${name}/rootfs`,
      `lxc.uts.name = ${name}`,
      `lxc.group = group${index % 7}`,
      'lxc.net.0.type = empty',
      ...(index % 50 === 0 ? ['lxc.uts.nmae = wrong'] : []),
    ];
    fs.writeFileSync(`${directory}/config`, `${lines.join('\n')}\n`);
  }
  ({ browser, page } = await openPage(host, {}, async () => {
    await systemctl(host, 'start', 'lxc@c001');
  }));
  devtools = await page.context().newCDPSession(page);
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
});
closeAfterwards(() => ({ host, browser, page }));

/** What the page's thread has worked, in milliseconds of processor time: others may have the processor. */
async function workedMs(): Promise<number> {
  const { metrics } = await devtools.send('Performance.getMetrics');
  return (metrics.find(({ name }) => name === 'TaskDuration')?.value ?? NaN) * 1000;
}

/** How long a step keeps the page busy, until what it changes is drawn. */
async function costOf(step: () => Promise<unknown>): Promise<number> {
  const before = await workedMs();
  await step();
  await page.evaluate('new Promise((done) => requestAnimationFrame(() => setTimeout(done)))');
  return (await workedMs()) - before;
}

const rows = () => page.locator('tbody tr:visible');

test('the first picture of all', async () => {
  await page.reload();
  await expect.poll(() => rows().count(), { timeout: 60_000, interval: 20 }).toBe(count);
  const ms = await page.evaluate<number>('performance.now()');
  const worked = await workedMs();
  console.log(
    `${count} containers: drawn after ${Math.round(ms)} ms, ${Math.round(worked)} ms of work`,
  );
  expect(worked).toBeLessThan(3000);
});

const rounds = 3;

test('typing, choosing and opening a menu keep nobody waiting', async () => {
  const costs: Record<string, number[]> = {};
  const note = (step: string, ms: number): void => {
    (costs[step] ??= []).push(ms);
  };
  /** By the keyboard and the mouse alone: to look for an element costs the page more than what is measured. */
  const press = async (step: string, key: string, left: number): Promise<void> => {
    note(step, await costOf(() => page.keyboard.press(key)));
    await expect.poll(() => rows().count(), { timeout: 20_000 }).toBe(left);
  };
  for (let round = 1; round <= rounds; round++) {
    await page.getByLabel('Search containers').focus();
    await press('first letter', 'c', count);
    await press('second letter', '1', 100);
    await press('third letter', '9', 10);
    await press('one letter less', 'Backspace', 100);
    await press('two letters less', 'Backspace', count);
    await press('none', 'Backspace', count);
    await page.getByLabel('Group').focus();
    await press('a group', 'ArrowDown', 28);
    await press('all groups', 'ArrowUp', count);
    const menu = page.getByRole('button', { name: `Actions for c00${round + 2}` });
    const box = (await menu.boundingBox()) ?? { x: 0, y: 0, width: 0, height: 0 };
    const middle = [box.x + box.width / 2, box.y + box.height / 2] as const;
    note('a menu', await costOf(() => page.mouse.click(...middle)));
    await page.getByRole('menuitem').first().waitFor();
    await page.keyboard.press('Escape');
  }
  // Figures of all containers may come in between, which is work as well.
  const usual = Object.entries(costs).map(
    ([step, all]) => [step, all.sort((one, other) => one - other)[1] ?? NaN] as const,
  );
  const told = usual.map(([step, ms]) => `${step}: ${Math.round(ms)} ms`).join(', ');
  console.log(told);
  expect(Math.max(...usual.map(([, ms]) => ms)), told).toBeLessThan(unnoticedMs);
});

test('figures that come every few seconds cost little', async () => {
  const before = await workedMs();
  await page.waitForTimeout(9000);
  expect((await workedMs()) - before).toBeLessThan(3 * unnoticedMs);
});

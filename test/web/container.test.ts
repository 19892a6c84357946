import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test, vi } from 'vitest';
import type { Browser, Page } from 'playwright-core';
import type { Host } from '../host/host.ts';
import { answerOfGuest, lockersSeenBy, offline, systemctl } from '../machines/support.ts';
import { closeNotices, notice } from './views.ts';
import {
  closeAfterwards,
  expectView,
  makeWebHost,
  openPage,
  show,
  takePictures,
  violations,
} from './web-host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

const fstab = `
data   /lockers/data   tmpfs  size=8m  0 0
music  /lockers/music  tmpfs  size=8m  0 0
`;

let host: Host;
let browser: Browser;
let page: Page;
let complaints: readonly string[] = [];

beforeAll(async () => {
  host = await makeWebHost('container');
  const limited = [...offline, 'lxc.cgroup2.memory.max = 256M'];
  await host.createContainer('web', 'busybox', { config: limited });
  await host.createContainer('db', 'systemd', { config: [...offline, 'lxc.start.auto = 1'] });
  await host.writeFile('/etc/fstab', fstab);
  ({ browser, page, complaints } = await openPage(host, {}, async () => {
    await systemctl(host, 'start', 'lxc@web', 'lxc@db');
    await host.waitForGuest('web');
    await beginRecord();
  }));
});
closeAfterwards(() => ({ host, browser, page }));

test('the page of a container', async () => {
  await show(page, '/container/db');
  await page.getByRole('heading', { name: 'db', exact: true }).waitFor();
  await page.getByText('Debian GNU/Linux 12 (bookworm)').waitFor();
  await page.getByText('/var/lib/lxc/db/config', { exact: true }).waitFor();
  await page.getByText('Yes: lxc.start.auto is 1').waitFor();
  await page
    .getByRole('list', { name: 'Journal' })
    .getByText(/Started lxc@db/)
    .first()
    .waitFor();
});

test('the journal is that of the unit, and goes on', async () => {
  const journal = page.getByRole('list', { name: 'Journal' });
  expect(await journal.innerText()).not.toMatch(/lxc@web|lockerd\.service|cockpit/);
  const { MainPID: pid } = await host.unit('lxc@db.service');
  const input = `MESSAGE=of an hour later\nOBJECT_PID=${pid}\n`;
  await host.run('logger', ['--journald'], { input });
  await journal.getByRole('listitem').first().getByText('of an hour later').waitFor();
});

test('the generated unit, with what made each line', async () => {
  await page.getByRole('button', { name: 'Explain each line' }).click();
  await page.getByRole('button', { name: 'Read again' }).waitFor();
  await page.getByRole('heading', { name: 'lxc@db.service.d/60-container.conf' }).waitFor();
  await page.getByText('SourcePath=/var/lib/lxc/db/config').waitFor();
  await page
    .getByText(/\/var\/lib\/lxc\/db\/config:\d+: lxc\.start\.auto = 1/)
    .first()
    .waitFor();
  // A line that something else has made than the rest of its file.
  await page
    .getByRole('definition')
    .getByText(/:\d+: \S/)
    .first()
    .waitFor();
});

const recordSeconds = 70;

/**
 * Has pcp record for a while what our example names, more often than it says. An archive of version 2 has each list
 * of groups whole: what pmlogrewrite of Debian 13 makes of one with differences, moved in time, it cannot read itself.
 */
async function beginRecord(): Promise<void> {
  const example = path.resolve(import.meta.dirname, '../../src/examples/pmlogconf-lockerd');
  const metrics = fs.readFileSync(example, 'utf8').match(/^\tcgroup.*$/gm) ?? [];
  await host.writeFile('/root/record', `log advisory on 1 second {\n${metrics.join('\n')}\n}\n`);
  await host.writeFile('/root/earlier', 'global { TIME -> -00:20:00 }\n');
  await host.shell(`
    systemctl start pmcd
    systemd-run --quiet --unit=usual pmlogger -c /root/record -T ${recordSeconds}sec /root/usual
    systemd-run --quiet --unit=record pmlogger -V 2 -c /root/record -T ${recordSeconds}sec /root/now`);
}

/** Puts what was recorded as pcp does it by default where Cockpit looks for it. */
async function endRecord(): Promise<void> {
  for (const unit of ['usual.service', 'record.service']) {
    const isDone = async () => (await host.unit(unit))['ActiveState'] === 'inactive';
    // All of it is still to come where the tests before were quick, or did not run.
    await host.waitFor('the record has ended', isDone, (recordSeconds + 20) * 1000);
  }
  await host.shell(`
    mkdir -p /var/log/pcp/pmlogger/$(hostname)
    mv /root/usual.* /var/log/pcp/pmlogger/$(hostname)/`);
}

/** Puts a record there that is twenty minutes older. */
async function putEarlierRecord(): Promise<void> {
  await host.shell(`
    cd /var/log/pcp/pmlogger/$(hostname)
    rm usual.*
    /usr/lib/pcp/bin/pmlogrewrite -c /root/earlier /root/now earlier`);
}

/** What a shell answers that the page has opened. */
async function answerOfShell(name: string, prompt: string | RegExp, command: string) {
  await page.getByRole('button', { name: 'Shell', exact: true }).click();
  const screen = page.getByRole('group', { name: 'Shell' });
  await screen.getByText(prompt).first().waitFor();
  await screen.click();
  await page.keyboard.type(`{ ${command}; } > /typed; echo whole >> /typed\n`);
  let answer = '';
  await vi.waitFor(
    async () => {
      answer = await answerOfGuest(host, name, 'cat /typed');
      expect(answer).toMatch(/whole\n0\n$/);
    },
    { timeout: 20_000 },
  );
  await page.keyboard.type('exit\n');
  await page.getByText('Shell has ended').waitFor();
  return answer;
}

test('a shell in a guest with systemd is a session', async () => {
  const answer = await answerOfShell('db', 'root@db', 'cat /proc/self/cgroup; echo $TERM');
  expect(answer).toMatch(/container-shell@\d+\.service/);
  expect(answer).toMatch(/^xterm/m);
});

test('a shell in another guest', async () => {
  await show(page, '/container/web');
  const answer = await answerOfShell('web', '#', 'cat /proc/1/comm; hostname');
  expect(answer).toMatch(/^(init|busybox)\nweb\nwhole/);
});

test('the console of a guest', async () => {
  await page.getByRole('button', { name: 'Console', exact: true }).click();
  const screen = page.getByRole('group', { name: 'Console' });
  await screen.getByText('Connected to tty 1').first().waitFor();
  await page.keyboard.press('Enter');
  await screen.getByText('web login:').first().waitFor();
  await page.keyboard.press('Control+a');
  await page.keyboard.press('q');
  await page.getByText('Console has ended').waitFor();
});

test('a memory limit: progress, and a refusal that names the lowest safe one', async () => {
  await show(page, '/container/web');
  const fill =
    'mkdir /full && mount -t tmpfs full /full && head -c 90000000 /dev/zero > /full/file';
  expect(await answerOfGuest(host, 'web', fill)).toBe('0\n');
  const size = page.getByRole('textbox', { name: 'New limit' });
  const button = page.getByRole('button', { name: 'Set memory limit' });
  // Before any refusal: 86 MiB of files in memory cannot be taken back.
  await expect
    .poll(async () => lowestOf(await page.getByText(/^Lowest safe limit:/).innerText()), {
      timeout: 40_000,
    })
    .toBeGreaterThan(90);
  const lowest = lowestOf(await page.getByText(/^Lowest safe limit:/).innerText());
  expect(lowest).toBe(await lowestOnBus());
  expect(lowest).toBeLessThan(125);
  await page.getByLabel('No limit').uncheck();
  await size.fill(`${lowest} MiB`);
  const mark = (await page.locator('.lockerd-mark').getAttribute('style')) ?? '';
  const place = Number(await page.getByRole('slider', { name: 'New limit' }).inputValue());
  expect(Math.abs(place - Number(/[\d.]+/.exec(mark)) * 1000)).toBeLessThan(5);
  const card = page.locator('.pf-v6-c-card').filter({ has: button });
  await card.getByLabel('Also for later starts').check();
  await size.fill('200 MiB');
  await button.click();
  await notice(page, 'Memory limit of web: done').waitFor();
  const kept = '/etc/systemd/system.control/lxc@web.service.d/50-MemoryMax.conf';
  expect(await host.readFile(kept)).toContain(`MemoryMax=${200 * 2 ** 20}`);
  // The form begins anew with each limit.
  expect(await card.getByLabel('Also for later starts').isChecked()).toBe(false);
  await size.fill('130 MiB');
  await button.click();
  const progress = page.getByRole('progressbar', { name: /Changing the memory limit/ });
  await progress.waitFor();
  await takePictures(page, 'balloon');
  await progress.waitFor({ state: 'detached' });
  await notice(page, /^The guest (stood still for \d+ ms|did not stand still)\.$/)
    .last()
    .waitFor();
  expect(await memoryLimit('web')).toBe(`t ${130 * 2 ** 20}`);
  await size.fill('64 MiB');
  await page.getByText('This is below the lowest safe limit.').waitFor();
  await button.click();
  await notice(page, 'Memory limit of web failed').waitFor();
  const told = /the lowest limit that would have worked is (\d+)M(; to try it made .*)?/;
  const refusal = await notice(page, told).innerText();
  const named = Number(told.exec(refusal)?.[1]);
  expect(Math.abs(named - lowest)).toBeLessThan(8);
  expect(await memoryLimit('web')).toBe(`t ${130 * 2 ** 20}`);
  await closeNotices(page);
});

/** Whole MiB of `Lowest safe limit: 113 MiB`. */
const lowestOf = (text: string): number => Number(/ (\d+) MiB$/.exec(text)?.[1]);

/** The same figure in MiB as the service says it. */
async function lowestOnBus(): Promise<number> {
  const { stdout } = await host.run('lockerctl', ['status', '--json', 'web']);
  const [status] = JSON.parse(stdout) as { lowest_memory_limit: number }[];
  return (status?.lowest_memory_limit ?? NaN) / 2 ** 20;
}

/** As busctl prints it. */
async function memoryLimit(name: string): Promise<string> {
  const args = ['org.lockerd1', `/org/lockerd1/container/${name}`, 'org.lockerd1.Container'];
  return (await host.run('busctl', ['get-property', ...args, 'MemoryLimit'])).stdout.trim();
}

test('a guest that has run out of memory', async () => {
  await answerOfGuest(host, 'web', 'tail /dev/zero');
  await page.getByRole('heading', { name: /Killed for want of memory: \d+ process/ }).waitFor();
  await host.waitForGuest('web');
});

test('the slider moves with the keys', async () => {
  const slider = page.getByRole('slider', { name: 'New limit' });
  const size = page.getByRole('textbox', { name: 'New limit' });
  const before = await size.inputValue();
  await slider.focus();
  await page.keyboard.press('PageUp');
  expect(await size.inputValue()).not.toBe(before);
});

test('no limit at all, which no number of JSON can say', async () => {
  await page.getByLabel('No limit').check();
  await page.getByRole('button', { name: 'Set memory limit' }).click();
  await expect.poll(() => memoryLimit('web'), { timeout: 20_000 }).toBe(`t ${2n ** 64n - 1n}`);
  await closeNotices(page);
});

test('limits of processors and tasks', async () => {
  const form = page.getByRole('form', { name: 'Limits', exact: true });
  await form.getByLabel('Processor time (%)').fill('50');
  await form.getByLabel('Processes and threads').fill('300');
  await form.getByLabel('Also for later starts').check();
  await form.getByRole('button', { name: 'Set limits' }).click();
  await notice(page, 'Limits of web: done').waitFor();
  const unit = await host.unit('lxc@web.service');
  expect([unit['CPUQuotaPerSecUSec'], unit['TasksMax']]).toEqual(['500ms', '300']);
  const kept = '/etc/systemd/system.control/lxc@web.service.d/50-TasksMax.conf';
  expect(await host.readFile(kept)).toContain('TasksMax=300');
  await form.getByLabel('Processors', { exact: true }).fill('4000-4001');
  await form.getByRole('button', { name: 'Set limits' }).click();
  await notice(page, 'Limits of web failed').waitFor();
  // What was written is still there, to be put right.
  expect(await form.getByLabel('Processors', { exact: true }).inputValue()).toBe('4000-4001');
  await closeNotices(page);
});

/** Microseconds of processor time since the start. */
async function cpuTime(): Promise<number> {
  const args = ['org.lockerd1', '/org/lockerd1/container/web', 'org.lockerd1.Container'];
  const { stdout } = await host.run('busctl', ['get-property', ...args, 'CpuTime']);
  return Number(stdout.split(' ')[1]);
}

test('the plot of processors has the figures of the service', async () => {
  await answerOfGuest(host, 'web', '(while :; do :; done) >/dev/null 2>&1 & echo $! > /busy');
  const plot = page.getByRole('img', { name: /^CPU\. / });
  const shown = async () =>
    Number(/([\d.]+) %/.exec((await plot.getAttribute('aria-label')) ?? '')?.[1] ?? 0);
  const counted = async () => {
    const [begin, before] = [Date.now(), await cpuTime()];
    await page.waitForTimeout(3000);
    return ((await cpuTime()) - before) / (Date.now() - begin) / 10;
  };
  await expect.poll(shown, { timeout: 20_000 }).toBeGreaterThan(2);
  // Other loads come and go, but none makes it three times as much again and again.
  const ratio = async () => Math.abs(Math.log((await counted()) / (await shown())));
  await expect.poll(ratio, { timeout: 60_000 }).toBeLessThan(Math.log(3));
  await answerOfGuest(host, 'web', 'kill $(cat /busy)');
});

test('without a record of pcp, plots begin when the page is opened', async () => {
  await page.getByRole('heading', { name: 'Usage since this page was opened' }).waitFor();
  await page.getByRole('img', { name: /^Memory\. in use: [\d.]+ MiB/ }).waitFor();
});

const settings = async () =>
  (await host.shell('cat /etc/lockerd/containers/web.conf 2>&1 || true')).stdout;

test('a locker is attached read-only, also for later starts, and detached', async () => {
  await page.getByLabel('Attach another locker').selectOption('music');
  await page.getByLabel('Read-only').check();
  const card = page.locator('.pf-v6-c-card').filter({ hasText: 'Attach another locker' });
  await card.getByLabel('Also for later starts').check();
  await page.getByRole('button', { name: 'Attach', exact: true }).click();
  await page.getByRole('list', { name: 'Attached lockers' }).getByText('read-only').waitFor();
  expect(await lockersSeenBy(host, 'web')).toEqual(['music']);
  await notice(page, 'Attaching music to web: done').waitFor();
  expect(await settings()).toMatch(/^lockers = music:ro$/m);
  await page.getByRole('button', { name: 'Detach music' }).click();
  await page.getByRole('dialog').getByLabel('Also for later starts').check();
  await page.getByRole('dialog').getByRole('button', { name: 'Detach', exact: true }).click();
  await page.getByText('No locker is attached.').waitFor();
  expect(await lockersSeenBy(host, 'web')).toEqual([]);
  await notice(page, 'Detaching music from web: done').waitFor();
  expect(await settings()).not.toContain('music');
  await card.getByLabel('Also for later starts').uncheck();
  await closeNotices(page);
});

test('a busy locker: who uses it, and force', async () => {
  await page.getByLabel('Attach another locker').selectOption('data');
  await page.getByLabel('Read-only').uncheck();
  await page.getByRole('button', { name: 'Attach', exact: true }).click();
  await page.getByRole('button', { name: 'Detach data' }).waitFor();
  expect(await answerOfGuest(host, 'web', 'cd /lockers/data && sleep 1000 >/dev/null 2>&1 &')).toBe(
    '0\n',
  );
  await page.getByRole('button', { name: 'Detach data' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Detach', exact: true }).click();
  const dialog = page.getByRole('dialog').filter({ hasText: 'It is in use' });
  await dialog.getByText(/sleep/).waitFor();
  await takePictures(page, 'busy');
  expect(await violations(page)).toEqual([]);
  await dialog.getByRole('button', { name: 'Detach all the same' }).click();
  await page.getByText('No locker is attached.').waitFor();
  await closeNotices(page);
});

test('a record as pcp writes it is found', async () => {
  await endRecord();
  await page.reload();
  await page.getByRole('heading', { name: 'Usage in the last hour' }).waitFor();
});

test('plots show the last hour, with gaps where nothing was recorded', async () => {
  await putEarlierRecord();
  await page.reload();
  await page.getByRole('heading', { name: 'Usage in the last hour' }).waitFor();
  for (const title of ['Memory', 'CPU']) {
    const plot = page.locator('figure').filter({ has: page.getByText(title, { exact: true }) });
    await plot.getByText(/^last 2\d minutes$/).waitFor();
    // Some moments of twenty minutes ago, a gap, and those since the page was opened.
    await expect
      .poll(async () => (await plot.locator('path').first().getAttribute('d')) ?? '', {
        timeout: 20_000,
      })
      .toMatch(/^M[^M]+M[^M]+L/);
  }
  await takePictures(page, 'past');
});

test('the view in light and dark, narrow too, is as axe-core wants it', async () => {
  await expectView(page, '/container/db');
});

test('nothing went wrong in the page itself', () => {
  expect(complaints).toEqual([]);
});

import { beforeAll, describe, expect, test, vi } from 'vitest';
import type { Browser, Page } from 'playwright-core';
import type { Host } from '../host/host.ts';
import { answerOfGuest, offline, systemctl } from '../machines/support.ts';
import { heard, listen, misnamed, toldOf } from './spoken.ts';
import { choose, closeNotices, expectState, lockerRow, notice, rowOf } from './views.ts';
import { closeAfterwards, logIn, makeWebHost, openPage, show } from './web-host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

const fstab = 'data /lockers/data tmpfs size=8m 0 0\n';
const stores = `
default-store = lost
[store lost]
type = lvm
volume-group = vg-lost
`;

let host: Host;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  host = await makeWebHost('spoken');
  const limited = [...offline, 'lxc.cgroup2.memory.max = 256M'];
  await host.createContainer('web', 'busybox', { config: limited });
  await host.createContainer('quiet', 'busybox', { config: offline });
  await host.createContainer('brief', 'busybox', { config: offline });
  await host.writeFile('/etc/fstab', fstab);
  await host.writeFile('/etc/lockerd/lockerd.conf', stores);
  ({ browser, page } = await openPage(host, { guest: 'users' }, async () => {
    await systemctl(host, 'start', 'lxc@web', 'lockers-data.mount', 'lockerd-stores.socket');
    await host.waitForGuest('web');
    await host.run('lockerctl', ['attach', 'web', 'data']);
  }));
});
closeAfterwards(() => ({ host, browser, page }));

const dialog = () => page.getByRole('dialog');
const heading = (name: string) => page.getByRole('heading', { name, exact: true });
const wide = { width: 1280, height: 900 };
const narrow = { width: 360, height: 740 };

describe.each([
  ['wide', wide],
  ['narrow', narrow],
] as const)('a %s screen', (_name, size) => {
  test.each([
    ['/', 'Containers', ['brief', 'quiet', 'web'], 8],
    ['/lockers', 'Lockers', ['data'], 7],
    ['/lockers', 'Stores', ['lost'], 5],
  ])(
    '%s: the table "%s" has a heading for each row and column',
    async (view, name, rows, columns) => {
      await page.setViewportSize(size);
      await show(page, view);
      const table = page.getByRole('table', { name, exact: true });
      await table.getByRole('rowheader').first().waitFor();
      const told = (await toldOf(page)).filter(({ places }) => places.includes(name));
      const named = (role: string) =>
        told.filter((one) => one.role === role).map((one) => one.name);
      // On a narrow screen each cell has the heading of its column with it.
      const [before, headings] = size === narrow ? ['Name ', 0] : ['', columns];
      const names = named('rowheader');
      expect(names.every((words) => words.startsWith(before))).toBe(true);
      expect(names.map((words) => words.slice(before.length).split(/\s/)[0])).toEqual(rows);
      expect(named('columnheader')).toHaveLength(headings);
      await page.setViewportSize(wide);
    },
  );
});

test('all that can be used has a name of its own', async () => {
  await show(page, '/');
  await rowOf(page, 'web').getByText(/MiB/).first().waitFor();
  expect(await misnamed(page)).toEqual([]);
  await page.getByRole('button', { name: 'Actions for web', exact: true }).click();
  await page.getByRole('menuitem').first().waitFor();
  expect(await misnamed(page)).toEqual([]);
  await page.keyboard.press('Escape');
  await show(page, '/lockers');
  await page.getByRole('button', { name: 'Create locker' }).click();
  await dialog().getByLabel('Name').waitFor();
  expect(await misnamed(page)).toEqual([]);
  await page.keyboard.press('Escape');
  await show(page, '/container/web');
  await page.getByText(/^Lowest safe limit/).waitFor();
  await page.getByRole('button', { name: 'Explain each line' }).click();
  await page.getByRole('button', { name: 'Read again' }).waitFor();
  await page.getByRole('button', { name: 'Shell', exact: true }).click();
  await page.getByRole('group', { name: 'Shell' }).getByText('#').first().waitFor();
  expect(await misnamed(page)).toEqual([]);
  await page.getByRole('button', { name: 'Close', exact: true }).click();
});

test('a bar says how much in words, and the slider which limit is the lowest', async () => {
  await show(page, '/container/web');
  await page.getByText(/^Lowest safe limit/).waitFor();
  const told = await toldOf(page);
  const one = (role: string, name: string) =>
    told.find((each) => each.role === role && each.name === name);
  // Chromium's tree has no words of values.
  const words = (role: 'meter' | 'slider', name: string) =>
    page.getByRole(role, { name }).getAttribute('aria-valuetext');
  expect(await words('meter', 'Memory in use')).toMatch(/^[\d.]+ MiB of 256 MiB$/);
  expect(await words('slider', 'New limit')).toBe('256 MiB');
  expect(one('slider', 'New limit')?.description).toMatch(/^Lowest safe limit: [\d.]+ MiB/);
});

test('what is risky, how a job goes and how it has ended', async () => {
  await show(page, '/container/web');
  const fill =
    'mkdir /full && mount -t tmpfs full /full && head -c 90000000 /dev/zero > /full/file';
  expect(await answerOfGuest(host, 'web', fill)).toBe('0\n');
  await page.getByText(/^Lowest safe limit: (9\d|1\d\d)/).waitFor({ timeout: 40_000 });
  await listen(page);
  await page.getByRole('textbox', { name: 'New limit' }).fill('64 MiB');
  await expect
    .poll(() => heard(page), { timeout: 10_000 })
    .toContain('This is below the lowest safe limit.');
  await page.getByRole('textbox', { name: 'New limit' }).fill('130 MiB');
  await page.getByRole('button', { name: 'Set memory limit' }).click();
  await notice(page, 'Memory limit of web: done').waitFor();
  const all = await heard(page);
  expect(all.filter((words) => words.startsWith('bar: '))).not.toEqual([]);
  for (const words of all.filter((one) => one.startsWith('bar: '))) {
    expect(words).toMatch(/^bar: Changing the memory limit.* \| (\d+ %|at work$|[a-z])/);
  }
  expect(all).toContainEqual(expect.stringMatching(/^bar: .* \| \d+ %: [a-z]/));
  expect(all).toContainEqual(expect.stringContaining('Memory limit of web: done'));
  await closeNotices(page);
});

test('a question is told with its dialog', async () => {
  await show(page, '/');
  await choose(page, 'web', 'Force stop');
  await dialog().waitFor();
  const [told] = (await toldOf(page)).filter(({ role }) => role === 'dialog');
  expect(told?.name).toMatch(/Force stop web\?/);
  expect(told?.description).toMatch(/killed at once/);
  await page.keyboard.press('Escape');
});

test('who follows a link is in the view that it leads to', async () => {
  await show(page, '/');
  await page.getByRole('link', { name: 'quiet', exact: true }).press('Enter');
  await heading('quiet').and(page.locator(':focus')).waitFor();
  const back = page.getByRole('navigation', { name: 'Breadcrumb' }).getByRole('link');
  await back.press('Enter');
  await heading('LXC containers').and(page.locator(':focus')).waitFor();
});

test('a container that goes is told', async () => {
  await show(page, '/container/brief');
  await heading('brief').waitFor();
  await listen(page);
  await host.shell('mv /var/lib/lxc/brief /root/ && systemctl daemon-reload');
  await heading('There is no container brief').waitFor();
  expect(await heard(page)).toContain('There is no container brief');
});

test('a service that goes and comes back is told', async () => {
  await show(page, '/');
  await expectState(page, 'web', 'Running');
  await listen(page);
  await host.shell('systemctl mask --runtime lockerd && systemctl kill --signal=KILL lockerd');
  await heading('lockerd does not answer').waitFor();
  // Nothing is shown that may not be so any more.
  expect(await rowOf(page, 'web').count()).toBe(0);
  expect(await heard(page)).toContain('lockerd does not answer');
  await host.run('systemctl', ['unmask', '--runtime', 'lockerd']);
  await expectState(page, 'web', 'Running');
  expect(await heard(page)).toContain('lockerd answers again');
});

test('why a button is grey is told without going there', async () => {
  const guest = await logIn(browser, 'guest');
  await show(guest, '/container/web');
  const reason = async () => {
    const told = await toldOf(guest);
    return told.find(({ role, name }) => role === 'button' && name === 'Reboot')?.description;
  };
  await expect.poll(reason, { timeout: 20_000 }).toMatch(/administrative access|rules of polkit/);
  await show(guest, '/lockers');
  await lockerRow(guest, 'data').waitFor();
  await guest.context().close();
});

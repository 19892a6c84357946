import { beforeAll, expect, test, vi } from 'vitest';
import type { Browser, Page } from 'playwright-core';
import type { Host } from '../host/host.ts';
import { offline } from '../machines/support.ts';
import { permitOnly } from './rules.ts';
import { choose, closeNotices, jobsSeen, lockerRow, noteJobs, notice, tooltipOf } from './views.ts';
import {
  closeAfterwards,
  expectView,
  logIn,
  makeWebHost,
  openPage,
  show,
  takePictures,
  violations,
} from './web-host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

const fstab = `
data          /lockers/data  tmpfs  size=8m  0 0
/srv/tree.img /srv/tree      btrfs  loop     0 0
`;

/** One that is there, and one whose volumes are not and which nobody asks for. */
const stores = `
default-store = lost
[store tree]
type = btrfs
path = /srv/tree
[store lost]
type = lvm
volume-group = vg-lost
`;

/** As lockerctl says them, in bytes. */
interface StoreFigures {
  readonly store: string;
  readonly size: number;
  readonly free: number;
  readonly max_size: number | null;
}

const mebibyte = 2 ** 20;

let host: Host;
let browser: Browser;
/** As root. */
let page: Page;
let complaints: readonly string[] = [];

beforeAll(async () => {
  host = await makeWebHost('lockers');
  ({ browser, page, complaints } = await openPage(host, { guest: 'users' }));
});
closeAfterwards(() => ({ host, browser, page }));

const dialog = () => page.getByRole('dialog');
const store = () => page.locator('tr[data-store="tree"]');

test('a host that has nothing yet', async () => {
  await page.getByRole('heading', { name: 'No containers' }).waitFor();
  await expectView(page, '', 'no-containers');
  await show(page, '/lockers');
  await page.getByRole('heading', { name: 'No lockers' }).waitFor();
  await page.getByText('There is no store').waitFor();
  expect(await violations(page)).toEqual([]);
  await takePictures(page, 'no-lockers');
});

test('lockers, their use, where they are attached, and stores with what is free', async () => {
  await host.createContainer('web', 'busybox', { config: offline });
  await host.writeFile('/etc/fstab', fstab);
  await host.writeFile('/etc/lockerd/lockerd.conf', stores);
  await host.shell(`
    test -c /dev/loop-control || mknod /dev/loop-control c 10 237
    for n in $(seq 0 63); do test -b /dev/loop$n || mknod /dev/loop$n b 7 $n; done
    truncate --size=512M /srv/tree.img
    mkfs.btrfs --quiet /srv/tree.img
    mkdir -p /srv/tree
    systemctl daemon-reload
    systemctl start srv-tree.mount lockers-data.mount lxc@web lockerd-stores.socket
    systemctl restart lockerd`);
  await lockerRow(page, 'data').getByRole('meter', { name: 'Use of data' }).waitFor();
  const use = lockerRow(page, 'data').getByRole('meter');
  expect(await use.getAttribute('aria-valuetext')).toMatch(/ of 8 MiB$/);
  await host.run('lockerctl', ['attach', 'web', 'data', '--read-only']);
  await lockerRow(page, 'data').getByRole('link', { name: 'web' }).waitFor();
  expect(await lockerRow(page, 'data').innerText()).toContain('(read-only)');
  await host.run('lockerctl', ['detach', 'web', 'data']);
  await lockerRow(page, 'data').getByRole('link', { name: 'web' }).waitFor({ state: 'detached' });
  await store().getByText('btrfs').waitFor();
  const free = store().locator('[data-label=Free]');
  const { stdout } = await host.run('lockerctl', ['stores', '--json']);
  const known = (JSON.parse(stdout) as StoreFigures[]).find((one) => one.store === 'tree');
  const inMebibytes = (bytes = NaN) => Math.round(bytes / mebibyte);
  expect(parseFloat(await free.innerText())).toBeCloseTo(inMebibytes(known?.free), 0);
  const largest = await store().locator('[data-label="Largest locker"]').innerText();
  expect(largest).toBe(known?.max_size ? `${inMebibytes(known.max_size)} MiB` : 'no bound');
  const inUse = (await store().getByRole('meter').getAttribute('aria-valuetext')) ?? '';
  const taken = inMebibytes((known?.size ?? NaN) - (known?.free ?? NaN));
  expect(Math.abs(parseFloat(inUse) - taken)).toBeLessThanOrEqual(1);
  await page
    .locator('tr[data-store="lost"]')
    .getByText(/install the package lvm2/)
    .waitFor();
});

test('a locker is created, with the job in sight', async () => {
  await noteJobs(page);
  await page.getByRole('button', { name: 'Create locker' }).click();
  const create = dialog().getByRole('button', { name: 'Create', exact: true });
  expect(await create.getAttribute('aria-disabled')).toBe('true');
  expect(await tooltipOf(create)).toBe('Give it a name.');
  await dialog().getByLabel('Name').fill('photos');
  await dialog().getByLabel('Size').fill('64 MiB');
  await dialog().getByLabel('Owner').fill('1000:1001');
  await dialog().getByLabel('Store').selectOption('tree');
  await dialog()
    .getByText(/\d+(\.\d)? MiB free/)
    .waitFor();
  expect(await violations(page)).toEqual([]);
  await takePictures(page, 'create');
  await create.click();
  await notice(page, 'Creation of photos: done').waitFor();
  await lockerRow(page, 'photos').waitFor();
  expect(await jobsSeen(page)).toContain('Creating a locker photos');
  const { stdout } = await host.run('stat', ['-c', '%u:%g', '/lockers/photos']);
  expect(stdout).toBe('1000:1001\n');
  const use = lockerRow(page, 'photos').getByRole('meter');
  expect(await use.getAttribute('aria-valuetext')).toMatch(/ of 64 MiB$/);
  await closeNotices(page);
});

test('one that is larger than the store is refused', async () => {
  await page.getByRole('button', { name: 'Create locker' }).click();
  await dialog().getByLabel('Name').fill('huge');
  await dialog().getByLabel('Size').fill('10 TiB');
  await dialog().getByRole('button', { name: 'Create', exact: true }).click();
  await notice(page, /Creation of huge (failed|was refused)/).waitFor();
  await notice(page, /store "?tree"?/).waitFor();
  await closeNotices(page);
  expect(await lockerRow(page, 'huge').count()).toBe(0);
});

test('a locker grows, and never becomes smaller', async () => {
  await choose(page, 'photos', 'Grow');
  await dialog().getByLabel('New size').fill('4 MiB');
  await dialog().getByText('can only grow').waitFor();
  await dialog().getByLabel('New size').fill('96 MiB');
  await dialog().getByRole('button', { name: 'Grow', exact: true }).click();
  await notice(page, 'Growth of photos: done').waitFor();
  expect(await jobsSeen(page)).toContain('Growing a locker photos');
  await expect
    .poll(() => lockerRow(page, 'photos').getByRole('meter').getAttribute('aria-valuetext'))
    .toMatch(/ of 96 MiB$/);
  await closeNotices(page);
});

test('a snapshot is taken, and becomes a locker of its own', async () => {
  await host.writeFile('/lockers/photos/cat', 'on Monday');
  await choose(page, 'photos', 'Take snapshot');
  await dialog().getByLabel('Name').fill('monday');
  await dialog().getByRole('button', { name: 'Take snapshot' }).click();
  await notice(page, 'Snapshot of photos: done').waitFor();
  await lockerRow(page, 'photos').getByText('monday').waitFor();
  await closeNotices(page);
  await host.writeFile('/lockers/photos/cat', 'on Tuesday');
  await choose(page, 'photos', 'Take snapshot');
  await dialog().getByLabel('Name').fill('tuesday');
  await dialog()
    .getByLabel(/^Freeze the containers/)
    .check();
  await dialog().getByRole('button', { name: 'Take snapshot' }).click();
  await notice(page, 'Snapshot of photos: done').waitFor();
  const frozen = 'verb="snapshot-locker" locker="photos" snapshot="tuesday" freeze=true';
  await host.run('journalctl', ['--quiet', '--lines=1', `--grep=${frozen}`]);
  await lockerRow(page, 'photos').getByText('tuesday').waitFor();
  await closeNotices(page);
  await choose(page, 'photos', 'Restore a snapshot');
  await dialog().getByLabel('Snapshot').selectOption('monday');
  await dialog().getByLabel('Name of the new locker').fill('old-photos');
  expect(await violations(page)).toEqual([]);
  await dialog().getByRole('button', { name: 'Restore', exact: true }).click();
  await notice(page, 'Making old-photos of the snapshot monday: done').waitFor();
  await lockerRow(page, 'old-photos').waitFor();
  expect(await host.readFile('/lockers/old-photos/cat')).toBe('on Monday');
  expect(await host.readFile('/lockers/photos/cat')).toBe('on Tuesday');
  await closeNotices(page);
});

test('a locker has another name when nobody uses it', async () => {
  const rename = async () => {
    await choose(page, 'photos', 'Rename');
    await dialog().getByLabel('New name').fill('pictures');
    await dialog().getByRole('button', { name: 'Rename', exact: true }).click();
  };
  await host.run('lockerctl', ['attach', 'web', 'photos']);
  await rename();
  await notice(page, /New name of photos (failed|was refused)/).waitFor();
  await notice(page, /container "?web"?/).waitFor();
  await closeNotices(page);
  await host.run('lockerctl', ['detach', 'web', 'photos']);
  await rename();
  await notice(page, 'New name of photos: done').waitFor();
  await lockerRow(page, 'pictures')
    .getByText('Mounted')
    .or(lockerRow(page, 'pictures').getByText('Good'))
    .waitFor();
  await lockerRow(page, 'photos').waitFor({ state: 'detached' });
  expect(await host.readFile('/lockers/pictures/cat')).toBe('on Tuesday');
  await closeNotices(page);
});

test('a locker is forgotten, and its data stays', async () => {
  await choose(page, 'old-photos', 'Forget');
  await dialog().getByText('Its data stays in the store').waitFor();
  expect(await violations(page)).toEqual([]);
  await dialog().getByRole('button', { name: 'Forget', exact: true }).click();
  await notice(page, 'Forgetting old-photos').waitFor();
  await lockerRow(page, 'old-photos').waitFor({ state: 'detached' });
  expect(await host.readFile('/srv/tree/old-photos/cat')).toBe('on Monday');
  await closeNotices(page);
});

test('the view in light and dark, narrow too, is as axe-core wants it', async () => {
  await expectView(page, '/lockers');
});

test('an ordinary user without a rule sees it all, and changes nothing', async () => {
  const guest = await logIn(browser, 'guest');
  await show(guest, '/lockers');
  await lockerRow(guest, 'pictures').waitFor();
  const create = guest.getByRole('button', { name: 'Create locker' });
  expect(await create.getAttribute('aria-disabled')).toBe('true');
  // Until polkit has answered, it says so.
  await expect
    .poll(() => tooltipOf(create), { timeout: 20_000 })
    .toMatch(/administrative access|rules of polkit/);
  await guest.getByRole('button', { name: 'Actions for pictures' }).click();
  const items = guest.getByRole('menuitem');
  await items.first().waitFor();
  for (const item of await items.all())
    expect(await item.getAttribute('aria-disabled')).toBe('true');
  await guest.context().close();
});

test('each thing to do with a locker has its own rule, which may change', async () => {
  const guest = await logIn(browser, 'guest');
  await show(guest, '/lockers');
  const enabled = ':not([aria-disabled=true])';
  const create = guest.getByRole('button', { name: 'Create locker' });
  await create.waitFor();
  await permitOnly(host, 'guest', 'create-locker');
  await create.and(guest.locator(enabled)).waitFor();
  await guest.getByRole('button', { name: 'Actions for pictures' }).click();
  for (const [action, item] of [
    ['grow-locker', 'Grow'],
    ['snapshot-locker', 'Take snapshot'],
    ['restore-locker', 'Restore a snapshot'],
    ['rename-locker', 'Rename'],
    ['forget-locker', 'Forget'],
  ] as const) {
    await permitOnly(host, 'guest', action);
    await guest.getByRole('menuitem', { name: item }).and(guest.locator(enabled)).waitFor();
    await expect
      .poll(() => guest.getByRole('menuitem').and(guest.locator(enabled)).count(), {
        // A change of rules is told at most once a second.
        timeout: 15_000,
      })
      .toBe(1);
    await create.and(guest.locator('[aria-disabled=true]')).waitFor();
  }
  await guest.context().close();
});

test('nothing went wrong in the page itself', () => {
  expect(complaints).toEqual([]);
});

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Browser, Locator, Page } from 'playwright-core';
import type { Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage } from '../machines/service.ts';
import { answerOfGuest, guestPid, lockersSeenBy, offline, systemctl } from '../machines/support.ts';
import {
  attachPictureOnFailure,
  logIn,
  makeUsers,
  makeWebHost,
  openBrowser,
  schemes,
  show,
  takePictures,
  violations,
} from './web-host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

/** As long as a host name can be, and without a place to break it. */
const longName = `long-${'n'.repeat(59)}`;

/** The keeper may start and stop web, and attach the locker "data", and nothing else. */
const rules = `
polkit.addRule(function (action, subject) {
  if (subject.user !== "keeper" || action.id.indexOf("org.lockerd1.") !== 0) {
    return polkit.Result.NOT_HANDLED;
  }
  var isOwn = action.lookup("container") === "web";
  if (action.id === "org.lockerd1.mount-locker") {
    return action.lookup("locker") === "data" ? polkit.Result.YES : polkit.Result.NO;
  }
  var isAllowed = ["org.lockerd1.start", "org.lockerd1.stop"].indexOf(action.id) >= 0;
  return isOwn && isAllowed ? polkit.Result.YES : polkit.Result.NO;
});
`;

const fstab = `
data   /lockers/data   tmpfs  size=8m  0 0
music  /lockers/music  tmpfs  size=8m  0 0
files  /srv/files     tmpfs  size=64m 0 0
/dev/absent /srv/gone ext4 noauto,x-systemd.device-timeout=1s 0 0
`;

/** One that is there, and one whose volumes are not. */
const stores = `
[store files]
type = directory
path = /srv/files
[store lost]
type = lvm
volume-group = vg-lost
`;

let host: Host;
let browser: Browser;
/** As root. */
let page: Page;
const complaints: string[] = [];

beforeAll(async () => {
  host = await makeWebHost('web');
  const limited = [...offline, 'lxc.group = servers', 'lxc.cgroup2.memory.max = 256M'];
  await host.createContainer('web', 'busybox', { config: limited });
  await host.createContainer('db', 'systemd', {
    config: [...offline, 'lxc.start.auto = 1', 'lxc.group = onboot', 'lxc.group = servers'],
  });
  await host.createContainer('slow', 'busybox', { config: offline, shutdown: { seconds: 4 } });
  await host.createContainer('brief', 'busybox', { config: offline });
  await host.createContainer(longName, 'busybox', { config: offline });
  await host.writeFile('/var/lib/lxc/typo/config', 'lxc.uts.nmae = typo\n');
  await host.createContainer('patient', 'busybox', {
    config: [...offline, 'lxc.mount.entry = /srv/gone mnt none bind 0 0'],
  });
  await host.writeFile('/etc/fstab', fstab);
  await host.writeFile('/etc/lockerd/lockerd.conf', stores);
  await host.writeFile('/etc/polkit-1/rules.d/10-keeper.rules', rules);
  await host.boot();
  await configurePackage(host);
  await makeUsers(host, { keeper: 'users' });
  browser = await openBrowser(host);
  page = await logIn(browser, 'root');
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
});
afterAll(async () => {
  await browser.close();
  await host.close();
});
attachJournalOnFailure(() => host);
attachPictureOnFailure(() => page);

const rowOf = (of: Page, name: string): Locator => of.locator(`tr[data-container="${name}"]`);

async function expectState(of: Page, name: string, word: string): Promise<void> {
  await rowOf(of, name).getByText(word, { exact: true }).waitFor();
}

/** Chooses something in the menu of a row. */
async function choose(of: Page, name: string, item: string): Promise<void> {
  await of.getByRole('button', { name: `Actions for ${name}` }).click();
  const choice = of.getByRole('menuitem', { name: item, exact: true });
  await choice.and(of.locator(':not([aria-disabled=true])')).click();
}

const notice = (of: Page, text: string | RegExp): Locator =>
  of.locator('.pf-v6-c-alert-group').getByText(text);

async function closeNotices(of: Page): Promise<void> {
  const buttons = of.locator('.pf-v6-c-alert-group button');
  // A success goes by itself, perhaps just now.
  while ((await buttons.count()) > 0) {
    await buttons
      .first()
      .click({ timeout: 1000 })
      .catch(() => undefined);
  }
}

test('the table has all containers with their states, and says what is wrong', async () => {
  await expectState(page, 'db', 'Running');
  await expectState(page, 'web', 'Stopped');
  await expectState(page, 'typo', 'Broken');
  const problem = await rowOf(page, 'typo').innerText();
  expect(problem).toMatch(/\/var\/lib\/lxc\/typo\/config:1: .*lxc\.uts\.nmae/);
  await rowOf(page, longName).waitFor();
});

test('what a start waits for is told', async () => {
  await host.run('systemctl', ['start', '--no-block', 'lxc@patient.service']);
  await rowOf(page, 'patient')
    .getByText(/waits for (srv-gone|dev-absent)/)
    .waitFor();
  await choose(page, 'patient', 'Stop');
  await rowOf(page, 'patient')
    .getByText(/waits for/)
    .waitFor({ state: 'detached' });
  await closeNotices(page);
});

test('search and filters', async () => {
  const names = (): Promise<string[]> => page.locator('tbody th a').allInnerTexts();
  await page.getByLabel('Search containers').fill('WE');
  await vi.waitFor(async () => {
    expect(await names()).toEqual(['web']);
  });
  await page.getByLabel('Search containers').fill('');
  await page.getByLabel('Group').selectOption('servers');
  await vi.waitFor(async () => {
    expect(await names()).toEqual(['db', 'web']);
  });
  await page.getByLabel('State').selectOption('running');
  await vi.waitFor(async () => {
    expect(await names()).toEqual(['db']);
  });
  await page.getByLabel('State').selectOption('frozen');
  await page.getByRole('button', { name: 'Show all' }).click();
  await vi.waitFor(async () => {
    expect(await names()).toHaveLength(7);
  });
});

/** Has a job done by the menu of a row; the state can change before the job has ended. */
async function have(of: Page, name: string, item: string): Promise<void> {
  await choose(of, name, item);
  await notice(of, `${item} of ${name}: done`).waitFor();
  await closeNotices(of);
}

test('start, freeze, thaw, reboot and stop', async () => {
  await have(page, 'web', 'Start');
  await expectState(page, 'web', 'Running');
  await host.waitForGuest('web');
  await have(page, 'web', 'Freeze');
  await expectState(page, 'web', 'Frozen');
  await have(page, 'web', 'Thaw');
  await expectState(page, 'web', 'Running');
  const before = await guestPid(host, 'web');
  await have(page, 'web', 'Reboot');
  expect(await guestPid(host, 'web')).not.toBe(before);
  await have(page, 'slow', 'Start');
  await expectState(page, 'slow', 'Running');
  await host.waitForGuest('slow');
  await choose(page, 'slow', 'Stop');
  await rowOf(page, 'slow').getByRole('status').filter({ hasText: 'Stopping' }).waitFor();
  await expectState(page, 'slow', 'Stopped');
  await closeNotices(page);
});

test('a forced stop asks before', async () => {
  await have(page, 'slow', 'Start');
  await choose(page, 'slow', 'Force stop');
  await page.getByRole('dialog').getByText('killed at once').waitFor();
  expect(await violations(page)).toEqual([]);
  await host.clearMarker('slow');
  await page.getByRole('dialog').getByRole('button', { name: 'Force stop' }).click();
  await notice(page, 'Forced stop of slow: done').waitFor();
  expect(await guestPid(host, 'slow')).toBeUndefined();
  expect(await host.marker('slow')).toBeUndefined();
});

test('starting at boot is set and taken back', async () => {
  await choose(page, 'web', 'Start at boot');
  await rowOf(page, 'web').getByText('Starts', { exact: true }).waitFor();
  expect(await host.readFile('/etc/lockerd/containers/web.conf')).toContain('autostart = yes');
  await choose(page, 'web', 'Do not start at boot');
  await rowOf(page, 'web').getByText('Starts', { exact: true }).waitFor({ state: 'detached' });
});

test('changes that others make are seen without a question', async () => {
  await systemctl(host, 'stop', 'lxc@db.service');
  await expectState(page, 'db', 'Stopped');
  await systemctl(host, 'start', 'lxc@db.service');
  await expectState(page, 'db', 'Running');
});

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

test('the generated unit, with what made each line', async () => {
  await page.getByRole('button', { name: 'Explain each line' }).click();
  await page.getByRole('button', { name: 'Read again' }).waitFor();
  await page.getByRole('heading', { name: 'lxc@db.service.d/60-container.conf' }).waitFor();
  await page.getByText('SourcePath=/var/lib/lxc/db/config').waitFor();
  await page
    .getByText(/\/var\/lib\/lxc\/db\/config:\d+: lxc\.start\.auto = 1/)
    .first()
    .waitFor();
});

test('a shell in the guest', async () => {
  await page.getByRole('button', { name: 'Shell', exact: true }).click();
  const screen = page.getByRole('group', { name: 'Shell' });
  await screen.getByText('root@db').first().waitFor();
  await screen.click();
  await page.keyboard.type('echo made by typing > /typed\n');
  await vi.waitFor(
    async () => {
      expect(await answerOfGuest(host, 'db', 'cat /typed')).toBe('made by typing\n0\n');
    },
    { timeout: 20_000 },
  );
  await page.keyboard.type('exit\n');
  await page.getByText('Shell has ended').waitFor();
});

test('a memory limit: progress, and a refusal that names the lowest safe one', async () => {
  await show(page, '/container/web');
  const fill =
    'mkdir /full && mount -t tmpfs full /full && head -c 90000000 /dev/zero > /full/file';
  expect(await answerOfGuest(host, 'web', fill)).toBe('0\n');
  const size = page.getByRole('textbox', { name: 'New limit' });
  const button = page.getByRole('button', { name: 'Set memory limit' });
  await page.getByLabel('No limit').uncheck();
  await size.fill('200 MiB');
  await button.click();
  await notice(page, 'Memory limit of web: done').waitFor();
  await size.fill('130 MiB');
  await button.click();
  const progress = page.getByRole('progressbar', { name: /Changing the memory limit/ });
  await progress.waitFor();
  await takePictures(page, 'balloon');
  await progress.waitFor({ state: 'detached' });
  expect(await memoryLimit('web')).toBe(`t ${130 * 2 ** 20}`);
  await size.fill('64 MiB');
  await button.click();
  await notice(page, 'Memory limit of web failed').waitFor();
  await page.getByText(/Lowest safe limit: \d+ MiB/).waitFor();
  expect(await memoryLimit('web')).toBe(`t ${130 * 2 ** 20}`);
  await closeNotices(page);
});

/** As busctl prints it. */
async function memoryLimit(name: string): Promise<string> {
  const args = ['org.lockerd1', `/org/lockerd1/container/${name}`, 'org.lockerd1.Container'];
  return (await host.run('busctl', ['get-property', ...args, 'MemoryLimit'])).stdout.trim();
}

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
  await page.getByLabel('Processor time (%)').fill('50');
  await page.getByLabel('Processes and threads').fill('300');
  await page.getByRole('button', { name: 'Set limits' }).click();
  await notice(page, 'Limits of web: done').waitFor();
  const unit = await host.unit('lxc@web.service');
  expect([unit['CPUQuotaPerSecUSec'], unit['TasksMax']]).toEqual(['500ms', '300']);
  await closeNotices(page);
});

test('a locker is attached read-only, and detached', async () => {
  await page.getByLabel('Attach another locker').selectOption('music');
  await page.getByLabel('Read-only').check();
  await page.getByRole('button', { name: 'Attach', exact: true }).click();
  await page.getByRole('list', { name: 'Attached lockers' }).getByText('read-only').waitFor();
  expect(await lockersSeenBy(host, 'web')).toEqual(['music']);
  await page.getByRole('button', { name: 'Detach music' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Detach', exact: true }).click();
  await page.getByText('No locker is attached.').waitFor();
  expect(await lockersSeenBy(host, 'web')).toEqual([]);
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

test('lockers: their use, where they are attached, and stores', async () => {
  await show(page, '/lockers');
  const row = page.locator('tr[data-locker="data"]');
  await row.getByRole('meter', { name: 'Use of data' }).waitFor();
  expect(await row.getByRole('meter').getAttribute('aria-valuetext')).toMatch(/ of 8 MiB$/);
  await host.run('lockerctl', ['attach', 'web', 'data', '--read-only']);
  await row.getByRole('link', { name: 'web' }).waitFor();
  expect(await row.innerText()).toContain('(read-only)');
  await host.run('lockerctl', ['detach', 'web', 'data']);
  await row.getByRole('link', { name: 'web' }).waitFor({ state: 'detached' });
  await page.locator('tr[data-store="files"]').getByText('directory').waitFor();
  await page
    .locator('tr[data-store="lost"]')
    .getByText(/install the package lvm2/)
    .waitFor();
});

test('creating, growing and a snapshot: what the service says of each', async () => {
  await page.getByRole('button', { name: 'Create locker' }).click();
  const dialog = page.getByRole('dialog');
  const create = dialog.getByRole('button', { name: 'Create', exact: true });
  expect(await create.getAttribute('aria-disabled')).toBe('true');
  await dialog.getByLabel('Name').fill('photos');
  await dialog.getByLabel('Size').fill('64 MiB');
  await dialog.getByLabel('Store').selectOption('files');
  expect(await violations(page)).toEqual([]);
  await takePictures(page, 'create');
  await create.click();
  // A host in namespaces has no file system that a store can be on.
  await notice(page, 'Creation of photos was refused').waitFor();
  await notice(page, /\/srv\/files is tmpfs/).waitFor();
  await closeNotices(page);
  await choose(page, 'data', 'Grow');
  await dialog.getByLabel('New size').fill('4 MiB');
  await dialog.getByText('can only grow').waitFor();
  await dialog.getByLabel('New size').fill('16 MiB');
  await dialog.getByRole('button', { name: 'Grow', exact: true }).click();
  await notice(page, /Growth of data (was refused|failed)/).waitFor();
  await closeNotices(page);
  await choose(page, 'data', 'Take snapshot');
  await dialog.getByLabel('Name').fill('monday');
  await dialog.getByRole('button', { name: 'Take snapshot' }).click();
  await notice(page, /Snapshot of data (was refused|failed)/).waitFor();
  await closeNotices(page);
});

test('a container that disappears while its page is open', async () => {
  await show(page, '/container/brief');
  await page.getByRole('heading', { name: 'brief', exact: true }).waitFor();
  await host.shell('mv /var/lib/lxc/brief /root/ && systemctl daemon-reload');
  await page.getByRole('heading', { name: 'There is no container brief' }).waitFor();
  expect(await violations(page)).toEqual([]);
  await page.getByRole('link', { name: 'All containers' }).click();
  await rowOf(page, 'web').waitFor();
  expect(await rowOf(page, 'brief').count()).toBe(0);
});

test('the service ends and comes back while the page is open', async () => {
  await host.run('systemctl', ['kill', '--signal=KILL', 'lockerd.service']);
  await systemctl(host, 'stop', 'lxc@db.service');
  await expectState(page, 'db', 'Stopped');
  await systemctl(host, 'start', 'lxc@db.service');
  await expectState(page, 'db', 'Running');
});

test.for(['', '/container/db', `/container/${longName}`, '/container/typo', '/lockers'])(
  'the view "%s" in light and dark, narrow too, is as axe-core wants it',
  async (view) => {
    await show(page, view || '/');
    await page.locator('h1').first().waitFor({ state: 'attached' });
    await closeNotices(page);
    await page.waitForTimeout(500);
    const name = view.replace(/^\//, '').replace('/', '-').slice(0, 20) || 'containers';
    await takePictures(page, name);
    for (const colorScheme of schemes) {
      await page.emulateMedia({ colorScheme });
      expect(await violations(page)).toEqual([]);
    }
    await page.setViewportSize({ width: 360, height: 740 });
    await takePictures(page, `${name}-narrow`);
    const root = 'document.documentElement';
    const overflow = await page.evaluate(`${root}.scrollWidth - ${root}.clientWidth`);
    expect(overflow).toBe(0);
    await page.setViewportSize({ width: 1280, height: 900 });
  },
);

test('an ordinary user has what the rule gives, and learns why the rest is grey', async () => {
  const keeper = await logIn(browser, 'keeper');
  await show(keeper, '/container/web');
  await keeper.getByRole('button', { name: 'Stop', exact: true }).click();
  await keeper.getByRole('button', { name: 'Start', exact: true }).waitFor();
  await keeper.getByRole('button', { name: 'Start', exact: true }).click();
  await keeper.getByRole('button', { name: 'Stop', exact: true }).waitFor();
  const freeze = keeper.getByRole('button', { name: 'Freeze' });
  expect(await freeze.getAttribute('aria-disabled')).toBe('true');
  await freeze.focus();
  await keeper.getByRole('tooltip').getByText('The rules of polkit do not permit this.').waitFor();
  await keeper.getByLabel('Attach another locker').selectOption('music');
  await keeper.getByRole('button', { name: 'Attach', exact: true }).click();
  await notice(keeper, 'Attaching music to web was refused').waitFor();
  await takePictures(keeper, 'refused');
  expect(await lockersSeenBy(host, 'web')).toEqual([]);
  await keeper.getByLabel('Attach another locker').selectOption('data');
  await keeper.getByRole('button', { name: 'Attach', exact: true }).click();
  await keeper.getByRole('button', { name: 'Detach data' }).waitFor();
  await keeper.context().close();
});

test('nothing went wrong in the page itself', () => {
  expect(complaints).toEqual([]);
});

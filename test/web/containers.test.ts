import { beforeAll, expect, test, vi } from 'vitest';
import type { Browser, Page } from 'playwright-core';
import type { Host } from '../host/host.ts';
import { answerOfGuest, guestPid, lockersSeenBy, offline, systemctl } from '../machines/support.ts';
import { permitOnly } from './rules.ts';
import { choose, closeNotices, expectState, have, notice, rowOf, tooltipOf } from './views.ts';
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

/** As long as a host name can be, and without a place to break it. */
const longName = `long-${'n'.repeat(59)}`;

const addressed = [
  ...['lxc.net.0.type = veth', 'lxc.net.0.flags = up', 'lxc.net.0.name = eth0'],
  'lxc.net.0.ipv4.address = 192.0.2.5/24',
];

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
/dev/absent /srv/gone ext4 noauto,x-systemd.device-timeout=1s 0 0
`;

let host: Host;
let browser: Browser;
/** As root. */
let page: Page;
let complaints: readonly string[] = [];

beforeAll(async () => {
  host = await makeWebHost('web');
  const limited = [...offline, 'lxc.group = servers', 'lxc.cgroup2.memory.max = 256M'];
  await host.createContainer('web', 'busybox', { config: limited });
  await host.createContainer('db', 'systemd', {
    config: [...addressed, 'lxc.start.auto = 1', 'lxc.group = onboot', 'lxc.group = servers'],
  });
  await host.createContainer('slow', 'busybox', { config: offline, shutdown: { seconds: 4 } });
  await host.createContainer('brief', 'busybox', { config: offline });
  await host.createContainer(longName, 'busybox', { config: offline });
  await host.writeFile('/var/lib/lxc/typo/config', 'lxc.uts.nmae = typo\n');
  await host.createContainer('patient', 'busybox', {
    config: [...offline, 'lxc.mount.entry = /srv/gone mnt none bind 0 0'],
  });
  await host.writeFile('/etc/fstab', fstab);
  await host.writeFile('/etc/polkit-1/rules.d/10-keeper.rules', rules);
  ({ browser, page, complaints } = await openPage(host, { keeper: 'users', admin: 'users' }));
});
closeAfterwards(() => ({ host, browser, page }));

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

test('a start that waits is called off', async () => {
  await choose(page, 'patient', 'Start');
  await rowOf(page, 'patient').getByRole('button', { name: 'Cancel: Starting' }).click();
  await notice(page, 'Start of patient was cancelled').waitFor();
  await closeNotices(page);
  // What it waited for may have been given up before; then the unit waits for the disk by itself.
  await host.run('lockerctl', ['stop', 'patient']);
  await expectState(page, 'patient', 'Stopped');
});

test('figures of the table go on', async () => {
  const mebibytes = async () =>
    parseFloat(await rowOf(page, 'db').locator('[data-label=Memory]').innerText());
  await expect.poll(mebibytes, { timeout: 20_000 }).toBeGreaterThan(0);
  const before = await mebibytes();
  const fill =
    'mkdir /full && mount -t tmpfs full /full && head -c 90000000 /dev/zero > /full/file';
  expect(await answerOfGuest(host, 'db', fill)).toBe('0\n');
  await expect.poll(mebibytes, { timeout: 20_000 }).toBeGreaterThan(before + 60);
  expect(await answerOfGuest(host, 'db', 'umount /full')).toBe('0\n');
});

test('search and filters', async () => {
  const names = (): Promise<string[]> => page.locator('tbody tr:visible th a').allInnerTexts();
  await page.getByLabel('Search containers').fill('WE');
  await vi.waitFor(async () => {
    expect(await names()).toEqual(['web']);
  });
  await page.getByLabel('Search containers').fill('');
  await rowOf(page, 'db').getByText('192.0.2.5').waitFor();
  await host.run('lockerctl', ['attach', 'db', 'music']);
  await rowOf(page, 'db').getByText('music').waitFor();
  for (const words of ['192.0.2', 'MUSIC']) {
    await page.getByLabel('Search containers').fill(words);
    await vi.waitFor(async () => {
      expect(await names()).toEqual(['db']);
    });
  }
  await host.run('lockerctl', ['detach', 'db', 'music']);
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

test.for(['', '/container/typo', `/container/${longName}`])(
  'the view "%s" in light and dark, narrow too, is as axe-core wants it',
  async (view) => {
    // Its figures come a moment after its start.
    if (view === '') await rowOf(page, 'db').getByText(/MiB/).first().waitFor();
    await expectView(page, view);
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
  // Until polkit has answered, it says so.
  await expect
    .poll(() => tooltipOf(freeze), { timeout: 20_000 })
    .toBe('The rules of polkit do not permit this.');
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

test('each thing to do with a container has its own rule, which may change', async () => {
  const keeper = await logIn(browser, 'keeper');
  await show(keeper, '/container/web');
  const button = (name: string) => keeper.getByRole('button', { name, exact: true });
  await keeper.getByLabel('Processes and threads').fill('300');
  const actions = [
    ['stop', 'Stop'],
    ['reboot', 'Reboot'],
    ['freeze', 'Freeze'],
    ['set-autostart', 'Start at boot'],
    ['stop-force', 'Force stop'],
    ['mount-locker', 'Attach'],
    ['unmount-locker', 'Detach data'],
    ['balloon', 'Set memory limit'],
    ['set-limits', 'Set limits'],
  ] as const;
  const enabled = async () => {
    const asked = actions.map(async ([, name]) => {
      const isGrey = (await button(name).getAttribute('aria-disabled')) === 'true';
      return isGrey ? [] : [name];
    });
    return (await Promise.all(asked)).flat();
  };
  for (const [action, name] of actions) {
    await permitOnly(host, 'keeper', action);
    await expect.poll(enabled, { timeout: 20_000 }).toEqual([name]);
  }
  expect(await answerOfGuest(host, 'web', 'cd /lockers/data && sleep 1000 >/dev/null 2>&1 &')).toBe(
    '0\n',
  );
  await permitOnly(host, 'keeper', 'unmount-locker');
  const dialog = keeper.getByRole('dialog');
  await button('Detach data').and(keeper.locator(':not([aria-disabled=true])')).click();
  await dialog.getByRole('button', { name: 'Detach', exact: true }).click();
  const force = dialog.getByRole('button', { name: 'Detach all the same' });
  await force.and(keeper.locator('[aria-disabled=true]')).waitFor();
  await permitOnly(host, 'keeper', 'unmount-locker-force');
  await force.and(keeper.locator(':not([aria-disabled=true])')).click();
  await keeper.getByText('No locker is attached.').waitFor();
  await keeper.context().close();
});

test('what does not fit the state is grey, and says so', async () => {
  await show(page, '/container/slow');
  await page.getByRole('button', { name: 'Start', exact: true }).waitFor();
  for (const name of ['Reboot', 'Freeze', 'Force stop']) {
    const button = page.getByRole('button', { name, exact: true });
    await expect
      .poll(() => tooltipOf(button), { timeout: 20_000 })
      .toMatch(/^This is not for a container that is (stopped|failed)\.$/);
  }
});

test('nothing went wrong in the page itself', () => {
  expect(complaints).toEqual([]);
});
const sudoers = 'admin ALL=(ALL) NOPASSWD: ALL\n';

test('administrative access, and its end, while the page is open', async () => {
  await host.writeFile('/etc/sudoers.d/admin', sudoers);
  const admin = await logIn(browser, 'admin');
  await show(admin, '/container/web');
  const shell = admin.getByRole('button', { name: 'Shell', exact: true });
  const reboot = admin.getByRole('button', { name: 'Reboot', exact: true });
  const expectGrey = async (isGrey: boolean) => {
    const state = isGrey ? '[aria-disabled=true]' : ':not([aria-disabled=true])';
    for (const button of [shell, reboot]) await button.and(admin.locator(state)).waitFor();
  };
  /** As Cockpit's shell does it, which is not around the page here. */
  const change = (method: string, args: string) =>
    admin.evaluate(`cockpit.dbus(null, { bus: 'internal' })
      .call('/superuser', 'cockpit.Superuser', '${method}', ${args}).then(() => undefined)`);
  await expectGrey(true);
  await change('Start', "['sudo']");
  await expectGrey(false);
  await change('Stop', '[]');
  await expectGrey(true);
  await admin.context().close();
});

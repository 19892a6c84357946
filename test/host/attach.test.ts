import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { escapeInstance, mountUnit } from '../../src/model/unit-name.ts';
import { bootHost, type GuestKind, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import {
  answerOfGuest,
  expectState,
  guestKinds,
  guestPid,
  lockersSeenBy,
  offline,
  systemctl,
} from '../machines/support.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 900_000 });

/** Lockers of the host; what is in /srv outlives its restart. */
const fstab = `
/srv/data  /lockers/data  none   bind            0 0
/srv/kept  /lockers/kept  none   bind            0 0
/srv/ro    /lockers/ro    none   bind,ro         0 0
sandbox    /lockers/sandbox tmpfs size=1m        0 0
more       /lockers/more  tmpfs  noauto,size=1m  0 0
blank      /lockers/my\\040data%n tmpfs noauto,size=1m 0 0
/dev/absent /lockers/absent ext4 noauto,x-systemd.device-timeout=2s 0 0
`;

/** Sends lines to the helper's socket, one after the other, and prints the answers. */
const client = `
const { connect } = require('node:net');
const { text } = require('node:stream/consumers');
const ask = async (line) => {
  const socket = connect('/run/lockerd/helper.sock');
  socket.on('error', () => undefined);
  socket.write(Buffer.from(line, 'latin1'));
  // A connection that is closed with bytes unread may take the answer with it.
  return text(socket).catch(() => '');
};
process.stdin.setEncoding('utf8');
(async () => {
  for (const line of JSON.parse(await text(process.stdin))) process.stdout.write(await ask(line));
})();
`;

const reboot: Readonly<Record<GuestKind, string>> = {
  busybox: '/sbin/reboot',
  sysvinit: '/sbin/reboot',
  systemd: '/bin/systemctl reboot',
};

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'attach', boot: false });
  for (const kind of guestKinds) await host.createContainer(kind, kind, { config: offline });
  await host.createContainer('mapped', 'busybox', {
    config: [...offline, 'lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'],
  });
  const mapped = `${host.root}/var/lib/lxc/mapped`;
  execFileSync('chown', ['-R', '100000:100000', `${mapped}/rootfs`]);
  chmodSync(mapped, 0o755);
  // As a user has it who made it.
  execFileSync('chown', ['100000:100000', `${mapped}/config`]);
  chmodSync(`${mapped}/config`, 0o600);
  for (const file of ['subuid', 'subgid']) {
    await host.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
  await host.createContainer('disk', 'busybox', { config: offline });
  const image = ['-q', '-t', 'ext4', '-d', `${host.root}/var/lib/lxc/disk/rootfs`];
  execFileSync('mke2fs', [...image, `${host.root}/srv/disk.img`, '64M']);
  const config = await host.readFile('/var/lib/lxc/disk/config');
  await host.writeFile(
    '/var/lib/lxc/disk/config',
    config.replace(/^lxc\.rootfs\.path.*$/m, 'lxc.rootfs.path = loop:/srv/disk.img'),
  );
  await host.writeFile('/etc/fstab', fstab);
  for (const name of ['data', 'kept', 'ro']) await host.writeFile(`/srv/${name}/.keep`, '');
  await host.writeFile('/lockers/bare/file', 'never bound\n');
  await host.writeFile('/usr/local/lib/ask.cjs', client);
  await host.boot();
  await host.shell(`
    test -c /dev/loop-control || mknod /dev/loop-control c 10 237
    for n in $(seq 0 63); do test -b /dev/loop$n || mknod /dev/loop$n b 7 $n; done`);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

type Answer = Readonly<Record<string, unknown>>;

const asLockerd = ['--reuid', 'lockerd', '--regid', 'lockerd', '--clear-groups', '--'];

/** Sends texts of Latin-1 characters, which stand for bytes, as user lockerd. */
async function send(texts: readonly string[], timeoutMs = 240_000): Promise<Answer[]> {
  const { stdout } = await host.run('setpriv', [...asLockerd, 'node', '/usr/local/lib/ask.cjs'], {
    input: JSON.stringify(texts),
    timeoutMs,
  });
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Answer);
}

function lineOf(request: object): string {
  return `${Buffer.from(JSON.stringify(request)).toString('latin1')}\n`;
}

async function ask(request: object): Promise<Answer> {
  const [answer] = await send([lineOf(request)]);
  return answer ?? {};
}

function attachRequest(container: string, locker: string, mode: 'ro' | 'rw', persist = false) {
  return { verb: 'attach', container, locker, readOnly: mode === 'ro', persist };
}

function detachRequest(container: string, locker: string, options: object = {}) {
  return { verb: 'detach', container, locker, force: false, persist: false, ...options };
}

function unitOf(container: string): string {
  return `lxc@${escapeInstance(container)}.service`;
}

function attachment(container: string, locker: string): string {
  return mountUnit(`/var/locker-mappings/${container}/${locker}`);
}

async function start(container: string): Promise<void> {
  await systemctl(host, 'start', unitOf(container));
  const pid = await guestPid(host, container);
  await host.waitFor('the guest has booted', () => host.exists(`/proc/${pid}/root/dev/booted`));
}

async function stop(container: string): Promise<void> {
  await systemctl(host, 'stop', unitOf(container));
}

const inGuest = (container: string, command: string) => answerOfGuest(host, container, command);

const lockersIn = (container: string) => lockersSeenBy(host, container);

/** Starts something in the guest that goes on; ends when it has said that it holds the locker. */
async function holdInGuest(container: string, command: string): Promise<void> {
  const mark = `/dev/holding-${String(Date.now())}`;
  await host.shell(
    `lxc-attach -n ${container} --clear-env -- /bin/sh -c '${command.replace('MARK', mark)}' ` +
      '</dev/null >/dev/null 2>&1 &',
  );
  const pid = await guestPid(host, container);
  await host.waitFor('it holds the locker', () => host.exists(`/proc/${pid}/root${mark}`));
}

/** Everything of the host's that requests could leave something in. */
async function state(): Promise<string> {
  const { stdout } = await host.shell(`
    systemctl list-units --all --plain --no-legend --full --no-pager |
      awk '{ print $1, $2, $3, $4 }' | grep -v -e '^lockerd-helper@' -e '[.]device ' | sort
    cut -d' ' -f 3-6 /proc/self/mountinfo | sort
    find /etc/lockerd /run/lockerd /run/systemd/transient /run/systemd/system /var/locker-mappings \
      /lockers -mindepth 1 | sort
    find /etc/lockerd -type f -exec cksum {} + | sort`);
  return stdout;
}

async function settled(): Promise<string> {
  await host.waitFor('no helper runs', async () => {
    const list = ['list-units', '--all', '--plain', '--no-legend'];
    const patterns = ['lockerd-helper@*', 'lockerd-balloon-undo@*'];
    return (await systemctl(host, ...list, ...patterns)) === '';
  });
  let before = '';
  await host.waitFor('nothing changes any more', async () => {
    const now = await state();
    const isSame = now === before;
    before = now;
    if (!isSame) await host.shell('sleep 1.2');
    return isSame;
  });
  return before;
}

async function helperJournal(): Promise<string> {
  await host.run('journalctl', ['--sync']);
  return (await host.run('journalctl', ['--boot', '--output=cat', '-t', 'lockerd-helper'])).stdout;
}

async function settingsOf(container: string): Promise<string | undefined> {
  const file = `/etc/lockerd/containers/${container}.conf`;
  return (await host.exists(file)) ? host.readFile(file) : undefined;
}

describe.each(guestKinds)('%s guest', (kind) => {
  beforeAll(() => start(kind));
  afterAll(() => stop(kind));

  test('sees what is attached, and what is written on either side', async () => {
    expect(await ask(attachRequest(kind, 'data', 'rw'))).toEqual({ ok: true, changed: true });
    const pid = await guestPid(host, kind);
    expect(await lockersIn(kind)).toEqual(['data', 'sandbox']);
    expect(await inGuest(kind, 'echo guest > /lockers/data/from-guest')).toBe('0\n');
    expect(await host.readFile('/srv/data/from-guest')).toBe('guest\n');
    await host.shell('echo host > /srv/data/from-host');
    expect(await inGuest(kind, 'cat /lockers/data/from-host')).toBe('host\n0\n');
    expect(await guestPid(host, kind)).toBe(pid);
  });

  test('attaching again is success, in the other mode it says what there is', async () => {
    expect(await ask(attachRequest(kind, 'data', 'rw'))).toEqual({ ok: true, changed: false });
    const answer = await ask(attachRequest(kind, 'data', 'ro'));
    expect(answer).toMatchObject({ ok: false, error: 'AlreadyMounted' });
    expect(answer['message']).toContain('read-write');
  });

  test('a busy locker stays, and the answer names who holds it', async () => {
    const asUser = ['lxc-attach', '-n', kind, '--clear-env', '--uid', '1000', '--'].join(' ');
    await host.shell(
      `${asUser} /bin/sh -c 'cd /lockers/data && exec sleep 100000' </dev/null >/dev/null 2>&1 &`,
    );
    await host.waitFor('it holds the locker', async () => {
      const args = ['-x', '-f', 'sleep 100000'];
      return (await host.run('pgrep', args, { reject: false })).exitCode === 0;
    });
    await holdInGuest(kind, 'exec 5> /lockers/data/open; echo 1 > MARK; exec sleep 100001');
    const answer = await ask(detachRequest(kind, 'data'));
    expect(answer).toMatchObject({ ok: false, error: 'LockerBusy' });
    // Everybody may read the message when it has become the error of a job.
    expect(answer['message']).toMatch(
      /is busy: process \d+ \(sleep\) and 1 more use it; end that, or use force$/,
    );
    await host.run('journalctl', ['--sync']);
    const { stdout: journal } = await host.run('journalctl', ['-t', 'lockerd-helper', '-o', 'cat']);
    expect(journal).toContain('"command":"sleep 100001","path":"/lockers/data/open"');
    const holders = answer['holders'] as { pid: number; command: string; path: string }[];
    expect(holders.map(({ command, path }) => ({ command, path })).sort(byCommand)).toEqual([
      { command: 'sleep 100000', path: '/lockers/data' },
      { command: 'sleep 100001', path: '/lockers/data/open' },
    ]);
    for (const { pid, command } of holders) {
      const seen = await host.readFile(`/proc/${pid}/cmdline`);
      expect(seen.replaceAll('\0', ' ').trim()).toBe(command);
    }
    await expectState(host, attachment(kind, 'data'), 'active');
    expect(await inGuest(kind, 'cat /lockers/data/from-host')).toBe('host\n0\n');
    expect(await inGuest(kind, 'echo more > /lockers/data/more')).toBe('0\n');
  });

  test('force takes it away and says that it is lazy', async () => {
    const answer = await ask(detachRequest(kind, 'data', { force: true }));
    expect(answer).toMatchObject({ ok: true, changed: true, lazy: true });
    expect((answer['holders'] as unknown[]).length).toBe(2);
    expect(await lockersIn(kind)).toEqual(['sandbox']);
    expect(await host.exists(`/var/locker-mappings/${kind}/data`)).toBe(false);
    await host.shell('pkill -x -f "sleep 10000[01]"');
    expect(await ask(detachRequest(kind, 'data'))).toMatchObject({ error: 'NotMounted' });
  });

  test('cannot write to what is attached read-only', async () => {
    // It tries all the time, also at the moment in which the locker appears.
    await holdInGuest(
      kind,
      'echo 1 > MARK; for n in $(seq 1 100000); do ' +
        'echo x >> /lockers/kept/written 2>/dev/null && exit; done',
    );
    expect(await ask(attachRequest(kind, 'kept', 'ro'))).toEqual({ ok: true, changed: true });
    expect(await inGuest(kind, 'touch /lockers/kept/x')).toMatch(/Read-only file system\n1\n$/);
    await host.shell('sleep 1');
    expect(await host.exists('/srv/kept/written')).toBe(false);
    expect(await ask(attachRequest(kind, 'kept', 'ro'))).toEqual({ ok: true, changed: false });
    expect(await ask(attachRequest(kind, 'kept', 'rw'))).toMatchObject({ error: 'AlreadyMounted' });
  });

  test('attachments survive a reboot of the guest and a daemon-reload', async () => {
    await ask(attachRequest(kind, 'my data%n', 'rw'));
    await systemctl(host, 'daemon-reload');
    const before = await guestPid(host, kind);
    await host.shell(`lxc-attach -n ${kind} --clear-env -- ${reboot[kind]} || true`);
    await host.waitFor(
      'the guest has rebooted',
      async () => ![undefined, before].includes(await guestPid(host, kind)),
      60_000,
    );
    expect(await lockersIn(kind)).toEqual(['kept', 'my\\040data%n', 'sandbox']);
    expect(await inGuest(kind, 'touch /lockers/kept/x')).toMatch(/Read-only file system\n1\n$/);
  });

  test('its stop takes all attachments with it', async () => {
    await stop(kind);
    await host.waitFor('nothing is attached', async () => {
      const mounts = await host.readFile('/proc/self/mountinfo');
      return !mounts.includes(`/var/locker-mappings/${kind}`) && !mounts.includes('/read-only/');
    });
    // Mount points stay, empty, until the next start.
    const left = await host.shell(`find /var/locker-mappings/${kind} ! -type d`);
    expect(left.stdout).toBe('');
    expect((await host.shell('ls -A /run/systemd/transient')).stdout).toBe('');
    expect(await ask(attachRequest(kind, 'kept', 'ro'))).toMatchObject({ error: 'NotRunning' });
    await expectState(host, unitOf(kind), 'inactive');
  });
});

function byCommand(a: { command: string }, b: { command: string }): number {
  return a.command < b.command ? -1 : 1;
}

describe.each(['mapped', 'disk'])('the container "%s"', (name) => {
  beforeAll(() => start(name));
  afterAll(() => stop(name));

  test('gets and loses lockers while it runs', async () => {
    await host.shell('chown 100000:100000 /srv/data');
    expect(await ask(attachRequest(name, 'data', 'rw'))).toEqual({ ok: true, changed: true });
    expect(await inGuest(name, `echo guest > /lockers/data/from-${name}`)).toBe('0\n');
    expect(await inGuest(name, 'stat -c %u /lockers/data /lockers/sandbox')).toBe(
      name === 'mapped' ? '0\n65534\n0\n' : '100000\n0\n0\n',
    );
    await holdInGuest(name, 'cd /lockers/data; echo 1 > MARK; exec sleep 100002');
    const busy = await ask(detachRequest(name, 'data'));
    expect(busy).toMatchObject({ error: 'LockerBusy' });
    expect(busy['holders']).toMatchObject([{ command: 'sleep 100002', path: '/lockers/data' }]);
    await host.shell('pkill -x -f "sleep 100002"');
    expect(await ask(detachRequest(name, 'data'))).toEqual({
      ok: true,
      changed: true,
      lazy: false,
    });
    await ask(attachRequest(name, 'data', 'ro'));
    expect(await inGuest(name, 'touch /lockers/data/x')).toMatch(/Read-only file system\n1\n$/);
    await host.shell('chown root:root /srv/data');
  });
});

describe('settings', () => {
  const file = '/etc/lockerd/containers/busybox.conf';
  const text = '# for everybody\nstop-timeout = 20s\nlockers = data:ro ; more to come\n';

  beforeAll(async () => {
    await host.writeFile(file, text, 0o640);
    await host.shell(`chown root:adm ${file}`);
    await systemctl(host, 'daemon-reload');
    await start('busybox');
  });

  test('keep what is attached for good, with comments, mode and owner', async () => {
    expect(await ask(attachRequest('busybox', 'kept', 'rw', true))).toMatchObject({
      changed: true,
    });
    expect(await ask(attachRequest('busybox', 'my data%n', 'ro', true))).toMatchObject({
      ok: true,
    });
    expect(await host.readFile(file)).toBe(
      text.replace('data:ro', 'data:ro kept my\\040data%n:ro'),
    );
    expect((await host.shell(`stat -c '%a %U:%G' ${file}`)).stdout).toBe('640 root:adm\n');
    expect(await ask(attachRequest('busybox', 'more', 'rw'))).toMatchObject({ changed: true });
    // What has been attached for now can be made lasting as it is.
    expect(await ask(attachRequest('busybox', 'ro', 'ro'))).toMatchObject({ changed: true });
    expect(await ask(attachRequest('busybox', 'ro', 'ro', true))).toMatchObject({ changed: true });
    expect(await lockersIn('busybox')).toEqual([
      'data',
      'kept',
      'more',
      'my\\040data%n',
      'ro',
      'sandbox',
    ]);
  });

  test('what is in them survives a restart of the host, and nothing else', async () => {
    await inGuest('busybox', 'echo survives > /lockers/kept/survives; sync');
    await host.reboot();
    await start('busybox');
    expect(await lockersIn('busybox')).toEqual(['data', 'kept', 'my\\040data%n', 'ro', 'sandbox']);
    expect(await inGuest('busybox', 'cat /lockers/kept/survives')).toBe('survives\n0\n');
    for (const readOnly of ['data', 'my data%n', 'ro']) {
      expect(await inGuest('busybox', `touch "/lockers/${readOnly}/x"`)).toMatch(
        /Read-only file system\n1\n$/,
      );
    }
  });

  test('a read-only attachment that comes back is read-only from its first moment on', async () => {
    await systemctl(host, 'stop', mountUnit('/lockers/data'));
    await expectState(host, unitOf('busybox'), 'active');
    expect(await lockersIn('busybox')).not.toContain('data');
    await holdInGuest(
      'busybox',
      'echo 1 > MARK; for n in $(seq 1 100000); do ' +
        'echo x >> /lockers/data/written 2>/dev/null && exit; done',
    );
    await systemctl(host, 'start', attachment('busybox', 'data'));
    expect(await lockersIn('busybox')).toContain('data');
    await host.shell('sleep 1');
    expect(await host.exists('/srv/data/written')).toBe(false);
  });

  test('lose what is detached for good', async () => {
    expect(await ask(detachRequest('busybox', 'kept', { persist: true }))).toMatchObject({
      changed: true,
    });
    expect(await ask(detachRequest('busybox', 'kept', { persist: true }))).toMatchObject({
      error: 'NotMounted',
    });
    expect(await ask(detachRequest('busybox', 'my data%n', { persist: true }))).toMatchObject({
      changed: true,
    });
    await ask(detachRequest('busybox', 'ro', { persist: true }));
    expect(await host.readFile(file)).toBe(text);
    await stop('busybox');
    // Also of a container that does not run.
    expect(await ask(detachRequest('busybox', 'data', { persist: true }))).toMatchObject({
      changed: true,
    });
    expect(await host.readFile(file)).toBe('# for everybody\nstop-timeout = 20s\n');
  });

  test('a shared locker cannot be detached for good', async () => {
    await start('busybox');
    const answer = await ask(detachRequest('busybox', 'sandbox', { persist: true }));
    expect(answer).toMatchObject({ ok: false, error: 'InvalidArgs' });
    expect(answer['message']).toContain('shared-lockers');
    expect(await lockersIn('busybox')).toContain('sandbox');
    expect(await ask(detachRequest('busybox', 'sandbox'))).toMatchObject({ changed: true });
    expect(await lockersIn('busybox')).not.toContain('sandbox');
  });

  test('that are a symbolic link are not touched', async () => {
    await host.shell(`mv ${file} /tmp/elsewhere; ln -s /tmp/elsewhere ${file}`);
    const before = await host.readFile('/tmp/elsewhere');
    expect(await ask(attachRequest('busybox', 'kept', 'rw', true))).toMatchObject({
      error: 'Failed',
    });
    expect(await host.readFile('/tmp/elsewhere')).toBe(before);
    expect(await lockersIn('busybox')).not.toContain('kept');
    await host.shell(`rm ${file}`);
    await systemctl(host, 'daemon-reload');
    await stop('busybox');
  });
});

describe('while containers run', () => {
  beforeAll(async () => {
    for (const kind of guestKinds) await start(kind);
  });

  test('a locker that is stopped on the host can be attached again', async () => {
    await ask(attachRequest('busybox', 'more', 'rw'));
    await inGuest('busybox', 'echo 1 > /lockers/more/file');
    await systemctl(host, 'stop', mountUnit('/lockers/more'));
    expect(await lockersIn('busybox')).not.toContain('more');
    await expectState(host, unitOf('busybox'), 'active');
    await systemctl(host, 'start', mountUnit('/lockers/more'));
    expect(await ask(attachRequest('busybox', 'more', 'ro'))).toEqual({ ok: true, changed: true });
    expect(await inGuest('busybox', 'touch /lockers/more/x')).toMatch(
      /Read-only file system\n1\n$/,
    );
    await ask(detachRequest('busybox', 'more'));
  });

  test('a locker that cannot be mounted leaves nothing behind', async () => {
    const before = await settled();
    for (const persist of [false, true]) {
      const answer = await ask(attachRequest('busybox', 'absent', 'rw', persist));
      expect(answer).toMatchObject({ ok: false, error: 'Failed' });
      expect(answer['message']).toContain(mountUnit('/lockers/absent'));
    }
    await host.shell('systemctl reset-failed; rmdir /lockers/absent 2>/dev/null || true');
    expect(await settled()).toBe(before);
  });

  test('what is no locker is never attached', async () => {
    expect(await ask(attachRequest('busybox', 'bare', 'rw'))).toMatchObject({
      error: 'NoSuchLocker',
    });
    expect(await ask(attachRequest('busybox', 'ro', 'rw'))).toMatchObject({ error: 'InvalidArgs' });
    expect(await ask(attachRequest('nobody', 'data', 'rw'))).toMatchObject({
      error: 'NoSuchContainer',
    });
  });

  test('sixty times attached and detached leave nothing behind', async () => {
    // Each read-only locker has a directory in /run/lockerd from its first use on.
    await ask(attachRequest('busybox', 'data', 'ro'));
    await ask(detachRequest('busybox', 'data'));
    const before = await settled();
    // Twenty for each container, one after another; the containers at the same time.
    const requests = guestKinds.map((kind) =>
      Array.from({ length: 20 }, (_, index) => {
        const mode = index % 2 === 0 ? 'ro' : 'rw';
        return [attachRequest(kind, 'data', mode), detachRequest(kind, 'data')].map(lineOf);
      }),
    );
    const answers = await Promise.all(requests.map((lines) => send(lines.flat(), 1_800_000)));
    expect(answers.flat().length).toBe(120);
    const errors = await host.run('journalctl', ['-t', 'lockerd-helper', '-p', 'err', '-o', 'cat']);
    expect(
      answers.flat().filter((answer) => answer['changed'] !== true),
      errors.stdout,
    ).toEqual([]);
    expect(await settled()).toBe(before);
  }, 1_900_000);

  test('twenty requests at the same time for one container', async () => {
    const before = await settled();
    const requests = Array.from({ length: 20 }, (_, index) =>
      index % 2 === 0 ? attachRequest('sysvinit', 'data', 'rw') : detachRequest('sysvinit', 'data'),
    );
    const answers = await Promise.all(requests.map(ask));
    for (const answer of answers) {
      if (answer['ok'] !== true) expect(answer).toMatchObject({ error: 'NotMounted' });
    }
    await ask(detachRequest('sysvinit', 'data'));
    expect(await settled()).toBe(before);
  });

  test.each([100, 300, 500, 700, 900, 1100, 1400, 1800, 2400])(
    'a helper that is killed after %i ms leaves nothing that the next request does not mend',
    async (delayMs) => {
      const before = await settled();
      for (const request of [
        attachRequest('systemd', 'kept', 'ro', true),
        detachRequest('systemd', 'kept', { persist: true }),
      ]) {
        const [cut] = await Promise.all([
          send([lineOf(request)]).catch(() => undefined),
          host.shell(
            `sleep ${delayMs / 1000}; systemctl kill --signal=KILL 'lockerd-helper@*' || true`,
          ),
        ]);
        const answer = await ask(request);
        expect({ cut, answer }).toMatchObject({ answer: expect.anything() as unknown });
        if (request.verb === 'attach') {
          expect(answer).toMatchObject({ ok: true });
          expect(await lockersIn('systemd')).toContain('kept');
          expect(await settingsOf('systemd')).toBe('lockers = kept:ro\n');
        } else {
          // The killed one may have finished the work.
          if (answer['ok'] !== true) expect(answer).toMatchObject({ error: 'NotMounted' });
          expect(await lockersIn('systemd')).not.toContain('kept');
          expect(await settingsOf('systemd')).toBeUndefined();
        }
      }
      const after = await settled();
      expect(after.replaceAll('/run/lockerd/read-only/kept\n', '')).toBe(
        before.replaceAll('/run/lockerd/read-only/kept\n', ''),
      );
    },
  );
});

describe('the socket', () => {
  beforeAll(() => start('busybox'));
  const attachBusybox = attachRequest('busybox', 'data', 'rw');
  const bad: Readonly<Record<string, string>> = {
    'a path for a container': lineOf({ ...attachBusybox, container: '../busybox' }),
    'a path for a locker': lineOf({ ...attachBusybox, locker: '../../etc' }),
    'an absolute path': lineOf({ ...attachBusybox, locker: '/lockers/data' }),
    dots: lineOf({ ...attachBusybox, locker: '..' }),
    'a newline in a name': lineOf({ ...attachBusybox, locker: 'data\nWhat=/etc' }),
    'NUL in a name': lineOf({ ...attachBusybox, container: 'busybox\0' }),
    'a long name': lineOf({ ...attachBusybox, container: 'x'.repeat(5000) }),
    'an empty name': lineOf({ ...attachBusybox, container: '' }),
    'half a character': `${JSON.stringify({ ...attachBusybox, container: 'x' }).replace('"x"', '"\\ud800"')}\n`,
    'a verb that is not known': lineOf({ ...attachBusybox, verb: 'exec' }),
    'a verb of the prototype': lineOf({ verb: 'constructor' }),
    'no verb': lineOf({ container: 'busybox' }),
    'a member too many': lineOf({ ...attachBusybox, path: '/etc' }),
    'a member too few': lineOf({ verb: 'attach', container: 'busybox', locker: 'data' }),
    'wrong types': lineOf({ ...attachBusybox, readOnly: 'no' }),
    'a list for a name': lineOf({ ...attachBusybox, container: ['busybox'] }),
    __proto__: '{"__proto__":{"verb":"attach","container":"busybox","locker":"data"}}\n',
    'a list': '[]\n',
    null: 'null\n',
    'a number': '1e999\n',
    'no JSON': '{"verb":"attach"\n',
    'bytes that are no text': '{"verb":"\xff\xfe"}\n',
    'an empty line': '\n',
    'two requests at once': lineOf(attachBusybox) + lineOf(attachBusybox),
    'ten megabytes': `{"verb":"${'x'.repeat(10_000_000)}"}\n`,
    'ten megabytes without an end': 'x'.repeat(10_000_000),
    'deep nesting': `${'['.repeat(30_000)}\n`,
  };

  test('refuses and logs what is no request, and changes nothing', async () => {
    const before = await settled();
    const logged = (await helperJournal()).split('\n').length;
    // One after the other, so that an answer is missing where it is.
    for (const [what, text] of Object.entries(bad)) {
      const { stdout } = await host.run(
        'setpriv',
        [...asLockerd, 'node', '/usr/local/lib/ask.cjs'],
        { input: JSON.stringify([text]) },
      );
      if (text.length > 65536 && stdout === '') continue;
      expect({ what, ...(JSON.parse(stdout) as Answer) }).toMatchObject({
        what,
        ok: false,
        error: 'InvalidArgs',
      });
    }
    const lines = (await helperJournal()).split('\n').slice(logged - 1);
    expect(lines.filter((line) => line.includes('InvalidArgs')).length).toBe(
      Object.keys(bad).length,
    );
    expect(await settled()).toBe(before);
  });

  test('ends a connection that says nothing or goes early', async () => {
    const { stdout } = await host.run('setpriv', [
      ...asLockerd,
      ...['node', '-e'],
      `const s = require('node:net').connect('/run/lockerd/helper.sock');
       s.on('data', (d) => process.stdout.write(d));`,
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: 'InvalidArgs' });
    await host.run('setpriv', [
      ...asLockerd,
      ...['node', '-e'],
      `const s = require('node:net').connect('/run/lockerd/helper.sock');
       s.write('{"verb":'); s.end(); setTimeout(() => process.exit(), 500);`,
    ]);
    await settled();
    expect(await helperJournal()).toContain('the connection ended before the request');
  });

  test('is not for other users, and the helper asks again', async () => {
    const { stdout } = await host.run('setpriv', [
      ...['--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--', 'node', '-e'],
      `require('node:net').connect('/run/lockerd/helper.sock')
        .on('connect', () => console.log('connected')).on('error', (e) => console.log(e.code));`,
    ]);
    expect(stdout).toBe('EACCES\n');
    for (const peer of ['1-2-65534', '1-2-', 'x', '1-2-0x0']) {
      const { stdout: answer } = await host.run(
        '/usr/lib/lockerd/lockerd-helper',
        ['--peer', peer],
        { input: lineOf(attachBusybox), reject: false },
      );
      expect(JSON.parse(answer)).toMatchObject({ ok: false, error: 'AccessDenied' });
    }
    expect(await lockersIn('busybox')).not.toContain('data');
  });

  test('the helper has the mount namespace of the host and just its capabilities', async () => {
    const silent = host.run('setpriv', [
      ...asLockerd,
      ...['node', '-e', `require('node:net').connect('/run/lockerd/helper.sock').resume()`],
    ]);
    let pid = '';
    await host.waitFor('a helper runs', async () => {
      const list = ['list-units', '--plain', '--no-legend', 'lockerd-helper@*'];
      const [unit] = (await systemctl(host, ...list)).split(' ');
      if (unit === undefined || unit === '') return false;
      pid = (await host.unit(unit))['MainPID'] ?? '';
      return pid !== '' && pid !== '0';
    });
    const { stdout } = await host.shell(`
      readlink /proc/1/ns/mnt /proc/${pid}/ns/mnt
      grep -e ^Cap -e ^NoNewPrivs -e ^Seccomp: /proc/${pid}/status`);
    const [ofHost, ofHelper, ...status] = stdout.trim().split('\n');
    expect(ofHelper).toBe(ofHost);
    // CHOWN 0, DAC_READ_SEARCH 2, SYS_PTRACE 19, SYS_ADMIN 21.
    const capabilities = (1n | (1n << 2n) | (1n << 19n) | (1n << 21n))
      .toString(16)
      .padStart(16, '0');
    expect(Object.fromEntries(status.map((line) => line.split(':\t')))).toEqual({
      CapInh: '0'.repeat(16),
      CapPrm: capabilities,
      CapEff: capabilities,
      CapBnd: capabilities,
      CapAmb: '0'.repeat(16),
      NoNewPrivs: '1',
      Seccomp: '2',
    });
    await silent;
  });
});

test('a container that runs outside its unit gets no lockers', async () => {
  await stop('sysvinit');
  await host.run('lxc-start', ['-n', 'sysvinit']);
  const answer = await ask(attachRequest('sysvinit', 'data', 'rw'));
  expect(answer).toMatchObject({ ok: false, error: 'NotRunning' });
  expect(answer['message']).toContain('outside');
  await host.run('lxc-stop', ['-n', 'sysvinit', '-k']);
});

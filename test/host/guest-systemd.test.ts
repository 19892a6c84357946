/** What a guest with systemd gets from its unit: a journal below the host's, and credentials. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { answerOfGuest, guestPid, journalOf, offline, systemctl } from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 900_000 });

const idOf = { full: 'a'.repeat(32), mapped: 'b'.repeat(32) };
type Name = keyof typeof idOf;
const names = Object.keys(idOf) as Name[];
const journals = '/var/log/journal';
const secret = 'it is in the cellar';

const ids = ['lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'];
const unitWithCredentials = `[Service]
SetCredential=word:plain text
LoadCredential=place:/root/place
`;
/** A service of the guest that writes what its own credential is. */
const reader = `[Service]
Type=oneshot
LoadCredential=place
ExecStart=/bin/sh -c 'cat "$CREDENTIALS_DIRECTORY/place" >/place'
`;

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'guests', boot: false });
  await host.createContainer('full', 'systemd', { config: offline });
  await host.createContainer('mapped', 'systemd', { config: [...offline, ...ids] });
  await host.createContainer('tiny', 'busybox', { config: offline });
  await host.createContainer('copy', 'systemd', { config: offline });
  await host.writeFile('/root/place', secret, 0o600);
  for (const name of ['full', 'mapped', 'tiny']) {
    const place = `/etc/systemd/system/lxc@${name}.service.d/credentials.conf`;
    await host.writeFile(place, unitWithCredentials);
    // With "booted", LXC has mounted /run already.
    const settings = name === 'full' ? 'journal = host\nready = booted\n' : 'journal = host\n';
    await host.writeFile(`/etc/lockerd/containers/${name}.conf`, settings);
  }
  for (const file of ['subuid', 'subgid']) {
    await host.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
  for (const name of names) {
    await writeInGuest(name, 'etc/machine-id', `${idOf[name]}\n`);
    await writeInGuest(name, 'etc/systemd/system/reader.service', reader);
    const wanted = '[Unit]\nWants=reader.service\n';
    await writeInGuest(name, 'etc/systemd/system/multi-user.target.d/reader.conf', wanted);
  }
  await host.boot();
  await host.shell(`
    mkdir -p ${journals}
    chmod 711 /var/lib/lxc
    chown -R 100000:100000 /var/lib/lxc/mapped/rootfs`);
  const all = [...names, 'tiny', 'copy'];
  await systemctl(host, 'start', ...all.map((name) => `lxc@${name}`));
  for (const name of all) await host.waitForGuest(name);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function writeInGuest(name: string, file: string, text: string): Promise<void> {
  await host.writeFile(`/var/lib/lxc/${name}/rootfs/${file}`, text);
}

async function output(program: string, ...args: string[]): Promise<string> {
  return (await host.run(program, args)).stdout.trim();
}

/** Output of a command that may fail, and at its end the exit status; as root or as nobody. */
async function tried(command: string, isRoot = true): Promise<string> {
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
  const shell = ['sh', '-c', `(${command}) 2>&1; echo $?`];
  const [program = '', ...args] = isRoot ? shell : [...nobody, ...shell];
  return (await host.run(program, args)).stdout.trim();
}

/** Where the guest has something mounted. */
async function mountsOf(name: string): Promise<string[]> {
  const text = await host.readFile(`/proc/${await guestPid(host, name)}/mountinfo`);
  return text.split('\n').map((line) => line.split(' ')[4] ?? '');
}

async function rebootInside(name: string): Promise<void> {
  const before = await guestPid(host, name);
  await host.run('lxc-attach', ['-n', name, '--', 'systemctl', 'reboot'], { reject: false });
  await host.waitFor('it has rebooted', async () => {
    const now = await guestPid(host, name);
    return now !== undefined && now !== before;
  });
  await host.waitForGuest(name);
}

/** Writes an entry in the guest; ends when each of the host's commands shows it. */
async function expectEntry(name: Name, text: string): Promise<void> {
  await answerOfGuest(host, name, `echo '${text}' | systemd-cat -t probe; journalctl --sync`);
  for (const which of [['-m'], ['-D', `${journals}/${idOf[name]}`], ['-M', name]]) {
    const all = ['--no-pager', '-o', 'cat', ...which, `_MACHINE_ID=${idOf[name]}`];
    expect(await output('journalctl', ...all, 'SYSLOG_IDENTIFIER=probe'), which[0]).toContain(text);
  }
}

describe.each(names)('the journal of %s', (name) => {
  test('is shown by journalctl on the host, also after a reboot of the guest', async () => {
    await expectEntry(name, 'before the reboot');
    await rebootInside(name);
    await expectEntry(name, 'after the reboot');
    const own = await output('journalctl', '-o', 'cat', '--no-pager', 'SYSLOG_IDENTIFIER=probe');
    expect(own).not.toContain('reboot');
    const links = (await output('ls', '-l', journals)).split('\n');
    expect(links.filter((line) => line.endsWith(` -> /run/lockerd/journals/${name}`))).toHaveLength(
      1,
    );
  });

  test('is closed to users of the host', async () => {
    for (const place of [idOf[name], `lockerd/${name}`]) {
      expect(await tried(`ls ${journals}/${place}/`, false)).toContain('Permission denied');
    }
  });
});

test('what a guest leaves beside its journal has no effect on the host', async () => {
  const place = `${journals}/${idOf.full}`;
  await answerOfGuest(
    host,
    'full',
    `cd ${place} && cp /bin/true tool && chmod 4755 tool && ln -s /root/place trap.journal && mknod zero c 1 5`,
  );
  expect(await tried(`cat ${journals}/lockerd/full/tool | head -c4`)).toContain('ELF');
  expect(await tried(`${place}/tool`)).toMatch(/Permission denied\n126$/);
  expect(await tried(`cat ${place}/trap.journal`)).toMatch(/Too many levels of symbolic links\n1$/);
  expect(await tried(`head -c1 ${place}/zero`)).toMatch(/Permission denied\n1$/);
  // Nor do mounts of the guest come to the host.
  await answerOfGuest(host, 'full', `mkdir ${place}/below && mount -t tmpfs none ${place}/below`);
  expect(await mountsOf('full')).toContain(`${place}/below`);
  expect(await host.readFile('/proc/self/mountinfo')).not.toContain('/below ');
});

describe('a journal is not linked, and the container runs', () => {
  const rootfs = '/var/lib/lxc/tiny/rootfs';
  const free = 'c'.repeat(32);
  const taken = 'd'.repeat(32);

  /** What the unit's journal says of a start for which the guest's tree was changed. */
  async function startWith(change: string, id = free): Promise<string> {
    await systemctl(host, 'stop', 'lxc@tiny');
    await host.shell(`cd ${rootfs}; rm -rf etc/machine-id var/log; echo ${id} >etc/machine-id`);
    await host.shell(`cd ${rootfs}; ${change}`);
    await systemctl(host, 'start', 'lxc@tiny');
    await host.waitForGuest('tiny');
    const { InvocationID = '' } = await host.unit('lxc@tiny');
    await host.run('journalctl', ['--sync']);
    return output('journalctl', '-o', 'cat', `_SYSTEMD_INVOCATION_ID=${InvocationID}`);
  }

  test.each([
    [
      'the machine ID of another container',
      'true',
      idOf.full,
      'machine ID of another machine, the container full',
    ],
    ['no machine ID yet', ': >etc/machine-id', free, 'not yet that of a machine'],
    ['more than a machine ID', 'echo /../../x >>etc/machine-id', free, 'not yet that of a machine'],
    [
      'a FIFO as its machine ID',
      'rm etc/machine-id; mkfifo etc/machine-id',
      free,
      'the guest has no /etc/machine-id',
    ],
    [
      'a link to a file of the host',
      'ln -sf /root/id etc/machine-id',
      free,
      'the guest has no /etc/machine-id',
    ],
    [
      'a link above its journals',
      'mkdir -p var; ln -s /root var/log',
      free,
      '/var/log in the guest: Too many levels of symbolic links',
    ],
    [
      'a file in the place',
      'mkdir -p var/log; : >var/log/journal',
      free,
      '/var/log/journal in the guest is not a directory',
    ],
    [
      'the name of what is there',
      'true',
      taken,
      `machine ID of another machine, ${journals}/${taken}`,
    ],
    ['the machine ID of the host', 'cp /etc/machine-id etc', free, 'machine ID of the host'],
  ])('of a guest with %s', async (_, change, id, reason) => {
    await host.shell(`echo ${free} >/root/id; mkdir -p ${journals}/${taken}`);
    const told = await startWith(change, id);
    expect(told).toContain(`the journal is not linked: `);
    expect(told).toContain(reason);
    expect((await mountsOf('tiny')).filter((path) => path.includes('journal'))).toEqual([]);
  });

  test('without the mount that keeps the host safe', async () => {
    await systemctl(host, 'mask', '--runtime', '--now', 'run-lockerd-journals.mount');
    expect(await startWith('true')).toContain('/run/lockerd/journals is not mounted');
    await systemctl(host, 'unmask', '--runtime', 'run-lockerd-journals.mount');
    expect(await startWith('true')).not.toContain('not linked');
    expect(await mountsOf('tiny')).toContain(`${journals}/${free}`);
  });

  test('under more than one name', async () => {
    const other = 'e'.repeat(32);
    expect(await startWith('true', other)).not.toContain('not linked');
    expect(await mountsOf('tiny')).toContain(`${journals}/${other}`);
    expect(await host.exists(`${journals}/${free}`)).toBe(false);
    expect(await output('readlink', `${journals}/${other}`)).toBe('/run/lockerd/journals/tiny');
  });

  test('in a directory of somebody else', async () => {
    await host.shell(`chown 7 ${journals}/lockerd/tiny`);
    expect(await startWith('true')).toContain(`${journals}/lockerd/tiny belongs to the user 7`);
  });
});

describe.each(names)('credentials of the unit of %s', (name) => {
  test("reach the guest's systemd and its services, also after a reboot", async () => {
    for (const start of ['first', 'second']) {
      if (start === 'second') await rebootInside(name);
      const creds = 'systemd-creds --system';
      expect(await answerOfGuest(host, name, `${creds} cat word`), start).toBe('plain text0\n');
      expect(await answerOfGuest(host, name, `${creds} cat place`)).toBe(`${secret}0\n`);
      const place = `/var/lib/lxc/${name}/rootfs/place`;
      await host.waitFor('the service has run', () => host.exists(place));
      expect(await host.readFile(place)).toBe(secret);
      await host.run('rm', [place]);
    }
  });

  test('are read-only and for the root of the guest alone', async () => {
    const place = '/run/host/credentials';
    const stat = `stat -c '%U %a' ${place} ${place}/word`;
    expect(await answerOfGuest(host, name, stat)).toBe('root 500\nroot 400\n0\n');
    const write = `exec 2>&1; echo x >${place}/word; echo x >${place}/new`;
    const answer = await answerOfGuest(host, name, write);
    expect(answer.match(/Read-only file system/g)).toHaveLength(2);
    if (name === 'mapped') {
      const remount = `mount -o remount,bind,rw ${place}; mount -o remount,rw ${place}; ${write}`;
      const after = await answerOfGuest(host, name, remount);
      expect(after.match(/Read-only file system/g)).toHaveLength(2);
    }
  });

  test('are nowhere on the host but in the directory of the unit, which is closed', async () => {
    const mounts = await host.readFile('/proc/self/mountinfo');
    expect(mounts).not.toContain('host/credentials');
    const unit = `/run/credentials/lxc@${name}.service`;
    expect(await tried(`cat ${unit}/place`)).toBe(`${secret}0`);
    expect(await tried(`cat ${unit}/place`, false)).toContain('Permission denied');
  });
});

describe('nothing is passed', () => {
  const environment = "tr '\\0' '\\n' </proc/1/environ";

  test('where the unit has no credentials', async () => {
    expect(await answerOfGuest(host, 'copy', environment)).not.toContain('CREDENTIALS');
    expect(await mountsOf('copy')).not.toContain('/run/host/credentials');
    expect(await journalOf(host, 'lxc@copy')).not.toMatch(/not passed|not linked/);
  });

  test('to another init', async () => {
    expect(await answerOfGuest(host, 'tiny', environment)).not.toContain('CREDENTIALS');
    expect((await mountsOf('tiny')).filter((path) => path.startsWith('/run'))).toEqual([]);
  });
});

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
[Install]
WantedBy=multi-user.target
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
    await host.writeFile(`/etc/lockerd/containers/${name}.conf`, 'journal = host\n');
  }
  for (const file of ['subuid', 'subgid']) {
    await host.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
  for (const name of names) {
    await writeInGuest(name, 'etc/machine-id', `${idOf[name]}\n`);
    await writeInGuest(name, 'etc/systemd/system/reader.service', reader);
    await writeInGuest(name, 'etc/systemd/system/multi-user.target.wants/reader.service', reader);
  }
  await host.boot();
  await host.shell(`
    mkdir -p ${journals}
    chmod 711 /var/lib/lxc
    chown -R 100000:100000 /var/lib/lxc/mapped/rootfs`);
  await systemctl(host, 'start', 'lxc@full', 'lxc@mapped', 'lxc@tiny');
  for (const name of ['full', 'mapped', 'tiny']) await host.waitForGuest(name);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function writeInGuest(name: string, file: string, text: string): Promise<void> {
  await host.writeFile(`/var/lib/lxc/${name}/rootfs/${file}`, text);
}

async function output(program: string, ...args: string[]): Promise<string> {
  return (await host.run(program, args)).stdout.trim();
}

/** Exit status and output of a command that may fail. */
async function tried(command: string): Promise<string> {
  return (await host.run('sh', ['-c', `(${command}) 2>&1; echo $?`])).stdout.trim();
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
  });
});

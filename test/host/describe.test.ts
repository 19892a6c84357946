import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { bootHost, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { configurePackage } from '../machines/service.ts';
import { guestPid, offline, systemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

const veth = [
  ...['lxc.net.0.type = veth', 'lxc.net.0.link = lxcbr0', 'lxc.net.0.flags = up'],
  'lxc.net.0.name = eth0',
];
const rootfs = (name: string) => `/var/lib/lxc/${name}/rootfs`;

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'describe', boot: false });
  await host.createContainer('web', 'sysvinit', {
    config: [
      ...veth,
      'lxc.net.0.ipv4.address = 192.0.2.5/24',
      'lxc.net.0.ipv6.address = 2001:db8::5/64',
      ...['lxc.group = front', 'lxc.group = all'],
    ],
  });
  await host.createContainer('evil', 'busybox', { config: veth });
  await host.createContainer('bare', 'busybox', { config: ['lxc.net.0.type = none'] });
  await host.createContainer('mapped', 'busybox', {
    config: [...offline, 'lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'],
  });
  execFileSync('chown', ['-R', '100000:100000', `${host.root}${rootfs('mapped')}`]);
  chmodSync(`${host.root}/var/lib/lxc/mapped`, 0o755);
  for (const file of ['subuid', 'subgid']) {
    await host.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
  await host.createContainer('off', 'busybox', { config: offline });
  await host.writeFile('/etc/only-on-the-host', 'PRETTY_NAME="of the host"\n');
  await host.boot();
  await configurePackage(host);
  await host.run('useradd', ['--no-create-home', 'stranger']);
  await systemctl(host, 'start', 'lxc@web', 'lxc@evil', 'lxc@bare', 'lxc@mapped');
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

async function statusOf(container: string): Promise<Record<string, unknown>> {
  // What was seen is good for a second.
  await sleep(1_500);
  const args = ['--reuid', 'stranger', '--regid', 'stranger', '--init-groups'];
  const command = ['lockerctl', 'status', '--json', container];
  const { stdout } = await host.run('setpriv', [...args, ...command], { reject: false });
  const [status] = JSON.parse(stdout) as Record<string, unknown>[];
  if (status === undefined) throw new Error(`no status of ${container}`);
  return status;
}

/** Runs a program of the host in the guest's namespaces of network and host name. */
async function inGuest(container: string, script: string): Promise<void> {
  const pid = await guestPid(host, container);
  await host.run('nsenter', ['-t', String(pid), '--net', '--uts', 'sh', '-euc', script]);
}

test('everybody sees addresses, host name, operating system and uptime of a guest', async () => {
  const before = Date.now() * 1000;
  const { stdout } = await host.run('stat', ['-c', '%Y', `/proc/${await guestPid(host, 'web')}`]);
  await inGuest('web', 'hostname front-1.example');
  const status = await statusOf('web');
  expect(status).toMatchObject({
    ...{ host_name: 'front-1.example', os_id: 'debian', os_version: '12' },
    // Its file is a link to ../usr/lib/os-release.
    os: 'Debian GNU/Linux 12 (bookworm)',
    ...{ unprivileged: false, shares_network: false, more_addresses: false },
    groups: ['all', 'front'],
  });
  const addresses = status['addresses'] as { interface: string; address: string }[];
  // Debian 13's bridge also gives it an address of its own, which may come before.
  expect(addresses[0]).toEqual({ interface: 'eth0', address: '192.0.2.5' });
  expect(addresses).toContainEqual({ interface: 'eth0', address: '2001:db8::5' });
  expect(addresses.every(({ address }) => !/^127\.|^::1$/.test(address))).toBe(true);
  const started = Number(status['started_usec']);
  expect(started).toBeLessThan(before);
  expect(Math.abs(started / 1e6 - Number(stdout))).toBeLessThan(30);
  const columns = ['list', '--no-legend', '--columns=container,addresses,hostname,os,unprivileged'];
  const list = await host.run('lockerctl', columns);
  expect(list.stdout).toMatch(
    /^web +192\.0\.2\.5,(?:[0-9a-f:]+,)?2001:db8::5(?:,[0-9a-f:]+)? +front-1\.example +Debian GNU\/Linux 12 \(bookworm\) +no$/m,
  );
  expect(list.stdout).toMatch(/^mapped +- +mapped .* yes$/m);
  expect(list.stdout).toMatch(/^off +- +- +- +-$/m);
  expect(list.stdout).toMatch(/^bare +host /m);
});

test('a guest deceives nobody and holds nobody up', async () => {
  // What hostname(1) refuses to set.
  const sethostname = 170;
  const name = `my $name = "a\\e[2J\\nb"; syscall(${sethostname}, $name, 7)`;
  await inGuest('evil', `perl -e '${name}'`);
  await inGuest(
    'evil',
    'for i in $(seq 1 250); do for j in 1 2 3 4; do echo "addr add 10.9.$j.$i/32 dev eth0"; done; done | ip -b -',
  );
  const release = `${rootfs('evil')}/etc/os-release`;
  const prepared = {
    'a link to a file of the host': `ln -s /etc/only-on-the-host ${release}`,
    'a link out of its root': `ln -s ../../../../../../etc/only-on-the-host ${release}`,
    'a link to a secret': `ln -s /etc/shadow ${release}`,
    'a FIFO': `mkfifo ${release}`,
    'a device': `mknod ${release} c 1 5`,
    'a large file': `head -c 70000 /dev/zero >${release}; echo ID=x >>${release}`,
    'a link to itself': `ln -s os-release ${release}`,
  };
  for (const [what, script] of Object.entries(prepared)) {
    await host.shell(`rm -f ${release} ${rootfs('evil')}/usr/lib/os-release; ${script}`);
    const begun = performance.now();
    const status = await statusOf('evil');
    expect(performance.now() - begun, what).toBeLessThan(60_000);
    expect(status, what).toMatchObject({ os: null, os_id: null, more_addresses: true });
    expect(status['addresses'], what).toHaveLength(64);
    expect(status['host_name'], what).toMatch(/^a\?\[2J\?b$/);
  }
  const text = String.raw`printf 'PRETTY_NAME="x\033]0;t\007y"\nID=$(id)\nVERSION_ID=%5000s\n' 1 | tr ' ' 9`;
  await host.shell(`rm -f ${release}; ${text} >${release}`);
  const status = await statusOf('evil');
  expect(status).toMatchObject({ os: 'x?]0;t?y', os_id: null });
  expect(String(status['os_version'])).toHaveLength(200);
});

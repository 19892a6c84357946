/**
 * Containers with each profile that AppArmor may have for them, privileged and with mapped ids, on a
 * Debian 13 that enforces the profiles of its packages. Everything is first done by LXC alone: what the
 * kernel denies then is LXC's business, and nothing else may be denied afterwards.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { mib } from '../machines/memory-guest.ts';
import { callForJob, configurePackage } from '../machines/service.ts';
import { answerOfGuest, guestPid, lockersSeenBy, offline, systemctl } from '../machines/support.ts';
import { bootVm, type VirtualHost } from './vm.ts';

vi.setConfig({ testTimeout: 1_800_000, hookTimeout: 1_800_000 });

/** As /etc/lxc/default.conf of Debian has it, and what an admin may set instead. */
const profiles = {
  generated: ['lxc.apparmor.profile = generated', 'lxc.apparmor.allow_nesting = 1'],
  cgns: ['lxc.apparmor.profile = lxc-container-default-cgns'],
  unconfined: ['lxc.apparmor.profile = unconfined'],
} as const;

/** What the kernel says of a guest's first process. */
const labelOf = {
  generated: 'lxc-NAME',
  cgns: 'lxc-container-default-cgns (enforce)',
  unconfined: 'unconfined',
};

const ids = ['u', 'g'].map((kind) => `lxc.idmap = ${kind} 0 100000 65536`);
const mapped = ['lxc.include = /usr/share/lxc/config/userns.conf', ...ids];

const containers = Object.entries(profiles).flatMap(([profile, lines]) => [
  { name: profile, config: [...offline, ...lines] },
  { name: `${profile}-ids`, config: [...offline, ...lines, ...mapped] },
]);
const names = containers.map(({ name }) => name);
/** A guest with a real systemd; the others have a busybox that says the same when it has booted. */
const real = 'systemd-ids';
/**
 * One of each profile, and both kinds of ids. What is done through control groups alone is done to these: each
 * request starts Node, which takes seconds here.
 */
const some = ['generated', 'cgns-ids', 'unconfined-ids'];
/** Each name, with something about it. */
const each = <T>(value: T): Record<string, T> =>
  Object.fromEntries(names.map((name) => [name, value]));

const hooks = '/usr/lib/lockerd/hooks';
const hookLines = [
  'lxc.hook.version = 1',
  `lxc.hook.pre-start = ${hooks}/locker-pre-start`,
  `lxc.hook.mount = ${hooks}/locker-mount`,
  `lxc.hook.post-stop = ${hooks}/locker-post-stop`,
];

// One is mounted at boot, one on demand, and one is attached later.
const fstab = `
data   /lockers/data   tmpfs  mode=1777,size=1m,nosuid,nodev         0 0
music  /lockers/music  tmpfs  mode=1777,size=1m,nosuid,nodev,noauto  0 0
late   /lockers/late   tmpfs  mode=1777,size=1m,nosuid,nodev         0 0
`;

/**
 * Says as the guest's first process that the guest has booted, as systemd does at the end of its boot, and
 * becomes busybox's init, which is up much earlier here. The file is for waitForGuest.
 */
const init = `#!/bin/perl
if (my $address = $ENV{NOTIFY_SOCKET}) {
    socket my $socket, 1, 2, 0;
    send $socket, 'READY=1', 0, pack 'S a*', 1, $address or die "$address: $!";
}
exec { '/bin/busybox' } 'init';
`;

let vm: VirtualHost;
/** What the kernel denied while LXC did the same alone, and to tests that wanted a denial. */
let deniedBefore: readonly string[] = [];
beforeAll(async () => {
  vm = await bootVm({ name: 'apparmor', apparmor: true });
  await vm.writeFile('/etc/fstab', fstab);
  for (const file of ['subuid', 'subgid']) {
    await vm.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
  for (const { name, config } of containers) {
    await vm.createContainer(name, 'busybox', { config });
  }
  await vm.createContainer(real, 'systemd', { config: [...profiles.generated, ...mapped] });
  await vm.writeFile('/tmp/init', init, 0o755);
  await vm.shell(`
    cd /var/lib/lxc
    for name in ${names.join(' ')}; do
      cp /usr/bin/perl $name/rootfs/bin/
      rm -f $name/rootfs/sbin/init
      cp /tmp/init $name/rootfs/sbin/init
    done
    chmod 711 . *-ids
    chown -R 100000:100000 *-ids/rootfs
    for name in *; do
      printf '%s\n' 'lockers = data:ro music' 'ready = booted' >/etc/lockerd/containers/$name.conf
    done`);
  await configurePackage(vm);
  await systemctl(vm, 'start', 'lockers-data.mount', 'lockers-late.mount');
  await forEach('lxc-start -n "$1"');
  await waitForGuests();
  await forEach('lxc-freeze -n "$1"; lxc-unfreeze -n "$1"; lxc-attach -n "$1" -- true');
  await forEach('lxc-stop -n "$1" --timeout=600');
  await vm.shell(`lxc-start -n ${real}`);
  await vm.waitForGuest(real);
  await vm.shell(`lxc-stop -n ${real}`, { timeoutMs: 120_000 });
  deniedBefore = await denials();
});
afterAll(() => vm.close());
attachJournalOnFailure(() => vm);
afterEach(async () => {
  expect(await newDenials()).toEqual([]);
});

/** What AppArmor has denied since the boot, without what differs each time; sorted, each once. */
async function denials(): Promise<string[]> {
  await vm.run('journalctl', ['--sync']);
  const { stdout } = await vm.shell('journalctl -b -o cat _TRANSPORT=kernel + _TRANSPORT=audit');
  const texts = stdout.split('\n').flatMap((line) => /apparmor="DENIED".*/.exec(line) ?? []);
  const likes = texts.map((text) => text.replaceAll(/ pid=\d+|(?<=\/proc\/)\d+/g, '').trim());
  return [...new Set(likes)].sort();
}

/** What has been denied since. */
async function newDenials(): Promise<string[]> {
  return (await denials()).filter((text) => !deniedBefore.includes(text));
}

/** Runs a shell command for each container, all at once; its name is $1. */
async function forEach(command: string): Promise<void> {
  const script = `
    started=
    for name in ${names.join(' ')}; do
      sh -euc "$1" sh "$name" </dev/null >"/tmp/$name.out" 2>&1 &
      started="$started $name:$!"
    done
    failed=
    for pair in $started; do
      wait "\${pair#*:}" || { failed=yes; tail "/tmp/\${pair%:*}.out"; }
    done
    test -z "$failed"`;
  await vm.run('sh', ['-uc', script, 'sh', command], { timeoutMs: 300_000 });
}

async function ofEach<T>(question: (name: string) => Promise<T>): Promise<Record<string, T>> {
  const answers: Record<string, T> = {};
  for (const name of names) answers[name] = await question(name);
  return answers;
}

async function waitForGuests(): Promise<void> {
  for (const name of names) await vm.waitForGuest(name);
}

/**
 * Orders something for each container, all at once, and waits for the jobs. The service gives one up where a busy
 * systemd does not answer in time, so what has come of it is asked elsewhere.
 */
const order = (method: string) => forEach(`${callForJob(method, 's', '"$1"')} || :`);

/** Until each unit is in a state. */
async function untilEach(state: string): Promise<void> {
  await vm.waitFor(`each is ${state}`, async () => {
    return Object.values(await unitsOf('ActiveState')).every((found) => found === state);
  });
}

/**
 * The same for what the helper does, in turn: a request to it has half a minute, in which a busy machine
 * may not start six of them here.
 */
async function orderInTurn(
  of: readonly string[],
  method: string,
  type = '',
  argument = '',
): Promise<void> {
  const calls = of.map((name) => callForJob(method, `s${type}`, name, argument));
  await vm.shell(calls.join('\n'), { timeoutMs: 300_000 });
}

const lockers = () => ofEach((name) => lockersSeenBy(vm, name));
const answers = (command: string) => ofEach((name) => answerOfGuest(vm, name, command));
const writes = (locker: string) =>
  ofEach((name) => answerOfGuest(vm, name, `echo guest > /lockers/${locker}/${name}`));
const states = () =>
  ofEach(async (name) => (await vm.run('lxc-info', ['-n', name, '-sH'])).stdout.trim());
const pids = () => ofEach((name) => guestPid(vm, name));
/** A property of each unit. */
async function unitsOf(property: string): Promise<Record<string, string>> {
  const units = names.map((name) => `lxc@${name}`);
  const stdout = await systemctl(vm, 'show', '-p', property, '--value', ...units);
  const values = stdout.trim().split('\n\n');
  return Object.fromEntries(names.map((name, index) => [name, values[index] ?? '']));
}
const labels = () =>
  ofEach(async (name) => {
    const label = await vm.readFile(`/proc/${await guestPid(vm, name)}/attr/apparmor/current`);
    // A generated profile is named after its container, and has a namespace for the guest's own on it.
    return label.trim().replace(new RegExp(`^lxc-${name}_<.*`), 'lxc-NAME');
  });
const expectedLabels = Object.fromEntries(
  names.map((name) => [name, labelOf[name.replace('-ids', '') as keyof typeof profiles]]),
);
const readOnly: unknown = expect.stringMatching(/Read-only file system\n1\n$/);

/** mount(2) as "mount -o remount,bind,rw" of a guest has it, whatever its mount(8) makes of an error. */
const remount = `perl -e '
  my ($none, $path) = ("none", "/lockers/data");
  my $result = syscall 165, $none, $path, $none, 32 | 4096, 0;
  print $result < 0 ? "$!\\n" : "done\\n"'`;

/** Mounts and directories that plain lxc-start's hooks have made. */
async function leftovers(): Promise<string> {
  const script =
    'ls -A /run/lockerd/wormholes; grep /run/lockerd/wormholes /proc/self/mountinfo || :';
  return (await vm.shell(script)).stdout;
}

test('a denial is found in the log', async () => {
  // What AppArmor said of the hooks before they left the profile of lxc-start.
  const mount = ['-p', '/usr/bin/lxc-start', '--', 'mount', '-t', 'tmpfs', 'lockerd', '/mnt'];
  expect(await vm.run('aa-exec', mount, { reject: false })).toMatchObject({ exitCode: 32 });
  const denied = await newDenials();
  expect(denied).toEqual([
    expect.stringMatching(/operation="mount".*profile="\/usr\/bin\/lxc-start"/),
  ]);
  deniedBefore = [...deniedBefore, ...denied];
});

describe('as units', () => {
  test('each starts in its profile when its guest has booted, and sees its lockers', async () => {
    await systemctl(vm, 'start', 'polkit.service', 'lockerd.service');
    await order('StartContainer');
    await untilEach('active');
    expect(await labels()).toEqual(expectedLabels);
    expect(await lockers()).toEqual(each(['data', 'music']));
    expect(await answers('touch /lockers/data/x')).toEqual(each(readOnly));
    expect(await writes('music')).toEqual(each('0\n'));
  });

  test('a read-only locker cannot be made writable', async () => {
    expect(await answers(remount)).toEqual(
      each(expect.stringMatching(/^(Permission denied|Operation not permitted)\n0\n$/)),
    );
    expect(await answers('touch /lockers/data/x')).toEqual(each(readOnly));
    expect((await vm.shell('ls -A /lockers/data')).stdout).toBe('');
    // AppArmor denies it to some, the kernel's lock on the mount to all.
    const denied = await newDenials();
    expect(
      denied.filter((text) => !/operation="mount".* name="\/lockers\/data\/"/.test(text)),
    ).toEqual([]);
    deniedBefore = [...deniedBefore, ...denied];
  });

  test('one of each profile is frozen and thawed', async () => {
    await orderInTurn(some, 'FreezeContainer');
    const frozen = Object.fromEntries(some.map((name) => [name, 'FROZEN']));
    expect(await states()).toEqual({ ...each('RUNNING'), ...frozen });
    await orderInTurn(some, 'ThawContainer');
    expect(await states()).toEqual(each('RUNNING'));
  });

  test('a locker is attached to each and detached', async () => {
    await orderInTurn(names, 'MountLocker', 's', 'late');
    expect(await lockers()).toEqual(each(['data', 'late', 'music']));
    expect(await writes('late')).toEqual(each('0\n'));
    expect((await vm.shell('ls /lockers/late | wc -l')).stdout).toBe(`${names.length}\n`);
    await orderInTurn(names, 'UnmountLocker', 's', 'late');
    expect(await lockers()).toEqual(each(['data', 'music']));
  });

  test('the memory limit of one of each profile is lowered', async () => {
    await orderInTurn(some, 'Balloon', 't', String(256 * mib));
    const lowered = Object.fromEntries(some.map((name) => [name, String(256 * mib)]));
    expect(await unitsOf('MemoryMax')).toEqual({ ...each('infinity'), ...lowered });
  });

  test('each reboots and still sees its lockers', async () => {
    const before = await pids();
    await order('RebootContainer');
    await vm.waitFor('each has another first process', async () => {
      const now = await pids();
      return names.every((name) => now[name] !== before[name] && now[name] !== undefined);
    });
    await waitForGuests();
    expect(await lockers()).toEqual(each(['data', 'music']));
    expect(await labels()).toEqual(expectedLabels);
  });

  test('each shuts down by itself', async () => {
    for (const name of names) await vm.clearMarker(name);
    await order('StopContainer');
    await untilEach('inactive');
    expect(await states()).toEqual(each('STOPPED'));
    expect(await ofEach((name) => vm.marker(name))).toEqual(each(expect.any(String)));
  });

  test('a real systemd boots, is told from its start, and shuts down', async () => {
    await systemctl(vm, 'start', `lxc@${real}`);
    const pid = await guestPid(vm, real);
    expect(await vm.exists(`/proc/${pid}/root/dev/booted`)).toBe(true);
    expect(await lockersSeenBy(vm, real)).toEqual(['data', 'music']);
    await vm.clearMarker(real);
    await systemctl(vm, 'stop', `lxc@${real}`);
    expect(await vm.marker(real)).toBeDefined();
  });

  test('its journal is kept by the host, and it gets the credentials of its unit', async () => {
    const dropIn = `/etc/systemd/system/lxc@${real}.service.d/word.conf`;
    await vm.writeFile(dropIn, '[Service]\nSetCredential=word:emulated\n');
    await vm.shell(`
      mkdir -p /var/log/journal
      echo 'journal = host' >>/etc/lockerd/containers/${real}.conf`);
    await systemctl(vm, 'daemon-reload');
    await systemctl(vm, 'start', `lxc@${real}`);
    expect(await answerOfGuest(vm, real, 'systemd-creds --system cat word')).toBe('emulated0\n');
    const word = '/run/host/credentials/word';
    expect(await answerOfGuest(vm, real, `exec 2>&1; echo x >${word}`)).toContain(
      'Read-only file system',
    );
    await answerOfGuest(vm, real, 'echo from the guest | systemd-cat -t probe; journalctl --sync');
    const id = (await vm.readFile(`/var/lib/lxc/${real}/rootfs/etc/machine-id`)).trim();
    for (const which of [['-m'], ['-D', `/var/log/journal/${id}`]]) {
      const entry = [`_MACHINE_ID=${id}`, 'SYSLOG_IDENTIFIER=probe'];
      const { stdout } = await vm.run('journalctl', ['-o', 'cat', ...which, ...entry]);
      expect(stdout, which[0]).toBe('from the guest\n');
    }
    await systemctl(vm, 'stop', `lxc@${real}`);
  });
});

describe('as plain lxc-start starts them with the hooks', () => {
  test('each sees its lockers, and nothing is left behind', async () => {
    // One is mounted by the hook.
    await systemctl(vm, 'stop', 'lockers-music.mount');
    const lines = hookLines.map((line) => `'${line}'`).join(' ');
    await vm.shell(`
      for name in ${names.join(' ')}; do
        printf '%s\\n' ${lines} >>/var/lib/lxc/$name/config
      done`);
    await forEach('lxc-start -n "$1"');
    await waitForGuests();
    expect(await labels()).toEqual(expectedLabels);
    expect(await lockers()).toEqual(each(['data', 'music']));
    expect(await answers('touch /lockers/data/x')).toEqual(each(readOnly));
    expect(await writes('music')).toEqual(each('0\n'));
    // In emulation, some of them take longer than LXC's minute.
    await forEach('lxc-stop -n "$1" --timeout=600 --reboot');
    await waitForGuests();
    expect(await lockers()).toEqual(each(['data', 'music']));
    await forEach('lxc-stop -n "$1" --timeout=600');
    expect(await leftovers()).toBe('');
  });

  test('a profile that keeps the hook is named, with the rule that it needs', async () => {
    const strict = 'profile lxc-start { file, capability, network, ptrace, umount, }\n';
    await vm.run('apparmor_parser', ['--replace'], { input: strict });
    const hook = ['-p', 'lxc-start', '--', `${hooks}/locker-pre-start`];
    const { exitCode, stderr } = await vm.run('aa-exec', hook, {
      reject: false,
      env: { LXC_NAME: 'generated' },
    });
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: expect.stringContaining(
        'AppArmor keeps the hooks in the profile lxc-start, which needs the rule: ' +
          'change_profile -> unconfined,\n',
      ) as string,
    });
    expect(await leftovers()).toBe('');
    const denied = await newDenials();
    expect(denied.filter((text) => !text.includes('profile="lxc-start"'))).toEqual([]);
    expect(denied).toContainEqual(expect.stringContaining('operation="change_profile"'));
    deniedBefore = [...deniedBefore, ...denied];
  });
});

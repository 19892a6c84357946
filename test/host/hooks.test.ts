import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { containerUnit } from '../../src/model/unit-name.ts';
import { bootHost, type GuestKind, type Host } from './host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { guestKinds, guestPid, offline, systemctl } from '../machines/support.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 900_000 });

const hooks = '/usr/lib/lockerd/hooks';
const hookLines = [
  'lxc.hook.version = 1',
  `lxc.hook.pre-start = ${hooks}/locker-pre-start`,
  `lxc.hook.mount = ${hooks}/locker-mount`,
  `lxc.hook.post-stop = ${hooks}/locker-post-stop`,
];
/** The container of each guest; the names try what names may have. */
const names: Readonly<Record<GuestKind, { name: string; own: string }>> = {
  busybox: { name: 'busy box', own: 'busy box' },
  sysvinit: { name: 'sysvinit_vm', own: 'sysvinit_vol' },
  systemd: { name: '-systemd-1', own: '-systemd-1' },
};
const others = [
  'bare',
  'absent',
  'absent-soft',
  'none',
  'twice',
  'link',
  'unit',
  'mapped',
  'old',
  'same-ct',
];
const reboots: Readonly<Record<GuestKind, string>> = {
  busybox: '/sbin/reboot',
  sysvinit: '/sbin/reboot',
  systemd: '/bin/systemctl reboot',
};

let host: Host;
beforeAll(async () => {
  host = await bootHost({ name: 'hooks', boot: false });
  const image = `${host.root}/srv/systemd.img`;
  execFileSync('mke2fs', ['-q', '-t', 'ext4', image, '8M']);
  await host.writeFile(
    '/etc/fstab',
    [
      'own /lockers/busy\\040box tmpfs mode=755 0 0',
      'own /lockers/sysvinit_vol tmpfs mode=755,noauto 0 0',
      '/srv/systemd.img /lockers/-systemd-1 ext4 loop,noauto 0 0',
      ...['sandbox', 'extra', 'music', 'late'].map(
        (locker) => `${locker} /lockers/${locker} tmpfs mode=755 0 0`,
      ),
      '/dev/absent /lockers/absent ext4 noauto 0 0',
      '/dev/absent /lockers/absent-soft ext4 noauto,nofail 0 0',
      '',
    ].join('\n'),
  );
  for (const kind of guestKinds) {
    const { name } = names[kind];
    await host.createContainer(name, kind, { config: [...offline, ...hookLines] });
    await host.writeFile(`/etc/lockerd/containers/${name}.conf`, 'lockers = extra music:ro\n');
  }
  for (const name of others) {
    await host.createContainer(name, 'busybox', { config: [...offline, ...hookLines] });
  }
  await host.boot();
  await host.shell(`
    for n in 0 1 2 3 4 5 6 7; do test -b /dev/loop$n || mknod /dev/loop$n b 7 $n; done
    test -c /dev/loop-control || mknod /dev/loop-control c 10 237
    mkdir -p /lockers/sysvinit_vol /lockers/-systemd-1 /lockers/bare /lockers/absent \
      /lockers/absent-soft`);
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);
afterEach(async () => {
  if (!host.isOn) return;
  // A test that failed leaves the others a clean host.
  for (const name of [...Object.values(names).map(({ name }) => name), ...others]) {
    await host.run('lxc-stop', [`--name=${name}`, '--kill'], { reject: false });
    await runHook('locker-post-stop', name);
  }
});
beforeEach(async () => {
  expect(await host.shell('ls -A /run/lockerd/wormholes 2>/dev/null || true')).toMatchObject({
    stdout: '',
  });
});

/** Starts a container outside systemd; what the start says comes with its exit status. */
async function start(name: string, ...options: string[]) {
  // lxc-start takes a name that begins with a dash by its long option only.
  const args = [`--name=${name}`, '--daemon', '--logfile=/tmp/lxc.log', ...options];
  await host.run('rm', ['-f', '/tmp/lxc.log']);
  return host.run('lxc-start', args, { reject: false });
}

async function startGuest(name: string): Promise<void> {
  const { exitCode } = await start(name);
  const log = exitCode === 0 ? '' : (await host.shell('cat /tmp/lxc.log')).stdout;
  expect({ exitCode, log }).toEqual({ exitCode: 0, log: '' });
  await booted(name);
}

async function booted(name: string): Promise<void> {
  await host.waitFor(`guest ${name} has booted`, async () => {
    const pid = await pidOf(name);
    return pid !== undefined && (await host.exists(`/proc/${pid}/root/dev/booted`));
  });
}

async function pidOf(name: string): Promise<number | undefined> {
  const { stdout } = await host.run('timeout', ['15', 'lxc-info', `--name=${name}`, '-pH'], {
    reject: false,
  });
  return Number(stdout.trim()) || undefined;
}

async function stopGuest(name: string): Promise<void> {
  await host.run('lxc-stop', [`--name=${name}`, '--timeout=30']);
  await gone(name);
}

async function gone(name: string): Promise<void> {
  await host.waitFor(`nothing is left of ${name}`, async () => (await traces(name)) === '');
}

/** Mounts of a container's wormhole and its directory. */
async function traces(name: string): Promise<string> {
  const script = `
    awk '{ print $5 }' /proc/self/mountinfo | grep -F "/run/lockerd/wormholes/" || true
    ls -d "/run/lockerd/wormholes/$1" 2>/dev/null || true
    pgrep -af "[l]xc-start.*--name=$1 " || true`;
  return (await host.run('sh', ['-c', script, 'sh', name])).stdout.trim();
}

async function inGuest(name: string, script: string) {
  const args = [`--name=${name}`, '--clear-env', '--', '/bin/sh', '-c', script];
  const { exitCode, stdout, stderr } = await host.run('lxc-attach', args, { reject: false });
  return { exitCode, stdout: stdout.trim(), stderr };
}

async function lockersIn(name: string): Promise<string[]> {
  return (await inGuest(name, 'ls /lockers')).stdout.split('\n');
}

async function journal(): Promise<string> {
  await host.run('journalctl', ['--sync']);
  return (await host.run('journalctl', ['--boot', '-t', 'lockerd', '-o', 'cat'])).stdout;
}

async function runHook(hook: string, name: string, env: Record<string, string> = {}) {
  return host.run(`${hooks}/${hook}`, [], { reject: false, env: { LXC_NAME: name, ...env } });
}

/** Opens a pseudo-terminal in another process's mount namespace, as an ordinary user. */
const openTerminal = `
  use strict; use Fcntl;
  open(my $ns, "<", "/proc/$ARGV[0]/ns/mnt") or die "namespace: $!";
  syscall(308, fileno($ns), 0) == 0 or die "setns: $!";
  $( = 1000; $) = "1000 1000"; $< = $> = 1000;
  $> == 1000 && $< == 1000 or die "still root";
  sysopen(my $master, "/dev/ptmx", O_RDWR | O_NOCTTY) or die "/dev/ptmx: $!";
  my $unlocked = pack("i", 0);
  ioctl($master, 0x40045431, $unlocked) or die "unlock: $!";
  my $number = pack("i", 0);
  ioctl($master, 0x80045430, $number) or die "number: $!";
  my $slave = "/dev/pts/" . unpack("i", $number);
  sysopen(my $terminal, $slave, O_RDWR | O_NOCTTY) or die "$slave: $!";
  syswrite($master, "hello\\n"); sysread($terminal, my $line, 99);
  print $line;`;

describe.each(guestKinds)('%s guest', (kind) => {
  const { name, own } = names[kind];
  const sorted = [own, 'sandbox', 'extra', 'music'].sort();

  test('sees its lockers, also those attached while it runs, and leaves nothing behind', async () => {
    await startGuest(name);
    expect((await lockersIn(name)).sort()).toEqual(sorted);
    for (const locker of [own, 'sandbox', 'extra']) {
      const write = await inGuest(name, `echo guest > '/lockers/${locker}/of guest'`);
      expect(write).toMatchObject({ exitCode: 0 });
      expect(await host.readFile(`/lockers/${locker}/of guest`)).toBe('guest\n');
      await host.writeFile(`/lockers/${locker}/of-host`, 'host\n');
      expect((await inGuest(name, `cat '/lockers/${locker}/of-host'`)).stdout).toBe('host');
    }
    await host.writeFile('/lockers/music/song', 'la\n');
    expect((await inGuest(name, 'cat /lockers/music/song')).stdout).toBe('la');
    for (const file of ['/lockers/music/new', '/lockers/beside', '/lockers/late/x']) {
      expect((await inGuest(name, `echo x > ${file}`)).exitCode, file).not.toBe(0);
    }

    // Root in this guest has every capability that LXC leaves it.
    for (const option of ['remount,rw', 'remount,bind,rw']) {
      await inGuest(name, `mount -o ${option} /lockers/music`);
    }
    expect((await inGuest(name, 'echo x > /lockers/music/new')).exitCode).not.toBe(0);

    const wormhole = `/run/lockerd/wormholes/${name}`;
    await host.run('mkdir', [`${wormhole}/late`]);
    await host.run('mount', ['--bind', '/lockers/late', `${wormhole}/late`]);
    expect((await inGuest(name, 'echo x > /lockers/late/by-guest')).exitCode).toBe(0);
    expect(await host.exists('/lockers/late/by-guest')).toBe(true);
    await host.run('umount', [`${wormhole}/late`]);
    expect((await inGuest(name, 'ls /lockers/late')).stdout).toBe('');
    await host.run('mount', ['--bind', '/lockers/late', `${wormhole}/late`]);

    await stopGuest(name);
    expect(await host.exists('/lockers/late/by-guest')).toBe(true);
    expect(await host.exists(`/lockers/${own}/of guest`)).toBe(true);
  });

  test('keeps its lockers over two reboots', async () => {
    await startGuest(name);
    for (const round of [1, 2]) {
      const before = await pidOf(name);
      await inGuest(name, `${reboots[kind]} || true`);
      await host.waitFor(`reboot ${round}`, async () => {
        const pid = await pidOf(name);
        return pid !== undefined && pid !== before;
      });
      await booted(name);
      expect((await lockersIn(name)).sort()).toEqual(sorted);
      const write = await inGuest(name, `echo ${round} > '/lockers/${own}/round'`);
      expect(write).toMatchObject({ exitCode: 0 });
      expect(await host.readFile(`/lockers/${own}/round`)).toBe(`${round}\n`);
      expect((await inGuest(name, 'echo x > /lockers/music/new')).exitCode).not.toBe(0);
      expect((await inGuest(name, 'echo x > /lockers/beside')).exitCode).not.toBe(0);
      // What is attached now still reaches the guest.
      const late = `/run/lockerd/wormholes/${name}/late`;
      await host.run('mkdir', [late]);
      await host.run('mount', ['--bind', '/lockers/late', late]);
      expect((await inGuest(name, 'echo x > /lockers/late/reboot')).exitCode).toBe(0);
    }
    await stopGuest(name);
  });

  test('starts again after its monitor was killed', async () => {
    await startGuest(name);
    const late = `/run/lockerd/wormholes/${name}/late`;
    await host.run('mkdir', [late]);
    await host.run('mount', ['--bind', '/lockers/late', late]);
    const guest = await pidOf(name);
    const monitor = (await host.shell(`awk '/^PPid/ { print $2 }' /proc/${guest}/status`)).stdout;
    await host.run('kill', ['-9', monitor.trim()]);
    await host.waitFor('the guest is gone', async () => !(await host.exists(`/proc/${guest}`)));
    expect(await traces(name)).not.toBe('');
    await startGuest(name);
    expect((await lockersIn(name)).sort()).toEqual(sorted);
    await stopGuest(name);
  });

  test('lets an ordinary user open a pseudo-terminal', async () => {
    const opened = async () => {
      const args = ['-e', openTerminal, String(await pidOf(name))];
      const { exitCode, stdout, stderr } = await host.run('perl', args, { reject: false });
      return { exitCode, stdout, stderr };
    };
    const success = { exitCode: 0, stdout: 'hello\n', stderr: '' };
    await startGuest(name);
    expect(await opened()).toEqual(success);
    await stopGuest(name);

    await systemctl(host, 'start', containerUnit(name));
    await booted(name);
    expect(await opened()).toEqual(success);
    await systemctl(host, 'stop', containerUnit(name));
  });
});

describe('a locker that is not there', () => {
  test('a directory that nothing is mounted on is never bound', async () => {
    await startGuest('bare');
    expect(await lockersIn('bare')).toEqual(['sandbox']);
    expect(await journal()).toContain('container bare: /lockers/bare is no locker');
    await stopGuest('bare');

    // Named in the settings, it keeps its container from starting.
    await host.writeFile('/etc/lockerd/containers/bare.conf', 'lockers = bare\n');
    expect((await start('bare')).exitCode).not.toBe(0);
    expect(await journal()).toContain(
      'container bare: is not started, because its configured locker bare cannot be mounted: ' +
        '/lockers/bare is not mounted',
    );
    expect(await guestPid(host, 'bare')).toBeUndefined();
    expect((await host.shell('ls -A /lockers/bare')).stdout).toBe('');
    await gone('bare');
  });

  test('one that fstab cannot mount keeps its container from starting, and says why', async () => {
    const { exitCode, stderr } = await host.run('lxc-start', ['-F', '-n', 'absent'], {
      reject: false,
    });
    expect(exitCode).not.toBe(0);
    expect(stderr + (await journal())).toMatch(/absent cannot be mounted: .*\/dev\/absent/);
    await gone('absent');
  });

  test('with nofail the container starts without it', async () => {
    await startGuest('absent-soft');
    expect(await lockersIn('absent-soft')).toEqual(['sandbox']);
    expect(await journal()).toContain('container absent-soft: goes without the own locker');
    await stopGuest('absent-soft');

    await host.writeFile('/etc/lockerd/containers/absent.conf', 'strict-lockers = no\n');
    await startGuest('absent');
    expect(await lockersIn('absent')).toEqual(['sandbox']);
    await stopGuest('absent');
  });

  test('one of a native mount unit is mounted on demand', async () => {
    const unit = '[Mount]\nWhat=native\nWhere=/lockers/native\nType=tmpfs\n';
    await host.writeFile('/etc/systemd/system/lockers-native.mount', unit);
    await host.writeFile('/etc/lockerd/containers/none.conf', 'lockers = native\n');
    await systemctl(host, 'daemon-reload');
    await startGuest('none');
    expect((await lockersIn('none')).sort()).toEqual(['native', 'sandbox']);
    await stopGuest('none');
    await host.shell('rm /etc/lockerd/containers/none.conf');
  });

  test('a shared one that is a bare directory is left out', async () => {
    await host.shell(`umount /lockers/sandbox
      cp /etc/fstab /tmp/fstab; sed -i "/sandbox/d" /etc/fstab`);
    await systemctl(host, 'daemon-reload');
    await startGuest('none');
    expect(await lockersIn('none')).toEqual(['']);
    expect((await host.shell('ls -A /lockers/sandbox')).stdout).toBe('');
    await stopGuest('none');
    // One that is mounted by hand is there.
    await host.shell('mount -t tmpfs -o mode=755 sandbox /lockers/sandbox');
    await startGuest('none');
    expect(await lockersIn('none')).toEqual(['sandbox']);
    await stopGuest('none');
    await host.shell('cp /tmp/fstab /etc/fstab');
    await systemctl(host, 'daemon-reload');
  });
});

test('the first process of a guest sees its lockers', async () => {
  const first = '#!/bin/sh\nls /lockers > /lockers/extra/first\nexec /sbin/init\n';
  await host.writeFile('/var/lib/lxc/old/rootfs/sbin/first', first, 0o755);
  await host.writeFile('/etc/lockerd/containers/old.conf', 'lockers = extra\n');
  const config = await host.readFile('/var/lib/lxc/old/config');
  await host.writeFile('/var/lib/lxc/old/config', `${config}lxc.init.cmd = /sbin/first\n`);
  await startGuest('old');
  expect(await host.readFile('/lockers/extra/first')).toBe('extra\nsandbox\n');
  await stopGuest('old');
  await host.writeFile('/var/lib/lxc/old/config', config);
  await host.shell('rm /etc/lockerd/containers/old.conf');
});

test('every hook can run twice', async () => {
  await host.shell(
    `cd /var/lib/lxc/twice; grep '^lxc.hook.[pm]' config > more; cat more >> config`,
  );
  await startGuest('twice');
  expect(await lockersIn('twice')).toEqual(['sandbox']);
  const mounts = "grep -c ' /lockers' /proc/self/mountinfo";
  expect((await inGuest('twice', mounts)).stdout).toBe('2');
  // By hand, while the guest runs.
  expect(await runHook('locker-pre-start', 'twice')).toMatchObject({ exitCode: 0, stderr: '' });
  expect((await inGuest('twice', mounts)).stdout).toBe('2');
  await stopGuest('twice');
  expect(await runHook('locker-post-stop', 'twice')).toMatchObject({ exitCode: 0, stderr: '' });
});

test('what stays mounted is reported, with those who use it, and goes at the next stop', async () => {
  await startGuest('twice');
  await host.shell(
    'cd /run/lockerd/wormholes/twice/sandbox; sleep 600 >/dev/null 2>&1 & echo $! > /tmp/holder',
  );
  const holder = (await host.readFile('/tmp/holder')).trim();
  await host.run('lxc-stop', ['-n', 'twice', '-k']);
  await host.waitFor('the complaint', async () =>
    (await journal()).includes(`used by ${holder} (sleep)`),
  );
  const again = await runHook('locker-post-stop', 'twice');
  expect(again.exitCode).toBe(1);
  expect(again.stderr).toContain('/run/lockerd/wormholes/twice/sandbox stays mounted');
  await startGuest('twice');
  expect(await lockersIn('twice')).toEqual(['sandbox']);
  await host.run('kill', [holder]);
  await stopGuest('twice');
});

test('an id-mapped guest has its lockers, and root of the guest is an ordinary user in them', async () => {
  await host.shell(`
    for file in subuid subgid; do echo root:100000:65536 >> /etc/$file; done
    chmod 711 /var/lib/lxc /var/lib/lxc/mapped
    chown -R 100000:100000 /var/lib/lxc/mapped/rootfs
    printf 'lxc.idmap = %s 0 100000 65536\n' u g >> /var/lib/lxc/mapped/config
    echo 'lockers = music:ro extra' > /etc/lockerd/containers/mapped.conf
    mkdir -p /lockers/extra/own; chown 100000:100000 /lockers/extra/own`);
  await startGuest('mapped');
  expect((await lockersIn('mapped')).sort()).toEqual(['extra', 'music', 'sandbox']);
  expect((await inGuest('mapped', 'echo x > /lockers/extra/own/file')).exitCode).toBe(0);
  expect(await host.readFile('/lockers/extra/own/file')).toBe('x\n');
  for (const file of ['beside', 'extra/file', 'music/file']) {
    expect((await inGuest('mapped', `echo x > /lockers/${file}`)).exitCode, file).not.toBe(0);
  }
  const late = '/run/lockerd/wormholes/mapped/late';
  await host.shell(`mkdir ${late}; mount --bind /lockers/late ${late}; echo y > /lockers/late/y`);
  expect((await inGuest('mapped', 'cat /lockers/late/y')).stdout).toBe('y');

  const before = await pidOf('mapped');
  await inGuest('mapped', '/sbin/reboot || true');
  await host.waitFor('the reboot', async () => {
    const pid = await pidOf('mapped');
    return pid !== undefined && pid !== before;
  });
  await booted('mapped');
  expect((await lockersIn('mapped')).sort()).toEqual(['extra', 'music', 'sandbox']);
  expect((await inGuest('mapped', 'echo x > /lockers/music/file')).exitCode).not.toBe(0);
  await host.shell(`mkdir ${late}; mount --bind /lockers/late ${late}`);
  expect((await inGuest('mapped', 'cat /lockers/late/y')).stdout).toBe('y');
  await stopGuest('mapped');
});

test('a start from another mount namespace makes the wormhole on the host', async () => {
  const script = 'exec unshare --mount --propagation slave lxc-start -n old -d';
  await host.shell(script);
  await booted('old');
  expect(await lockersIn('old')).toEqual(['sandbox']);
  const late = '/run/lockerd/wormholes/old/late';
  await host.shell(`mountpoint -q /run/lockerd/wormholes/old
    mkdir ${late}; mount --bind /lockers/late ${late}; echo z > /lockers/late/z`);
  expect((await inGuest('old', 'cat /lockers/late/z')).stdout).toBe('z');
  await stopGuest('old');
});

test('hooks of version 0 work as well', async () => {
  await host.shell("sed -i '/^lxc.hook.version/d' /var/lib/lxc/old/config");
  await startGuest('old');
  expect(await lockersIn('old')).toEqual(['sandbox']);
  await stopGuest('old');
});

test('what is mounted inside a locker is seen in the guest and outlives it', async () => {
  await startGuest('none');
  await host.shell('mkdir -p /lockers/sandbox/inner; mount -t tmpfs inner /lockers/sandbox/inner');
  await host.writeFile('/lockers/sandbox/inner/file', 'in\n');
  expect((await inGuest('none', 'cat /lockers/sandbox/inner/file')).stdout).toBe('in');
  await stopGuest('none');
  expect(await host.readFile('/lockers/sandbox/inner/file')).toBe('in\n');
  await host.shell('umount /lockers/sandbox/inner');
});

test('a read-only attachment made by hand is a bind of a read-only bind', async () => {
  await startGuest('none');
  const late = '/run/lockerd/wormholes/none/late';
  await host.shell(`mkdir -p /mnt/ro ${late}
    mount --bind /lockers/late /mnt/ro; mount -o remount,bind,ro /mnt/ro
    mount --bind /mnt/ro ${late}; umount /mnt/ro`);
  expect((await inGuest('none', 'echo x > /lockers/late/x')).exitCode).not.toBe(0);
  await stopGuest('none');
});

test('a symbolic link of the guest is not followed', async () => {
  await host.shell('mkdir /srv/outside; ln -s /srv/outside /var/lib/lxc/link/rootfs/lockers');
  expect((await start('link')).exitCode).not.toBe(0);
  expect(await journal()).toContain('/lockers in the guest leads through a symbolic link');
  await gone('link');
});

test('names that are no component of a path are refused', async () => {
  for (const name of ['..', 'a/b', '../x', '']) {
    for (const hook of ['locker-pre-start', 'locker-mount', 'locker-post-stop']) {
      const { exitCode, stderr } = await runHook(hook, name);
      expect({ name, hook, exitCode }).toEqual({ name, hook, exitCode: 1 });
      expect(stderr).toContain('of this name cannot have lockers');
    }
  }
});

test('a container gets the same lockers, in the same modes, by its unit and by lxc-start', async () => {
  const table = [
    'a /lockers/same-own tmpfs mode=755,noauto 0 0',
    'b /lockers/my\\040data tmpfs mode=755,noauto 0 0',
    'c /lockers/read tmpfs mode=755,ro 0 0',
    'd /lockers/common tmpfs mode=755 0 0',
    'e /lockers/masked tmpfs mode=755,noauto 0 0',
    '',
  ];
  const before = await host.readFile('/etc/fstab');
  await host.writeFile('/etc/fstab', before + table.join('\n'));
  await host.writeFile(
    '/etc/lockerd/lockerd.conf.d/same.conf',
    [
      'shared-lockers = common:ro masked sandbox missing ; and a comment',
      'own-locker-suffixes = _x:_y -ct:-own',
      'locker-path = "//mnt/./vol/"',
      'lockers = extra',
      'locker-directory = nowhere',
      '',
    ].join('\n'),
  );
  await host.shell(
    'ln -s /dev/null /etc/systemd/system/lockers-masked.mount; mkdir /lockers/masked',
  );
  const name = 'same-ct';
  const modes = async () => {
    const mounts = await host.readFile(`/proc/${await pidOf(name)}/mountinfo`);
    const found = [...mounts.matchAll(/^(?:\S+ ){4}\/mnt\/vol\/(\S+) (r[ow])/gm)];
    return found.map(([, locker = '', mode = '']) => `${locker} ${mode}`).sort();
  };
  for (const [settings, expected] of [
    ['', ['common ro', 'extra rw', 'same-own rw', 'sandbox rw']],
    [
      'lockers = my\\040data music:ro read same-own:ro sandbox:ro common:ro common',
      ['common rw', 'music ro', 'my\\040data rw', 'read ro', 'same-own ro', 'sandbox ro'],
    ],
  ] as const) {
    await host.writeFile(`/etc/lockerd/containers/${name}.conf`, `${settings}\n`);
    await systemctl(host, 'daemon-reload');
    await startGuest(name);
    expect(await modes()).toEqual(expected);
    await stopGuest(name);

    await systemctl(host, 'start', `lxc@${name}`);
    await booted(name);
    expect(await modes()).toEqual(expected);
    expect(await host.exists(`/run/lockerd/wormholes/${name}`)).toBe(false);
    await systemctl(host, 'stop', `lxc@${name}`);
  }
  await host.shell(
    'rm /etc/lockerd/lockerd.conf.d/same.conf /etc/systemd/system/lockers-masked.mount',
  );
  await host.writeFile('/etc/fstab', before);
  await systemctl(host, 'daemon-reload');
});

test('a start by the unit takes away what a killed start outside it has left', async () => {
  await systemctl(host, 'daemon-reload');
  await startGuest('unit');
  const guest = await pidOf('unit');
  const monitor = (await host.shell(`awk '/^PPid/ { print $2 }' /proc/${guest}/status`)).stdout;
  await host.run('kill', ['-9', monitor.trim()]);
  await host.waitFor('the guest is gone', async () => !(await host.exists(`/proc/${guest}`)));
  expect(await host.exists('/run/lockerd/wormholes/unit/sandbox')).toBe(true);
  await systemctl(host, 'start', 'lxc@unit');
  await booted('unit');
  expect(await lockersIn('unit')).toEqual(['sandbox']);
  expect(await host.exists('/run/lockerd/wormholes/unit')).toBe(false);
  await systemctl(host, 'stop', 'lxc@unit');
  await gone('unit');
});

test('a reload and an unmount by systemd leave a running container its other lockers', async () => {
  await startGuest('twice');
  const unit = 'run-lockerd-wormholes-twice.mount';
  expect(await host.unit(unit)).toMatchObject({ ActiveState: 'active', StopWhenUnneeded: 'no' });
  await systemctl(host, 'daemon-reload');
  await host.shell('sleep 1');
  expect(await lockersIn('twice')).toEqual(['sandbox']);
  await host.shell('umount /run/lockerd/wormholes/twice/sandbox');
  expect((await inGuest('twice', 'echo x > /lockers/sandbox/x')).exitCode).not.toBe(0);
  await stopGuest('twice');
});

test('settings that are wrong for the container keep it from starting', async () => {
  for (const [key, value] of [
    ['lockers', '../etc'],
    ['lockers', 'a/b'],
    ['strict-lockers', 'maybe'],
  ]) {
    await host.writeFile('/etc/lockerd/containers/none.conf', `${key} = ${value}\n`);
    expect((await start('none')).exitCode).not.toBe(0);
    expect(await journal()).toContain(`containers/none.conf:1: ${key}="${value}" is not valid`);
    await gone('none');
  }
  await host.writeFile(
    '/etc/lockerd/containers/none.conf',
    'idmap-lockers = yes\nwormhole = yes\n',
  );
  await startGuest('none');
  expect(await journal()).toContain('none: idmap-lockers has no effect outside the unit');
  await stopGuest('none');
  await host.writeFile('/etc/lockerd/containers/none.conf', 'wormhole = no\n');
  await startGuest('none');
  expect(await host.exists('/run/lockerd/wormholes/none')).toBe(false);
  await stopGuest('none');
  await host.shell('rm /etc/lockerd/containers/none.conf');
});

test('a unit has no use for the hooks', async () => {
  for (const hook of ['locker-pre-start', 'locker-mount', 'locker-post-stop']) {
    const env = { LOCKERD_UNIT: 'lxc@unit.service' };
    expect(await runHook(hook, 'unit', env)).toMatchObject({ exitCode: 0, stderr: '' });
  }
  expect(await host.exists('/run/lockerd/wormholes/unit')).toBe(false);
});

test('lockers stay until the guest has shut down with the host', async () => {
  await startGuest('sysvinit_vm');
  const save = '#!/bin/sh\ncat /lockers/sysvinit_vol/mark > /shutdown-saw 2>&1\n';
  const rootfs = '/var/lib/lxc/sysvinit_vm/rootfs';
  await host.shell(
    `mv ${rootfs}/usr/local/sbin/write-shutdown-marker ${rootfs}/usr/local/sbin/original`,
  );
  await host.writeFile(
    `${rootfs}/usr/local/sbin/write-shutdown-marker`,
    `${save}exec /usr/local/sbin/original "$@"\n`,
    0o755,
  );
  await host.writeFile('/lockers/sysvinit_vol/mark', 'here\n');
  const from = Date.now();
  await host.powerOff();
  expect(Date.now() - from).toBeLessThan(60_000);
  expect(await host.readFile(`${rootfs}/shutdown-saw`)).toBe('here\n');
});

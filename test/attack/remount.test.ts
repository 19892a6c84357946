import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { answerOfGuest, expectState, journalOf, systemctl } from '../machines/support.ts';
import { bootAttackHost, perlInGuest } from './attack-host.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 900_000 });

const pin = (locker: string): string => `lockerd-pin@lockers-${locker}.service`;
const readOnlyMount = 'run-lockerd-read\\x2donly-music.mount';

let host: Host;
beforeAll(async () => {
  host = await bootAttackHost('remount', {
    prepare: async (off) => {
      const settings = 'lockers = data music:ro small\n';
      for (const name of ['web', 'evil']) {
        await off.writeFile(`/etc/lockerd/containers/${name}.conf`, settings);
      }
      // Each on a file system of its own, which nothing else of the host keeps writable.
      const fstab = await off.readFile('/etc/fstab');
      await off.writeFile(
        '/etc/fstab',
        fstab
          .replace(/^\/srv\/data .*$/m, 'data /lockers/data tmpfs size=4m,nosuid,nodev 0 0')
          .replace(/^\/srv\/music .*$/m, 'music /lockers/music tmpfs size=4m,nosuid,nodev 0 0') +
          'small /lockers/small tmpfs nr_inodes=1,size=64k 0 0\n',
      );
    },
  });
  for (const name of ['web', 'evil']) {
    await systemctl(host, 'start', `lxc@${name}`);
    await host.waitForGuest(name);
  }
});
afterAll(() => host.close());
attachJournalOnFailure(() => host);

/** Those of the lockers that the host can write to. */
async function writableOnHost(...lockers: string[]): Promise<string[]> {
  const script = 'for l; do touch "/lockers/$l/by-host" 2>/dev/null && echo "$l"; done; true';
  const { stdout } = await host.run('sh', ['-c', script, 'sh', ...lockers]);
  return stdout.split('\n').filter(Boolean);
}

/** mount(2), mount_setattr(2) and open_tree(2) of the guest itself, with what its mount(8) does. */
const attack = `
use strict;
my ($what) = @ARGV;
my ($none, $type) = ("none", "none");
my $empty = "";
sub remount { my ($path, $flags) = @_; syscall(165, $none, $path, $type, 32 | $flags, $empty) }
sub setattr {
    my ($fd, $path, $at) = @_;
    my $clear_read_only = pack 'Q4', 0, 1, 0, 0;
    syscall 442, $fd, $path, $at, $clear_read_only, 32;
}
if ($what eq 'read-only') {
    for my $path (glob '/lockers/*') { remount($path, $_) for 1, 1|2|4, 1|16384 }
    # A second mount of the same file system, and one in a namespace of its own.
    mkdir '/root/second';
    for my $locker (glob '/lockers/*') {
        syscall 165, $locker, my $p = '/root/second', $type, 4096, $empty;
        remount('/root/second', 1);
        syscall 166, my $q = '/root/second', 0;
    }
} else {
    my $path = '/lockers/music';
    remount($path, 0); remount($path, 4096); remount($path, 4096|2|4);
    setattr(-100, $path, 0);
    mkdir '/root/second';
    syscall 165, $path, my $second = '/root/second', $type, 4096, $empty;
    remount($second, 4096); setattr(-100, $second, 0);
    my $copy = syscall 428, -100, $path, 1;
    setattr($copy, $empty, 0x1000);
    for my $place ($path, $second, "/proc/self/fd/$copy") {
        print "written to $place\\n" if open my $file, '>', "$place/by-guest";
    }
    syscall 166, $second, 0;
}
`;

describe('root in a privileged guest', () => {
  test('cannot make a locker read-only for the host and other containers', async () => {
    expect(await writableOnHost('data', 'sandbox', 'music')).toEqual(['data', 'sandbox', 'music']);
    await perlInGuest(host, 'evil', attack, 'read-only');
    for (const mount of ['', 'bind,']) {
      for (const locker of ['data', 'sandbox', 'music']) {
        await answerOfGuest(host, 'evil', `mount -o remount,${mount}ro /lockers/${locker}`);
      }
    }
    expect(await writableOnHost('data', 'sandbox', 'music')).toEqual(['data', 'sandbox', 'music']);
    expect(await answerOfGuest(host, 'web', 'touch /lockers/data/by-web')).toBe('0\n');
  });

  test('and what holds that off, LXC can make dependent without an error', async () => {
    expect(await journalOf(host, 'lxc@web.service')).not.toContain('dependent mount');
  });

  test('cannot keep the host from making mount points in wormholes', async () => {
    const made = 'mkdir /run/lockerd/slots/probe && rmdir /run/lockerd/slots/probe';
    await host.shell(made);
    const remount = 'my ($n, $e) = ("none", ""); syscall 165, $n, my $p = "/lockers", $n, 33, $e;';
    await perlInGuest(host, 'evil', `${remount} print $!{EBUSY} ? "busy" : "done: $!"`);
    await answerOfGuest(host, 'evil', 'mount -o remount,ro /lockers');
    await host.shell(made);
  });

  test('cannot make a read-only locker writable', async () => {
    expect(await answerOfGuest(host, 'evil', 'cat /lockers/music/by-host')).toBe('0\n');
    expect((await perlInGuest(host, 'evil', attack, 'writable')).output).toBe('');
    for (const option of ['remount,rw', 'remount,bind,rw']) {
      await answerOfGuest(host, 'evil', `mount -o ${option} /lockers/music`);
    }
    const namespace = `unshare -m sh -c 'mount -o remount,bind,rw /lockers/music; touch /lockers/music/x'`;
    await answerOfGuest(host, 'evil', namespace);
    await answerOfGuest(host, 'evil', 'touch /lockers/music/by-guest');
    const { stdout } = await host.shell('ls /lockers/music');
    expect(stdout).toBe('by-host\n');
  });

  test('cannot make a locker that was attached later read-only or writable', async () => {
    await host.run('lockerctl', ['detach', 'evil', 'sandbox']);
    await host.run('lockerctl', ['detach', 'evil', 'music']);
    await host.run('lockerctl', ['attach', 'evil', 'sandbox']);
    await host.run('lockerctl', ['attach', '--read-only', 'evil', 'music']);
    await perlInGuest(host, 'evil', attack, 'read-only');
    expect((await perlInGuest(host, 'evil', attack, 'writable')).output).toBe('');
    expect(await writableOnHost('sandbox', 'music')).toEqual(['sandbox', 'music']);
  });
});

test('a file system without room for a file is told, and its container runs', async () => {
  expect(await journalOf(host, pin('small'))).toMatch(
    /a privileged guest can make \/lockers\/small read-only .* No space left on device/,
  );
  await expectState(host, 'lxc@evil.service', 'active');
});

test('a locker can be unmounted on the host although it is held', async () => {
  for (const locker of ['data', 'sandbox', 'music']) {
    await expectState(host, pin(locker), 'active');
  }
  await expectState(host, readOnlyMount, 'active');
  await host.run('umount', ['/lockers/sandbox']);
  await host.waitFor('nothing holds it any more', async () => {
    const { ActiveState } = await host.unit(pin('sandbox'));
    const { stdout } = await host.run('cat', ['/proc/self/mountinfo']);
    return ActiveState === 'inactive' && !/ \S*\/sandbox /.test(stdout);
  });
  await systemctl(host, 'stop', 'lockers-data.mount');
  await expectState(host, pin('data'), 'inactive');
  await expectState(host, 'lockers-data.mount', 'inactive');
});

test('nothing is held, locked or mounted once no container has it', async () => {
  await systemctl(host, 'stop', 'lxc@web', 'lxc@evil');
  for (const unit of [pin('data'), pin('music'), pin('sandbox'), readOnlyMount]) {
    await host.waitFor(`${unit} has ended`, async () => {
      return (await host.unit(unit))['ActiveState'] === 'inactive';
    });
  }
  await host.waitFor('no copy of a locker is mounted', async () => {
    return !/ \/(?:run\/lockerd\/(?!slots)|var\/locker-mappings\/)/.test(
      await host.readFile('/proc/self/mountinfo'),
    );
  });
});

test('a locker that a guest can leave programs on is told once', async () => {
  const { stderr } = await host.run('/usr/lib/systemd/system-generators/lockerd-generator', [
    '--dry-run',
  ]);
  const warnings = stderr.split('\n').filter((line) => line.includes('set-user-ID'));
  expect(warnings).toEqual([
    expect.stringMatching(/fstab:\d+: .*"small" .*options nr_inodes=1,size=64k,nosuid,nodev$/),
  ]);
});

/** lockerctl export and import-archive: a container in a file. */

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { RunResult } from '../machines/execute.ts';
import { expectState } from '../machines/support.ts';
import { bootHost, type Host } from './host.ts';
import { ensureToolsImage } from './image.mjs';
import { createOddGuest, treeOf } from './odd-guest.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 180_000 });

const ids = ['lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'];

let host: Host;

const lockerctl = (...args: string[]): Promise<RunResult> =>
  host.run('lockerctl', args, { reject: false, timeoutMs: 100_000 });

/** What a failed or a killed command must not leave, but for files that were unpacked. */
async function expectNothingOf(name: string): Promise<void> {
  await host.waitFor('nothing is left', async () => {
    const { stdout } = await host.shell(`
      ls -d /var/lib/lxc/${name} /etc/lockerd/containers/${name}.conf /etc/systemd/system/lxc@${name}.service.d \
        /var/lib/lockerd/moves/${name}.away 2>/dev/null || true
      ls /run/systemd/generator | grep -w 'lxc@${name}.service.d' || true`);
    return stdout === '';
  });
}

beforeAll(async () => {
  host = await bootHost({ name: 'archive', image: await ensureToolsImage() });
  await host.shell(
    `for f in subuid subgid; do echo root:100000:65536 >/etc/$f; done; mkdir /backup`,
  );
});
afterAll(async () => {
  await host.close();
});

describe('a container', () => {
  beforeAll(async () => {
    await createOddGuest(
      host,
      'web',
      ['lxc.uts.name = web', ...ids, 'lxc.start.auto = 1'],
      100_000,
    );
    await host.writeFile('/etc/lockerd/containers/web.conf', 'stop-timeout = 31s\n');
    await host.writeFile(
      '/etc/systemd/system/lxc@web.service.d/override.conf',
      '[Service]\nNice=3\n',
    );
    await host.run('systemctl', ['daemon-reload']);
    await host.shell('systemctl set-property lxc@web.service TasksMax=777 2>/dev/null');
  });

  test.each(['web.tar', 'web.tar.gz'])('comes back out of %s as it was', async (file) => {
    const before = await treeOf(host, 'web');
    const path = `/backup/${file}`;
    const exported = await lockerctl('export', 'web', path, '--json');
    expect(exported).toMatchObject({ exitCode: 0, stderr: '' });
    expect(JSON.parse(exported.stdout)).toMatchObject({ container: 'web', file: path });
    expect((await host.shell(`stat -c %a:%u ${path}; ls /backup/*.part || true`)).stdout).toBe(
      '600:0\n',
    );
    const dry = await lockerctl('import-archive', path);
    expect(dry.stderr).toContain('there is a container of this name already');
    // What was exported has gone.
    await host.shell(`rm -r /var/lib/lxc/web && rm /etc/lockerd/containers/web.conf
      rm -r /etc/systemd/system/lxc@web.service.d /etc/systemd/system.control/lxc@web.service.d
      systemctl daemon-reload`);
    const looked = await lockerctl('import-archive', path, '--dry-run', '--json');
    expect(JSON.parse(looked.stdout)).toMatchObject({ container: 'web', imported: false });
    await expectNothingOf('web');
    const imported = await lockerctl('import-archive', path);
    expect(imported).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await treeOf(host, 'web')).toBe(before);
    expect(await host.readFile('/etc/lockerd/containers/web.conf')).toBe('stop-timeout = 31s\n');
    const unit = await host.unit('lxc@web.service');
    expect(unit).toMatchObject({ Nice: '3', TasksMax: '777' });
    expect(
      (await host.shell('ls -A /var/lib/lxc /var/lib/lockerd/moves || true')).stdout,
    ).not.toMatch(/lockerd-move|away|json/);
    await expectState(host, 'lxc@web.service', 'inactive');
    await host.run('systemctl', ['start', 'lxc@web']);
    await host.waitForGuest('web');
    await host.run('systemctl', ['stop', 'lxc@web']);
  });

  test('can be read by tar alone', async () => {
    const { stdout } = await host.shell('tar -tf /backup/web.tar');
    const names = stdout.trim().split('\n');
    expect(names[0]).toBe('lockerd-container.json');
    expect(names).toContain('container/rootfs/odd/setuid');
    expect(names.at(-1)).toBe('lockerd-checksum');
  });

  test('gets another name, with what follows from that', async () => {
    await host.shell(`echo 'lxc.net.1.type = veth
lxc.net.1.name = other0
lxc.net.1.hwaddr = 00:16:3e:11:22:33
lxc.mount.fstab = /var/lib/lxc/web/fstab' >>/var/lib/lxc/web/config
      echo '/var/lib/lxc/web/extra extra none bind,create=dir 0 0' >/var/lib/lxc/web/fstab
      mkdir /var/lib/lxc/web/extra && chown 100000:100000 /var/lib/lxc/web/extra && systemctl daemon-reload`);
    expect(await lockerctl('export', 'web', '/backup/named.tar')).toMatchObject({ exitCode: 0 });
    const imported = await lockerctl('import-archive', '/backup/named.tar', '--name=web-2');
    expect(imported).toMatchObject({ exitCode: 0, stderr: '' });
    const config = await host.readFile('/var/lib/lxc/web-2/config');
    expect(config).not.toMatch(/lib\/lxc\/web\//);
    expect(config).toMatch(/^lxc\.uts\.name = web-2$/m);
    expect(config).toMatch(/^lxc\.net\.1\.hwaddr = 00:16:3e:(?!11:22:33)/m);
    expect(await host.readFile('/var/lib/lxc/web-2/fstab')).toMatch(
      /^\/var\/lib\/lxc\/web-2\/extra /,
    );
    expect(await host.unit('lxc@web-2.service')).toMatchObject({ Nice: '3', TasksMax: '777' });
    await host.run('systemctl', ['start', 'lxc@web', 'lxc@web-2']);
    await host.waitForGuest('web-2');
    await host.run('systemctl', ['stop', 'lxc@web', 'lxc@web-2']);
  });

  test('that runs is refused, or stands still meanwhile, and goes on also when its export is killed', async () => {
    await host.run('systemctl', ['start', 'lxc@web']);
    await host.waitForGuest('web');
    const refused = await lockerctl('export', 'web', '/backup/running.tar');
    expect(refused).toMatchObject({ exitCode: 1 });
    expect(refused.stderr).toContain('--freeze');
    const frozen = await lockerctl('export', 'web', '/backup/running.tar', '--freeze');
    expect(frozen).toMatchObject({ exitCode: 0, stderr: '' });
    const stateOf = async (): Promise<string> =>
      (await host.run('lxc-info', ['-n', 'web', '-sH'])).stdout.trim();
    expect(await stateOf()).toBe('RUNNING');
    const imported = await lockerctl('import-archive', '/backup/running.tar', '--name=still');
    expect(imported).toMatchObject({ exitCode: 0 });
    const numbers = (await host.readFile('/var/lib/lxc/still/rootfs/numbers')).trim().split('\n');
    expect(numbers.map((line) => Number.parseInt(line, 10))).toEqual(
      numbers.map((_, at) => at + 1),
    );

    await host.shell('mv /usr/bin/tar /usr/bin/tar.real');
    await host.writeFile('/usr/bin/tar', '#!/bin/sh\nexec sleep 60\n', 0o755);
    const exporting = host.shell('exec lockerctl export web /backup/killed.tar --freeze', {
      reject: false,
    });
    await host.waitFor('the guest is frozen', async () => (await stateOf()) === 'FROZEN');
    await host.shell("kill -KILL $(pgrep -f '[l]ockerctl export web /backup/killed')");
    await exporting;
    await host.waitFor('the guest goes on', async () => (await stateOf()) === 'RUNNING');
    await host.shell('mv /usr/bin/tar.real /usr/bin/tar; pkill -x sleep || true');
    expect(await host.exists('/backup/killed.tar')).toBe(false);
    expect(await lockerctl('export', 'web', '/backup/killed.tar', '--freeze')).toMatchObject({
      exitCode: 0,
    });
    await host.run('systemctl', ['stop', 'lxc@web']);
  });
});

describe('an import that fails makes no container', () => {
  test('where the file was damaged or cut', async () => {
    await host.shell(`cd /backup && cp web.tar damaged.tar && head -c 100000 web.tar >cut.tar
      printf x | dd of=damaged.tar bs=1 seek=$(($(stat -c %s web.tar) / 2)) conv=notrunc 2>/dev/null
      head -c 100000 web.tar.gz >cut.tar.gz; head -c 100000 /dev/urandom >noise; : >empty`);
    for (const file of ['damaged.tar', 'cut.tar', 'cut.tar.gz', 'noise', 'empty']) {
      const { exitCode, stderr } = await lockerctl(
        'import-archive',
        `/backup/${file}`,
        '--name=bad',
      );
      expect({ file, exitCode }).toEqual({ file, exitCode: 1 });
      expect(stderr).toMatch(/refused|gzip failed/);
      await expectNothingOf('bad');
      expect((await host.shell('ls -A /var/lib/lxc')).stdout).not.toContain('.lockerd-move');
    }
    expect((await lockerctl('import-archive', '/backup')).exitCode).toBe(1);
    expect((await lockerctl('import-archive', '/backup/absent')).exitCode).toBe(1);
  });

  test('where there is no room, or none is left', async () => {
    await host.shell('mkdir /full && mount -t tmpfs -o size=1M tmpfs /var/lib/lxc');
    const { exitCode, stderr } = await lockerctl('import-archive', '/backup/web.tar');
    await host.shell('umount /var/lib/lxc');
    expect(exitCode).toBe(1);
    expect(stderr).toContain('there is room for');
    await expectNothingOf('bad');
  });

  test('where it is killed', async () => {
    const held = `#!/bin/sh
[ ! -d /tree ] || { exec sleep 60; }
exec /usr/bin/tar.real "$@"
`;
    await host.shell('mv /usr/bin/tar /usr/bin/tar.real');
    await host.writeFile('/usr/bin/tar', held, 0o755);
    const importing = lockerctl('import-archive', '/backup/web.tar', '--name=bad');
    await host.waitFor('it unpacks', async () =>
      (await host.shell('ls -A /var/lib/lxc')).stdout.includes('.lockerd-move'),
    );
    await host.shell("sleep 1; kill -KILL $(pgrep -f '[l]ockerctl import-archive')");
    await importing;
    await host.shell('mv /usr/bin/tar.real /usr/bin/tar; pkill -x sleep || true');
    await expectNothingOf('bad');
    expect(await lockerctl('import-archive', '/backup/web.tar', '--name=bad')).toMatchObject({
      exitCode: 0,
    });
  });

  test('where it is killed when all of it is there already', async () => {
    const systemctl = `#!/bin/sh
case "$*" in daemon-reload) : >/run/reached; sleep 30 ;; esac
exec /usr/bin/systemctl "$@"
`;
    await host.writeFile('/usr/local/bin/systemctl', systemctl, 0o755);
    const importing = lockerctl('import-archive', '/backup/web.tar', '--name=late');
    await host.waitFor('it has the name', () => host.exists('/var/lib/lxc/late/config'));
    await host.waitFor('it reloads', () => host.exists('/run/reached'));
    await host.shell(
      "rm /usr/local/bin/systemctl; kill -KILL $(pgrep -f '[l]ockerctl import-archive')",
    );
    await importing;
    await expectNothingOf('late');
  });
});

test('what cannot be exported says why', async () => {
  const exported = async (...args: string[]): Promise<string> => {
    const { exitCode, stderr } = await lockerctl('export', ...args);
    expect(exitCode).not.toBe(0);
    return stderr;
  };
  expect(await exported('web', '/backup/web.tar')).toContain('there is /backup/web.tar already');
  expect(await exported('web', '/var/lib/lxc/web/web.tar')).toContain('would be a part');
  expect(await exported('web', '/nowhere/web.tar')).toContain('there is no directory /nowhere');
  expect(await exported('web', '/backup/other.zst')).toContain('there is no zstd; install it');
  expect(await host.exists('/backup/other.zst.part')).toBe(false);
  expect(await exported('absent', '/backup/absent.tar')).toContain(
    'there is no container "absent"',
  );
});

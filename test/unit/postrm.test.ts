import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const postrm = readFileSync(join(import.meta.dirname, '../../src/debian/postrm'), 'utf8');

/** What commands print in mount and user namespaces of their own, with an empty /run and /etc/systemd. */
function inOwnRun(commands: string): string[] {
  const script = `set -e
    mount -t tmpfs none /etc/systemd
    mount -t tmpfs none /run
    mkdir /run/bin /run/data
    for name in userdel getent; do printf '#!/bin/sh\\n' >/run/bin/$name; chmod +x /run/bin/$name; done
    PATH=/run/bin:$PATH
    echo kept >/run/data/file
    ${commands}`;
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['--user', '--map-root-user', '--mount', '--propagation=private', 'sh', '-c', script],
    { encoding: 'utf8', env: { ...process.env, POSTRM: postrm } },
  );
  expect(status, stderr).toBe(0);
  return stdout.split('\n').filter(Boolean);
}

const purge = 'sh -c "$POSTRM" postrm purge';
// libmount notes options below /run/mount.
const shows =
  'cat /run/data/file; grep " /run/" /proc/self/mountinfo | cut -d " " -f 5; ls -I mount /run';

test('a purge unmounts all that is below /run/lockerd, and deletes no data', () => {
  // A locker of a directory of /run, whose device is that of /run/lockerd.
  expect(
    inOwnRun(`
      mkdir -p /run/lockerd/slots /run/lockerd/inside '/run/lockerd/wormholes/web 1' \\
        /run/lockerd/wormholes/.web /run/lockerd/read-only/music /run/lockerd/read-only/notes
      echo / >/run/lockerd/inside/web
      mount -t ramfs lockerd /run/lockerd/slots
      mount -t tmpfs lockerd '/run/lockerd/wormholes/web 1'
      mkdir '/run/lockerd/wormholes/web 1/data'
      mount --bind /run/data '/run/lockerd/wormholes/web 1/data'
      mount --bind /run/data /run/lockerd/wormholes/.web
      mount -t tmpfs none /run/lockerd/read-only/music
      mount --bind /run/data /run/lockerd/read-only/notes
      ${purge}
      ${shows}`),
  ).toEqual(['kept', 'bin', 'data']);
});

test('where a mount is in use, a purge succeeds and leaves all below /run/lockerd', () => {
  expect(
    inOwnRun(`
      mkdir -p /run/lockerd/read-only/notes
      mount --bind /run/data /run/lockerd/read-only/notes
      exec 9</run/lockerd/read-only/notes/file
      ${purge} 2>&1 | grep ^lockerd:
      ${shows}`),
  ).toEqual([
    'lockerd: /run/lockerd stays until the host boots, because /run/lockerd/read-only/notes is still mounted',
    'kept',
    '/run/lockerd/read-only/notes',
    ...['bin', 'data', 'lockerd'],
  ]);
});

test('a purge ends limits that hold until a stop, and puts back the lasting ones that they hide', () => {
  expect(
    inOwnRun(`
      notes=/run/lockerd/balloon
      control=systemd/system.control
      for name in kept gone killed other; do
        mkdir -p $notes/lxc@$name.service /run/$control/lxc@$name.service.d /etc/$control/lxc@$name.service.d
        printf '# Ours.\\n[Service]\\nMemoryMax=100\\n' >/run/$control/lxc@$name.service.d/50-MemoryMax.conf
      done
      # Somebody else has changed it since.
      printf '[Service]\\nMemoryMax=200\\n' >$notes/lxc@kept.service/50-MemoryMax.conf
      cp /run/$control/lxc@gone.service.d/50-MemoryMax.conf $notes/lxc@gone.service/
      # The helper was killed before it made its note whole.
      echo MemoryMax=100 >$notes/lxc@killed.service/50-MemoryMax.conf.wanted
      echo MemoryMax=10 >$notes/lxc@other.service/50-MemoryMax.conf.wanted
      echo aside >/etc/$control/lxc@gone.service.d/45-MemoryMax.conf
      echo aside >/etc/$control/lxc@killed.service.d/45-MemoryMax.conf
      echo later >/etc/$control/lxc@killed.service.d/50-MemoryMax.conf
      echo own >/etc/$control/lxc@kept.service.d/50-MemoryMax.conf
      ${purge}
      cd /run/$control && find . | sort
      cd /etc/$control && grep -r . | sort
      ls -I mount /run`),
  ).toEqual([
    ...['.', './lxc@kept.service.d', './lxc@kept.service.d/50-MemoryMax.conf'],
    ...['./lxc@other.service.d', './lxc@other.service.d/50-MemoryMax.conf'],
    'lxc@gone.service.d/50-MemoryMax.conf:aside',
    'lxc@kept.service.d/50-MemoryMax.conf:own',
    'lxc@killed.service.d/50-MemoryMax.conf:later',
    ...['bin', 'data', 'systemd'],
  ]);
});

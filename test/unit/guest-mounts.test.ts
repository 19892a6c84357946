/**
 * link-journal and pass-credentials with trees that a hostile guest may have: as root in a mount namespace
 * of its own, with a process that has another root directory in place of the guest's first one.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const hooks = join(import.meta.dirname, '../../hooks');
const ids = { host: 'f'.repeat(32), guest: 'a'.repeat(32), other: 'b'.repeat(32) };
const journals = '/var/log/journal';
/** For a host that has no mount for journals. */
const unmounted = 'mount() { case "$*" in *journals*) ;; *) command mount "$@" ;; esac; }';

interface Outcome {
  /** What is mounted in the guest by the hook. */
  readonly mounts: string[];
  /** What the hook says. */
  readonly told: string;
  /** What the last commands print. */
  readonly after: string;
}

/**
 * Runs a hook. Commands prepare the host and, in its root directory, the guest; others look at the result,
 * with the guest's root directory as $root.
 */
function run(
  hook: string,
  prepare = '',
  look = '',
  environment: Readonly<Record<string, string>> = {},
): Outcome {
  const script = `set -eu
    for place in /run /var/log /mnt; do mount -t tmpfs none $place; done
    mkdir -p /run/etc /run/lockerd/journals ${journals}/lockerd /run/bin /run/creds /mnt/old
    echo ${ids.host} >/run/etc/machine-id
    printf '#!/bin/sh\\n' >/run/bin/logger
    chmod +x /run/bin/logger
    view=nosuid,nodev,noexec,nosymfollow
    cd /mnt
    mkdir -p etc run sbin var/log lib/systemd
    : >lib/systemd/systemd
    ln -s /lib/systemd/systemd sbin/init
    echo ${ids.guest} >etc/machine-id
    echo secret >/run/creds/word
    ${prepare}
    mount --bind /run/etc /etc
    mount --rbind ${journals}/lockerd /run/lockerd/journals
    mount -o remount,bind,$view /run/lockerd/journals
    mkfifo /run/ready /run/end
    # The shell stays what it is, as the guest has no other program.
    unshare --mount --propagation=private sh -c '
      cd /mnt
      exec 3>/run/ready 4</run/end
      pivot_root . old
      echo ready >&3
      read end <&4' &
    guest=$!
    exec 5</run/ready 6>/run/end
    read ready <&5
    root=/proc/$guest/root
    cut -d ' ' -f 5 /proc/$guest/mountinfo >/run/before
    PATH=/run/bin:$PATH LXC_PID=$guest "$HOOK" 2>/run/told || echo "status $?" >>/run/told
    cut -d ' ' -f 5 /proc/$guest/mountinfo | grep -vxFf /run/before || :
    echo ---
    cat /run/told
    echo ---
    ${look}
    echo end >&6
    wait`;
  const args = ['--mount', '--propagation=private', 'sh', '-c', script];
  const { status, stdout, stderr } = spawnSync('unshare', args, {
    encoding: 'utf8',
    env: {
      PATH: process.env['PATH'],
      HOOK: join(hooks, hook),
      LXC_NAME: 'web',
      LOCKERD_UNIT: 'lxc@web.service',
      CREDENTIALS_DIRECTORY: '/run/creds',
      ...environment,
    },
    timeout: 30_000,
  });
  expect(status, stderr).toBe(0);
  const [mounts = '', told = '', after = ''] = stdout.split('---\n');
  return { mounts: mounts.split('\n').filter(Boolean), told: told.trim(), after: after.trim() };
}

describe('the journal', () => {
  const linked = [`${journals}/${ids.guest}`];

  test('is a directory of the host, which a link names', () => {
    const look = `
      echo entry >$root${journals}/${ids.guest}/system.journal
      cat ${journals}/lockerd/web/system.journal ${journals}/${ids.guest}/system.journal
      readlink ${journals}/${ids.guest}
      stat -c %a ${journals}/lockerd`;
    expect(run('link-journal', '', look)).toEqual({
      mounts: linked,
      told: '',
      after: 'entry\nentry\n/run/lockerd/journals/web\n700',
    });
  });

  test('has one name, the last', () => {
    const stale = `ln -s /run/lockerd/journals/web ${journals}/${ids.other}
      ln -s /run/lockerd/journals/web2 ${journals}/${'c'.repeat(32)}`;
    const { told, after } = run('link-journal', stale, `ls ${journals}`);
    expect({ told, after }).toEqual({
      told: '',
      after: `${ids.guest}\n${'c'.repeat(32)}\nlockerd`,
    });
  });

  test('is linked through links of the guest to its machine ID', () => {
    const inside = 'mkdir srv; mv etc/machine-id srv/id; ln -s /srv/id etc/machine-id';
    expect(run('link-journal', inside)).toMatchObject({ mounts: linked, told: '' });
  });

  const no = 'lockerd: the journal is not linked: ';
  const notYet = `${no}the guest's /etc/machine-id is not yet that of a machine;`;
  const none = `${no}the guest has no /etc/machine-id`;
  const taken = `${no}the guest has the machine ID of another machine, `;

  test.each([
    [
      'a host without a journal on disk',
      `rm -r ${journals}; ${unmounted}`,
      `${no}the host keeps no journal on disk`,
    ],
    [
      'a mount without nosymfollow',
      'view=nosuid,nodev,noexec',
      `${no}/run/lockerd/journals is mounted without nosymfollow;`,
    ],
    [
      'another directory of the name',
      `mkdir ${journals}/${ids.guest}`,
      `${taken}${journals}/${ids.guest}`,
    ],
    [
      'the machine ID of another container',
      `ln -s /run/lockerd/journals/db ${journals}/${ids.guest}`,
      `${taken}the container db`,
    ],
    [
      'the machine ID of the host',
      `echo ${ids.host} >etc/machine-id`,
      `${no}the guest has the machine ID of the host;`,
    ],
    ['no machine ID yet', ': >etc/machine-id', notYet],
    ['zeros as its machine ID', `echo ${'0'.repeat(32)} >etc/machine-id`, notYet],
    [
      'a path as its machine ID',
      'echo ../../../../../../../../../root/a/b >etc/machine-id',
      notYet,
    ],
    ['two lines', `echo ${ids.guest} >>etc/machine-id`, notYet],
    ['no machine ID at all', 'rm etc/machine-id', none],
    ['a FIFO', 'rm etc/machine-id; mkfifo etc/machine-id', none],
    ['a directory', 'rm etc/machine-id; mkdir etc/machine-id', none],
    [
      'a link to a file of the host',
      `echo ${ids.other} >/run/outside; ln -sf /run/outside etc/machine-id`,
      none,
    ],
    ['a link through /proc', 'ln -sf /proc/self/root/run/etc/machine-id etc/machine-id', none],
    ['a link that leads upwards', 'ln -sf ../../../../run/etc/machine-id etc/machine-id', none],
    ['a link to itself', 'ln -sf machine-id etc/machine-id', none],
    [
      'a link as its directory of logs',
      'rmdir var/log; ln -s /srv var/log',
      `${no}/var/log in the guest: Too many levels of symbolic links`,
    ],
    [
      'a link as its directory of journals',
      'ln -s /srv var/log/journal',
      `${no}/var/log/journal in the guest: Too many levels`,
    ],
    [
      'a FIFO as its directory of journals',
      'mkfifo var/log/journal',
      `${no}/var/log/journal in the guest is not a directory`,
    ],
    [
      'a file as its own directory',
      `mkdir var/log/journal; : >var/log/journal/${ids.guest}`,
      `${no}${linked[0]} in the guest is not a directory`,
    ],
    [
      'a directory that is not its own',
      `mkdir ${journals}/lockerd/web; chown 7 ${journals}/lockerd/web`,
      `${no}${journals}/lockerd/web belongs to the user 7 of the host, and root of the guest is 0;`,
    ],
  ])('is not linked with %s', (_, prepare, reason) => {
    const { mounts, told } = run('link-journal', prepare);
    expect(told).toContain(reason);
    expect(told.split('\n')).toHaveLength(1);
    expect(mounts).toEqual([]);
  });

  test('is not linked without the mount that keeps the host safe', () => {
    expect(run('link-journal', unmounted)).toMatchObject({
      mounts: [],
      told: expect.stringContaining('/run/lockerd/journals is not mounted') as string,
    });
  });

  test('what the guest mounts in it does not come to the host', () => {
    const look = `
      grep -- "$(printf ' %s/%s ' ${journals} ${ids.guest})" /proc/$guest/mountinfo | cut -d ' ' -f 6-7`;
    expect(run('link-journal', 'mount --make-rshared /var/log', look).after).toMatch(
      /nosuid,nodev,noexec,[a-z]*,?nosymfollow -$/,
    );
  });
});

describe('credentials', () => {
  const place = '/run/host/credentials';

  test('are copied into a read-only file system, and the guest gets a /run for it', () => {
    const look = `
      cat $root${place}/word
      stat -c '%a %u %n' $root/run/host $root${place} $root${place}/word | sed "s|$root||"
      echo other 2>&1 >$root${place}/word || :
      grep " ${place} " /proc/$guest/mountinfo | cut -d ' ' -f 6-`;
    const { mounts, told, after } = run('pass-credentials', '', look);
    expect({ mounts: mounts.sort(), told }).toEqual({ mounts: ['/run', place], told: '' });
    expect(after.split('\n')).toEqual([
      'secret',
      '755 0 /run/host',
      `500 0 ${place}`,
      `400 0 ${place}/word`,
      expect.stringContaining('Read-only file system'),
      'ro,nosuid,nodev,noexec,relatime - ramfs none ro,mode=700',
    ]);
  });

  test('leave a /run that is mounted as it is', () => {
    const prepare = 'mount -t tmpfs none run; mkdir run/host; : >run/host/kept';
    const { mounts, after } = run('pass-credentials', prepare, 'ls $root/run/host');
    expect({ mounts, after }).toEqual({ mounts: [place], after: 'credentials\nkept' });
  });

  const no = 'lockerd: the credentials are not passed to the guest: ';
  test.each([
    [
      'another init',
      'ln -sf ../bin/busybox sbin/init; mkdir bin; : >bin/busybox',
      {},
      'its init is not systemd',
    ],
    ['no init', 'rm sbin/init', {}, 'its init is not systemd'],
    ['a link to the systemd of the host', 'rm lib/systemd/systemd', {}, 'its init is not systemd'],
    [
      'a link as /run',
      'rmdir run; ln -s /srv run',
      {},
      '/run in the guest: Too many levels of symbolic links',
    ],
    [
      'a link below /run',
      'mount -t tmpfs none run; ln -s /etc run/host',
      {},
      '/run/host in the guest: Too many levels',
    ],
    [
      'more than systemd takes',
      'head -c 1048577 /dev/zero >/run/creds/zero',
      {},
      '/run/creds has more than 1048576 bytes',
    ],
    [
      'a directory that is not there',
      'true',
      { CREDENTIALS_DIRECTORY: '/run/none' },
      '/run/none: No such file or directory',
    ],
  ])('are not passed with %s', (_, prepare, environment, reason) => {
    const { mounts, told } = run('pass-credentials', prepare, '', environment);
    expect(told).toContain(no + reason);
    expect(mounts).toEqual([]);
  });

  test('are passed to what the generator takes for systemd', () => {
    const { mounts, told } = run('pass-credentials', 'rm sbin/init', '', {
      LOCKERD_HALT_SIGNALS: '37',
    });
    expect({ mounts: mounts.sort(), told }).toEqual({ mounts: ['/run', place], told: '' });
  });
});

test.each(['link-journal', 'pass-credentials'])('outside a unit %s does nothing', (hook) => {
  for (const environment of [{ LOCKERD_UNIT: '' }, { LXC_NAME: '../web' }, { LXC_NAME: '' }]) {
    expect(run(hook, '', '', environment)).toMatchObject({ mounts: [], told: '' });
  }
});

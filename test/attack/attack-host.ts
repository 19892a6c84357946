import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { bootHost, type Host } from '../host/host.ts';
import { configurePackage } from '../machines/service.ts';
import { offline } from '../machines/support.ts';

/** An ordinary user of an attacked host: no group, no rule of polkit. */
export const stranger = 'mallory';

/** Another ordinary user, whom attacks of {@link stranger} must not harm. */
export const bystander = 'keeper';

/** Shared by all attacks: lockers on directories of the host and one on a tmpfs. */
const fstab = `
/srv/data   /lockers/data     none   bind,nosuid,nodev     0 0
/srv/music  /lockers/music    none   bind,nosuid,nodev     0 0
sandbox     /lockers/sandbox  tmpfs  size=4m,nosuid,nodev  0 0
`;

export interface AttackHostOptions {
  /** Lines of the guests' configurations, beside those that all have. */
  readonly config?: readonly string[];
  /** What to do while the host is off: files, further containers. */
  readonly prepare?: (host: Host) => Promise<void>;
}

/**
 * Boots a host with lockerd and two ordinary users. The containers are defined and stopped:
 * `web` (busybox, the victim), `evil` (privileged, its root is hostile; it has perl) and
 * `mapped` (the same with mapped ids).
 */
export async function bootAttackHost(
  name: string,
  { config = [], prepare }: AttackHostOptions = {},
): Promise<Host> {
  const host = await bootHost({ name, boot: false });
  try {
    const lines = [...offline, ...config];
    await host.createContainer('web', 'busybox', { config: lines });
    await host.createContainer('evil', 'sysvinit', { config: lines });
    await createMappedContainer(host, 'mapped', lines);
    await host.writeFile('/etc/fstab', fstab);
    for (const locker of ['data', 'music']) await host.writeFile(`/srv/${locker}/.keep`, '');
    await prepare?.(host);
    await host.boot();
    await configurePackage(host);
    for (const user of [stranger, bystander]) {
      await host.run('useradd', ['--no-create-home', user]);
    }
    return host;
  } catch (error) {
    await host.close();
    throw error;
  }
}

async function createMappedContainer(host: Host, name: string, lines: string[]): Promise<void> {
  await host.createContainer(name, 'sysvinit', {
    config: [...lines, 'lxc.idmap = u 0 100000 65536', 'lxc.idmap = g 0 100000 65536'],
  });
  const directory = `${host.root}/var/lib/lxc/${name}`;
  execFileSync('chown', ['-R', '100000:100000', `${directory}/rootfs`]);
  chmodSync(directory, 0o755);
  for (const file of ['subuid', 'subgid']) {
    await host.writeFile(`/etc/${file}`, 'root:100000:65536\n');
  }
}

/** Runs a Perl program as root of a running guest, with the guest's own perl. */
export async function perlInGuest(
  host: Host,
  container: string,
  program: string,
  ...args: string[]
): Promise<{ exitCode: number; output: string }> {
  const attach = ['-n', container, '--clear-env', '--', '/usr/bin/perl', '-', ...args];
  const { exitCode, stdout, stderr } = await host.run('lxc-attach', attach, {
    input: program,
    reject: false,
    timeoutMs: 180_000,
  });
  return { exitCode, output: stdout + stderr };
}

/** Runs a Perl program of the host as one of its users. */
export async function perlAs(
  host: Host,
  user: string,
  program: string,
  ...args: string[]
): Promise<{ exitCode: number; output: string }> {
  const as = ['--reuid', user, '--regid', user, '--init-groups', 'perl', '-', ...args];
  const { exitCode, stdout, stderr } = await host.run('setpriv', as, {
    input: program,
    reject: false,
    timeoutMs: 600_000,
  });
  return { exitCode, output: stdout + stderr };
}

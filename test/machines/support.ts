import { expect } from 'vitest';
import { mountUnit } from '../../src/model/unit-name.ts';
import type { GuestKind, TestHost } from './test-host.ts';

export const guestKinds: readonly GuestKind[] = ['busybox', 'sysvinit', 'systemd'];

/** Keeps a busybox guest, whose boot otherwise waits for DHCP, from asking for an address. */
export const offline = ['lxc.net.0.type = empty'];

/** Runs something and tells how long it took, in milliseconds. */
export async function timed<T>(action: () => Promise<T>): Promise<{ result: T; ms: number }> {
  const start = performance.now();
  const result = await action();
  return { result, ms: performance.now() - start };
}

export async function systemctl(host: TestHost, ...args: string[]): Promise<string> {
  return (await host.run('systemctl', args, { timeoutMs: 180_000 })).stdout;
}

/** Exit status and output of a systemctl call that may fail. */
export async function trySystemctl(
  host: TestHost,
  ...args: string[]
): Promise<{ exitCode: number; output: string }> {
  const { exitCode, stdout, stderr } = await host.run('systemctl', args, {
    reject: false,
    timeoutMs: 180_000,
  });
  return { exitCode, output: stdout + stderr };
}

/** Host pid of a container's init, or undefined when LXC calls it stopped. */
export async function guestPid(host: TestHost, name: string): Promise<number | undefined> {
  for (let tries = 0; tries < 4; tries++) {
    // Asked at the wrong moment of a guest's reboot, LXC 5 never answers.
    const args = ['15', 'lxc-info', '-n', name, '-pH'];
    const { stdout, exitCode } = await host.run('timeout', args, { reject: false });
    if (exitCode === 124) continue;
    const pid = Number(stdout.trim());
    return pid > 0 ? pid : undefined;
  }
  throw new Error(`lxc-info gives no answer about ${name}`);
}

/** What a shell command in the guest answers; the exit status stands at the end. */
export async function answerOfGuest(
  host: TestHost,
  container: string,
  command: string,
): Promise<string> {
  const args = ['-n', container, '--clear-env', '--', '/bin/sh', '-c', `${command} 2>&1; echo $?`];
  return (await host.run('lxc-attach', args)).stdout;
}

/** Names of the lockers that are mounted in the guest, sorted. */
export async function lockersSeenBy(host: TestHost, container: string): Promise<string[]> {
  const pid = await guestPid(host, container);
  const mounts = await host.readFile(`/proc/${pid}/mountinfo`);
  return [...mounts.matchAll(/^(?:\S+ ){4}\/lockers\/(\S+) /gm)]
    .map(([, name = '']) => name)
    .sort();
}

export async function expectState(host: TestHost, unit: string, state: string): Promise<void> {
  expect({ unit, state: (await host.unit(unit))['ActiveState'] }).toEqual({ unit, state });
}

/**
 * Until systemd knows that somebody unmounted a path, which it reads up to a second later on a busy
 * host. A container that starts before that is refused by check-lockers.
 */
export async function untilUnmounted(host: TestHost, path: string): Promise<void> {
  await host.waitFor(`systemd knows that ${path} is unmounted`, async () => {
    return (await host.unit(mountUnit(path)))['ActiveState'] !== 'active';
  });
}

/** The journal of a unit in this boot, complete up to now: journald writes with some delay. */
export async function journalOf(host: TestHost, unit: string): Promise<string> {
  await host.run('journalctl', ['--sync']);
  return host.journal(unit);
}

/** Seconds of the host's monotonic clock at which a unit last became active. */
export async function activeSince(host: TestHost, unit: string): Promise<number> {
  return Number((await host.unit(unit))['ActiveEnterTimestampMonotonic']) / 1e6;
}

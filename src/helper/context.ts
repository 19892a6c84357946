import { readFileSync } from 'node:fs';
import { connectBus } from '../bus/connection.ts';
import { parseMountinfo } from '../host/mountinfo.ts';
import type { Mount } from '../host/mountinfo.ts';
import type { ManagerOptions } from '../systemd/manager.ts';
import { SystemdManager } from '../systemd/manager.ts';

/** The host's mounts; the helper runs in the host's mount namespace. */
export function hostMounts(): Mount[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/**
 * For requests about lockers, which wait for jobs. A helper serves one request, so it subscribes to
 * job signals only, and abandons a job when the caller has left.
 */
export const forLockers: ManagerOptions = {
  signals: 'jobs',
  // systemd writes unit files and runs generators for some of the calls.
  callTimeoutMs: 60_000,
  awayMaxMs: 0,
  jobs: { lookMs: 5_000, onAbort: 'abandon' },
};

/** For changes of lockers: systemd reads its units anew, with all generators, while the disks are busy. */
export const forStores: ManagerOptions = { ...forLockers, callTimeoutMs: 300_000 };

/** For requests about memory, which only read and set properties. */
export const forMemory: ManagerOptions = {
  signals: 'none',
  // systemd may run the generators and realize control groups meanwhile.
  callTimeoutMs: 90_000,
};

/** Calls `use` with systemd's manager on a new connection, and closes the connection afterwards. */
export async function withSystemd<T>(
  options: ManagerOptions,
  use: (systemd: SystemdManager) => Promise<T>,
): Promise<T> {
  const bus = await connectBus();
  try {
    return await use(await SystemdManager.connect(bus, options));
  } finally {
    bus.close();
  }
}

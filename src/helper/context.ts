import { readFileSync } from 'node:fs';
import type { BusConnection } from '../bus/connection.ts';
import { connectBus } from '../bus/connection.ts';
import { parseMountinfo } from '../host/mountinfo.ts';
import type { Mount } from '../host/mountinfo.ts';
import { Systemd } from './systemd.ts';

/** The host's mounts; the helper lives in the host's mount namespace. */
export function hostMounts(): Mount[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** Does something with systemd on a connection of its own. */
export async function withSystemd<T>(use: (systemd: Systemd) => Promise<T>): Promise<T> {
  const bus: BusConnection = await connectBus();
  try {
    return await use(await Systemd.connect(bus));
  } finally {
    bus.close();
  }
}

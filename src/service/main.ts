/**
 * The program lockerd: the core, its adapters, and the bus that it serves.
 *
 * src/service says how the core appears on D-Bus as org.lockerd1. It decides nothing; decisions belong
 * in src/core.
 */

import { serviceName } from '../api/names.ts';
import { GeneratedDefinitions } from '../adapters/definitions.ts';
import { BusClients } from '../adapters/clients.ts';
import { HelperClient } from '../adapters/helper-client.ts';
import { LoggerJournal } from '../adapters/journal.ts';
import { CgroupMemory } from '../adapters/cgroup-memory.ts';
import { SystemdMounts } from '../adapters/mount-units.ts';
import { PolkitAuthority } from '../adapters/polkit.ts';
import { betweenReloads } from '../systemd/reload.ts';
import { SystemdManager } from '../systemd/manager.ts';
import { SystemdUnits } from '../adapters/units.ts';
import { connectBus, type ServiceConnection } from '../bus/connection.ts';
import { systemClock } from './system-clock.ts';
import { startService } from './bus-service.ts';

const helperSocket = '/run/lockerd/helper.sock';

/**
 * Runs the service until SIGTERM, which is a success, or until it loses the bus, which is a
 * failure: systemd starts it again.
 */
export async function main(): Promise<number> {
  const stopped = new Promise<number>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        resolve(0);
      });
    }
  });
  const journal = new LoggerJournal();
  const connection = await connectBus();
  const lost = connection.lost.then((error) => {
    console.error(`lockerd: ${error.message}`);
    return 1;
  });
  const serving = serveOn(connection, journal).then(() => new Promise<never>(() => undefined));
  const status = await Promise.race([stopped, lost, serving]);
  connection.close();
  await journal.flush();
  return status;
}

async function serveOn(connection: ServiceConnection, journal: LoggerJournal): Promise<void> {
  const manager = await SystemdManager.connect(connection);
  const memory = new CgroupMemory();
  await startService({
    connection,
    clock: systemClock,
    version: LOCKERD_VERSION,
    ports: {
      definitions: betweenReloads(new GeneratedDefinitions(), manager),
      units: new SystemdUnits(manager, memory),
      mounts: new SystemdMounts(manager),
      helper: new HelperClient(helperSocket),
      memory,
      authority: await PolkitAuthority.connect(connection),
      journal,
      clients: new BusClients(connection),
    },
  });
  // The name comes last: whoever sees it finds everything in place.
  await connection.requestName(serviceName);
}

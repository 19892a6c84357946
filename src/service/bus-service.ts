/** Puts the core on the bus: who calls, at what pace, and which objects there are. */

import { interfaces } from '../api/names.ts';
import type { ServiceConnection } from '../bus/connection.ts';
import { serve } from '../bus/serve.ts';
import type { Clock } from '../core/clock.ts';
import { Core, type CorePorts } from '../core/core.ts';
import { Listeners } from '../core/listeners.ts';
import type { Limits } from '../core/user-quota.ts';
import type { ClientsPort, MemoryFigures, MemoryPort } from '../core/ports.ts';
import { asBusError } from './bus-errors.ts';
import { Callers } from './callers.ts';
import type { Occupation } from './idle.ts';
import type { ServiceContext } from './service-context.ts';
import { managerPath } from '../api/paths.ts';
import { Publisher } from './publisher.ts';

export interface ServiceOptions {
  readonly connection: ServiceConnection;
  readonly ports: CorePorts & { readonly clients: ClientsPort };
  readonly clock: Clock;
  readonly version: string;
  readonly limits?: Limits;
}

/** The four memory properties are asked for one after the other, and mean one moment. */
const figuresFreshMs = 100;

/**
 * Puts the core on a bus: settles when its objects answer. The service's name is still to be
 * requested.
 */
export async function startService(
  options: ServiceOptions,
): Promise<{ readonly core: Core; readonly occupation: Occupation }> {
  const { connection, ports, clock, version, limits } = options;
  const core = new Core(ports, clock, limits);
  await core.start();
  const callers = new Callers(ports.clients);
  const less = new Listeners<[]>();
  const context: ServiceContext = {
    core,
    callers,
    version,
    figures: readFigures(ports.memory, clock),
  };
  const tree = await serve(connection, {
    objects: {},
    objectManager: managerPath,
    userOf: (sender) => callers.uidOf(sender),
    left: (sender) => {
      callers.forget(sender);
      less.emit();
    },
    admit: (uid, cost) => {
      try {
        core.quota.takeCall(uid, cost);
      } catch (error) {
        throw asBusError(error);
      }
      return (difference) => {
        core.quota.settleCall(uid, difference);
      };
    },
  });
  const publisher = new Publisher(core, tree, context);
  publisher.start();
  ports.authority.onStateChanged(() => {
    publisher.updateManager();
  });
  ports.authority.onPermissionsChanged(() => {
    tree.signal(managerPath, interfaces.manager, 'PermissionsChanged', []);
  });
  core.jobs.removed.add(() => {
    less.emit();
  });
  const hasJobs = () => core.jobs.all.length > 0;
  const isIdle = () => callers.isEmpty && !hasJobs();
  return { core, occupation: { isIdle, hasJobs, onLess: (look) => less.add(look) } };
}

function readFigures(
  memory: MemoryPort,
  clock: Clock,
): (group: string) => Promise<MemoryFigures | undefined> {
  const fresh = new Map<string, Promise<MemoryFigures | undefined>>();
  return (group) => {
    const known = fresh.get(group);
    if (known) return known;
    // A control group that has just gone has no figures.
    const read = memory.read(group).catch(() => undefined);
    fresh.set(group, read);
    clock.after(figuresFreshMs, () => fresh.delete(group));
    return read;
  };
}

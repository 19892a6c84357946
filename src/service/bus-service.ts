/** Puts the core on the bus: who calls, at what pace, and which objects there are. */

import { interfaces } from '../api/names.ts';
import { logControlPath } from '../api/log-control.ts';
import type { CallFrame, ServiceConnection } from '../bus/connection.ts';
import { serve } from '../bus/serve.ts';
import { busError, DBusError } from '../bus/values.ts';
import { AuditLog } from '../core/audit-log.ts';
import type { Clock } from '../core/clock.ts';
import type { Job } from '../core/job-queue.ts';
import { Core, type CorePorts } from '../core/core.ts';
import { Listeners } from '../core/listeners.ts';
import type { Limits } from '../core/user-quota.ts';
import type {
  ClientsPort,
  Logging,
  MemoryFigures,
  MemoryPort,
  UsageFigures,
  UsagePort,
} from '../core/ports.ts';
import { asBusError } from './bus-errors.ts';
import { Callers } from './callers.ts';
import type { Occupation } from './idle.ts';
import { logControlInterface } from './log-interface.ts';
import type { ServiceContext } from './service-context.ts';
import { managerPath, parsePath } from '../api/paths.ts';
import { Publisher } from './publisher.ts';

export interface ServiceOptions {
  readonly connection: ServiceConnection;
  readonly ports: CorePorts & { readonly clients: ClientsPort; readonly usage: UsagePort };
  readonly clock: Clock;
  readonly version: string;
  readonly logging: Logging;
  readonly limits?: Limits;
}

/** The properties of one group's figures are asked for one after the other, and mean one moment. */
const figuresFreshMs = 100;

/**
 * Puts the core on a bus: settles when its objects answer. The service's name is still to be
 * requested.
 */
export async function startService(
  options: ServiceOptions,
): Promise<{ readonly core: Core; readonly occupation: Occupation }> {
  const { connection, ports, clock, version, limits, logging } = options;
  const core = new Core(ports, clock, limits);
  await core.start();
  const callers = new Callers(ports.clients);
  const log = new AuditLog(ports.journal);
  const less = new Listeners<[]>();
  const context: ServiceContext = {
    core,
    callers,
    version,
    figures: readFigures(ports.memory, clock),
    usage: readUsage(ports.usage, clock, core.jobs.ended),
  };
  const tree = await serve(connection, {
    objects: { [logControlPath]: [logControlInterface(logging, callers)] },
    objectManager: managerPath,
    userOf: (sender) => callers.uidOf(sender),
    answered: (frame, error) => {
      followLockers(core, frame);
      if (logging.level === 'debug') void logCall(log, callers, frame, error);
    },
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
  core.lockers.looks.isWanted = () => !callers.isEmpty;
  const publisher = new Publisher(core, tree, context);
  publisher.start();
  ports.authority.onStateChanged(() => {
    publisher.updateManager();
  });
  ports.authority.onPermissionsChanged(() => {
    tree.signal(managerPath, interfaces.manager, 'PermissionsChanged', []);
  });
  for (const event of [core.jobs.removed, core.quota.freed]) {
    event.add(() => {
      less.emit();
    });
  }
  const hasJobs = () => core.jobs.all.length > 0 || !core.quota.isUnused;
  const isIdle = () => callers.isEmpty && !hasJobs();
  return { core, occupation: { isIdle, hasJobs, onLess: (look) => less.add(look) } };
}

/** Whoever reads what is seen of lockers may want to know what becomes of it. */
function followLockers({ lockers }: Core, { path, interface: name, member }: CallFrame): void {
  if (member === 'GetManagedObjects') lockers.looks.follow();
  if (name !== 'org.freedesktop.DBus.Properties') return;
  const parsed = parsePath(path);
  if (parsed?.kind === 'locker') lockers.looks.follow(parsed.name);
}

/** Never rejects. */
async function logCall(
  log: AuditLog,
  callers: Callers,
  { sender = '', path, member, interface: name = '' }: CallFrame,
  error: unknown,
): Promise<void> {
  try {
    const uid = await callers.uidOf(sender);
    const failure = error instanceof DBusError ? error.errorName : busError.failed;
    log.call(uid, sender, { path, name, member }, error === undefined ? undefined : failure);
  } catch {
    // The caller left first.
  }
}

function readUsage(
  usage: UsagePort,
  clock: Clock,
  jobEnded: Listeners<[Job]>,
): (group: string) => UsageFigures | undefined {
  const fresh = new Map<string, UsageFigures | undefined>();
  // Whoever has set a limit sees it.
  jobEnded.add(() => {
    fresh.clear();
  });
  return (group) => {
    if (fresh.has(group)) return fresh.get(group);
    const read = usage.read(group);
    fresh.set(group, read);
    clock.after(figuresFreshMs, () => fresh.delete(group));
    return read;
  };
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

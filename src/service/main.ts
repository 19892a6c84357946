/**
 * The program lockerd: the core, its adapters, and the bus that it serves.
 *
 * src/service says how the core appears on D-Bus as org.lockerd1. It decides nothing; decisions belong
 * in src/core.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { logLevels, type LogLevel } from '../api/log-control.ts';
import { helperSocket, serviceName, storesSocket } from '../api/names.ts';
import { GeneratedDefinitions } from '../adapters/definitions.ts';
import { BusClients } from '../adapters/clients.ts';
import { HelperClient } from '../adapters/helper-client.ts';
import { HelperLockers } from '../adapters/helper-lockers.ts';
import { Journal } from '../adapters/journal.ts';
import { CgroupMemory } from '../adapters/cgroup-memory.ts';
import { CgroupUsage } from '../adapters/cgroup-usage.ts';
import { SystemdMounts } from '../adapters/mount-units.ts';
import { PolkitAuthority } from '../adapters/polkit.ts';
import { betweenReloads } from '../systemd/reload.ts';
import { SystemdManager } from '../systemd/manager.ts';
import { SystemdUnits } from '../adapters/units.ts';
import { connectBus, type ServiceConnection } from '../bus/connection.ts';
import { systemClock } from './system-clock.ts';
import { startService } from './bus-service.ts';
import { IdleExit, type Occupation } from './idle.ts';

/** In the unit: `systemctl edit lockerd`. */
const lingerVariable = 'LOCKERD_IDLE_EXIT';
const levelVariable = 'LOCKERD_LOG_LEVEL';

/** How long it stays when nobody needs it. Then all that a user may have at a time is there again. */
const defaultLingerMs = 30_000;

/** Has systemd start it again, as the unit says. */
const wantsSuccessor = 133;

/** Answers take no longer to be sent, unless the bus hangs. */
const lastAnswersMs = 5_000;

/**
 * Runs the service until nobody needs it or SIGTERM comes, which are successes, or until it loses the
 * bus, which is a failure: systemd starts it again. After SIGHUP it makes way for another one of itself
 * as soon as there is no job.
 */
export async function main(): Promise<number> {
  const lingerMs = lingerOf(process.env[lingerVariable]);
  const journal = new Journal();
  journal.level = levelOf(process.env[levelVariable]) ?? journal.level;
  const connection = await connectBus();
  let idle: IdleExit | undefined;
  const stopped = new Promise<number>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (idle?.hasLeft !== true) resolve(0);
      });
    }
  });
  // An upgrade asks for the next version in this way.
  const reloadRequested = new Promise<void>((resolve) => {
    process.on('SIGHUP', () => {
      resolve();
    });
  });
  const lost = connection.lost.then((error) => {
    console.error(`lockerd: ${error.message}`);
    return 1;
  });
  const started = serveOn(connection, journal);
  const replaced = started.then(async (occupation) => {
    await reloadRequested;
    do {
      await withoutJobs(occupation);
      // What was sent to us before is here afterwards, and what was allowed just now is a job.
      await connection.sync();
    } while (occupation.hasJobs());
    return wantsSuccessor;
  });
  const serving = started.then(async (occupation) => {
    if (lingerMs === Infinity) return new Promise<never>(() => undefined);
    idle = new IdleExit(connection, occupation, systemClock, lingerMs);
    await idle.ended;
    return 0;
  });
  const status = await Promise.race([stopped, lost, serving, replaced]);
  await Promise.race([connection.untilSent(1), sleep(lastAnswersMs)]);
  connection.close();
  await journal.flush();
  return status;
}

/** Ends when there is no job, also none whose result somebody may still ask for, and nobody types a password for one. */
function withoutJobs({ hasJobs, onLess }: Occupation): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (!hasJobs()) resolve();
    };
    onLess(look);
    look();
  });
}

/** What LOCKERD_IDLE_EXIT says: seconds, or "no". */
function lingerOf(text: string | undefined): number {
  if (text === undefined || text === '') return defaultLingerMs;
  if (text === 'no') return Infinity;
  if (/^\d{1,6}$/.test(text)) return Number(text) * 1000;
  throw new Error(`${lingerVariable}=${text}: say after how many seconds, or "no"`);
}

function levelOf(text = ''): LogLevel | undefined {
  const level = logLevels.find((known) => known === text);
  if (level === undefined && text !== '')
    throw new Error(`${levelVariable}=${text}: say one of ${logLevels.join(', ')}`);
  return level;
}

async function serveOn(connection: ServiceConnection, journal: Journal): Promise<Occupation> {
  const manager = await SystemdManager.connect(connection);
  const memory = new CgroupMemory();
  const { occupation } = await startService({
    connection,
    clock: systemClock,
    version: LOCKERD_VERSION,
    logging: journal,
    ports: {
      definitions: betweenReloads(new GeneratedDefinitions(), manager),
      units: new SystemdUnits(manager, memory),
      mounts: new SystemdMounts(manager),
      helper: new HelperClient(helperSocket),
      lockers: new HelperLockers(storesSocket),
      memory,
      usage: new CgroupUsage(),
      authority: await PolkitAuthority.connect(connection),
      journal,
      clients: new BusClients(connection),
    },
  });
  // The name comes last: whoever sees it finds everything in place.
  await connection.requestName(serviceName);
  return occupation;
}

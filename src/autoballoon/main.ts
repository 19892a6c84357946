/**
 * The program lockerd-autoballoon: moves MemoryHigh= of containers between the bounds of their settings,
 * as their guests need memory.
 *
 * src/autoballoon watches pressure and distributes memory. src/balloon sets explicit limits, and
 * src/cgroup reads and writes the files of control groups.
 */

import { GeneratedDefinitions } from '../adapters/definitions.ts';
import { Journal } from '../adapters/journal.ts';
import { CgroupMemory } from '../adapters/cgroup-memory.ts';
import { betweenReloads } from '../systemd/reload.ts';
import { SystemdManager } from '../systemd/manager.ts';
import { SystemdUnits } from '../adapters/units.ts';
import { connectBus } from '../bus/connection.ts';
import { Autoballoon } from './autoballoon.ts';
import { SystemdHighLimits } from './high.ts';
import { kernelMemory, whatIsMissing } from './kernel-memory.ts';
import { PressureWatch } from './pressure.ts';

/**
 * Runs until SIGTERM, or until no container has the setting. Both are a success; so is a host that lacks
 * support, because trying again would not help. The unit's ExecStopPost= removes what was set, however
 * this process ends. Returns the exit status.
 */
export async function main(): Promise<number> {
  const missing = whatIsMissing();
  if (missing !== undefined) {
    console.error(`<4>memory of containers is not moved by itself: ${missing}`);
    return 0;
  }
  const stopped = new Promise<number>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        resolve(0);
      });
    }
  });
  const failed = (error: Error): number => {
    console.error(`<3>${error.message}`);
    return 1;
  };
  const connection = await connectBus();
  const manager = await SystemdManager.connect(connection);
  const definitions = betweenReloads(new GeneratedDefinitions(), manager);
  const journal = new Journal();
  const pressure = new PressureWatch();
  const autoballoon = new Autoballoon({
    settings: async () => (await definitions.read()).containers,
    units: new SystemdUnits(manager, new CgroupMemory()),
    memory: kernelMemory,
    high: new SystemdHighLimits(manager),
    pressure,
    journal,
    nowMs: () => performance.now(),
  });
  autoballoon.start();
  const status = await Promise.race([
    stopped,
    connection.lost.then(failed),
    pressure.ended.then(failed),
    autoballoon.ended.then(() => 0, failed),
  ]);
  pressure.close();
  connection.close();
  await journal.flush();
  return status;
}

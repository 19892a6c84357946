import type { JournalPort, UnitsPort } from '../core/ports.ts';
import type { HighLimits } from './high.ts';
import type { Memory } from './kernel-memory.ts';
import type { Setting } from './managed-container.ts';
import type { Pressure } from './pressure.ts';

/** What the automatic balloon needs from its surroundings. */
export interface AutoballoonPorts {
  readonly settings: () => Promise<readonly Setting[]>;
  readonly units: Pick<UnitsPort, 'watch' | 'onReloaded'>;
  readonly memory: Memory;
  readonly high: HighLimits;
  readonly pressure: Pressure;
  readonly journal: JournalPort;
  /** Milliseconds, from an arbitrary start. */
  readonly nowMs: () => number;
}

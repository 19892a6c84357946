import type { SystemdManager } from '../systemd/manager.ts';

/** The properties of a unit that a balloon sets, in bytes; 2^64-1 for no limit. */
export interface Limits {
  readonly MemoryMax?: bigint;
  readonly MemorySwapMax?: bigint;
}

/** The properties of a unit that a balloon needs. */
export interface UnitMemory {
  readonly activeState: string;
  /** Path of the control group below the hierarchy's root; empty if there is none. */
  readonly controlGroup: string;
  /** Bytes; 2^64-1 for no limit. */
  readonly memoryMax: bigint;
  readonly memorySwapMax: bigint;
}

export async function readUnitMemory(systemd: SystemdManager, unit: string): Promise<UnitMemory> {
  const [activeState, service] = await Promise.all([
    systemd.activeState(unit),
    systemd.getAll(unit, 'Service', ['ControlGroup', 'MemoryMax', 'MemorySwapMax']),
  ]);
  return {
    activeState,
    controlGroup: service.string('ControlGroup'),
    memoryMax: service.bigint('MemoryMax'),
    memorySwapMax: service.bigint('MemorySwapMax'),
  };
}

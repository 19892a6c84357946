import { unlimited } from '../model/memory-limit.ts';
import type { Undo } from './guest-memory.ts';
import type { MemoryGroup } from './memory-group.ts';

/** The group of a container's unit and the guest's below it: what both versions have in common. */
export abstract class GuestGroups<G extends MemoryGroup> {
  protected readonly unit: G;
  protected readonly guest: G;

  constructor(unit: G, guest: G) {
    this.unit = unit;
    this.guest = guest;
  }

  unitLimit(): bigint {
    return this.unit.limit();
  }

  unitUsage(): bigint {
    return this.unit.usage();
  }

  guestLimit(): bigint {
    return this.guest.limit();
  }

  guestPeak(): bigint | undefined {
    return this.guest.peak();
  }

  undoUnitLimit(): Undo {
    return { path: this.unit.limitFiles[0], value: 'MemoryMax' };
  }

  swapLimit(): bigint | undefined {
    return this.unit.swapLimit();
  }

  swapUsed(): bigint {
    return this.unit.swapUsage();
  }

  clearGuestLimit(): Promise<void> {
    return this.guest.setLimit(unlimited);
  }
}

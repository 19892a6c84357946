/** A container's one state, from what systemd and LXC say of it. */

import type { UnitStatus } from './ports.ts';

/** A container's state as callers see it. */
export type ContainerState =
  | 'stopped'
  /** Its start waits for other units, such as a mount. */
  | 'waiting'
  /** Its start ended for want of what it needs; it begins again when that is there. */
  | 'unmet'
  | 'starting'
  | 'running'
  | 'freezing'
  | 'frozen'
  | 'stopping'
  | 'failed'
  | 'broken'
  /** Its unit does not run, and whether LXC runs it without its unit is not known. */
  | 'unknown';

/** Of the guest that a unit's start brings, and that is not reported yet. */
export type GuestExpectation = 'awaited' | 'never seen';

export interface StateFacts {
  /** The definition has a problem. */
  readonly broken: boolean;
  /** Undefined while systemd does not answer. */
  readonly unit: Pick<UnitStatus, 'activeState' | 'heldStart'> | undefined;
  /** LXC's word; undefined where there is no report of it. */
  readonly lxc: string | undefined;
  /** The helper reports guests, so that a guest that is not reported is not there. */
  readonly areGuestsReported: boolean;
  /** The unit has started and its guest is not reported yet: LXC's word is from before. */
  readonly guest?: GuestExpectation | undefined;
}

/** What LXC's word means where the unit has nothing to add. */
function lxcMeaning(word: string | undefined): ContainerState | undefined {
  switch (word) {
    case 'STARTING':
      return 'starting';
    case 'RUNNING':
    case 'THAWED':
      return 'running';
    case 'FREEZING':
      return 'freezing';
    case 'FROZEN':
      return 'frozen';
    case 'STOPPING':
    case 'ABORTING':
      return 'stopping';
    default:
      return undefined;
  }
}

/**
 * One word from what systemd and LXC say. The unit decides about coming and going, because it has
 * work to do before and after LXC; in between LXC knows more, and it alone knows a container that
 * runs outside its unit.
 */
export function deriveState(facts: StateFacts): ContainerState {
  const { broken, unit, lxc, areGuestsReported } = facts;
  const guest = lxcMeaning(lxc);
  const down = broken ? 'broken' : 'stopped';
  const isUnknown = lxc === undefined && !areGuestsReported;
  switch (unit?.activeState) {
    case 'active':
    case 'reloading':
    case 'refreshing':
      if (guest === undefined && facts.guest === 'awaited' && areGuestsReported) return 'starting';
      if (guest === undefined && facts.guest !== undefined) return 'running';
      if (lxc === undefined) return 'running';
      // The monitor outlives its guest for a moment: at the end, and when the guest reboots.
      return guest ?? 'stopping';
    case 'activating':
      return guest === 'frozen' || guest === 'freezing' ? guest : 'starting';
    case 'deactivating':
      return 'stopping';
    case 'failed':
      if (unit.heldStart === 'waiting') return guest ?? 'waiting';
      if (unit.heldStart === 'unmet' && !broken) return guest ?? 'unmet';
      return guest ?? (broken ? 'broken' : 'failed');
    case 'inactive':
      if (unit.heldStart === 'waiting') return guest ?? 'waiting';
      if (unit.heldStart === 'unmet' && !broken && !isUnknown) return guest ?? 'unmet';
      return guest ?? (isUnknown ? 'unknown' : down);
    case 'maintenance':
    case undefined:
      return guest ?? (isUnknown ? 'unknown' : down);
  }
}

/** Whether there is a guest, or one that comes or goes. */
export function isUp(state: ContainerState): boolean {
  return !['stopped', 'unmet', 'failed', 'broken', 'unknown'].includes(state);
}

/** LXC has a guest although its unit has ended or never began. */
export function runsOutsideUnit({ unit, lxc }: Pick<StateFacts, 'unit' | 'lxc'>): boolean {
  const unitIsDown = unit?.activeState === 'inactive' || unit?.activeState === 'failed';
  return unitIsDown && lxcMeaning(lxc) !== undefined;
}

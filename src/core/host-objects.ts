/**
 * Containers and lockers as they are now. These objects change in place, and only host-state.ts and
 * the two trackers change them.
 */

import type { ContainerState, GuestExpectation } from './container-state.ts';
import type { ContainerDefinition, LockerDefinition, UnitStatus } from './ports.ts';
import type { RetriedWatch } from './retried-watch.ts';

/** One locker in one container's wormhole. */
export interface Attachment {
  readonly locker: string;
  readonly readOnly: boolean;
}

/**
 * A container as it is now. Another container that comes later under the same name is another
 * object.
 */
export interface Container {
  readonly name: string;
  readonly definition: ContainerDefinition;
  /** Undefined while systemd does not answer. */
  readonly unit: UnitStatus | undefined;
  readonly state: ContainerState;
  /** CLOCK_REALTIME, microseconds. */
  readonly stateChangeUsec: bigint;
  /** Process id of the guest's init on the host; 0 when there is none. */
  readonly leader: number;
  /** Sorted by name. */
  readonly attachments: readonly Attachment[];
  readonly oomKills: bigint;
  /** What keeps LXC from starting it, with the remedy; empty where nothing does. */
  readonly obstacle: string;
  /** Units that its start waits for, or that it lacks; see the states `waiting` and `unmet`. */
  readonly waitsFor: readonly string[];
  /** LXC runs it, but not its unit. */
  readonly isOutsideUnit: boolean;
  readonly isGone: boolean;
}

export interface Locker {
  readonly name: string;
  readonly definition: LockerDefinition;
  readonly isMounted: boolean;
  /** What is mounted; empty when nothing is. */
  readonly source: string;
  /** Containers that it comes with; sorted. */
  readonly comesWith: readonly string[];
  readonly attachedTo: readonly { readonly container: string; readonly readOnly: boolean }[];
  readonly isGone: boolean;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

export interface ContainerRecord extends Mutable<Container> {
  lxc: { state: string; leader: number } | undefined;
  /** The guest that LXC reported last was started by the unit, not by lxc-start. */
  isOwnedByUnit: boolean;
  /** Of the guest that the unit's start brings. */
  guest: GuestExpectation | undefined;
  /** Stops waiting for that guest. */
  stopAwaiting: () => void;
  /** Events about it are sent. */
  isAnnounced: boolean;
  unitWatch: RetriedWatch | undefined;
  oomWatch: { readonly controlGroup: string; readonly watch: RetriedWatch } | undefined;
}

export type LockerRecord = Mutable<Locker>;

export interface HostEvent {
  readonly kind: 'added' | 'changed' | 'removed';
  readonly type: 'container' | 'locker';
  readonly name: string;
}

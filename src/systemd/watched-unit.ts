import type { HeldStart } from './held-start.ts';
import type { Properties } from './properties.ts';
import type { UnitFilesState } from './unit-files.ts';
import type { Watched } from './watched.ts';

/** What is read of a service unit. */
export interface UnitReading {
  /** ActiveState in systemd's words, such as `active`. */
  readonly activeState: string;
  /** CLOCK_REALTIME, in microseconds; 0 if systemd has never seen the unit change. */
  readonly stateChangeUsec: bigint;
  /** What was asked for; see WantedProperties. */
  readonly service: Properties;
  /** Of a unit that is down: a start that waits, or that ended before it began. */
  readonly heldStart: HeldStart | undefined;
  /** The unit that {@link lateUnit} names runs: it starts this one when that has what it lacked. */
  readonly isAwaited: boolean;
}

/** What is known of a unit, and how. */
export interface WatchedUnit<Status> {
  readonly unit: string;
  readonly handlers: Set<(status: Status) => void>;
  readonly watched: Watched<UnitReading>;
  /** The last start ended because of what it needs. */
  isStartUnmet: boolean;
  /** As they were reported last. */
  activeState: string;
  job: number;
  reading: UnitReading | undefined;
  /** What was read last of its service, with what signals have said since. */
  service: Properties | undefined;
  /** The service is to be read with the next reading: signals do not tell of all that changes in it. */
  isServiceOld: boolean;
  /** The unit has been down since the service was read, so that a start is still to be read. */
  wasDown: boolean;
  /** What its files were when the service was read, as far as that is known. */
  files: UnitFilesState | undefined;
  /** They were looked at since. */
  areFilesNew: boolean;
  /** It was loaded, and no job has come for it since. */
  isNew: boolean;
  /** The state of a unit that is not down, from a signal; undefined where there may be more than it has said. */
  started: string | undefined;
  /** It will be looked whether a start still waits. */
  isStartLooked: boolean;
  /** What signals have said while the service is read. */
  told: ReadonlyMap<string, unknown>;
  status: Status | undefined;
  /** Also taken from signals, because systemd forgets it when it unloads the unit. */
  stateChangeUsec: bigint;
}

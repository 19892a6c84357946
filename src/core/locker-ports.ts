/** What the core needs of root to make lockers, to change them and to look at them. */

import type { EncryptMode, LockerHealth } from '../model/locker-words.ts';

/** What was seen of a locker; what could not be seen is missing. Sizes are in bytes. */
export interface LockerLook {
  readonly size?: bigint;
  readonly used?: bigint;
  readonly available?: bigint;
  readonly fileSystem?: string;
  /** Where the data is: a device, or a directory. */
  readonly device?: string;
  readonly health: LockerHealth;
  /** The store that it comes from; missing for a locker that lockerd did not make. */
  readonly store?: string;
  /** Uid of whoever had it made. */
  readonly creator?: number;
  /** Names of its snapshots. */
  readonly snapshots?: readonly string[];
}

export interface LockerSnapshot {
  readonly name: string;
  /** CLOCK_REALTIME, microseconds; undefined where it is not known, as the next two. */
  readonly createdUsec: bigint | undefined;
  /** Of the locker at that time, bytes. */
  readonly size: bigint | undefined;
  /** What it takes of the store, bytes. */
  readonly used: bigint | undefined;
}

/** Where new lockers come from. */
export interface Store {
  readonly name: string;
  readonly type: string;
  readonly fileSystem: string;
  /** Bytes; undefined where it is not known, as the next one. */
  readonly size: bigint | undefined;
  readonly free: bigint | undefined;
  /** Of one locker, bytes; undefined for no limit. */
  readonly maxSize: bigint | undefined;
  /** New lockers come from it when nobody says from where. */
  readonly isDefault: boolean;
  /** Why no locker can be made there; empty for a sound one. */
  readonly problem: string;
  /** What the store still has of lockers that are defined no more. */
  readonly forgotten: readonly ForgottenLocker[];
}

export interface ForgottenLocker {
  readonly name: string;
  readonly size: bigint | undefined;
  readonly creator: number | undefined;
}

/** What the helper does at the moment. */
export type LockerPhase = 'volume' | 'file-system' | 'passphrase' | 'encrypt' | 'copy' | 'mount';

/** Gets a word, and a fraction from 0 to 1, or -1 for unknown. */
export type TellProgress = (phase: LockerPhase | (string & {}), fraction: number) => void;

/** What the caller should know although it succeeded, a sentence each. */
interface Warned {
  readonly warnings: readonly string[];
}

/**
 * The root side, one request a call. Each change is done as a whole or not at all. Failures are
 * LockerdErrors with the helper's own message. A signal asks to undo what is under way; the promise then
 * still says what came of it.
 */
export interface LockersPort {
  create(
    request: {
      readonly locker: string;
      readonly store: string;
      /** Bytes. */
      readonly size: bigint;
      /** `UID:GID`, of the host or of the guest of `container`. */
      readonly owner: string;
      /** Octal. */
      readonly mode: string;
      readonly encrypt: EncryptMode;
      /** Empty for none. */
      readonly container: string;
      readonly creator: number;
    },
    progress: TellProgress,
    signal: AbortSignal,
  ): Promise<Warned>;
  /** @param request with the whole size, bytes */
  grow(
    request: { readonly locker: string; readonly size: bigint },
    progress: TellProgress,
  ): Promise<Warned>;
  rename(request: { readonly locker: string; readonly name: string }): Promise<Warned>;
  snapshot(
    request: { readonly locker: string; readonly snapshot: string; readonly freeze: boolean },
    progress: TellProgress,
    signal: AbortSignal,
  ): Promise<Warned>;
  snapshots(locker: string): Promise<readonly LockerSnapshot[]>;
  restore(
    request: {
      readonly locker: string;
      readonly snapshot: string;
      readonly name: string;
      readonly creator: number;
    },
    progress: TellProgress,
    signal: AbortSignal,
  ): Promise<Warned>;
  /** Settles with where the data stays. */
  forget(locker: string): Promise<Warned & { readonly place: string }>;
  /** Defines a locker again that a store has. */
  adopt(
    request: { readonly locker: string; readonly store: string; readonly creator: number },
    progress: TellProgress,
  ): Promise<Warned>;
  stores(): Promise<readonly Store[]>;
  look(lockers: readonly string[]): Promise<ReadonlyMap<string, LockerLook>>;
}

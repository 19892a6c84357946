/** What the core needs from outside. Adapters implement these; each knows one outside system. */

import type { LogLevel, LogTarget } from '../api/log-control.ts';
import type { LimitName, LimitTexts } from '../model/guest-limits.ts';
import type { ContainerFactsRead, HostFactsRead } from '../model/facts.ts';
import type { EncryptMode } from '../model/locker-words.ts';

/** One container as the generator has written it down and systemd has loaded it. */
export type ContainerDefinition = Omit<ContainerFactsRead, 'autoballoon'>;
export type LockerDefinition = HostFactsRead['lockers'][number];

export interface Definitions extends Pick<HostFactsRead, 'lockers' | 'rootNeedsNoAuthority'> {
  readonly containers: readonly ContainerDefinition[];
}

/** What the generator wrote at the last daemon-reload. */
export interface DefinitionsPort {
  read(): Promise<Definitions>;
}

export type Unwatch = () => Promise<void>;

export interface UnitStatus {
  readonly activeState:
    | 'active'
    | 'reloading'
    | 'inactive'
    | 'failed'
    | 'activating'
    | 'deactivating'
    | 'maintenance'
    | 'refreshing';
  /** `success`, or what made the unit fail. */
  readonly result: string;
  /** CLOCK_REALTIME, microseconds. */
  readonly stateChangeUsec: bigint;
  /** Bytes; 2^64-1 for no limit. */
  readonly memoryMax: bigint;
  readonly memorySwapMax: bigint;
  /** Path of the control group below the hierarchy's root; empty while there is none. */
  readonly controlGroup: string;
  /** Of a unit that is down: its start waits, or ended for want of what it requires. */
  readonly heldStart?: 'waiting' | 'unmet' | undefined;
  /** Of a unit that is down: something looks for what its start has lacked, to start it then. */
  readonly isAwaited?: boolean;
  /** Units that the start waits for or lacks, with blanks between them. */
  readonly heldBy?: string;
}

/** How a job of systemd ended; see org.freedesktop.systemd1(5), JobRemoved. */
export type UnitJobResult =
  'done' | 'canceled' | 'timeout' | 'failed' | 'dependency' | 'skipped' | (string & {});

/** systemd's units. */
export interface UnitsPort {
  /**
   * Reports the status of a unit now and at every change, also across daemon-reload and
   * daemon-reexec. Settles after the first report.
   */
  watch(unit: string, changed: (status: UnitStatus) => void): Promise<Unwatch>;
  /** Reads a watched unit again, after a change that systemd does not announce. */
  look(unit: string): Promise<void>;
  /** Settles when systemd's job has ended. Aborting cancels the job where that is possible. */
  start(unit: string, signal: AbortSignal): Promise<UnitJobResult>;
  stop(unit: string, signal: AbortSignal): Promise<UnitJobResult>;
  restart(unit: string, signal: AbortSignal): Promise<UnitJobResult>;
  kill(unit: string, whom: 'main' | 'all', signalNumber: number): Promise<void>;
  /** Calls back after each daemon-reload. */
  onReloaded(handler: () => void): void;
}

/** A mount as PID 1 sees it. */
export interface MountPoint {
  readonly path: string;
  /** What is mounted: a device, a directory, a label. */
  readonly source: string;
  readonly readOnly: boolean;
}

/** The host's mounts: lockers and what is attached. */
export interface MountsPort {
  /** Reports the active mounts directly or deeper below a directory now, and what changes of them. */
  watch(directory: string, changed: (change: MountsChange) => void): Promise<Unwatch>;
}

/** Only what is new or another: one mount costs the same on a host with a thousand. */
export interface MountsChange {
  readonly mounted: readonly MountPoint[];
  /** Paths where nothing is mounted any more. */
  readonly gone: readonly string[];
}

/** A container's guest as the kernel shows it, whoever started it. */
export interface LxcStatus {
  readonly container: string;
  /** LXC's own word: STOPPED, STARTING, RUNNING, STOPPING, FREEZING, FROZEN. */
  readonly state: string;
  /** Process id of the guest's init on the host; 0 when there is none. */
  readonly leader: number;
  /** Who has the command socket of a container that does not run, and keeps LXC from starting it. */
  readonly squatter?: { readonly pid: number; readonly uid: number } | undefined;
}

/** What is seen of a running guest, by looking at it; what could not be seen is missing. */
export interface GuestLook {
  /** Without those of the loopback; the interface is empty where it is not known. */
  readonly addresses?: readonly { readonly interface: string; readonly address: string }[];
  /** There are more addresses than are told. */
  readonly hasMoreAddresses?: boolean;
  /** Its network is the host's, so that it has no addresses of its own. */
  readonly sharesNetwork?: boolean;
  readonly hostName?: string;
  /** By os-release(5). */
  readonly os?: { readonly name?: string; readonly id?: string; readonly version?: string };
  /** Its root is another user on the host. */
  readonly isUnprivileged?: boolean;
  /** CLOCK_REALTIME, microseconds. */
  readonly startUsec?: bigint;
  /** Bytes: the lowest limit of memory that a balloon would not refuse at once. */
  readonly lowestLimit?: bigint;
}

/** The root side, one request a call. Failures are LockerdErrors with the helper's own message. */
export interface HelperPort {
  attach(request: {
    container: string;
    locker: string;
    readOnly: boolean;
    persist: boolean;
  }): Promise<{ changed: boolean }>;
  detach(request: {
    container: string;
    locker: string;
    force: boolean;
    persist: boolean;
  }): Promise<{ changed: boolean; lazy: boolean }>;
  freeze(container: string): Promise<void>;
  thaw(container: string): Promise<void>;
  balloon(
    request: {
      container: string;
      /** Bytes; 2^64-1 for no limit. */
      limit: bigint;
      /** The same of swap; undefined to leave it as it is. */
      swap: bigint | undefined;
      force: boolean;
      persist: boolean;
    },
    progress: (phase: string, fraction: number) => void,
    signal: AbortSignal,
  ): Promise<{
    warnings: readonly string[];
    /** How long the guest stood still for want of memory; undefined where it is not counted. */
    stallUsec: bigint | undefined;
  }>;
  /** Sets other limits than those of memory, all of them or none. */
  setLimits(request: {
    container: string;
    limits: LimitTexts;
    persist: boolean;
  }): Promise<{ warnings: readonly string[] }>;
  /**
   * Makes a container start at boot or not, and has systemd load that. Refuses where its settings do not
   * decide. `warnings` are about what may start it all the same.
   */
  setAutostart(request: {
    container: string;
    autostart: boolean;
  }): Promise<{ changed: boolean; warnings: readonly string[] }>;
  /** Looks at running guests; those that are not told of do not run any more. */
  look(containers: readonly string[]): Promise<ReadonlyMap<string, GuestLook>>;
  /** Gives the kernel the limits that the running container's unit has. */
  applyLimits(container: string): Promise<void>;
  /**
   * Reports guests as they come and go, and on cgroup v1 the kernel's announcements of OOM kills.
   * `helperChanged` gets undefined when every guest has been reported. It gets a problem when there
   * are no more reports; then the earlier ones count no longer. Settles at the first of these calls,
   * and reconnects by itself.
   */
  watch(
    guestChanged: (status: LxcStatus) => void,
    oomAnnounced: (container: string) => void,
    helperChanged: (problem: string | undefined) => void,
  ): Promise<Unwatch>;
}

/**
 * Details of an authorization, every key always present, values never a caller's free text. Those by the
 * names of limits have what is asked for, and are empty for limits that stay.
 */
export interface ActionDetails extends Readonly<Record<LimitName, string>> {
  readonly container: string;
  readonly unit: string;
  readonly verb: string;
  readonly locker: string;
  /** `ro` or `rw` of what is attached; of a new locker four octal digits. */
  readonly mode: string;
  readonly force: 'true' | 'false';
  readonly persist: 'true' | 'false';
  /** Bytes in decimal, or `max`; empty for other verbs than balloon, as the next two. */
  readonly 'memory-limit': string;
  readonly 'memory-current': string;
  readonly 'memory-direction': '' | 'grow' | 'shrink' | 'same';
  /** Bytes in decimal, or `max`; empty where the limit of swap stays as it is. */
  readonly 'swap-limit': string;
  /** Names of the limits that are to be set, with blanks between them. */
  readonly limits: string;
  /** Whether it is to start at boot; empty for other verbs than set-autostart. */
  readonly autostart: '' | 'yes' | 'no';
  /** Uid of who started the job that is to be cancelled; else empty. */
  readonly 'job-uid': string;
  /** Of a locker; empty for one that lockerd did not make, and for verbs about containers, as all below. */
  readonly store: string;
  /** Bytes in decimal that the locker will have. */
  readonly size: string;
  /** `UID:GID`, of the guest where there is a container. */
  readonly owner: string;
  readonly encrypt: '' | EncryptMode;
  /** Of a snapshot, and how many the locker has already. */
  readonly snapshot: string;
  readonly snapshots: string;
  /** Whether containers stand still meanwhile. */
  readonly freeze: '' | 'true' | 'false';
  /** The new name of a locker, or the name of a new one. */
  readonly name: string;
  /** Whether the caller has had the locker made. */
  readonly own: '' | 'true' | 'false';
  /** How many lockers the caller has had made, and their bytes, without this one. */
  readonly 'user-lockers': string;
  readonly 'user-size': string;
}

export const actionIds = [
  'org.lockerd1.start',
  'org.lockerd1.stop',
  'org.lockerd1.stop-force',
  'org.lockerd1.reboot',
  'org.lockerd1.freeze',
  'org.lockerd1.balloon',
  'org.lockerd1.set-limits',
  'org.lockerd1.mount-locker',
  'org.lockerd1.unmount-locker',
  'org.lockerd1.unmount-locker-force',
  'org.lockerd1.set-autostart',
  'org.lockerd1.create-locker',
  'org.lockerd1.grow-locker',
  'org.lockerd1.rename-locker',
  'org.lockerd1.snapshot-locker',
  'org.lockerd1.restore-locker',
  'org.lockerd1.forget-locker',
  'org.lockerd1.adopt-locker',
  'org.lockerd1.cancel-job-other',
] as const;
export type ActionId = (typeof actionIds)[number];

export interface AuthorizationRequest {
  /** Unique bus name of the caller. */
  readonly sender: string;
  readonly action: ActionId;
  readonly details: ActionDetails;
  /** The caller waits while somebody is asked for a password. */
  readonly interactive: boolean;
  /** Fires when the caller leaves; the check is then cancelled. */
  readonly signal: AbortSignal;
}

export type Decision = 'yes' | 'no' | 'challenge' | 'dismissed';

/** polkit. Every failure to get a sound answer is LockerdError authorityUnavailable. */
export interface AuthorityPort {
  check(request: AuthorizationRequest): Promise<Decision>;
  /** `polkit`, or in a few words why there is none. */
  readonly state: string;
  onStateChanged(handler: () => void): void;
  /** Rules, actions or sessions changed, so that answers may differ from now on. */
  onPermissionsChanged(handler: () => void): void;
}

/** One structured entry of the journal. */
export interface JournalEntry {
  /** The user whom it is about; undefined for none. A flood of entries loses this user's entries. */
  readonly uid?: number;
  /** Must not be lost, however many there are: what was allowed, and what came of it. */
  readonly isKept?: boolean;
  /** 128 bits in hex, from `src/core/message-ids.ts`. */
  readonly messageId: string;
  /** As syslog(3): 3 error, 4 warning, 5 notice, 6 info, 7 debug. */
  readonly priority: number;
  readonly message: string;
  /** Names without the prefix LOCKERD_: CONTAINER, LOCKER, VERB, JOB, UID, SENDER, DECISION, ... */
  readonly fields: Readonly<Record<string, string>>;
}

export interface JournalPort {
  write(entry: JournalEntry): void;
}

/** What of all this reaches the journal. */
export interface Logging {
  /** Entries of a lower priority are dropped. */
  level: LogLevel;
  target: LogTarget;
}

/** The clients of the service. */
export interface ClientsPort {
  /** Rejects when the caller has left. */
  uidOf(sender: string): Promise<number>;
}

/** Figures of a running container's control group; undefined where the kernel gives none. */
export interface MemoryFigures {
  readonly current: bigint;
  readonly peak: bigint;
  readonly swap: bigint;
  /** PSI full avg10, per cent. */
  readonly pressure: number;
  readonly oomKills: bigint;
}

/** Limits in the kernel, in bytes; 2^64-1 for none. */
export interface KernelLimits {
  readonly memory: bigint;
  /** Undefined where it is not a limit of its own: on cgroup v1, and without swap accounting. */
  readonly swap: bigint | undefined;
}

/** What a container uses of the host beside memory, and the limits of that in the kernel. */
export interface UsageFigures {
  /** Of all processors, since the start, in microseconds; undefined, as the next two, where it is not counted. */
  readonly cpuUsec: bigint | undefined;
  readonly tasks: bigint | undefined;
  /** Of all disks, since the start. */
  readonly io:
    | {
        readonly readBytes: bigint;
        readonly writtenBytes: bigint;
        readonly reads: bigint;
        readonly writes: bigint;
      }
    | undefined;
  readonly limits: LimitTexts;
}

export interface UsagePort {
  /** Undefined for a control group that is not there. */
  read(controlGroup: string): UsageFigures | undefined;
}

export interface MemoryPort {
  read(controlGroup: string): Promise<MemoryFigures>;
  /** Undefined for a control group that is not there. */
  limits(controlGroup: string): Promise<KernelLimits | undefined>;
  /** Reports the number of OOM kills at every change, without polling where the kernel allows. */
  watchOomKills(controlGroup: string, changed: (kills: bigint) => void): Promise<Unwatch>;
  /** Kills in a watched control group have been announced; they are counted a moment later. */
  expectOomKills(controlGroup: string): void;
}

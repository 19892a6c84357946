/** The objects of org.lockerd1 as this program uses them, read from properties on the bus. */

import { parsePath } from '../api/paths.ts';
import type { Variant, VariantMap } from '../bus/values.ts';
import { CommandError, exitStatus } from './exit.ts';
import { unknownFigure, unknownId } from '../api/names.ts';
import { readUsage, type UsageInfo, type UsageTypes } from './usage-info.ts';

export interface LockerUse {
  readonly name: string;
  readonly readOnly: boolean;
}

export interface ContainerInfo extends UsageInfo {
  readonly name: string;
  readonly unit: string;
  readonly configFile: string;
  readonly state: string;
  /** Units that its start waits for or lacks. */
  readonly waitsFor: readonly string[];
  /** File, line, reason and remedy, one a line; empty for a sound container. */
  readonly problem: string;
  readonly autostart: boolean;
  /** Who decided that, as words; see org.lockerd1(5). */
  readonly autostartReasons: readonly string[];
  /** Process id of init on the host; 0 for none. */
  readonly leader: number;
  /** CLOCK_REALTIME, microseconds; 0 for never. */
  readonly since: bigint;
  /** As lxc.group has them. */
  readonly groups: readonly string[];
  readonly lockers: readonly LockerUse[];
  /** Bytes, all of them; unlimited for no limit, undefined for unknown. */
  readonly memoryLimit: bigint;
  readonly swapLimit: bigint;
  readonly memoryCurrent: bigint | undefined;
  readonly memoryPeak: bigint | undefined;
  readonly swapCurrent: bigint | undefined;
  /** PSI full avg10, per cent. */
  readonly memoryPressure: number;
  readonly oomKills: bigint;
}

/** What was seen of a guest; undefined for what could not be seen. */
export interface GuestInfo {
  /** The interface is empty where it is not known. */
  readonly addresses:
    readonly { readonly interface: string; readonly address: string }[] | undefined;
  readonly hasMoreAddresses: boolean | undefined;
  readonly sharesNetwork: boolean | undefined;
  readonly hostName: string | undefined;
  readonly os: string | undefined;
  readonly osId: string | undefined;
  readonly osVersion: string | undefined;
  readonly isUnprivileged: boolean | undefined;
  /** CLOCK_REALTIME, microseconds. */
  readonly startUsec: bigint | undefined;
  /** Bytes: the lowest limit of memory that a balloon would not refuse at once. */
  readonly lowestLimit: bigint | undefined;
}

export interface LockerInfo {
  readonly name: string;
  readonly description: string;
  readonly mounted: boolean;
  readonly source: string;
  readonly attachedTo: readonly { readonly container: string; readonly readOnly: boolean }[];
  /** Bytes; undefined for what nobody has seen, as in all that follows. */
  readonly size: bigint | undefined;
  readonly used: bigint | undefined;
  readonly available: bigint | undefined;
  /** Empty for what nobody has seen. */
  readonly fileSystem: string;
  readonly device: string;
  /** Empty for a locker that lockerd did not make. */
  readonly store: string;
  readonly health: string;
  readonly creator: number | undefined;
  readonly snapshots: readonly string[];
}

export interface SnapshotInfo {
  readonly name: string;
  /** CLOCK_REALTIME, microseconds; undefined where it is not known, as the next two. */
  readonly created: bigint | undefined;
  /** Bytes. */
  readonly size: bigint | undefined;
  readonly used: bigint | undefined;
}

export interface StoreInfo {
  readonly name: string;
  readonly type: string;
  readonly fileSystem: string;
  /** Bytes; undefined where it is not known or has no limit. */
  readonly size: bigint | undefined;
  readonly free: bigint | undefined;
  readonly maxSize: bigint | undefined;
  readonly isDefault: boolean;
  readonly problem: string;
  readonly forgotten: readonly { readonly name: string; readonly size: bigint | undefined }[];
}

export interface JobInfo {
  readonly id: number;
  readonly verb: string;
  readonly container: string;
  readonly locker: string;
  readonly uid: number;
  /** CLOCK_REALTIME, microseconds. */
  readonly started: bigint;
  readonly state: string;
  readonly phase: string;
  /** 0..1; undefined for unknown. */
  readonly progress: number | undefined;
  readonly cancelable: boolean;
  readonly result: string;
  readonly error: string;
}

/** The name in a path, or the path itself where it is none of ours. */
export function nameOf(path: string): string {
  const object = parsePath(path);
  if (object === undefined || object.kind === 'manager') return path;
  return object.kind === 'job' ? String(object.id) : object.name;
}

/** A job's number from its path. */
export function jobId(path: string): number {
  const object = parsePath(path);
  if (object?.kind !== 'job') throw strangeAnswer(`"${path}" is not a job`);
  return object.id;
}

function strangeAnswer(what: string): CommandError {
  return new CommandError(
    `cannot understand lockerd: ${what}`,
    exitStatus.failure,
    'Is lockerd of another version? Restart it: "systemctl try-restart lockerd".',
  );
}

/** Types of the values that the signatures in this file stand for. */
interface SignatureTypes extends UsageTypes {
  b: boolean;
  u: number;
  d: number;
  as: readonly string[];
  o: string;
  'a(sob)': readonly (readonly [string, string, boolean])[];
  'a(ss)': readonly (readonly [string, string])[];
  'a(ob)': readonly (readonly [string, boolean])[];
  '(ss)': readonly [string, string];
  'a(st)': readonly (readonly [string, bigint])[];
}

type Getter = <S extends keyof SignatureTypes>(name: string, signature: S) => SignatureTypes[S];

type Optional = <S extends keyof SignatureTypes>(
  name: string,
  signature: S,
) => SignatureTypes[S] | undefined;

function getter(what: string, properties: VariantMap): Getter {
  return (name, signature) => {
    const variant: Variant | undefined = properties[name];
    if (variant?.signature !== signature) {
      throw strangeAnswer(`${what} has no property ${name} of type ${signature}`);
    }
    // The bus layer has decoded the value by this very signature.
    return variant.value as never;
  };
}

function known(bytes: bigint): bigint | undefined {
  return bytes === unknownFigure ? undefined : bytes;
}

/** Reads the properties of org.lockerd1.Container. */
export function readContainer(properties: VariantMap): ContainerInfo {
  const get = getter('a container', properties);
  return {
    name: get('Name', 's'),
    unit: get('Unit', 's'),
    configFile: get('ConfigFile', 's'),
    state: get('State', 's'),
    waitsFor: get('WaitsFor', 'as'),
    problem: get('Problem', 's'),
    autostart: get('Autostart', 'b'),
    autostartReasons: get('AutostartReasons', 'as'),
    groups: get('Groups', 'as'),
    leader: get('Leader', 'u'),
    since: get('StateChangeTimestamp', 't'),
    lockers: get('Lockers', 'a(sob)').map(([name, , readOnly]) => ({ name, readOnly })),
    memoryLimit: get('MemoryLimit', 't'),
    swapLimit: get('SwapLimit', 't'),
    memoryCurrent: known(get('MemoryCurrent', 't')),
    memoryPeak: known(get('MemoryPeak', 't')),
    swapCurrent: known(get('SwapCurrent', 't')),
    memoryPressure: get('MemoryPressure', 'd'),
    oomKills: get('OomKills', 't'),
    ...readUsage(get),
  };
}

/** Reads what Describe of org.lockerd1.Container answers; undefined where nothing was seen. */
export function readGuest(description: VariantMap): GuestInfo | undefined {
  if (Object.keys(description).length === 0) return undefined;
  const get = getter('a guest', description);
  const seen: Optional = (name, signature) =>
    description[name] === undefined ? undefined : get(name, signature);
  return {
    addresses: seen('Addresses', 'a(ss)')?.map(([name, address]) => ({
      interface: name,
      address,
    })),
    hasMoreAddresses: seen('MoreAddresses', 'b'),
    sharesNetwork: seen('SharesNetwork', 'b'),
    hostName: seen('HostName', 's'),
    os: seen('OperatingSystem', 's'),
    osId: seen('OperatingSystemId', 's'),
    osVersion: seen('OperatingSystemVersion', 's'),
    isUnprivileged: seen('Unprivileged', 'b'),
    startUsec: seen('StartTimestamp', 't'),
    lowestLimit: seen('LowestMemoryLimit', 't'),
  };
}

/** Reads the properties of org.lockerd1.Locker. */
export function readLocker(properties: VariantMap): LockerInfo {
  const get = getter('a locker', properties);
  const creator = get('Creator', 'u');
  return {
    name: get('Name', 's'),
    description: get('Description', 's'),
    mounted: get('Mounted', 'b'),
    source: get('Source', 's'),
    attachedTo: get('AttachedTo', 'a(ob)').map(([path, readOnly]) => ({
      container: nameOf(path),
      readOnly,
    })),
    size: known(get('Size', 't')),
    used: known(get('Used', 't')),
    available: known(get('Available', 't')),
    fileSystem: get('FileSystem', 's'),
    device: get('Device', 's'),
    store: get('Store', 's'),
    health: get('Health', 's'),
    creator: creator === unknownId ? undefined : creator,
    snapshots: get('Snapshots', 'as'),
  };
}

/** Reads what ListSnapshots answers. */
export function readSnapshots(
  snapshots: readonly (readonly [string, bigint, bigint, bigint])[],
): SnapshotInfo[] {
  return snapshots.map(([name, created, size, used]) => ({
    name,
    created: known(created),
    size: known(size),
    used: known(used),
  }));
}

/** Reads what ListStores answers of one. */
export function readStore(name: string, store: VariantMap): StoreInfo {
  const get = getter(`store "${name}"`, store);
  const seen: Optional = (key, signature) =>
    store[key] === undefined ? undefined : get(key, signature);
  return {
    name,
    type: get('Type', 's'),
    fileSystem: get('FileSystem', 's'),
    size: seen('Size', 't'),
    free: seen('Free', 't'),
    maxSize: seen('MaxSize', 't'),
    isDefault: get('Default', 'b'),
    problem: get('Problem', 's'),
    forgotten: (seen('Forgotten', 'a(st)') ?? []).map(([forgotten, size]) => ({
      name: forgotten,
      size: known(size),
    })),
  };
}

/** Reads the properties of org.lockerd1.Job. */
export function readJob(properties: VariantMap): JobInfo {
  const get = getter('a job', properties);
  const progress = get('Progress', 'd');
  const container = get('Container', 'o');
  const [errorName, errorMessage] = get('Error', '(ss)');
  return {
    id: get('Id', 'u'),
    verb: get('Verb', 's'),
    // A job of a locker as such has none.
    container: container === '/' ? '' : nameOf(container),
    locker: get('Locker', 's'),
    uid: get('StartedByUid', 'u'),
    started: get('StartTimestamp', 't'),
    state: get('State', 's'),
    phase: get('Phase', 's'),
    progress: progress < 0 ? undefined : progress,
    cancelable: get('Cancelable', 'b'),
    result: get('Result', 's'),
    error: errorMessage || errorName,
  };
}

/** Whether the container has processes, also frozen ones. */
export function isUp(state: string): boolean {
  return ['running', 'freezing', 'frozen'].includes(state);
}

/** Containers, lockers and jobs as the page shows them, read from the properties of their objects. */

import { figure, isObject, rows, text, texts, type Properties } from './values.ts';

export interface Attachment {
  readonly locker: string;
  readonly readOnly: boolean;
}

export interface Container {
  readonly path: string;
  readonly name: string;
  readonly unit: string;
  readonly configFile: string;
  readonly state: string;
  /** Lines, each with its remedy; empty if nothing is wrong. */
  readonly problem: string;
  readonly autostart: boolean;
  readonly autostartReasons: readonly string[];
  readonly groups: readonly string[];
  readonly waitsFor: readonly string[];
  readonly attachments: readonly Attachment[];
  /** Bytes; undefined for none. */
  readonly memoryLimit: number | undefined;
  readonly swapLimit: number | undefined;
  readonly oomKills: number;
  /** Paths of the jobs that have not ended. */
  readonly jobs: readonly string[];
}

export function containerOf(path: string, properties: Properties): Container {
  return {
    path,
    name: text(properties['Name']),
    unit: text(properties['Unit']),
    configFile: text(properties['ConfigFile']),
    state: text(properties['State']),
    problem: text(properties['Problem']),
    autostart: properties['Autostart'] === true,
    autostartReasons: texts(properties['AutostartReasons']),
    groups: texts(properties['Groups']),
    waitsFor: texts(properties['WaitsFor']),
    attachments: rows(properties['Lockers']).map(([locker, , readOnly]) => ({
      locker: text(locker),
      readOnly: readOnly === true,
    })),
    memoryLimit: figure(properties['MemoryLimit']),
    swapLimit: figure(properties['SwapLimit']),
    oomKills: figure(properties['OomKills']) ?? 0,
    jobs: texts(properties['Jobs']),
  };
}

export interface Use {
  /** Path of the container's object. */
  readonly container: string;
  readonly readOnly: boolean;
}

export interface Locker {
  readonly path: string;
  readonly name: string;
  readonly description: string;
  readonly mounted: boolean;
  readonly source: string;
  readonly uses: readonly Use[];
  /** The following are undefined or empty where the service does not know them. */
  readonly size: number | undefined;
  readonly used: number | undefined;
  readonly available: number | undefined;
  readonly fileSystem: string;
  readonly store: string;
  readonly health: string;
  readonly snapshots: readonly string[];
}

export function lockerOf(path: string, properties: Properties): Locker {
  return {
    path,
    name: text(properties['Name']),
    description: text(properties['Description']),
    mounted: properties['Mounted'] === true,
    source: text(properties['Source']),
    uses: rows(properties['AttachedTo']).map(([container, readOnly]) => ({
      container: text(container),
      readOnly: readOnly === true,
    })),
    size: figure(properties['Size']),
    used: figure(properties['Used']),
    available: figure(properties['Available']),
    fileSystem: text(properties['FileSystem']),
    store: text(properties['Store']),
    health: text(properties['Health']),
    snapshots: texts(properties['Snapshots']),
  };
}

export interface Job {
  readonly path: string;
  readonly verb: string;
  readonly container: string;
  readonly locker: string;
  readonly state: string;
  readonly phase: string;
  /** 0 to 1; undefined if it is not known. */
  readonly progress: number | undefined;
  readonly cancelable: boolean;
  /** Empty until the end. */
  readonly result: string;
  readonly errorName: string;
  readonly errorMessage: string;
  readonly warnings: readonly string[];
  /** How long a balloon made the guest stand still, microseconds; undefined if it is not known. */
  readonly stallUsec: number | undefined;
}

export function jobOf(path: string, properties: Properties): Job {
  const error = properties['Error'];
  const [errorName, errorMessage] = Array.isArray(error) ? (error as unknown[]) : [];
  return {
    path,
    verb: text(properties['Verb']),
    container: text(properties['Container']),
    locker: text(properties['Locker']),
    state: text(properties['State']),
    phase: text(properties['Phase']),
    progress: figure(properties['Progress']),
    cancelable: properties['Cancelable'] === true,
    result: text(properties['Result']),
    errorName: text(errorName),
    errorMessage: text(errorMessage),
    warnings: texts(properties['Warnings']),
    stallUsec: figure(properties['StallUsec']),
  };
}

/** What changes all the time and has no signal; undefined for what is not known. */
export interface Figures {
  readonly memory: number | undefined;
  readonly memoryPeak: number | undefined;
  readonly swap: number | undefined;
  /** Per cent. */
  readonly pressure: number | undefined;
  /** Microseconds since the start. */
  readonly cpuTime: number | undefined;
  readonly tasks: number | undefined;
  /** Bytes since the start. */
  readonly readBytes: number | undefined;
  readonly writtenBytes: number | undefined;
  /** Microseconds of processor time a second. */
  readonly cpuQuota: number | undefined;
  readonly cpuWeight: number | undefined;
  readonly cpus: string;
  readonly memoryNodes: string;
  readonly ioWeight: number | undefined;
  readonly tasksLimit: number | undefined;
}

/** One figure of many, for the table. @param properties of a container, each a variant */
export function memoryOf(properties: unknown): number | undefined {
  const memory = isObject(properties) ? properties['MemoryCurrent'] : undefined;
  return figure(isObject(memory) ? memory['v'] : memory);
}

export function figuresOf(properties: Properties): Figures {
  return {
    memory: figure(properties['MemoryCurrent']),
    memoryPeak: figure(properties['MemoryPeak']),
    swap: figure(properties['SwapCurrent']),
    pressure: figure(properties['MemoryPressure']),
    cpuTime: figure(properties['CpuTime']),
    tasks: figure(properties['Tasks']),
    readBytes: figure(properties['IoReadBytes']),
    writtenBytes: figure(properties['IoWrittenBytes']),
    cpuQuota: figure(properties['CpuQuota']),
    cpuWeight: figure(properties['CpuWeight']),
    cpus: text(properties['Cpus']),
    memoryNodes: text(properties['MemoryNodes']),
    ioWeight: figure(properties['IoWeight']),
    tasksLimit: figure(properties['TasksLimit']),
  };
}

/** What is seen of a guest that runs. */
export interface Sight {
  readonly addresses: readonly string[];
  readonly sharesNetwork: boolean;
  readonly hostName: string;
  readonly operatingSystem: string;
  /** CLOCK_REALTIME, microseconds. */
  readonly startUsec: number | undefined;
  /** Undefined where nobody could see it, as the next. */
  readonly unprivileged: boolean | undefined;
  /** Bytes: the lowest limit of memory that is not refused at once. */
  readonly lowestLimit: number | undefined;
}

export function sightOf(description: Properties): Sight {
  const unprivileged = description['Unprivileged'];
  return {
    addresses: rows(description['Addresses']).map(([, address]) => text(address)),
    sharesNetwork: description['SharesNetwork'] === true,
    hostName: text(description['HostName']),
    operatingSystem: text(description['OperatingSystem']),
    startUsec: figure(description['StartTimestamp']),
    unprivileged: typeof unprivileged === 'boolean' ? unprivileged : undefined,
    lowestLimit: figure(description['LowestMemoryLimit']),
  };
}

/** What a store says of itself. */
export interface Store {
  readonly name: string;
  readonly type: string;
  readonly fileSystem: string;
  readonly size: number | undefined;
  readonly free: number | undefined;
  readonly maxSize: number | undefined;
  readonly problem: string;
}

export function storeOf(name: string, properties: Properties): Store {
  return {
    name,
    type: text(properties['Type']),
    fileSystem: text(properties['FileSystem']),
    size: figure(properties['Size']),
    free: figure(properties['Free']),
    maxSize: figure(properties['MaxSize']),
    problem: text(properties['Problem']),
  };
}

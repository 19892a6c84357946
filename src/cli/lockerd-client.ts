/** org.lockerd1 as a client sees it: one function a call. */

import { errorNames, interfaces, serviceName, unknownFigure } from '../api/names.ts';
import { unlimited } from '../model/memory-limit.ts';
import { jobPath, managerPath } from '../api/paths.ts';
import type { BusConnection, CallRequest, Signal } from '../bus/connection.ts';
import { busError, DBusError, Variant, type VariantMap } from '../bus/values.ts';
import {
  readContainer,
  readGuest,
  readJob,
  readLocker,
  readSnapshots,
  readStore,
  type ContainerInfo,
  type GuestInfo,
  type JobInfo,
  type LockerInfo,
  type SnapshotInfo,
  type StoreInfo,
} from './object-info.ts';

/** A method of Manager that makes a job. */
export type JobRequest = ContainerJobRequest | LockerJobRequest;

/** One about a locker as such. */
export interface LockerJobRequest {
  readonly member:
    | 'CreateLocker'
    | 'GrowLocker'
    | 'RenameLocker'
    | 'SnapshotLocker'
    | 'RestoreLocker'
    | 'ForgetLocker'
    | 'AdoptLocker';
  /** Without the options, which are the last one. */
  readonly signature: string;
  readonly body: readonly unknown[];
  readonly variants: VariantMap;
}

/** One about a container. */
export interface ContainerJobRequest {
  readonly member:
    | 'StartContainer'
    | 'StopContainer'
    | 'RebootContainer'
    | 'FreezeContainer'
    | 'ThawContainer'
    | 'Balloon'
    | 'SetLimits'
    | 'MountLocker'
    | 'UnmountLocker'
    | 'SetAutostart';
  readonly container: string;
  /** For MountLocker and UnmountLocker. */
  readonly locker?: string;
  /** For SetAutostart. */
  readonly autostart?: boolean;
  /** For Balloon. */
  readonly limitBytes?: bigint;
  readonly swapBytes?: bigint | undefined;
  /** For SetLimits. */
  readonly limits?: VariantMap;
  readonly options?: Readonly<Partial<Record<'force' | 'persist' | 'read-only', boolean>>>;
}

export interface JobEnd {
  readonly result: string;
  readonly errorName: string;
  readonly errorMessage: string;
}

/** What is to be said of a job beside its result. */
export interface JobRemarks {
  readonly warnings: readonly string[];
  /** How long the guest stood still for want of memory; undefined where that is not known. */
  readonly stallUsec: bigint | undefined;
}

export interface ServiceOptions {
  /** Whether somebody may be asked for a password. */
  readonly askPassword: boolean;
  /** How long a job may take. */
  readonly timeoutUsec: bigint | undefined;
}

/** All containers and lockers by name, and jobs, also those that have just ended, by number. */
export interface Snapshot {
  readonly containers: readonly ContainerInfo[];
  readonly lockers: readonly LockerInfo[];
  readonly jobs: readonly JobInfo[];
}

/** Arguments of a call have 64 KiB, and a name has up to 255 bytes. */
const namesPerCall = 200;

/** As long as the service itself waits for a look. */
const lookMs = 130_000;

type ManagedObjects = Record<string, Record<string, VariantMap>>;

/** How long to wait before asking again where the service has too much to do, milliseconds. */
const retryDelaysMs = [100, 250, 500, 1000, 2000, 4000];

/**
 * The same where the service was not up in time: dbus-daemon delivers no call after 25 seconds, but systemd goes
 * on starting the service, for 90 seconds.
 */
const lateRetryDelaysMs = [0, 0, 0];

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}

type JobCall = [signature: string, body: readonly unknown[], options: Record<string, Variant>];

function lockerCall({ signature, body, variants }: LockerJobRequest): JobCall {
  return [signature, body, { ...variants }];
}

function containerCall(request: ContainerJobRequest): JobCall {
  const { container, locker, limitBytes, limits, swapBytes, autostart } = request;
  const options: Record<string, Variant> = {};
  for (const [name, value] of Object.entries(request.options ?? {})) {
    if (value) options[name] = new Variant('b', true);
  }
  if (swapBytes !== undefined) options['swap'] = new Variant('t', swapBytes);
  const [signature, argument] =
    locker !== undefined
      ? ['s', [locker]]
      : limitBytes !== undefined
        ? ['t', [limitBytes]]
        : limits !== undefined
          ? ['a{sv}', [limits]]
          : autostart !== undefined
            ? ['b', [autostart]]
            : ['', []];
  return [`s${signature}`, [container, ...argument], options];
}

export class Service {
  readonly bus: BusConnection;
  readonly #options: ServiceOptions;
  #lastAsked: Promise<unknown> = Promise.resolve();

  constructor(bus: BusConnection, options: ServiceOptions) {
    this.bus = bus;
    this.#options = options;
  }

  /** Calls; asks again where the service has too much to do, or has not come up yet. */
  async #call(request: Omit<CallRequest, 'destination'>): Promise<readonly unknown[]> {
    const retries = new Map([
      [errorNames.LimitsExceeded, [...retryDelaysMs]],
      [busError.timedOut, [...lateRetryDelaysMs]],
    ]);
    for (;;) {
      try {
        return await this.bus.call({ destination: serviceName, ...request });
      } catch (error) {
        const delays = error instanceof DBusError ? retries.get(error.errorName) : undefined;
        const retryMs = delays?.shift();
        if (retryMs === undefined) throw error;
        await delay(retryMs);
      }
    }
  }

  #manager(member: string, signature = '', ...body: unknown[]): Promise<readonly unknown[]> {
    const path = managerPath;
    return this.#call({ path, interface: interfaces.manager, member, signature, body });
  }

  /** Calls what has root look at disks, which may be slow or dead. */
  #look(member: string, signature = '', ...body: unknown[]): Promise<readonly unknown[]> {
    const request = { path: managerPath, interface: interfaces.manager, member, signature, body };
    return this.#call({ ...request, timeoutMs: lookMs });
  }

  async #properties(path: string, name: string): Promise<VariantMap> {
    const [properties] = await this.#call({
      path,
      interface: 'org.freedesktop.DBus.Properties',
      member: 'GetAll',
      signature: 's',
      body: [name],
    });
    return properties as VariantMap;
  }

  /** Everything there is, by one call. */
  async snapshot(): Promise<Snapshot> {
    const [objects] = await this.#call({
      path: managerPath,
      interface: 'org.freedesktop.DBus.ObjectManager',
      member: 'GetManagedObjects',
    });
    const found = Object.values(objects as ManagedObjects);
    const read = <T>(name: string, reader: (properties: VariantMap) => T): T[] =>
      found.flatMap(({ [name]: properties }) =>
        properties === undefined ? [] : [reader(properties)],
      );
    return {
      containers: read(interfaces.container, readContainer).sort(byName),
      lockers: read(interfaces.locker, readLocker).sort(byName),
      jobs: read(interfaces.job, readJob).sort((a, b) => a.id - b.id),
    };
  }

  /** A property of the Manager; also starts the service where it does not run yet. */
  async managerProperties(): Promise<VariantMap> {
    return this.#properties(managerPath, interfaces.manager);
  }

  async containerPath(name: string): Promise<string> {
    const [path] = await this.#manager('GetContainer', 's', name);
    return path as string;
  }

  async container(name: string): Promise<ContainerInfo> {
    return readContainer(
      await this.#properties(await this.containerPath(name), interfaces.container),
    );
  }

  /** What is seen of containers' guests, by name; nothing of those that do not run. */
  async guests(names: readonly string[]): Promise<ReadonlyMap<string, GuestInfo>> {
    const found = new Map<string, GuestInfo>();
    for (let at = 0; at < names.length; at += namesPerCall) {
      const some = names.slice(at, at + namesPerCall);
      const [answer] = await this.#manager('DescribeContainers', 'as', some);
      for (const [name, description] of Object.entries(answer as Record<string, VariantMap>)) {
        const guest = readGuest(description);
        if (guest !== undefined) found.set(name, guest);
      }
    }
    return found;
  }

  async locker(name: string): Promise<LockerInfo> {
    const [path] = await this.#manager('GetLocker', 's', name);
    return readLocker(await this.#properties(path as string, interfaces.locker));
  }

  /** Has the service look at all lockers; their properties then say what was seen. */
  async lookAtLockers(): Promise<void> {
    await this.#look('LookAtLockers', 'as', []);
  }

  async snapshots(locker: string): Promise<SnapshotInfo[]> {
    const [snapshots] = await this.#look('ListSnapshots', 's', locker);
    return readSnapshots(snapshots as [string, bigint, bigint, bigint][]).sort(byName);
  }

  async stores(): Promise<StoreInfo[]> {
    const [stores] = await this.#look('ListStores');
    return (stores as [string, VariantMap][])
      .map(([name, store]) => readStore(name, store))
      .sort(byName);
  }

  /** Action ids and `yes`, `no` or `challenge`. */
  async permissions(path: string): Promise<Record<string, string>> {
    const [permissions] = await this.#manager('GetPermissions', 'o', path);
    return permissions as Record<string, string>;
  }

  /**
   * Starts a job. Settles when the caller is authorized, which may take until a password is typed.
   * @returns the path of the job
   */
  async startJob(request: JobRequest): Promise<string> {
    const { timeoutUsec } = this.#options;
    const [signature, body, options] =
      'body' in request ? lockerCall(request) : containerCall(request);
    if (timeoutUsec !== undefined) options['timeout-usec'] = new Variant('t', timeoutUsec);
    const [job] = await this.#authorized({
      path: managerPath,
      interface: interfaces.manager,
      member: request.member,
      signature: `${signature}a{sv}`,
      body: [...body, options],
    });
    return job as string;
  }

  /** Waits until a job has ended. */
  async waitForJob(path: string): Promise<JobEnd> {
    const [result, errorName, errorMessage] = await this.#call({
      path,
      interface: interfaces.job,
      member: 'Wait',
      signature: 't',
      body: [unlimited],
      timeoutMs: Infinity,
    });
    return {
      result: result as string,
      errorName: errorName as string,
      errorMessage: errorMessage as string,
    };
  }

  /** What a job that has ended wants its caller to know; none where it is not known any more. */
  async remarksOf(path: string): Promise<JobRemarks> {
    try {
      const properties = await this.#properties(path, interfaces.job);
      const warnings = properties['Warnings']?.value;
      const stall = properties['StallUsec']?.value;
      return {
        warnings: Array.isArray(warnings) ? warnings.map(String) : [],
        stallUsec: typeof stall === 'bigint' && stall !== unknownFigure ? stall : undefined,
      };
    } catch (error) {
      if (error instanceof DBusError) return { warnings: [], stallUsec: undefined };
      throw error;
    }
  }

  async cancelJob(id: number): Promise<void> {
    await this.#authorized({
      path: jobPath(id),
      interface: interfaces.job,
      member: 'Cancel',
      signature: 'a{sv}',
      body: [{}],
    });
  }

  /** Calls a method that polkit decides about; one at a time where a password may be needed. */
  async #authorized(request: Omit<CallRequest, 'destination'>): Promise<readonly unknown[]> {
    const { askPassword } = this.#options;
    const call = (): Promise<readonly unknown[]> =>
      this.#call({ ...request, interactive: askPassword, timeoutMs: Infinity });
    if (!askPassword) return call();
    // An agent on a terminal refuses a second question while it asks the first.
    const turn = this.#lastAsked.then(call);
    this.#lastAsked = turn.catch(() => undefined);
    return turn;
  }

  /** Reports signals of the service, also after a change of its name's owner. */
  async onSignal(
    match: {
      readonly pathNamespace?: string;
      readonly interface?: string;
      readonly member?: string;
    },
    handler: (signal: Signal) => void,
  ): Promise<void> {
    await this.bus.subscribe({ sender: serviceName, ...match }, handler);
  }

  /** Reports when the service comes (true) or goes (false). */
  async onOwnerChanged(handler: (present: boolean) => void): Promise<void> {
    await this.bus.subscribe(
      {
        sender: 'org.freedesktop.DBus',
        path: '/org/freedesktop/DBus',
        interface: 'org.freedesktop.DBus',
        member: 'NameOwnerChanged',
        arg0: serviceName,
      },
      ({ body }) => {
        handler(body[2] !== '');
      },
    );
  }
}

/**
 * The host as org.lockerd1 has it: one call reads all objects, and its signals keep them up to date. React
 * reads snapshots of it, which are never changed.
 */

import { interfaces, serviceName } from '../api/names.ts';
import { managerPath } from '../api/paths.ts';
import { containerOf, jobOf, lockerOf, type Container, type Job, type Locker } from './objects.ts';
import { isObject, text, texts, unwrap, type Options, type Properties } from './values.ts';

const objectManager = 'org.freedesktop.DBus.ObjectManager';
const propertiesInterface = 'org.freedesktop.DBus.Properties';

/** How long to wait before the service is called again after it has gone, in milliseconds. */
const retryMs = 2000;

export interface Snapshot {
  /** `absent`: it cannot be reached, and `problem` says why. */
  readonly connection: 'connecting' | 'ready' | 'absent';
  readonly problem: string;
  readonly features: ReadonlySet<string>;
  /** `polkit`, or why nobody decides. */
  readonly authority: string;
  /** By path, as the following. */
  readonly containers: ReadonlyMap<string, Container>;
  readonly lockers: ReadonlyMap<string, Locker>;
  readonly jobs: ReadonlyMap<string, Job>;
  /** Changes whenever the answers of GetPermissions may have changed. */
  readonly permissionsEpoch: number;
}

const empty: Snapshot = {
  connection: 'connecting',
  problem: '',
  features: new Set(),
  authority: '',
  containers: new Map(),
  lockers: new Map(),
  jobs: new Map(),
  permissionsEpoch: 0,
};

/** What an error says to people. */
export function messageOf(error: unknown): string {
  if (isObject(error)) {
    const message = text(error['message']) || text(error['problem']);
    if (message !== '') return message;
  }
  return String(error);
}

/** Paths with the interfaces and properties of each, as GetManagedObjects answers. */
type ManagedObjects = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

export class Host {
  #client: cockpit.DBusClient | undefined;
  #snapshot = empty;
  readonly #properties = new Map<string, Properties>();
  readonly #listeners = new Set<() => void>();
  #changed = new Set<string>();
  #isScheduled = false;
  #retry: number | undefined;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): Snapshot => this.#snapshot;

  /** Connects, or connects anew: with other rights, calls need a channel of their own. */
  connect(): void {
    this.#client?.close();
    window.clearTimeout(this.#retry);
    const client = cockpit.dbus(serviceName, { bus: 'system', superuser: 'try' });
    this.#client = client;
    client.addEventListener('close', (_event, detail: { problem?: string; message?: string }) => {
      if (this.#client === client) this.#lose(detail.message ?? detail.problem ?? '');
    });
    client.addEventListener('owner', (_event, owner: string | null) => {
      if (this.#client !== client) return;
      // A new service has other jobs, and may have other containers.
      if (owner) void this.#load(client);
      else this.#lose('The service has ended.');
    });
    client.subscribe({ path_namespace: managerPath }, (path, name, signal, args) => {
      if (this.#client === client) this.#receive(path, name, signal, args);
    });
    void this.#load(client);
  }

  async call(path: string, name: string, method: string, args: unknown[], type?: string) {
    if (this.#client === undefined) throw new Error('There is no connection to the service.');
    return this.#client.call(path, name, method, args, type === undefined ? {} : { type });
  }

  /** Starts a job. @returns its path */
  async startJob(
    path: string,
    method: string,
    args: readonly unknown[],
    type: string,
    options: Options = {},
  ): Promise<string> {
    const name = path === managerPath ? interfaces.manager : interfaces.container;
    const [job] = await this.call(path, name, method, [...args, options], `${type}a{sv}`);
    return text(job);
  }

  async permissions(path: string): Promise<ReadonlyMap<string, string>> {
    const [answer] = await this.call(
      managerPath,
      interfaces.manager,
      'GetPermissions',
      [path],
      'o',
    );
    return new Map(isObject(answer) ? Object.entries(answer).map(([k, v]) => [k, text(v)]) : []);
  }

  /** All properties of an object, with those that have no signal. */
  async properties(path: string, name: string = interfaces.container): Promise<Properties> {
    const [answer] = await this.call(path, propertiesInterface, 'GetAll', [name], 's');
    return unwrap(answer);
  }

  async managedObjects(): Promise<ManagedObjects> {
    const [answer] = await this.call(managerPath, objectManager, 'GetManagedObjects', [], '');
    return (isObject(answer) ? answer : {}) as ManagedObjects;
  }

  async #load(client: cockpit.DBusClient): Promise<void> {
    try {
      const [manager, objects] = await Promise.all([
        this.properties(managerPath, interfaces.manager),
        this.managedObjects(),
      ]);
      if (this.#client !== client) return;
      this.#properties.clear();
      const state = { ...this.#snapshot, permissionsEpoch: this.#snapshot.permissionsEpoch + 1 };
      this.#snapshot = {
        ...state,
        connection: 'ready',
        problem: '',
        containers: new Map(),
        lockers: new Map(),
        jobs: new Map(),
      };
      this.#add(managerPath, { [interfaces.manager]: manager });
      for (const [path, found] of Object.entries(objects)) this.#add(path, found);
      this.#schedule();
    } catch (error) {
      if (this.#client === client) this.#lose(messageOf(error));
    }
  }

  #lose(problem: string): void {
    this.#properties.clear();
    const permissionsEpoch = this.#snapshot.permissionsEpoch + 1;
    this.#snapshot = { ...empty, connection: 'absent', problem, permissionsEpoch };
    this.#schedule();
    window.clearTimeout(this.#retry);
    this.#retry = window.setTimeout(() => {
      this.connect();
    }, retryMs);
  }

  #add(path: string, found: Readonly<Record<string, unknown>>): void {
    for (const [name, properties] of Object.entries(found)) {
      if (!name.startsWith(serviceName)) continue;
      this.#properties.set(path, { ...this.#properties.get(path), ...unwrap(properties) });
      this.#changed.add(path);
    }
  }

  #receive(path: string, name: string, signal: string, args: readonly unknown[]): void {
    const [first, second] = args;
    if (name === propertiesInterface && signal === 'PropertiesChanged') {
      const before = this.#properties.get(path);
      if (before === undefined) return;
      this.#properties.set(path, { ...before, ...unwrap(second) });
      this.#changed.add(path);
    } else if (signal === 'InterfacesAdded' && isObject(second)) {
      this.#add(text(first), second);
    } else if (signal === 'InterfacesRemoved') {
      this.#properties.delete(text(first));
      this.#changed.add(text(first));
    } else if (signal === 'PermissionsChanged') {
      const permissionsEpoch = this.#snapshot.permissionsEpoch + 1;
      this.#snapshot = { ...this.#snapshot, permissionsEpoch };
    } else return;
    this.#schedule();
  }

  /** Tells React once about all that comes together. */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    window.setTimeout(() => {
      this.#isScheduled = false;
      this.#apply();
      for (const listener of this.#listeners) listener();
    }, 0);
  }

  #apply(): void {
    const containers = new Map(this.#snapshot.containers);
    const lockers = new Map(this.#snapshot.lockers);
    const jobs = new Map(this.#snapshot.jobs);
    let { features, authority } = this.#snapshot;
    for (const path of this.#changed) {
      const properties = this.#properties.get(path);
      if (path === managerPath) {
        features = new Set(texts(properties?.['Features']));
        authority = text(properties?.['Authority']);
      } else if (path.startsWith(`${managerPath}/container/`)) {
        update(containers, path, properties, containerOf);
      } else if (path.startsWith(`${managerPath}/locker/`)) {
        update(lockers, path, properties, lockerOf);
      } else {
        update(jobs, path, properties, jobOf);
      }
    }
    this.#changed = new Set();
    this.#snapshot = { ...this.#snapshot, features, authority, containers, lockers, jobs };
  }
}

function update<T>(
  objects: Map<string, T>,
  path: string,
  properties: Properties | undefined,
  read: (path: string, properties: Properties) => T,
): void {
  if (properties === undefined) objects.delete(path);
  else objects.set(path, read(path, properties));
}

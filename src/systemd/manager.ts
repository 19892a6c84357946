import type { BusConnection, Signal } from '../bus/connection.ts';
import { busError, DBusError } from '../bus/values.ts';
import { escapeLabel } from '../model/object-label.ts';

const systemd = 'org.freedesktop.systemd1';
const managerPath = '/org/freedesktop/systemd1';
const unitNamespace = '/org/freedesktop/systemd1/unit';
const managerInterface = 'org.freedesktop.systemd1.Manager';
const propertiesInterface = 'org.freedesktop.DBus.Properties';

/** What a call is answered with while systemd is off the bus, as during a daemon-reexec. */
const awayErrors = new Set<string>([
  'org.freedesktop.DBus.Error.ServiceUnknown',
  'org.freedesktop.DBus.Error.TimedOut',
  busError.nameHasNoOwner,
  busError.noReply,
]);

/** Whether systemd was not there to answer; activating it by its bus name fails as well. */
export function systemdIsAway(error: unknown): boolean {
  return (
    error instanceof DBusError &&
    (awayErrors.has(error.errorName) ||
      error.errorName.startsWith('org.freedesktop.DBus.Error.Spawn.'))
  );
}

/** One unit of Manager.ListUnits*(): no more than is used. */
export interface ListedUnit {
  readonly name: string;
  readonly activeState: string;
  readonly path: string;
}

/** Changed properties of one unit, as a PropertiesChanged signal has them. */
export type UnitChanged = (path: string, changed: Readonly<Record<string, unknown>>) => void;

export interface ManagerListener {
  readonly unitChanged?: UnitChanged;
  /** A unit was loaded, which may say more than that: its first change is told in this way only. */
  readonly unitNew?: (name: string, path: string) => void;
  readonly unitRemoved?: (name: string, path: string) => void;
  readonly jobRemoved?: (path: string, result: string) => void;
  /** Unit files were read again, or systemd itself is new: everything may have changed. */
  readonly reloaded?: () => void;
}

/** Object path of a unit; it can be used whether or not the unit is loaded. */
export function unitPath(unit: string): string {
  return `${unitNamespace}/${escapeLabel(unit)}`;
}

/**
 * org.freedesktop.systemd1 with one subscription for all who listen. Signals of a manager are
 * dispatched here, because a match rule for each unit would hit the bus daemon's limits.
 */
export class SystemdManager {
  readonly #bus: BusConnection;
  readonly #listeners = new Set<ManagerListener>();
  readonly #unwatches: (() => Promise<void>)[] = [];
  #owner = '';

  private constructor(bus: BusConnection) {
    this.#bus = bus;
  }

  static async connect(bus: BusConnection): Promise<SystemdManager> {
    const manager = new SystemdManager(bus);
    await manager.#subscribe();
    return manager;
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    await Promise.all(this.#unwatches.splice(0).map((unwatch) => unwatch()));
  }

  /** Answers with what ends the listening. */
  listen(listener: ManagerListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #subscribe(): Promise<void> {
    const add = async (...args: Parameters<BusConnection['subscribe']>): Promise<void> => {
      this.#unwatches.push(await this.#bus.subscribe(...args));
    };
    await add(
      {
        sender: 'org.freedesktop.DBus',
        interface: 'org.freedesktop.DBus',
        member: 'NameOwnerChanged',
        arg0: systemd,
      },
      ({ body }) => {
        const owner = String(body[2]);
        // Subscriptions live as long as systemd's own connection to the bus.
        if (owner !== '' && owner !== this.#owner) void this.#resubscribe();
        this.#owner = owner;
      },
    );
    await add(
      { sender: systemd, path: managerPath, interface: managerInterface },
      this.#onManagerSignal,
    );
    await add(
      {
        sender: systemd,
        pathNamespace: unitNamespace,
        interface: propertiesInterface,
        member: 'PropertiesChanged',
      },
      this.#onPropertiesChanged,
    );
    await this.#callSubscribe();
  }

  async #callSubscribe(): Promise<void> {
    try {
      await this.call('Subscribe');
    } catch (error) {
      const isSubscribed =
        error instanceof DBusError && error.errorName === `${systemd}.AlreadySubscribed`;
      if (!isSubscribed) throw error;
    }
  }

  async #resubscribe(): Promise<void> {
    try {
      await this.#callSubscribe();
    } catch {
      // It left again; its next owner change brings us back here.
      return;
    }
    this.#tell((listener) => listener.reloaded?.());
  }

  readonly #onManagerSignal = ({ member, body }: Signal): void => {
    switch (member) {
      case 'UnitNew':
        this.#tell((l) => l.unitNew?.(String(body[0]), String(body[1])));
        break;
      case 'UnitRemoved':
        this.#tell((l) => l.unitRemoved?.(String(body[0]), String(body[1])));
        break;
      case 'JobRemoved':
        this.#tell((l) => l.jobRemoved?.(String(body[1]), String(body[3])));
        break;
      case 'Reloading':
        // True at its beginning.
        if (body[0] === false) this.#tell((l) => l.reloaded?.());
        break;
    }
  };

  readonly #onPropertiesChanged = ({ path, body }: Signal): void => {
    const changed = plainValues(body[1]);
    this.#tell((listener) => listener.unitChanged?.(path, changed));
  };

  #tell(what: (listener: ManagerListener) => void): void {
    for (const listener of [...this.#listeners]) what(listener);
  }

  #call(
    path: string,
    callInterface: string,
    member: string,
    signature = '',
    body: readonly unknown[] = [],
  ): Promise<readonly unknown[]> {
    return this.#bus.call({
      destination: systemd,
      path,
      interface: callInterface,
      member,
      signature,
      body,
    });
  }

  /** Calls a method of the manager object. */
  call(member: string, signature = '', body: readonly unknown[] = []): Promise<readonly unknown[]> {
    return this.#call(managerPath, managerInterface, member, signature, body);
  }

  /** Takes a job out of systemd's queue; whose unit is already being worked on is not undone. */
  async cancelJob(path: string): Promise<void> {
    await this.#call(path, 'org.freedesktop.systemd1.Job', 'Cancel');
  }

  /**
   * One property of a unit. A unit that is not loaded is loaded for it, and is told of as new and
   * as removed: who reads in answer to those signals would never come to an end.
   */
  async get(path: string, type: 'Unit' | 'Service' | 'Mount', property: string): Promise<unknown> {
    const [value] = await this.#call(path, propertiesInterface, 'Get', 'ss', [
      `${systemd}.${type}`,
      property,
    ]);
    return unwrap(value);
  }

  /** All properties of one interface of a unit; for loading it, as with {@link get}. */
  async getAll(
    path: string,
    type: 'Unit' | 'Service' | 'Mount',
  ): Promise<Readonly<Record<string, unknown>>> {
    const [all] = await this.#call(path, propertiesInterface, 'GetAll', 's', [
      `${systemd}.${type}`,
    ]);
    return plainValues(all);
  }

  /** Loaded units by patterns of their names; loads none. */
  async listLoaded(patterns: readonly string[]): Promise<ListedUnit[]> {
    const [units] = await this.call('ListUnitsByPatterns', 'asas', [
      [],
      // A backslash would escape the next character of the pattern.
      patterns.map((pattern) => pattern.replaceAll('\\', '?')),
    ]);
    if (!Array.isArray(units)) throw new Error('systemd did not answer with a list of units');
    return (units as readonly unknown[][]).map((unit) => ({
      name: String(unit[0]),
      activeState: String(unit[3]),
      path: String(unit[6]),
    }));
  }
}

/** Properties without their types. */
function plainValues(properties: unknown): Readonly<Record<string, unknown>> {
  const plain = Object.create(null) as Record<string, unknown>;
  if (typeof properties !== 'object' || properties === null) return plain;
  for (const [name, value] of Object.entries(properties)) plain[name] = unwrap(value);
  return plain;
}

function unwrap(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'signature' in value && 'value' in value
    ? value.value
    : value;
}

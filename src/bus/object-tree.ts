/** The objects of a service by path, and the signals about them. */

import type { ServiceConnection } from './connection.ts';
import { marshal, Marshalled, MarshalError } from './marshal.ts';
import { maximumArrayBytes } from './wire-format.ts';
import { isObjectPath } from './valid-names.ts';
import {
  compile,
  type CompiledInterface,
  type Interface,
  type Property,
} from './interface-table.ts';
import { TimeSlices } from './event-loop.ts';
import { DBusError, Variant, type VariantMap } from './values.ts';

/** How long an answer of GetManagedObjects is kept: figures of a moment are in it, milliseconds. */
const keptMs = 100;
/** Objects whose properties are read at a time, between two looks at the clock. */
const atATime = 8;
/** Objects that change all the time are not waited for. */
const roundsMax = 4;

export const managedSignature = 'a{oa{sa{sv}}}';

export interface BusObject {
  readonly interfaces: ReadonlyMap<string, CompiledInterface>;
}

/** What an ObjectManager tells about an object: properties by interface. */
export type ManagedObject = Record<string, VariantMap>;

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function isPromise(value: unknown): value is Promise<unknown> {
  return value instanceof Promise;
}

function isBelow(path: string, root: string): boolean {
  return root === '/' ? path !== '/' : path.startsWith(`${root}/`);
}

/** The objects of a service, and the signals about them. */
export class ObjectTree {
  readonly #connection: ServiceConnection;
  readonly #manager: string | undefined;
  readonly #objects = new Map<string, BusObject>();
  /** Last parts of the paths below a path that is an object or leads to one. */
  readonly #children = new Map<string, Set<string>>();
  #announcing = false;
  /** The answer of GetManagedObjects that is being made, and the last one. */
  #making: Promise<Marshalled> | undefined;
  #kept: { readonly body: Marshalled; readonly until: number } | undefined;
  /** Paths about which a signal was sent while the answer of GetManagedObjects was made. */
  readonly #stale = new Set<string>();

  /** @param manager path of the object that has the interface ObjectManager */
  constructor(connection: ServiceConnection, manager: string | undefined) {
    this.#connection = connection;
    this.#manager = manager;
  }

  /** From now on InterfacesAdded and InterfacesRemoved tell about every change. */
  announce(): void {
    this.#announcing = true;
  }

  /** Adds an object. @throws Error when the path is taken, or a table is not valid */
  add(path: string, interfaces: readonly Interface[]): void {
    if (!isObjectPath(path)) throw new Error(`"${path}" is no object path`);
    if (this.#objects.has(path)) throw new Error(`there is an object ${path} already`);
    const list = interfaces.map((table) => compile(table));
    this.#invalidate(path);
    this.#objects.set(path, { interfaces: new Map(list.map((entry) => [entry.name, entry])) });
    for (let child = path; child !== '/'; child = parentOf(child)) {
      const siblings = this.#children.get(parentOf(child)) ?? new Set();
      siblings.add(lastPart(child));
      this.#children.set(parentOf(child), siblings);
    }
    if (!this.#isManaged(path)) return;
    this.#emit(this.#manager, objectManager, 'InterfacesAdded', 'oa{sa{sv}}', () => [
      path,
      this.#announced(path),
    ]);
  }

  /** Removes an object; without effect when there is none. */
  remove(path: string): void {
    const object = this.#objects.get(path);
    if (object === undefined) return;
    this.#invalidate(path);
    this.#objects.delete(path);
    for (let child = path; child !== '/' && !this.has(child); child = parentOf(child)) {
      const siblings = this.#children.get(parentOf(child));
      siblings?.delete(lastPart(child));
      if (siblings?.size === 0) this.#children.delete(parentOf(child));
    }
    if (!this.#isManaged(path)) return;
    this.#emit(this.#manager, objectManager, 'InterfacesRemoved', 'oas', () => [
      path,
      [...object.interfaces.keys()],
    ]);
  }

  /**
   * Says that properties changed, with their new values, before anything that is sent later.
   * @throws Error when a name is no property that emits the signal
   */
  changed(path: string, interfaceName: string, names: readonly string[]): void {
    const entry = this.#objects.get(path)?.interfaces.get(interfaceName);
    if (entry === undefined) throw new Error(`${path} has no interface ${interfaceName}`);
    const properties = names.map((name) => {
      const property = entry.properties.get(name);
      if (property?.emits !== 'true')
        throw new Error(`${interfaceName}.${name} does not say when it changes`);
      return { name, property };
    });
    this.#invalidate(path);
    this.#emit(path, 'org.freedesktop.DBus.Properties', 'PropertiesChanged', 'sa{sv}as', () => {
      const values: VariantMap = {};
      for (const { name, property } of properties)
        values[name] = new Variant(property.signature, property.get(path));
      return [interfaceName, values, []];
    });
  }

  /** Broadcasts a declared signal. @throws Error when the object has no such signal */
  signal(path: string, interfaceName: string, member: string, values: readonly unknown[]): void {
    const entry = this.#objects.get(path)?.interfaces.get(interfaceName);
    const signature = entry?.signals.get(member);
    if (signature === undefined)
      throw new Error(`${path} has no signal ${interfaceName}.${member}`);
    this.#emit(path, interfaceName, member, signature, () => values);
  }

  get(path: string): BusObject | undefined {
    return this.#objects.get(path);
  }

  /** Whether the path is an object or leads to one. */
  has(path: string): boolean {
    return this.#objects.has(path) || this.#children.has(path);
  }

  children(path: string): string[] {
    return [...(this.#children.get(path) ?? [])];
  }

  /** One property's value. @throws what the property's getter throws */
  async property(path: string, { signature, get }: Property): Promise<Variant> {
    return new Variant(signature, await get(path));
  }

  /** All properties of one interface; one that cannot be read is left out. */
  async properties(path: string, { name, properties }: CompiledInterface): Promise<VariantMap> {
    const values: VariantMap = {};
    for (const [member, { signature, get }] of properties) {
      try {
        const value = get(path);
        // Most are there at once: thousands of objects must not wait thousands of times.
        values[member] = new Variant(signature, isPromise(value) ? await value : value);
      } catch (error) {
        this.#unreadable(`${path} ${name}.${member}`, error);
      }
    }
    return values;
  }

  /**
   * What GetManagedObjects answers: all objects below the manager. Made in slices, once for all
   * simultaneous callers, and kept for a moment while no signal announces a change.
   */
  managedObjects(): Promise<Marshalled> {
    if (this.#kept !== undefined && this.#kept.until > performance.now())
      return Promise.resolve(this.#kept.body);
    this.#making ??= Promise.resolve().then(async () => {
      try {
        return await this.#marshalManaged();
      } finally {
        this.#making = undefined;
      }
    });
    return this.#making;
  }

  async #marshalManaged(): Promise<Marshalled> {
    const slices = new TimeSlices();
    const parts = new Map<string, Buffer>();
    // An object that changes meanwhile is made again: its signal must not be older than the answer.
    for (let round = 0; round < roundsMax; round++) {
      this.#stale.clear();
      const missing = [...this.#objects.keys()].filter(
        (path) => this.#isBelowManager(path) && !parts.has(path),
      );
      if (missing.length === 0) break;
      for (let index = 0; index < missing.length; index += atATime) {
        const group = missing.slice(index, index + atATime);
        await Promise.all(
          group.map(async (path) => {
            const part = await this.#marshalObject(path);
            if (part !== undefined) parts.set(path, part);
          }),
        );
        await slices.pause();
      }
      if (round < roundsMax - 1) for (const path of this.#stale) parts.delete(path);
    }
    const present = [...parts].filter(([path]) => this.#objects.has(path));
    const body = concatenated(present.map(([, part]) => part));
    this.#kept = { body, until: performance.now() + keptMs };
    return body;
  }

  /** As an entry of the answer's dict. */
  async #marshalObject(path: string): Promise<Buffer | undefined> {
    const object: ManagedObject = {};
    for (const entry of this.#objects.get(path)?.interfaces.values() ?? [])
      object[entry.name] = await this.properties(path, entry);
    return this.#objects.has(path) ? marshal('oa{sa{sv}}', [path, object]) : undefined;
  }

  /** What is kept or being made of an object is not true any more. */
  #invalidate(path: string): void {
    this.#kept = undefined;
    if (this.#making !== undefined) this.#stale.add(path);
  }

  #isBelowManager(path: string): boolean {
    return this.#manager !== undefined && isBelow(path, this.#manager);
  }

  #isManaged(path: string): boolean {
    return this.#announcing && this.#isBelowManager(path);
  }

  /** What InterfacesAdded says: at once, so without the properties that answer later. */
  #announced(path: string): ManagedObject {
    const object: ManagedObject = {};
    for (const { name, properties } of this.#objects.get(path)?.interfaces.values() ?? []) {
      const values: VariantMap = (object[name] = {});
      for (const [member, { signature, get }] of properties) {
        try {
          const value = get(path);
          if (!isPromise(value)) values[member] = new Variant(signature, value);
          // Its failure is of no interest.
          else value.catch(() => undefined);
        } catch (error) {
          this.#unreadable(`${path} ${name}.${member}`, error);
        }
      }
    }
    return object;
  }

  #unreadable(property: string, error: unknown): void {
    // A DBusError is an answer, not a fault.
    if (!(error instanceof DBusError))
      this.#connection.log(`reading the property ${property}`, error);
  }

  #emit(
    path: string | undefined,
    interfaceName: string,
    member: string,
    signature: string,
    values: () => readonly unknown[],
  ): void {
    if (path === undefined) return;
    try {
      this.#connection.emitSignal(path, interfaceName, member, signature, values());
    } catch (error) {
      this.#connection.log(`emitting ${interfaceName}.${member} of ${path}`, error);
    }
  }
}

/** The entries of an `a{oa{sa{sv}}}` as a body, each entry as a body of its own. */
function concatenated(entries: readonly Buffer[]): Marshalled {
  // The array's length, and the padding before its first entry.
  const head = Buffer.alloc(8);
  const padded = entries.flatMap((entry, index) => {
    const padding = index < entries.length - 1 ? (8 - (entry.length % 8)) % 8 : 0;
    return padding === 0 ? [entry] : [entry, Buffer.alloc(padding)];
  });
  const bytes = Buffer.concat([head, ...padded]);
  if (bytes.length - head.length > maximumArrayBytes)
    throw new MarshalError('an array is longer than 64 MiB');
  bytes.writeUInt32LE(bytes.length - head.length);
  return new Marshalled(managedSignature, bytes);
}

export const objectManager = 'org.freedesktop.DBus.ObjectManager';

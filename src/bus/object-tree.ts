/** The objects of a service by path, and the signals about them. */

import type { ServiceConnection } from './connection.ts';
import { ManagedObjects, readProperties } from './managed-objects.ts';
import type { Marshalled } from './marshal.ts';
import { isObjectPath } from './valid-names.ts';
import {
  compile,
  type CompiledInterface,
  type Interface,
  type Property,
} from './interface-table.ts';
import { DBusError, Variant, type VariantMap } from './values.ts';

export interface BusObject {
  readonly interfaces: ReadonlyMap<string, CompiledInterface>;
}

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
  readonly #managed: ManagedObjects;

  /** @param manager path of the object that has the interface ObjectManager */
  constructor(connection: ServiceConnection, manager: string | undefined) {
    this.#connection = connection;
    this.#manager = manager;
    this.#managed = new ManagedObjects({
      paths: () => [...this.#objects.keys()].filter((path) => this.#isBelowManager(path)),
      has: (path) => this.#objects.has(path),
      interfaces: (path) => this.#objects.get(path)?.interfaces.values() ?? [],
      unreadable: this.#unreadable,
    });
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
    this.#managed.invalidate(path);
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
    this.#managed.invalidate(path);
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
    this.#managed.invalidate(path);
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

  /** One property's value, or its promise. @throws what the property's getter throws */
  property(path: string, { signature, get }: Property): Variant | Promise<Variant> {
    const value = get(path);
    if (!isPromise(value)) return new Variant(signature, value);
    return value.then((late) => new Variant(signature, late));
  }

  /** All properties of one interface; one that cannot be read is left out. */
  properties(path: string, entry: CompiledInterface): Promise<VariantMap> {
    return readProperties(path, entry, this.#unreadable);
  }

  /** What GetManagedObjects answers: all objects below the manager. */
  managedObjects(): Promise<Marshalled> {
    return this.#managed.answer();
  }

  #isBelowManager(path: string): boolean {
    return this.#manager !== undefined && isBelow(path, this.#manager);
  }

  #isManaged(path: string): boolean {
    return this.#announcing && this.#isBelowManager(path);
  }

  /** What InterfacesAdded says: at once, so without the properties that answer later. */
  #announced(path: string): Record<string, VariantMap> {
    const object: Record<string, VariantMap> = {};
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

  readonly #unreadable = (property: string, error: unknown): void => {
    // A DBusError is an answer, not a fault.
    if (!(error instanceof DBusError))
      this.#connection.log(`reading the property ${property}`, error);
  };

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

export const objectManager = 'org.freedesktop.DBus.ObjectManager';

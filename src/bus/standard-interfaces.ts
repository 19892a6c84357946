/**
 * What an object offers on the bus: the interfaces of its own, and those that D-Bus defines for every
 * object (the D-Bus specification, section "Standard Interfaces").
 */

import { readFileSync } from 'node:fs';
import type { CallFrame } from './connection.ts';
import {
  compile,
  method,
  type CompiledInterface,
  type CompiledMethod,
  type Interface,
  type Property,
} from './interface-table.ts';
import { introspect } from './introspect.ts';
import { managedSignature } from './managed-objects.ts';
import { objectManager, type BusObject, type ObjectTree } from './object-tree.ts';
import { busError, DBusError, type Variant } from './values.ts';

function machineId(): string {
  for (const file of ['/etc/machine-id', '/var/lib/dbus/machine-id']) {
    try {
      return readFileSync(file, 'ascii').trim();
    } catch {
      // The other one may be there.
    }
  }
  throw new DBusError(busError.failed, 'the machine has no machine id');
}

/** Texts of strangers, cut and printable: an error must not be longer than the call. */
function shortened(text: string): string {
  const cut = text.length > 255 ? `${text.slice(0, 255)}...` : text;
  return cut.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '\ufffd');
}

/** Section "org.freedesktop.DBus.Peer". */
const peer: Interface = {
  name: 'org.freedesktop.DBus.Peer',
  methods: {
    Ping: method({ in: [], out: [], handler: () => undefined }),
    GetMachineId: method({
      in: [],
      out: [['machine_uuid', 's']],
      handler: () => [machineId()],
    }),
  },
};

function standard(tables: readonly Interface[]): BusObject {
  const entries = tables.map((table) => compile(table));
  return { interfaces: new Map(entries.map((entry) => [entry.name, entry])) };
}

/** Finds the methods that can be called, on objects and on paths that only lead to objects. */
export class MethodLookup {
  readonly #tree: ObjectTree;
  readonly #manager: string | undefined;
  /** On every path, also on those that only lead to objects. */
  readonly #everywhere: BusObject;
  readonly #onObjects: BusObject;
  readonly #onManager: BusObject;

  /** @param manager path of the object that has the interface ObjectManager */
  constructor(tree: ObjectTree, manager: string | undefined) {
    this.#tree = tree;
    this.#manager = manager;
    const everywhere = [this.#introspectable(), peer];
    const onObjects = [...everywhere, this.#properties()];
    this.#everywhere = standard(everywhere);
    this.#onObjects = standard(onObjects);
    this.#onManager = standard([...onObjects, this.#objectManager()]);
  }

  /** @throws DBusError when there is no such object, interface or method */
  find(frame: CallFrame): {
    entry: CompiledInterface;
    declaration: CompiledMethod;
  } {
    const { path, interface: interfaceName, member } = frame;
    const object = this.#tree.get(path);
    const standard = this.#standard(path);
    // Section "Message Types": without an interface, any of the object's may have the method.
    const entries =
      interfaceName === undefined
        ? [...(object?.interfaces.values() ?? []), ...standard.interfaces.values()]
        : [object?.interfaces.get(interfaceName) ?? standard.interfaces.get(interfaceName)];
    const entry = entries.find((candidate) => candidate?.methods.has(member));
    const declaration = entry?.methods.get(member);
    if (entry !== undefined && declaration !== undefined) {
      const leadsNowhere = entry.name !== peer.name && !this.#tree.has(path);
      if (!leadsNowhere) return { entry, declaration };
    }
    if (object === undefined)
      throw new DBusError(busError.unknownObject, `there is no object ${shortened(path)}`);
    if (interfaceName !== undefined && entries[0] === undefined)
      throw new DBusError(busError.unknownInterface, `${path} has no interface ${interfaceName}`);
    throw new DBusError(
      busError.unknownMethod,
      `${path} has no method ${interfaceName === undefined ? '' : `${interfaceName}.`}${member}`,
    );
  }

  #standard(path: string): BusObject {
    if (path === this.#manager) return this.#onManager;
    return this.#tree.get(path) === undefined ? this.#everywhere : this.#onObjects;
  }

  #introspectable(): Interface {
    return {
      name: 'org.freedesktop.DBus.Introspectable',
      methods: {
        Introspect: method({
          in: [],
          out: [['xml_data', 's']],
          handler: ({ path }) => {
            const entries = [
              ...(this.#tree.get(path)?.interfaces.values() ?? []),
              ...this.#standard(path).interfaces.values(),
            ];
            const tables = entries.map(({ table }) => table);
            return [introspect(tables, this.#tree.children(path))];
          },
        }),
      },
    };
  }

  #properties(): Interface {
    return {
      name: 'org.freedesktop.DBus.Properties',
      methods: {
        Get: method({
          in: [
            ['interface_name', 's'],
            ['property_name', 's'],
          ],
          out: [['value', 'v']],
          handler: ({ path }, [interfaceName, name]) => {
            const value = this.#tree.property(path, this.#property(path, interfaceName, name));
            return value instanceof Promise ? value.then((late) => [late] as const) : [value];
          },
        }),
        GetAll: method({
          in: [['interface_name', 's']],
          out: [['props', 'a{sv}']],
          handler: async ({ path }, [interfaceName]) => {
            const entries = this.#interfaces(path, interfaceName);
            const maps = [];
            for (const entry of entries) maps.push(await this.#tree.properties(path, entry));
            return [Object.assign({}, ...maps) as Record<string, Variant>];
          },
        }),
        Set: method({
          in: [
            ['interface_name', 's'],
            ['property_name', 's'],
            ['value', 'v'],
          ],
          out: [],
          handler: (call, [interfaceName, name, value]) => {
            const property = this.#property(call.path, interfaceName, name);
            if (property.set === undefined)
              throw new DBusError(busError.propertyReadOnly, `the property ${name} cannot be set`);
            return property.set(call, value);
          },
        }),
      },
      signals: {
        PropertiesChanged: [
          ['interface_name', 's'],
          ['changed_properties', 'a{sv}'],
          ['invalidated_properties', 'as'],
        ],
      },
    };
  }

  #objectManager(): Interface {
    return {
      name: objectManager,
      methods: {
        GetManagedObjects: method({
          in: [],
          out: [['object_paths_interfaces_and_properties', managedSignature]],
          // The types know values only, not what is marshalled already.
          handler: async () => [(await this.#tree.managedObjects()) as never],
        }),
      },
      signals: {
        InterfacesAdded: [
          ['object_path', 'o'],
          ['interfaces_and_properties', 'a{sa{sv}}'],
        ],
        InterfacesRemoved: [
          ['object_path', 'o'],
          ['interfaces', 'as'],
        ],
      },
    };
  }

  /** Those with that name; an empty name means all of the object's. */
  #interfaces(path: string, name: string): CompiledInterface[] {
    const { interfaces } = this.#tree.get(path) ?? this.#everywhere;
    if (name === '') return [...interfaces.values()];
    const entry = interfaces.get(name) ?? this.#standard(path).interfaces.get(name);
    if (entry !== undefined) return [entry];
    throw new DBusError(busError.unknownInterface, `${path} has no interface ${shortened(name)}`);
  }

  #property(path: string, interfaceName: string, name: string): Property {
    const entries = this.#interfaces(path, interfaceName);
    const property = entries.map(({ properties }) => properties.get(name)).find(Boolean);
    if (property !== undefined) return property;
    throw new DBusError(busError.unknownProperty, `${path} has no property ${shortened(name)}`);
  }
}

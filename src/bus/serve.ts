import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { Admission, defaultLimits, type CallLimits } from './call-quota.ts';
import { Backlog } from './backlog.ts';
import type { CallFrame, ServiceConnection } from './connection.ts';
import { messageFlag } from './frame.ts';
import { introspect } from './introspect.ts';
import { unmarshal, UnmarshalError } from './marshal.ts';
import { busDriver, isInterfaceName } from './valid-names.ts';
import { managedSignature, objectManager, ObjectTree, type BusObject } from './object-tree.ts';
import {
  compile,
  method,
  type Call,
  type CompiledInterface,
  type CompiledMethod,
  type Interface,
} from './interface-table.ts';
import { LoopTurns } from './event-loop.ts';
import { busError, DBusError, type Variant } from './values.ts';

/** Tells what a call has cost beyond what was said before; less than nothing gives back. */
export type Settle = (difference: number) => void;

export interface ServeOptions<Access> {
  /** The objects that are there from the start, by path. */
  readonly objects: Readonly<Record<string, readonly Interface<Access>[]>>;
  /**
   * Whose a caller is, by its unique name: users take turns, and may leave only so many replies
   * unread. Throws a DBusError to refuse. Without it each caller is a user of its own.
   */
  readonly userOf?: (sender: string) => Promise<number>;
  /**
   * Looks at the pace of a user before each call, also of what D-Bus itself defines and of what is
   * not there: throws a DBusError to refuse. A short call with a short answer costs 1. Without it
   * any pace is well.
   */
  readonly admit?: (user: number, cost: number) => Settle;
  /** Called for each connection that leaves the bus. */
  readonly left?: (sender: string) => void;
  /**
   * Decides about a call of a method whose access is not 'free': throws a DBusError to refuse. Runs
   * after the arguments are decoded and before the handler.
   */
  readonly authorize: (call: Call, access: Access) => Promise<void>;
  /** Path of the object that gets the interface ObjectManager, for all objects below it. */
  readonly objectManager?: string;
  readonly limits?: Partial<CallLimits>;
}

/** Bytes of a call's body that cost as much as a call: decoding them takes as long. */
const callBytesPerCost = 2 ** 10;
/** The same of what was too long and passed over. */
const passedBytesPerCost = 2 ** 16;
/** The same of an answer. */
const answerBytesPerCost = 2 ** 14;

/** Values in the arguments of one call; the options of a method are some eight. */
const maximumValues = 1024;

/**
 * How much may wait to be sent before the next answer is made. The bus takes 2 KiB at a time from
 * each of its connections, so that what one user has asked for would hold up what others wait for.
 */
const maximumAhead = 2 ** 16;

/** What a caller learns about a fault of ours; the log has the rest. */
const internalError = new DBusError(
  'org.lockerd1.Error.Failed',
  'an internal error occurred; see: journalctl -t lockerd',
);

/** Error texts are for people. */
const maximumErrorLength = 1024;

/** An error as it may leave the process. */
function presentable(error: DBusError): DBusError {
  const text = error.message.replaceAll('\0', '\ufffd');
  const message =
    text.length > maximumErrorLength ? `${text.slice(0, maximumErrorLength)}...` : text;
  if (!isInterfaceName(error.errorName)) return internalError;
  return message === error.message ? error : new DBusError(error.errorName, message);
}

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

class Service<Access> {
  readonly tree: ObjectTree<Access>;
  readonly #connection: ServiceConnection;
  readonly #options: ServeOptions<Access>;
  readonly #admission: Admission;
  readonly #backlog: Backlog;
  readonly #turns = new LoopTurns<unknown>();
  /** The same for answers, while the bus is slow to take them. */
  readonly #sending: LoopTurns<unknown>;
  /** How long the last answer of a method was, in bytes: the next one will cost as much. */
  readonly #answerBytes = new WeakMap<object, number>();
  readonly #manager: string | undefined;
  /** On every path, also on those that only lead to objects. */
  readonly #everywhere: BusObject<Access>;
  readonly #onObjects: BusObject<Access>;
  readonly #onManager: BusObject<Access>;

  constructor(connection: ServiceConnection, options: ServeOptions<Access>) {
    this.#connection = connection;
    this.#options = options;
    this.#manager = options.objectManager;
    this.#admission = new Admission({ ...defaultLimits, ...options.limits });
    this.#backlog = new Backlog(connection);
    this.#sending = new LoopTurns(() =>
      connection.unsentBytes < maximumAhead ? undefined : connection.untilSent(maximumAhead),
    );
    this.tree = new ObjectTree(connection, options.objectManager);
    this.#everywhere = builtIn([this.#introspectable(), peer]);
    this.#onObjects = builtIn([this.#introspectable(), peer, this.#properties()]);
    this.#onManager = builtIn([
      this.#introspectable(),
      peer,
      this.#properties(),
      this.#objectManager(),
    ]);
  }

  async start(): Promise<void> {
    await this.#connection.subscribe(
      { ...driverSignals, member: 'NameOwnerChanged' },
      ({ body: [name, , owner] }) => {
        if (owner !== '' || typeof name !== 'string') return;
        this.#admission.gone(name);
        this.#backlog.gone(name);
        this.#options.left?.(name);
      },
    );
    void this.#connection.lost.then(() => {
      this.#admission.allGone();
    });
    this.#connection.handleCalls((call) => void this.#handle(call));
    this.tree.announce();
  }

  /** Never rejects. */
  async #handle(frame: CallFrame): Promise<void> {
    const { sender } = frame;
    if (sender === undefined) return;
    const signal = this.#admission.enter(sender);
    if (signal === undefined) {
      const text = 'too many of your calls have no answer yet; wait for some of them';
      await this.#answerError(frame, new DBusError(busError.limitsExceeded, text));
      return;
    }
    // Any number of handlers may wait for the same caller to leave.
    setMaxListeners(0, signal);
    try {
      const { userOf, admit, authorize } = this.#options;
      const user = await userOf?.(sender);
      if (isAborted(signal)) return;
      this.#backlog.belongs(sender, user ?? sender);
      // Not in any case: it would make every answer wait for the next turn of the event loop.
      if (this.#backlog.isSuspicious(sender) && (await this.#backlog.isFull(sender)))
        throw unreadReplies();
      const expected = this.#expectedCost(frame);
      const settle = user === undefined ? undefined : admit?.(user, expected);
      await this.#turns.next(user ?? sender);
      // Before the object that is called may be gone as well.
      if (isAborted(signal)) return;
      if (frame.isHeaderTooLong)
        throw new DBusError(busError.limitsExceeded, 'the header of the call is too long');
      const { entry, declaration } = this.#find(frame);
      const call: Call = {
        sender,
        path: frame.path,
        interface: entry.name,
        member: frame.member,
        interactive: (frame.flags & messageFlag.allowInteractiveAuthorization) !== 0,
        signal,
        args: decodedArguments(frame, entry.name, declaration),
      };
      if (declaration.access !== 'free') {
        await authorize(call, declaration.access);
        // The question was put to a user who is gone: the answer is worth nothing.
        if (isAborted(signal)) return;
      }
      const answered = declaration.handler(call, call.args as never);
      const values = answered instanceof Promise ? ((await answered) as unknown) : answered;
      if (this.#connection.unsentBytes >= maximumAhead || this.#sending.isWaitedFor)
        await this.#sending.next(user ?? sender);
      // Nobody would read it, and nobody would say that it was not read.
      if (isAborted(signal)) return;
      if (!this.#backlog.takesAnswers(sender)) throw unreadReplies();
      const reply = (values ?? []) as readonly unknown[];
      const bytes = this.#connection.reply(frame, declaration.outSignature, reply);
      this.#backlog.sent(sender, bytes);
      // Nothing was sent to who wanted no answer.
      if (bytes > 0) this.#answerBytes.set(declaration, bytes);
      settle?.(callCost(frame, bytes) - expected);
    } catch (error) {
      await this.#answerError(frame, error, signal);
    } finally {
      this.#admission.leave(sender);
    }
  }

  #expectedCost(frame: CallFrame): number {
    try {
      return callCost(frame, this.#answerBytes.get(this.#find(frame).declaration) ?? 0);
    } catch {
      return callCost(frame, 0);
    }
  }

  /** Never rejects. A caller that does not read gets its error when it has read. */
  async #answerError(call: CallFrame, error: unknown, signal?: AbortSignal): Promise<void> {
    // It may be kept for a while, its body is of no more use.
    const frame = { ...call, body: undefined };
    const { interface: interfaceName = '', member, path, sender = '' } = frame;
    if (this.#backlog.isOverflowing(sender)) {
      if ((frame.flags & messageFlag.noReplyExpected) !== 0) return;
      if (!(await this.#backlog.untilRead(sender))) return;
    }
    if (signal?.aborted === true) return;
    if (!(error instanceof DBusError))
      this.#connection.log(`${interfaceName}.${member} of ${path}`, error);
    try {
      const answer = error instanceof DBusError ? presentable(error) : internalError;
      this.#backlog.sent(sender, this.#connection.replyError(frame, answer));
    } catch (problem) {
      this.#connection.log(`answering ${interfaceName}.${member} of ${path}`, problem);
    }
  }

  /** @throws DBusError when there is no such object, interface or method */
  #find(frame: CallFrame): {
    entry: CompiledInterface<Access>;
    declaration: CompiledMethod<Access>;
  } {
    const { path, interface: interfaceName, member } = frame;
    const object = this.tree.get(path);
    const builtIns = this.#builtIns(path);
    // Section "Message Types": without an interface, any of the object's may have the method.
    const entries =
      interfaceName === undefined
        ? [...(object?.interfaces.values() ?? []), ...builtIns.interfaces.values()]
        : [object?.interfaces.get(interfaceName) ?? builtIns.interfaces.get(interfaceName)];
    const entry = entries.find((candidate) => candidate?.methods.has(member));
    const declaration = entry?.methods.get(member);
    if (entry !== undefined && declaration !== undefined) {
      const leadsNowhere = entry.name !== peer.name && !this.tree.has(path);
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

  #builtIns(path: string): BusObject<Access> {
    if (path === this.#manager) return this.#onManager;
    return this.tree.get(path) === undefined ? this.#everywhere : this.#onObjects;
  }

  #introspectable(): Interface<never> {
    return {
      name: 'org.freedesktop.DBus.Introspectable',
      methods: {
        Introspect: method({
          in: [],
          out: [['xml_data', 's']],
          access: 'free',
          handler: ({ path }) => {
            const entries = [
              ...(this.tree.get(path)?.interfaces.values() ?? []),
              ...this.#builtIns(path).interfaces.values(),
            ];
            const tables = entries.map(({ table }) => table as Interface<never>);
            return [introspect(tables, this.tree.children(path))];
          },
        }),
      },
    };
  }

  #properties(): Interface<never> {
    return {
      name: 'org.freedesktop.DBus.Properties',
      methods: {
        Get: method({
          in: [
            ['interface_name', 's'],
            ['property_name', 's'],
          ],
          out: [['value', 'v']],
          access: 'free',
          handler: async ({ path }, [interfaceName, name]) => {
            const property = this.#property(path, interfaceName, name);
            return [await this.tree.property(path, property)];
          },
        }),
        GetAll: method({
          in: [['interface_name', 's']],
          out: [['props', 'a{sv}']],
          access: 'free',
          handler: async ({ path }, [interfaceName]) => {
            const entries = this.#interfaces(path, interfaceName);
            const maps = [];
            for (const entry of entries) maps.push(await this.tree.properties(path, entry));
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
          access: 'free',
          handler: ({ path }, [interfaceName, name]) => {
            this.#property(path, interfaceName, name);
            throw new DBusError(
              busError.propertyReadOnly,
              `the property ${shortened(name)} cannot be set`,
            );
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

  #objectManager(): Interface<never> {
    return {
      name: objectManager,
      methods: {
        GetManagedObjects: method({
          in: [],
          out: [['object_paths_interfaces_and_properties', managedSignature]],
          access: 'free',
          // The types know values only, not what is marshalled already.
          handler: async () => [(await this.tree.managedObjects()) as never],
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
  #interfaces(path: string, name: string): CompiledInterface<Access>[] {
    const { interfaces } = this.tree.get(path) ?? this.#everywhere;
    if (name === '') return [...interfaces.values()];
    const entry = interfaces.get(name) ?? this.#builtIns(path).interfaces.get(name);
    if (entry !== undefined) return [entry];
    throw new DBusError(busError.unknownInterface, `${path} has no interface ${shortened(name)}`);
  }

  #property(path: string, interfaceName: string, name: string) {
    const entries = this.#interfaces(path, interfaceName);
    const property = entries.map(({ properties }) => properties.get(name)).find(Boolean);
    if (property !== undefined) return property;
    throw new DBusError(busError.unknownProperty, `${path} has no property ${shortened(name)}`);
  }
}

/** What a call costs with an answer of so many bytes. */
function callCost({ body, bodyBytes }: CallFrame, answerBytes: number): number {
  const bytesPerCost = body === undefined ? passedBytesPerCost : callBytesPerCost;
  return 1 + Math.floor(bodyBytes / bytesPerCost) + Math.floor(answerBytes / answerBytesPerCost);
}

/** A function, for what is asked again after an await is not known to be false. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function unreadReplies(): DBusError {
  return new DBusError(busError.limitsExceeded, 'read the replies to your earlier calls first');
}

/** Texts of strangers, cut and printable: an error must not be longer than the call. */
function shortened(text: string): string {
  const cut = text.length > 255 ? `${text.slice(0, 255)}...` : text;
  return cut.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '\ufffd');
}

/** Section "org.freedesktop.DBus.Peer". */
const peer: Interface<never> = {
  name: 'org.freedesktop.DBus.Peer',
  methods: {
    Ping: method({ in: [], out: [], access: 'free', handler: () => undefined }),
    GetMachineId: method({
      in: [],
      out: [['machine_uuid', 's']],
      access: 'free',
      handler: () => [machineId()],
    }),
  },
};

const driverSignals = {
  sender: busDriver.destination,
  path: busDriver.path,
  interface: busDriver.interface,
} as const;

function builtIn<Access>(tables: readonly Interface<never>[]): BusObject<Access> {
  const entries = tables.map((table) => compile(table as unknown as Interface<Access>));
  return { interfaces: new Map(entries.map((entry) => [entry.name, entry])) };
}

/** @throws DBusError when the arguments are not what the method takes */
function decodedArguments(
  { signature, body, bigEndian, member }: CallFrame,
  interfaceName: string,
  { inSignature, entry }: Pick<CompiledMethod<never>, 'inSignature' | 'entry'>,
): unknown[] {
  const name = `${interfaceName}.${member}`;
  if (signature !== inSignature) {
    const text = `${name} takes arguments of the types "${inSignature}", not "${signature}"`;
    throw new DBusError(busError.invalidArgs, text);
  }
  if (body === undefined)
    throw new DBusError(busError.limitsExceeded, `the arguments of ${name} are too long`);
  try {
    return unmarshal(signature, body, bigEndian, { values: maximumValues, entry });
  } catch (error) {
    if (!(error instanceof UnmarshalError)) throw error;
    throw new DBusError(busError.invalidArgs, `the arguments of ${name}: ${error.message}`);
  }
}

/**
 * Serves objects: from now on calls are answered and signals sent. Whoever calls it still has to
 * request the service's name.
 * @returns the objects, to change them
 */
export async function serve<Access>(
  connection: ServiceConnection,
  options: ServeOptions<Access>,
): Promise<ObjectTree<Access>> {
  const service = new Service(connection, options);
  for (const [path, interfaces] of Object.entries(options.objects))
    service.tree.add(path, interfaces);
  await service.start();
  return service.tree;
}

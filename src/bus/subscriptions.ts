/** Signals that this process has asked the bus for. */

import type { CallRequest } from './outgoing-calls.ts';
import type { Frame } from './frame.ts';
import { unmarshal } from './unmarshal.ts';
import { busDriver } from './valid-names.ts';
import { busError, DBusError } from './values.ts';

/** Which signals: the D-Bus specification, section "Match Rules". */
export interface SignalMatch {
  /** A unique name, or a well-known one: then only signals of its owner match. */
  readonly sender?: string;
  readonly path?: string;
  /** The path itself and everything below it. */
  readonly pathNamespace?: string;
  readonly interface?: string;
  readonly member?: string;
  readonly arg0?: string;
  /** Of a dict among the arguments, the entries that are wanted; the bus sends all. Default: all. */
  readonly keys?: ReadonlySet<string>;
}

export interface Signal {
  /** The unique name of the sender. */
  readonly sender: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly signature: string;
  readonly body: readonly unknown[];
}

/** A signal whose body is decoded when somebody wants it: most are about what nobody follows. */
class ReceivedSignal implements Signal {
  readonly sender: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly signature: string;
  readonly #bytes: Buffer;
  readonly #bigEndian: boolean;
  readonly #keys: ReadonlySet<string> | undefined;
  #body: readonly unknown[] | undefined;

  constructor(
    header: Omit<Signal, 'body'>,
    { body: bytes, bigEndian }: { readonly body: Buffer; readonly bigEndian: boolean },
    keys: ReadonlySet<string> | undefined,
  ) {
    this.sender = header.sender;
    this.path = header.path;
    this.interface = header.interface;
    this.member = header.member;
    this.signature = header.signature;
    this.#bytes = bytes;
    this.#bigEndian = bigEndian;
    this.#keys = keys;
  }

  get body(): readonly unknown[] {
    return (this.#body ??= unmarshal(this.signature, this.#bytes, this.#bigEndian, {
      keys: this.#keys,
    }));
  }

  /** The first argument, without what follows: systemd tells with each change of a unit all that it knows of it. */
  get arg0(): unknown {
    const bytes = this.#bytes;
    if (this.#body !== undefined || !this.signature.startsWith('s') || bytes.length < 4)
      return this.body[0];
    const end = 4 + (this.#bigEndian ? bytes.readUInt32BE(0) : bytes.readUInt32LE(0));
    return bytes[end] === 0 ? bytes.toString('utf8', 4, end) : this.body[0];
  }
}

interface Subscription {
  readonly match: SignalMatch;
  readonly handler: (signal: Signal) => void;
}

/** A well-known name of a subscription, and its owner. */
interface TrackedName {
  owner: string;
  subscriptions: number;
  /** Resolves when the owner is known and every change of it will be heard of. */
  readonly ready: Promise<void>;
}

const ruleKeys = {
  sender: 'sender',
  path: 'path',
  pathNamespace: 'path_namespace',
  interface: 'interface',
  member: 'member',
  arg0: 'arg0',
} as const satisfies Record<Exclude<keyof SignalMatch, 'keys'>, string>;

/** Quoted as in a shell: within quotes only the quote itself is special. */
function quoted(value: string): string {
  return `'${value.replaceAll("'", `'\\''`)}'`;
}

function matchRule(match: SignalMatch): string {
  const parts = Object.entries(ruleKeys).flatMap(([field, key]) => {
    const value = match[field as keyof SignalMatch];
    return typeof value === 'string' ? [`${key}=${quoted(value)}`] : [];
  });
  return ["type='signal'", ...parts].join(',');
}

function ownerChanges(name: string): SignalMatch {
  const { destination: sender, path, interface: driver } = busDriver;
  return { sender, path, interface: driver, member: 'NameOwnerChanged', arg0: name };
}

/** What subscriptions need of the connection that they are of. */
interface Subscriber {
  call(request: CallRequest): Promise<readonly unknown[]>;
  readonly log: (problem: string, error: unknown) => void;
}

/** The subscriptions of a connection. */
export class Subscriptions {
  readonly #connection: Subscriber;
  readonly #subscriptions = new Set<Subscription>();
  readonly #tracked = new Map<string, TrackedName>();

  constructor(connection: Subscriber) {
    this.#connection = connection;
  }

  async add(match: SignalMatch, handler: (signal: Signal) => void): Promise<() => Promise<void>> {
    const rule = matchRule(match);
    const name = wellKnownSender(match);
    const subscription = { match, handler };
    if (name !== undefined) await this.#track(name);
    this.#subscriptions.add(subscription);
    try {
      await this.#driver('AddMatch', rule);
    } catch (error) {
      this.#subscriptions.delete(subscription);
      if (name !== undefined) await this.#untrack(name);
      throw error;
    }
    return async () => {
      if (!this.#subscriptions.delete(subscription)) return;
      await this.#driver('RemoveMatch', rule);
      if (name !== undefined) await this.#untrack(name);
    };
  }

  /** Calls the handlers of a received signal. */
  dispatch(frame: Frame): void {
    const { sender, path, interface: interfaceName, member, signature, body } = frame;
    if (sender === undefined || path === undefined || body === undefined) return;
    if (interfaceName === undefined || member === undefined) return;
    this.#followOwner(frame);
    const candidates = [...this.#subscriptions].filter(({ match }) => this.#matches(match, frame));
    if (candidates.length === 0) return;
    const header = { sender, path, interface: interfaceName, member, signature };
    for (const { match, handler } of candidates) {
      const signal = new ReceivedSignal(header, { body, bigEndian: frame.bigEndian }, match.keys);
      try {
        if (match.arg0 !== undefined && match.arg0 !== signal.arg0) continue;
        handler(signal);
      } catch (error) {
        this.#connection.log(`handling the signal ${interfaceName}.${member}`, error);
      }
    }
  }

  #matches(match: SignalMatch, frame: Frame): boolean {
    const { sender, path = '', interface: interfaceName, member } = frame;
    const { pathNamespace } = match;
    const tracked = match.sender === undefined ? undefined : this.#tracked.get(match.sender);
    const expectedSender = tracked === undefined ? match.sender : tracked.owner;
    if (expectedSender !== undefined && expectedSender !== sender) return false;
    if (match.path !== undefined && match.path !== path) return false;
    if (match.interface !== undefined && match.interface !== interfaceName) return false;
    if (match.member !== undefined && match.member !== member) return false;
    if (pathNamespace === undefined || pathNamespace === '/') return true;
    return path === pathNamespace || path.startsWith(`${pathNamespace}/`);
  }

  /** Only the bus itself can have this sender. */
  #followOwner(frame: Frame): void {
    if (frame.sender !== busDriver.destination || frame.member !== 'NameOwnerChanged') return;
    if (frame.signature !== 'sss' || frame.body === undefined) return;
    const [name, , owner] = unmarshal('sss', frame.body, frame.bigEndian) as [
      string,
      string,
      string,
    ];
    const tracked = this.#tracked.get(name);
    if (tracked !== undefined) tracked.owner = owner;
  }

  async #track(name: string): Promise<void> {
    let tracked = this.#tracked.get(name);
    if (tracked === undefined) {
      tracked = { owner: '', subscriptions: 0, ready: this.#learnOwner(name) };
      this.#tracked.set(name, tracked);
    }
    tracked.subscriptions++;
    await tracked.ready;
  }

  async #learnOwner(name: string): Promise<void> {
    await this.#driver('AddMatch', matchRule(ownerChanges(name)));
    const owner = await this.#currentOwner(name);
    const tracked = this.#tracked.get(name);
    // A change that was signalled meanwhile is at least as new as this answer.
    if (tracked?.owner === '') tracked.owner = owner;
  }

  async #currentOwner(name: string): Promise<string> {
    try {
      const [owner] = await this.#driver('GetNameOwner', name);
      return String(owner);
    } catch (error) {
      if (error instanceof DBusError && error.errorName === busError.nameHasNoOwner) return '';
      throw error;
    }
  }

  async #untrack(name: string): Promise<void> {
    const tracked = this.#tracked.get(name);
    if (tracked === undefined || --tracked.subscriptions > 0) return;
    this.#tracked.delete(name);
    await this.#driver('RemoveMatch', matchRule(ownerChanges(name)));
  }

  #driver(member: string, argument: string): Promise<readonly unknown[]> {
    return this.#connection.call({ ...busDriver, member, signature: 's', body: [argument] });
  }
}

/** The name whose owner has to be known; the bus's own signals carry its name as sender. */
function wellKnownSender({ sender }: SignalMatch): string | undefined {
  const followed =
    sender !== undefined && !sender.startsWith(':') && sender !== busDriver.destination;
  return followed ? sender : undefined;
}

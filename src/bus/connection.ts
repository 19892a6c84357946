/**
 * A connection to a message bus: calls out and in, replies, signals.
 *
 * src/bus is the D-Bus layer: messages, quotas of calls, and objects made of tables. It knows nothing of
 * containers, and it is the only user of the library dbus-next. What is said over the bus belongs in
 * src/service and src/cli.
 */

import type { Duplex } from 'node:stream';
import type { MessageLike } from 'dbus-next';
import MessageBus from 'dbus-next/lib/bus.js';
import { DBusError as LibraryError } from 'dbus-next/lib/errors.js';
import { Message } from 'dbus-next/lib/message-type.js';
import { OutgoingCalls, type CallRequest } from './outgoing-calls.ts';
import { messageFlag, messageType, type Frame } from './frame.ts';
import { unmarshal } from './unmarshal.ts';
import { busDriver } from './valid-names.ts';
import { Subscriptions, type Signal, type SignalMatch } from './subscriptions.ts';
import { authenticate, openSocket, Transport } from './transport.ts';
import { busError, DBusError } from './values.ts';

export type { CallRequest } from './outgoing-calls.ts';
export type { Signal, SignalMatch } from './subscriptions.ts';

/** A connection to a message bus. Everything that is sent or received goes in order. */
export interface BusConnection {
  /** The name that the bus gave to this connection, such as `:1.42`. */
  readonly uniqueName: string;
  /**
   * Calls a method and waits for the reply. At most 100 calls are under way at a time, 64 of them
   * to one destination; the others wait for their turn, and their timeout runs meanwhile.
   * @returns the values of the reply
   * @throws DBusError: the error reply, NoReply after the timeout, Disconnected with the bus lost
   */
  call(request: CallRequest): Promise<readonly unknown[]>;
  /**
   * Calls the handler for each signal that matches, from the moment the promise resolves on. With
   * `sender` only for signals of the present owner of that name.
   * @returns ends the subscription
   */
  subscribe(match: SignalMatch, handler: (signal: Signal) => void): Promise<() => Promise<void>>;
  /** Becomes the owner of a well-known name. @throws DBusError when another process is */
  requestName(name: string): Promise<void>;
  /** Resolves when the connection is lost; never after close(). */
  readonly lost: Promise<Error>;
  /** Sends what is under way and closes. Calls without a reply are rejected. */
  close(): void;
}

/** A received method call, its body still to be decoded. */
export type CallFrame = Frame & { readonly path: string; readonly member: string };

/** Takes errors that no caller waits for, such as those of event handlers. */
export type Log = (problem: string, error: unknown) => void;

/** What the service side needs beyond BusConnection. */
export interface ServiceConnection extends BusConnection {
  readonly log: Log;
  /** Calls to the name that were sent before are received when it settles; later ones do not come. */
  releaseName(name: string): Promise<void>;
  /** Settles when everything is received that was sent to this connection before. */
  sync(): Promise<void>;
  /** Gives every incoming method call to the handler; there is one. */
  handleCalls(handler: (call: CallFrame) => void): void;
  /** Answers the size of the reply in bytes. @throws MarshalError when a value does not fit */
  reply(call: CallFrame, signature: string, values: readonly unknown[]): number;
  replyError(call: CallFrame, error: DBusError): number;
  /** Bytes that the bus has not taken yet, beside what the kernel holds. */
  readonly unsentBytes: number;
  /** Settles when fewer bytes than that wait to be sent, or the connection is lost. */
  untilSent(below: number): Promise<void>;
  /** Broadcasts a signal. @throws MarshalError when the values do not fit the signature */
  emitSignal(
    path: string,
    interfaceName: string,
    member: string,
    signature: string,
    values: readonly unknown[],
  ): void;
}

export interface ConnectOptions {
  /** Default: DBUS_SYSTEM_BUS_ADDRESS, else the system bus. */
  readonly address?: string;
  /** Takes the place of the address: a stream to a bus, on which nothing was said yet. */
  readonly stream?: Duplex | undefined;
  /** Default: standard error. */
  readonly log?: Log;
}

const defaultTimeoutMs = 25_000;

/** setTimeout takes no longer one. */
const maximumTimeoutMs = 2 ** 31 - 1;

/** MessageBus sends Hello as its first message. */
const helloSerial = 1;

const nameFlagDoNotQueue = 4;
const nameReplyExists = 3;

class Connection implements ServiceConnection {
  readonly lost: Promise<Error>;
  readonly log: Log;
  readonly #stream: Duplex;
  readonly #transport: Transport;
  readonly #bus: MessageBus;
  readonly #outgoing = new OutgoingCalls();
  readonly #subscriptions: Subscriptions;
  /** Serials of the calls that have no reply yet. */
  readonly #awaited = new Set([helloSerial]);
  /** Rejects the calls that still wait for a reply. */
  readonly #pending = new Set<(error: DBusError) => void>();
  #handleCall: ((call: CallFrame) => void) | undefined;
  #closed: DBusError | undefined;

  constructor(stream: Duplex, log: Log) {
    this.log = log;
    this.#stream = stream;
    this.lost = new Promise((resolve) => {
      let reason: Error | undefined;
      stream.on('error', (error) => (reason = error));
      stream.once('close', () => {
        const text = 'the connection to the bus is lost';
        if (this.#closed === undefined) resolve(new Error(text, { cause: reason }));
        this.#fail(text);
      });
    });
    // The bus closes without an error; a half-open connection is of no use.
    stream.once('end', () => stream.destroy());
    this.#transport = new Transport(stream, (frame) => {
      this.#receive(frame);
    });
    this.#subscriptions = new Subscriptions(this);
    this.#bus = new MessageBus(this.#transport);
    this.#bus.on('error', (error: unknown) => {
      log('bus', error);
    });
  }

  get uniqueName(): string {
    return this.#bus.name ?? '';
  }

  get unsentBytes(): number {
    return this.#transport.unsentBytes;
  }

  untilSent(below: number): Promise<void> {
    return this.#transport.untilSent(below);
  }

  /** Reads from now on; resolves when the bus has given us a name. */
  async start(timeoutMs: number): Promise<void> {
    let timeout: NodeJS.Timeout | undefined;
    const named = new Promise<void>((resolve, reject) => {
      this.#pending.add(reject);
      this.#bus.once('connect', () => {
        this.#pending.delete(reject);
        resolve();
      });
      timeout = setTimeout(() => {
        reject(new DBusError(busError.noReply, 'the bus did not answer Hello'));
      }, timeoutMs);
    });
    this.#transport.start();
    await named.finally(() => {
      clearTimeout(timeout);
    });
  }

  call(request: CallRequest): Promise<readonly unknown[]> {
    const { destination, interactive = false, timeoutMs = defaultTimeoutMs } = request;
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) throw this.#closed;
      const message = new Message({
        destination,
        path: request.path,
        interface: request.interface,
        member: request.member,
        signature: request.signature ?? '',
        body: [...(request.body ?? [])],
        flags: interactive ? messageFlag.allowInteractiveAuthorization : 0,
      });
      const settle = (): void => {
        clearTimeout(timeout);
        this.#pending.delete(fail);
        leave();
      };
      const fail = (error: Error): void => {
        settle();
        reject(error);
      };
      const start = (): void => {
        const replied = this.#send(message).then(
          (values) => {
            settle();
            resolve(values);
          },
          (error: unknown) => {
            fail(error as Error);
          },
        );
        // The place stays taken until the reply comes, also after the timeout: so the bus counts.
        if (queued)
          void replied.finally(() => {
            this.#outgoing.release(destination);
          });
      };
      const expire = (): void => {
        const call = `${request.interface}.${request.member}`;
        const text = `${destination} did not answer ${call} within ${timeoutMs / 1000} s`;
        fail(new DBusError(busError.noReply, text));
      };
      // The bus itself always answers, and does not count these calls.
      const queued = destination !== busDriver.destination;
      const timeout =
        timeoutMs === Infinity
          ? undefined
          : setTimeout(expire, Math.min(timeoutMs, maximumTimeoutMs));
      this.#pending.add(fail);
      let leave = (): void => undefined;
      if (queued) leave = this.#outgoing.enter(destination, start);
      else start();
    });
  }

  subscribe(match: SignalMatch, handler: (signal: Signal) => void): Promise<() => Promise<void>> {
    return this.#subscriptions.add(match, handler);
  }

  async requestName(name: string): Promise<void> {
    const [reply] = await this.call({
      ...busDriver,
      member: 'RequestName',
      signature: 'su',
      body: [name, nameFlagDoNotQueue],
    });
    if (reply === nameReplyExists)
      throw new DBusError(
        busError.failed,
        `the bus name ${name} belongs to another process; stop that one first`,
      );
  }

  async releaseName(name: string): Promise<void> {
    await this.call({ ...busDriver, member: 'ReleaseName', signature: 's', body: [name] });
  }

  async sync(): Promise<void> {
    await this.call({ ...busDriver, member: 'GetId' });
  }

  handleCalls(handler: (call: CallFrame) => void): void {
    this.#handleCall = handler;
  }

  reply(call: CallFrame, signature: string, values: readonly unknown[]): number {
    return this.#answer(call, { type: messageType.methodReturn, signature, body: [...values] });
  }

  replyError(call: CallFrame, error: DBusError): number {
    const { errorName, message } = error;
    return this.#answer(call, {
      type: messageType.error,
      errorName,
      signature: 's',
      body: [message],
    });
  }

  emitSignal(
    path: string,
    interfaceName: string,
    member: string,
    signature: string,
    values: readonly unknown[],
  ): void {
    if (this.#closed !== undefined) return;
    this.#bus.send(Message.newSignal(path, interfaceName, member, signature, [...values]));
  }

  close(): void {
    this.#fail('the connection to the bus is closed');
    this.#stream.end();
  }

  #answer(call: CallFrame, answer: MessageLike): number {
    if (this.#closed !== undefined || (call.flags & messageFlag.noReplyExpected) !== 0) return 0;
    const { sender } = call;
    if (sender === undefined) return 0;
    const replySerial = call.serial as unknown as string;
    const before = this.#transport.sentBytes;
    this.#bus.send(new Message({ ...answer, destination: sender, replySerial }));
    return this.#transport.sentBytes - before;
  }

  async #send(message: Message): Promise<readonly unknown[]> {
    const replied = this.#bus.call(message);
    const serial = message.serial ?? 0;
    this.#awaited.add(serial);
    try {
      const reply = await replied;
      return (reply?.body ?? []) as readonly unknown[];
    } catch (error) {
      throw remoteError(error);
    } finally {
      this.#awaited.delete(serial);
    }
  }

  #fail(text: string): void {
    this.#closed ??= new DBusError(busError.disconnected, text);
    for (const fail of [...this.#pending]) fail(this.#closed);
    this.#pending.clear();
  }

  /** Must not throw: it runs inside the callback of the stream. */
  #receive(frame: Frame): void {
    try {
      switch (frame.type) {
        case messageType.methodCall:
          this.#receiveCall(frame as CallFrame);
          return;
        case messageType.methodReturn:
        case messageType.error:
          this.#receiveReply(frame);
          return;
        case messageType.signal:
          this.#subscriptions.dispatch(frame);
          return;
      }
    } catch (error) {
      this.log('a received message is dropped', error);
    }
  }

  #receiveCall(call: CallFrame): void {
    if (this.#handleCall !== undefined) {
      this.#handleCall(call);
      return;
    }
    const text = `no object here has a method ${call.member}`;
    this.replyError(call, new DBusError(busError.unknownMethod, text));
  }

  #receiveReply(frame: Frame): void {
    const { replySerial = 0 } = frame;
    if (!this.#awaited.has(replySerial)) return;
    const reply = decodedReply(frame);
    if (this.#bus.name === null && reply.type === messageType.error) {
      // dbus-next would end the process: the only call before the name is its own Hello.
      this.#fail(`the bus refused the connection: ${reply.errorName}`);
      this.#stream.destroy();
      return;
    }
    this.#transport.emit('message', reply);
  }
}

/** A reply as dbus-next takes it: without the destination, from which it would infer owners. */
function decodedReply(frame: Frame): Message {
  const { type, serial, sender = '', signature, errorName, bigEndian, body } = frame;
  const replySerial = frame.replySerial as unknown as string;
  const base = { serial, sender, replySerial };
  try {
    if (body === undefined) throw new Error('the reply is too long');
    const values = unmarshal(signature, body, bigEndian);
    if (errorName === undefined) return new Message({ ...base, type, signature, body: values });
    return new Message({ ...base, type, errorName, signature, body: values });
  } catch (error) {
    const text = `the reply of ${sender} is not usable: ${(error as Error).message}`;
    const errorType = messageType.error as number;
    return new Message({
      ...base,
      type: errorType,
      errorName: busError.inconsistentMessage,
      signature: 's',
      body: [text],
    });
  }
}

function remoteError(error: unknown): Error {
  if (!(error instanceof LibraryError)) return error as Error;
  const { type, text } = error;
  return new DBusError(type, typeof text === 'string' ? text : '');
}

/**
 * Connects to a message bus as the user of this process.
 * @throws Error when no bus answers within 25 s, or it refuses. A given stream may take any time to
 * authenticate, since a password may have to be typed first.
 */
export async function connectBus(options: ConnectOptions = {}): Promise<ServiceConnection> {
  const { address, log = console.error } = options;
  if (options.stream !== undefined) await authenticate(options.stream);
  const stream = options.stream ?? (await openSocket(address, defaultTimeoutMs));
  const connection = new Connection(stream, log);
  try {
    await connection.start(defaultTimeoutMs);
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

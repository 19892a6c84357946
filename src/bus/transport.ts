/**
 * The byte stream under dbus-next's MessageBus: address, authentication, frames. It takes the
 * place of dbus-next's own connection, whose reader any local user can crash with one message.
 */

import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import type { Duplex } from 'node:stream';
import type { Message } from 'dbus-next';
import { encodeFrame, FrameReader, type Frame } from './frame.ts';

/** Section "Well-known Message Bus Instances". */
const systemBusAddress = 'unix:path=/var/run/dbus/system_bus_socket';

/** Above this nothing is read, since what is read makes more to write. */
const maximumUnsentBytes = 2 ** 22;

/** A bus that takes nothing for so long is as good as lost. */
const stalledMs = 60_000;

const maximumSerial = 0xffffffff;

/**
 * The socket paths of an address list (section "Server Addresses"); those of abstract sockets
 * start with a NUL, as Node.js wants it (20.4 or later).
 * @throws Error when an address is not one of a Unix socket
 */
export function parseAddresses(text: string): string[] {
  return text.split(';').flatMap((address) => {
    if (address === '') return [];
    const [, transport = '', list = ''] = /^([^:]*):(.*)$/s.exec(address) ?? [];
    const parameters = new Map<string, string>();
    for (const parameter of list.split(',')) {
      const [, key = '', value = ''] = /^([^=]*)=(.*)$/s.exec(parameter) ?? [];
      parameters.set(key, unescapeAddress(value));
    }
    const path = parameters.get('path');
    const abstract = parameters.get('abstract');
    if (transport === 'unix' && path !== undefined) return [path];
    if (transport === 'unix' && abstract !== undefined) return [`\0${abstract}`];
    throw new Error(`bus address "${address}": only unix:path= and unix:abstract= are supported`);
  });
}

function unescapeAddress(value: string): string {
  const bytes = value.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/**
 * Connects to the first bus of the address list that answers, and authenticates with the uid of
 * this process (section "Authentication Protocol", mechanism EXTERNAL).
 */
export async function openSocket(
  addresses: string | undefined,
  timeoutMs: number,
): Promise<net.Socket> {
  const list = addresses ?? process.env['DBUS_SYSTEM_BUS_ADDRESS'] ?? systemBusAddress;
  let problem: unknown = new Error('the bus address is empty');
  for (const path of parseAddresses(list)) {
    try {
      return await openPath(path, timeoutMs);
    } catch (error) {
      problem = error;
    }
  }
  const reason = problem instanceof Error ? problem.message : String(problem);
  throw new Error(`cannot connect to the bus at ${list}: ${reason}`, { cause: problem });
}

async function openPath(path: string, timeoutMs: number): Promise<net.Socket> {
  const socket = net.createConnection({ path });
  const timeout = setTimeout(() => {
    socket.destroy(new Error(`no answer within ${timeoutMs / 1000} s`));
  }, timeoutMs);
  try {
    await once(socket, 'connect');
    await authenticate(socket);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timeout);
  }
}

/** The other side does not accept our uid, or does not speak D-Bus. */
export class AuthenticationError extends Error {}

/** A bus answers with some 40 bytes. */
const maximumAnswerBytes = 2 ** 12;

/**
 * Authenticates with the uid of this process. Waits as long as the other side takes; a stream that
 * fails is destroyed.
 * @throws AuthenticationError when it refuses; Error when it closes the stream
 */
export async function authenticate(stream: Duplex): Promise<void> {
  try {
    const uid = Buffer.from(String(process.getuid?.() ?? 0)).toString('hex');
    // The byte before it carries the credentials.
    stream.write(`\0AUTH EXTERNAL ${uid}\r\n`);
    const answer = await firstLine(stream);
    if (!answer.startsWith('OK '))
      throw new AuthenticationError(`its answer to the authentication is "${answer}"`);
    stream.write('BEGIN\r\n');
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

/** A line without its end. What follows it stays in the stream. */
async function firstLine(stream: Duplex): Promise<string> {
  let text = Buffer.alloc(0);
  let stop: () => void = () => undefined;
  try {
    return await new Promise<string>((resolve, reject) => {
      const read = (): void => {
        for (;;) {
          const chunk = stream.read() as Buffer | null;
          if (chunk === null) return;
          text = Buffer.concat([text, chunk]);
          const end = text.indexOf('\n');
          if (end < 0 && text.length <= maximumAnswerBytes) continue;
          // What is put back must not come here again.
          stop();
          stream.unshift(text.subarray(end < 0 ? text.length : end + 1));
          resolve(text.toString('latin1', 0, end < 0 ? maximumAnswerBytes : end).trim());
          return;
        }
      };
      const closed = (): void => {
        reject(new Error('the bus closed the connection during authentication'));
      };
      stop = () => {
        stream.off('readable', read).off('error', reject).off('close', closed);
      };
      stream.on('readable', read).once('error', reject).once('close', closed);
      read();
    });
  } finally {
    stop();
  }
}

/** What dbus-next's MessageBus takes for its connection: it sends by message(). */
export class Transport extends EventEmitter {
  readonly #stream: Duplex;
  readonly #onFrame: (frame: Frame) => void;
  /** Bytes of all messages sent so far. */
  sentBytes = 0;
  #unsent = 0;
  #waiting: { readonly below: number; readonly resolve: () => void }[] = [];
  #stalled: NodeJS.Timeout | undefined;

  constructor(stream: Duplex, onFrame: (frame: Frame) => void) {
    super();
    this.#stream = stream;
    this.#onFrame = onFrame;
  }

  /** Starts to read: frames until the stream closes. */
  start(): void {
    const stream = this.#stream;
    const reader = new FrameReader(this.#onFrame);
    const read = (): void => {
      try {
        while (stream.writableLength < maximumUnsentBytes) {
          const chunk = stream.read() as Buffer | null;
          if (chunk === null) return;
          reader.push(chunk);
        }
        stream.once('drain', read);
      } catch (error) {
        stream.destroy(error as Error);
      }
    };
    stream.on('readable', read);
    stream.once('close', () => {
      for (const { resolve } of this.#waiting.splice(0)) resolve();
    });
    read();
  }

  /** Bytes that the bus has not taken yet, beside what the kernel holds. */
  get unsentBytes(): number {
    return this.#stream.writableLength;
  }

  /** Settles when fewer bytes than that wait to be sent, or the connection is lost. */
  untilSent(below: number): Promise<void> {
    if (this.unsentBytes < below || this.#stream.destroyed) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ below, resolve }));
  }

  /** @throws MarshalError when the message cannot be expressed; Error when the bus is gone */
  message(message: Message): void {
    if (!this.#stream.writable) throw new Error('the connection to the bus is closed');
    const { serial } = message;
    if (serial === null || serial > maximumSerial) {
      this.#stream.destroy(new Error('all serials of the connection are used'));
      return;
    }
    const { interface: interfaceName, path, member, errorName, destination } = message;
    const { type, flags, signature, body } = message;
    const names = { interface: interfaceName, path, member, errorName, destination };
    const replySerial = message.replySerial as unknown as number | undefined;
    const bytes = encodeFrame({ type, flags, serial, replySerial, signature, ...names }, body);
    this.sentBytes += bytes.length;
    this.#unsent++;
    this.#watchProgress();
    this.#stream.write(bytes, () => {
      this.#unsent--;
      clearTimeout(this.#stalled);
      this.#stalled = undefined;
      if (this.#unsent > 0) this.#watchProgress();
      this.#wake();
    });
  }

  #wake(): void {
    const isSent = ({ below }: { below: number }): boolean => this.unsentBytes < below;
    const ready = this.#waiting.filter(isSent);
    if (ready.length === 0) return;
    this.#waiting = this.#waiting.filter((waiting) => !ready.includes(waiting));
    for (const { resolve } of ready) resolve();
  }

  #watchProgress(): void {
    this.#stalled ??= setTimeout(() => {
      this.#stream.destroy(new Error(`the bus took no message for ${stalledMs / 1000} s`));
    }, stalledMs).unref();
  }
}

import { once } from 'node:events';
import net from 'node:net';
import { Duplex } from 'node:stream';
import { FrameReader, type Frame } from '../../src/bus/frame.ts';
import { marshal } from '../../src/bus/marshal.ts';
import { unmarshal } from '../../src/bus/unmarshal.ts';
import { Variant } from '../../src/bus/values.ts';
import type { PrivateBus } from './bus.ts';

/** A message with a body that need not fit the signature. */
export interface RawMessage {
  /** Default: a method call. */
  type?: number;
  flags?: number;
  serial?: number;
  path?: string;
  interface?: string;
  member?: string;
  errorName?: string;
  replySerial?: number;
  destination?: string;
  signature?: string;
  body?: Buffer;
}

const fieldCodes = {
  path: [1, 'o'],
  interface: [2, 's'],
  member: [3, 's'],
  errorName: [4, 's'],
  replySerial: [5, 'u'],
  destination: [6, 's'],
  signature: [8, 'g'],
} as const;

export function rawBytes(message: RawMessage): Buffer {
  const { type = 1, flags = 0, serial = 1, body = Buffer.alloc(0) } = message;
  const fields = Object.entries(fieldCodes).flatMap(([name, [code, signature]]) => {
    const value = message[name as keyof typeof fieldCodes];
    return value === undefined ? [] : [[code, new Variant(signature, value)]];
  });
  const header = marshal('yyyyuua(yv)', [0x6c, type, flags, 1, body.length, serial, fields]);
  return Buffer.concat([header, Buffer.alloc((8 - (header.length % 8)) % 8), body]);
}

/** Passes bytes between its input and output and the socket. */
const relay = `
  const socket = require('net').connect(process.argv[1]);
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
  socket.on('error', () => process.exit(1));
  socket.on('close', () => process.exit(0));
`;

/** A client that sends whatever bytes it likes. */
export class RawClient {
  readonly #stream: Duplex;
  readonly #reader: FrameReader;
  readonly #frames: Frame[] = [];
  readonly #waiting = new Set<() => void>();
  #serial = 0;
  #ended = false;

  private constructor(stream: Duplex) {
    this.#stream = stream;
    this.#reader = new FrameReader((frame) => {
      this.#frames.push(frame);
    });
  }

  /** Connects and says Hello; as another user through a process of that user. */
  static async connect(bus: PrivateBus, uid = 0): Promise<RawClient> {
    const client = new RawClient(uid === 0 ? net.connect(bus.socket) : relayed(bus, uid));
    await client.#hello(uid);
    return client;
  }

  async #hello(uid: number): Promise<void> {
    const stream = this.#stream;
    stream.write(`\0AUTH EXTERNAL ${Buffer.from(`${uid}`).toString('hex')}\r\n`);
    const [line] = (await once(stream, 'data')) as [Buffer];
    if (!line.toString().startsWith('OK ')) throw new Error(`refused: ${line.toString()}`);
    stream.write('BEGIN\r\n');
    stream.on('data', (bytes: Buffer) => {
      this.#reader.push(bytes);
      this.#wake();
    });
    const end = (): void => {
      this.#ended = true;
      this.#wake();
    };
    stream.on('close', end).on('end', end).on('error', end);
    await this.call({
      destination: 'org.freedesktop.DBus',
      path: '/org/freedesktop/DBus',
      interface: 'org.freedesktop.DBus',
      member: 'Hello',
    });
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** @returns the serial */
  send(message: RawMessage): number {
    const serial = message.serial ?? ++this.#serial;
    this.#stream.write(rawBytes({ ...message, serial }));
    return serial;
  }

  sendBytes(bytes: Buffer): void {
    this.#stream.write(bytes);
  }

  /** Sends and answers the reply, also when it is an error. */
  async call(message: RawMessage, timeoutMs?: number): Promise<Frame> {
    const serial = this.send(message);
    return this.receive((frame) => frame.replySerial === serial, timeoutMs);
  }

  async receive(wanted: (frame: Frame) => boolean, timeoutMs = 30_000): Promise<Frame> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const index = this.#frames.findIndex(wanted);
      const [frame] = index < 0 ? [] : this.#frames.splice(index, 1);
      if (frame !== undefined) return frame;
      if (this.#ended) throw new Error('the bus closed the connection');
      const left = end - Date.now();
      if (left <= 0) throw new Error('no such message arrived');
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.#waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, left);
        this.#waiting.add(wake);
      });
    }
  }

  /** Reads nothing until {@link readAgain}. */
  stopReading(): void {
    this.#stream.pause();
  }

  readAgain(): void {
    this.#stream.resume();
  }

  get received(): readonly Frame[] {
    return this.#frames;
  }

  close(): void {
    this.#stream.destroy();
  }
}

function relayed(bus: PrivateBus, uid: number): Duplex {
  const child = bus.spawn([process.execPath, '-e', relay, bus.socket], { uid });
  if (child.stdin === null || child.stdout === null) throw new Error('the relay has no pipes');
  child.stderr?.resume();
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
  stream.once('close', () => child.kill('SIGKILL'));
  return stream;
}

/** The text of an error reply. */
export function errorText(frame: Frame): string {
  const [text] = unmarshal(frame.signature, frame.body ?? Buffer.alloc(0), frame.bigEndian);
  return String(text);
}

/**
 * Messages as bytes: the D-Bus specification, section "Message Format". Splits the stream of a
 * connection into frames, without a look at their bodies.
 */

import { marshal, MarshalError } from './marshal.ts';
import { parseSignature } from './signature.ts';
import { unmarshal } from './unmarshal.ts';
import { isBusName, isInterfaceName, isMemberName, isObjectPath } from './valid-names.ts';
import { Variant } from './values.ts';

/** Section "Message Format", message types; dbus-next's own declaration has other numbers. */
export const messageType = { methodCall: 1, methodReturn: 2, error: 3, signal: 4 } as const;

/** Section "Message Format", header flags; dbus-next does not know the third. */
export const messageFlag = {
  noReplyExpected: 1,
  noAutoStart: 2,
  allowInteractiveAuthorization: 4,
} as const;

export interface FrameHeader {
  /** One of messageType; receivers ignore others. */
  readonly type: number;
  readonly flags: number;
  readonly serial: number;
  readonly path?: string | undefined;
  readonly interface?: string | undefined;
  readonly member?: string | undefined;
  readonly errorName?: string | undefined;
  readonly replySerial?: number | undefined;
  readonly destination?: string | undefined;
  readonly sender?: string | undefined;
  /** Empty when the message has no body. */
  readonly signature: string;
}

/** One received message, its body not decoded yet. */
export interface Frame extends FrameHeader {
  readonly bigEndian: boolean;
  /** undefined: the body was too long and is gone. */
  readonly body: Buffer | undefined;
  /** Also of a body that is gone. */
  readonly bodyBytes: number;
  /** The header was too long: nothing but the sender is known. */
  readonly isHeaderTooLong?: true;
}

type FieldName =
  | 'path'
  | 'interface'
  | 'member'
  | 'errorName'
  | 'replySerial'
  | 'destination'
  | 'sender'
  | 'signature';

interface Field {
  readonly code: number;
  readonly name: FieldName;
  readonly type: string;
  readonly isValid: (text: string) => boolean;
}

const any = (): boolean => true;

function isSignature(text: string): boolean {
  try {
    parseSignature(text);
    return true;
  } catch {
    return false;
  }
}

/** Section "Header Fields". UNIX_FDS is missing: we never agree to pass any. */
const fields: readonly Field[] = [
  { code: 1, name: 'path', type: 'o', isValid: isObjectPath },
  { code: 2, name: 'interface', type: 's', isValid: isInterfaceName },
  { code: 3, name: 'member', type: 's', isValid: isMemberName },
  { code: 4, name: 'errorName', type: 's', isValid: isInterfaceName },
  { code: 5, name: 'replySerial', type: 'u', isValid: any },
  { code: 6, name: 'destination', type: 's', isValid: isBusName },
  { code: 7, name: 'sender', type: 's', isValid: isBusName },
  { code: 8, name: 'signature', type: 'g', isValid: isSignature },
];

const requiredFields: Record<number, readonly FieldName[]> = {
  [messageType.methodCall]: ['path', 'member'],
  [messageType.methodReturn]: ['replySerial'],
  [messageType.error]: ['errorName', 'replySerial'],
  [messageType.signal]: ['path', 'interface', 'member'],
};

/** The size of a frame before its header fields. */
const fixedBytes = 16;

/** Nothing we talk to comes near: names are 255 bytes at most, paths are short. */
const maximumFieldBytes = 2 ** 16;

/** Section "Message Format": 128 MiB, header included. */
const maximumMessageBytes = 2 ** 27;

/** How long the body of a message of each type may be, in bytes. Longer ones are passed over. */
const maximumBodyBytes: Record<number, number> = {
  // What strangers can send, and nothing that anybody calls here needs a tenth of it.
  [messageType.methodCall]: 2 ** 16,
  [messageType.signal]: 2 ** 20,
  // Asked for by ourselves; also the limit of the system bus.
  [messageType.methodReturn]: 2 ** 25,
  [messageType.error]: 2 ** 20,
};

/** The bytes are not D-Bus; where the next message starts cannot be known. */
export class ProtocolError extends Error {}

interface Fixed {
  readonly bigEndian: boolean;
  readonly type: number;
  readonly flags: number;
  readonly serial: number;
  readonly fieldBytes: number;
  readonly bodyBytes: number;
}

function padded(length: number): number {
  return Math.ceil(length / 8) * 8;
}

function readFixed(bytes: Buffer): Fixed {
  const bigEndian = bytes[0] === 0x42;
  if (!bigEndian && bytes[0] !== 0x6c) throw new ProtocolError('the byte order is unknown');
  if (bytes[3] !== 1) throw new ProtocolError(`the protocol version is ${bytes[3] ?? 0}`);
  const word = (at: number): number =>
    bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at);
  const fixed = {
    bigEndian,
    type: bytes.readUInt8(1),
    flags: bytes.readUInt8(2),
    serial: word(8),
    fieldBytes: word(12),
    bodyBytes: word(4),
  };
  if (fixedBytes + padded(fixed.fieldBytes) + fixed.bodyBytes > maximumMessageBytes)
    throw new ProtocolError('a message is longer than 128 MiB');
  return fixed;
}

type Header = Partial<Record<FieldName, unknown>>;

/**
 * The header fields as every program sends them, quicker than by way of their signature: most messages are
 * signals of which little more than the header is looked at. Undefined for any others, also for those that
 * break a rule.
 */
function readUsualFields(bytes: Buffer, { bigEndian, fieldBytes }: Fixed): Header | undefined {
  if (bigEndian) return undefined;
  const header: Header = {};
  const end = fixedBytes + fieldBytes;
  let at = fixedBytes;
  while (at < end) {
    const start = padded(at);
    // A code, a signature of one type, and four bytes of the value.
    if (start + 8 > end || !isZero(bytes, at, start)) return undefined;
    const field = fields[(bytes[start] ?? 0) - 1];
    if (field === undefined || bytes[start + 1] !== 1 || bytes[start + 3] !== 0) return undefined;
    if (bytes[start + 2] !== field.type.charCodeAt(0)) return undefined;
    if (field.type === 'u') {
      header[field.name] = bytes.readUInt32LE(start + 4);
      at = start + 8;
      continue;
    }
    const isShort = field.type === 'g';
    const length = isShort ? (bytes[start + 4] ?? 0) : bytes.readUInt32LE(start + 4);
    const from = start + (isShort ? 5 : 8);
    at = from + length + 1;
    if (at > end || bytes[at - 1] !== 0) return undefined;
    const text = bytes.toString('latin1', from, at - 1);
    if (!field.isValid(text)) return undefined;
    header[field.name] = text;
  }
  return header;
}

function isZero(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (bytes[at] !== 0) return false;
  return true;
}

/**
 * Reads the header fields.
 * @param bytes the whole header, up to the padding
 * @returns undefined for a header that breaks the rules: the message is to be ignored
 */
function readFields(bytes: Buffer, fixed: Fixed): FrameHeader | undefined {
  const usual = readUsualFields(bytes, fixed);
  if (usual !== undefined) return headerOf(usual, fixed);
  const header: Header = {};
  try {
    // From byte 8 on, which keeps the alignment.
    const [, list] = unmarshal('ua(yv)', bytes.subarray(8), fixed.bigEndian);
    for (const [code, { signature, value }] of list as [number, Variant][]) {
      const field = fields.find((candidate) => candidate.code === code);
      if (field === undefined) continue;
      if (signature !== field.type || !field.isValid(String(value))) return undefined;
      header[field.name] = value;
    }
  } catch {
    return undefined;
  }
  return headerOf(header, fixed);
}

function headerOf(header: Header, fixed: Fixed): FrameHeader | undefined {
  const required = requiredFields[fixed.type];
  if (required === undefined || fixed.serial === 0) return undefined;
  if (required.some((name) => header[name] === undefined)) return undefined;
  const { type, flags, serial } = fixed;
  return { signature: '', ...(header as Partial<FrameHeader>), type, flags, serial };
}

/** A header that is too long, in which only the sender is looked for, to be answered. */
interface LongHeader {
  readonly fixed: Fixed;
  /** How far it was read, in bytes after the fixed part. */
  at: number;
  sender: string;
}

const senderCode = 7;

/** Section "Header Fields": a code, a signature of one type and its NUL. */
const fieldStartBytes = 4;

/** A bus name: section "Valid Names". */
const maximumNameBytes = 255;

/** Splits a byte stream into frames. Holds at most one message. */
export class FrameReader {
  readonly #onFrame: (frame: Frame) => void;
  #chunks: Buffer[] = [];
  #available = 0;
  #passOver = 0;
  #fixed: Fixed | undefined;
  #long: LongHeader | undefined;

  constructor(onFrame: (frame: Frame) => void) {
    this.#onFrame = onFrame;
  }

  /** @throws ProtocolError when the connection has to be given up */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#available += chunk.length;
    while (this.#step());
  }

  /** @returns whether there may be more to do with the bytes at hand */
  #step(): boolean {
    if (this.#passOver > 0) {
      const bytes = Math.min(this.#passOver, this.#available);
      this.#take(bytes);
      this.#passOver -= bytes;
      return this.#passOver === 0;
    }
    if (this.#long !== undefined) return this.#longField(this.#long);
    if (this.#fixed === undefined) {
      if (this.#available < fixedBytes) return false;
      const bytes = this.#take(fixedBytes);
      this.#fixed = readFixed(bytes);
      // The header is read as a whole.
      this.#putBack(bytes);
    }
    return this.#message(this.#fixed);
  }

  #message(fixed: Fixed): boolean {
    const headerBytes = fixedBytes + padded(fixed.fieldBytes);
    const longest = maximumBodyBytes[fixed.type] ?? 0;
    if (fixed.fieldBytes > maximumFieldBytes) {
      this.#fixed = undefined;
      this.#long = { fixed, at: 0, sender: '' };
      this.#take(fixedBytes);
      return true;
    }
    const tooLong = fixed.bodyBytes > longest;
    const needed = headerBytes + (tooLong ? 0 : fixed.bodyBytes);
    if (this.#available < needed) return false;
    const bytes = this.#take(needed);
    this.#fixed = undefined;
    if (tooLong) this.#passOver = fixed.bodyBytes;
    const header = readFields(bytes.subarray(0, fixedBytes + fixed.fieldBytes), fixed);
    if (header !== undefined) {
      const own = bytes.subarray(headerBytes);
      // A copy: a call that waits would keep all that was read together with it. Nothing else waits.
      const kept = fixed.type === messageType.methodCall ? Buffer.from(own) : own;
      const body = tooLong ? undefined : kept;
      const { bigEndian, bodyBytes } = fixed;
      this.#onFrame({ ...header, bigEndian, body, bodyBytes });
    }
    return true;
  }

  /** Reads or passes over one field of a long header. */
  #longField(long: LongHeader): boolean {
    const { fixed, sender } = long;
    const start = padded(long.at);
    if (start >= fixed.fieldBytes) {
      this.#endLong(long);
      const { bigEndian, type, flags, serial, fieldBytes, bodyBytes } = fixed;
      if (type !== messageType.methodCall || sender === '' || serial === 0) return true;
      const known = {
        bigEndian,
        type,
        flags,
        serial,
        sender,
        path: '/',
        member: '',
        signature: '',
      };
      const gone = { body: undefined, bodyBytes: bodyBytes + fieldBytes, isHeaderTooLong: true };
      this.#onFrame({ ...known, ...gone } as Frame);
      return true;
    }
    const gap = start - long.at;
    // Header fields end where they are aligned to eight bytes.
    if (this.#available < gap + 8) return false;
    const bytes = this.#take(gap + 8);
    this.#putBack(bytes);
    const head = bytes.subarray(gap);
    const type = head[1] === 1 ? String.fromCharCode(head.readUInt8(2)) : '';
    const length = fixed.bigEndian ? head.readUInt32BE(4) : head.readUInt32LE(4);
    let valueBytes: number;
    if (type === 's' || type === 'o') valueBytes = 4 + length + 1;
    else if (type === 'g') valueBytes = 1 + head.readUInt8(4) + 1;
    else if (type === 'u') valueBytes = 4;
    else return this.#endLong(long);
    const end = start + fieldStartBytes + valueBytes;
    if (end > fixed.fieldBytes) return this.#endLong(long);
    if (head[0] === senderCode && type === 's' && length <= maximumNameBytes) {
      if (this.#available < end - long.at) return false;
      const field = this.#take(end - long.at);
      const name = field.toString('latin1', field.length - 1 - length, field.length - 1);
      if (isBusName(name)) long.sender = name;
    } else this.#passOver = end - long.at;
    long.at = end;
    return true;
  }

  #endLong({ fixed, at }: LongHeader): true {
    this.#long = undefined;
    this.#passOver = padded(fixed.fieldBytes) - at + fixed.bodyBytes;
    return true;
  }

  #take(length: number): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    const [bytes = Buffer.alloc(0)] = this.#chunks;
    this.#chunks = bytes.length > length ? [bytes.subarray(length)] : [];
    this.#available -= length;
    return bytes.subarray(0, length);
  }

  #putBack(bytes: Buffer): void {
    this.#chunks.unshift(bytes);
    this.#available += bytes.length;
  }
}

/**
 * Encodes a message, little endian.
 * @throws MarshalError when the body does not fit its signature, or a name is not valid
 */
export function encodeFrame(header: FrameHeader, values: readonly unknown[]): Buffer {
  const body = marshal(header.signature, values);
  const list = fields.flatMap(({ code, name, type, isValid }) => {
    const value = header[name];
    if (value === undefined || value === '') return [];
    if (!isValid(String(value))) throw new MarshalError(`"${value}" is no valid ${name}`);
    return [[code, new Variant(type, value)]];
  });
  const { type, flags, serial } = header;
  const head = marshal('yyyyuua(yv)', [0x6c, type, flags, 1, body.length, serial, list]);
  const start = padded(head.length);
  if (start + body.length > maximumMessageBytes) throw new MarshalError('the message is too long');
  const bytes = Buffer.allocUnsafe(start + body.length);
  head.copy(bytes);
  bytes.fill(0, head.length, start);
  body.copy(bytes, start);
  return bytes;
}

/**
 * The wire format: the D-Bus specification, section "Marshaling (Wire Format)".
 *
 * dbus-next's own reader throws inside a stream callback on a body it does not like, sets the
 * prototype of a dict that has a key `__proto__`, and reads past the end of a value; its writer
 * refuses dicts without a prototype and needs 0.3 s for what a ListUnits reply carries.
 */

import { isUtf8 } from 'node:buffer';
import { inspect } from 'node:util';
import { isObjectPath } from './valid-names.ts';
import { parseSignature, parseSingleType, type Type } from './signature.ts';
import { Variant } from './values.ts';

/** Bytes that are not a valid message body, or one with a type that we do not take. */
export class UnmarshalError extends Error {}

/** A value that does not fit its signature. */
export class MarshalError extends Error {}

/**
 * A body that is marshalled already, as the one value of a message: large answers are made in
 * slices, and kept while they are true.
 */
export class Marshalled {
  readonly signature: string;
  readonly bytes: Buffer;

  constructor(signature: string, bytes: Buffer) {
    this.signature = signature;
    this.bytes = bytes;
  }
}

/** Section "Marshaling": an array holds at most 64 MiB. */
export const maximumArrayBytes = 2 ** 26;

/** Of containers in one another, those in variants included: as libdbus has it. */
const maximumDepth = 64;

/** What a reader of strangers' bytes looks at before it goes on. */
export interface ReadLimits {
  /** Values in all, containers and what is in them: a body of a few bytes a value is costly. */
  readonly values?: number;
  /**
   * Called for each entry of a dict that is an argument of its own, before the value is read: throws
   * to end the reading.
   */
  readonly entry?: ((key: string, signature: string) => void) | undefined;
}

/** The type of an array's elements. */
function elementOf({ children: [element] }: Type): Type {
  if (element === undefined) throw new Error('not an array');
  return element;
}

/** The types of a dict entry's key and value. */
function typesOf({ children: [key, value] }: Type): [Type, Type] {
  if (key === undefined || value === undefined) throw new Error('not a dict entry');
  return [key, value];
}

class Reader {
  readonly #bytes: Buffer;
  readonly #bigEndian: boolean;
  #position = 0;
  #end: number;
  #depth = 0;
  #valuesLeft: number;
  readonly #entry: ReadLimits['entry'];

  constructor(bytes: Buffer, bigEndian: boolean, { values = Infinity, entry }: ReadLimits) {
    this.#valuesLeft = values;
    this.#entry = entry;
    this.#bytes = bytes;
    this.#bigEndian = bigEndian;
    this.#end = bytes.length;
  }

  body(types: readonly Type[]): unknown[] {
    const values = types.map((type) => this.#value(type));
    if (this.#position !== this.#end) throw new UnmarshalError('bytes follow the last value');
    return values;
  }

  #value(type: Type): unknown {
    if (--this.#valuesLeft < 0) throw new UnmarshalError('there are too many values');
    switch (type.code) {
      case 'y':
        return this.#bytes.readUInt8(this.#advance(1, 1));
      case 'b': {
        const word = this.#word();
        if (word > 1) throw new UnmarshalError(`the boolean is ${word}`);
        return word === 1;
      }
      case 'n': {
        const at = this.#advance(2, 2);
        return this.#bigEndian ? this.#bytes.readInt16BE(at) : this.#bytes.readInt16LE(at);
      }
      case 'q': {
        const at = this.#advance(2, 2);
        return this.#bigEndian ? this.#bytes.readUInt16BE(at) : this.#bytes.readUInt16LE(at);
      }
      case 'i':
        return this.#word() | 0;
      case 'u':
        return this.#word();
      case 'x': {
        const at = this.#advance(8, 8);
        return this.#bigEndian ? this.#bytes.readBigInt64BE(at) : this.#bytes.readBigInt64LE(at);
      }
      case 't': {
        const at = this.#advance(8, 8);
        return this.#bigEndian ? this.#bytes.readBigUInt64BE(at) : this.#bytes.readBigUInt64LE(at);
      }
      case 'd': {
        const at = this.#advance(8, 8);
        return this.#bigEndian ? this.#bytes.readDoubleBE(at) : this.#bytes.readDoubleLE(at);
      }
      case 's':
        return this.#text(this.#word());
      case 'o': {
        const path = this.#text(this.#word());
        if (!isObjectPath(path)) throw new UnmarshalError('an object path is not valid');
        return path;
      }
      case 'g':
        return this.#signature();
      case 'v':
        return this.#variant();
      case 'a':
        return this.#array(type);
      case '(':
        return this.#nested(() => {
          this.#align(8);
          return type.children.map((field) => this.#value(field));
        });
      default:
        // A file descriptor that did not come with the message: we never agree to pass any.
        throw new UnmarshalError(`values of type "${type.code}" are not supported`);
    }
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > maximumDepth) throw new UnmarshalError('containers are nested too deeply');
    const value = read();
    this.#depth--;
    return value;
  }

  #variant(): Variant {
    return this.#nested(() => {
      const signature = this.#signature();
      return new Variant(signature, this.#value(singleType(signature)));
    });
  }

  #signature(): string {
    const signature = this.#text(this.#bytes.readUInt8(this.#advance(1, 1)));
    try {
      parseSignature(signature);
    } catch (error) {
      throw new UnmarshalError('a signature is not valid', { cause: error });
    }
    return signature;
  }

  /** Of the variant that is next. */
  #peekSignature(): string {
    const position = this.#position;
    const signature = this.#signature();
    this.#position = position;
    return signature;
  }

  #array(type: Type): unknown {
    const element = elementOf(type);
    const length = this.#word();
    if (length > maximumArrayBytes) throw new UnmarshalError('an array is too long');
    // The padding before the first element is there also when there is no element.
    this.#align(element.alignment);
    const end = this.#position + length;
    if (end > this.#end) throw new UnmarshalError('an array ends behind its message');
    // A copy: a slice would keep the whole message alive.
    if (element.code === 'y') return Buffer.from(this.#bytes.subarray(this.#skip(length), end));
    return this.#nested(() => {
      const outerEnd = this.#end;
      this.#end = end;
      const value = element.code === '{' ? this.#dict(element) : this.#list(element);
      this.#end = outerEnd;
      return value;
    });
  }

  #list(element: Type): unknown[] {
    const list = [];
    while (this.#position < this.#end) list.push(this.#value(element));
    return list;
  }

  /** Without a prototype: a key can have any name. */
  #dict(entry: Type): Record<string, unknown> {
    const [keyType, valueType] = typesOf(entry);
    const dict = Object.create(null) as Record<string, unknown>;
    while (this.#position < this.#end) {
      this.#align(8);
      const key = String(this.#value(keyType));
      // Harmless here, but not where the dict is copied into an object that has a prototype.
      if (key === '__proto__') throw new UnmarshalError('a dict has the key __proto__');
      if (key in dict) throw new UnmarshalError('a dict has two entries with the same key');
      if (this.#depth === 1 && valueType.code === 'v') this.#entry?.(key, this.#peekSignature());
      dict[key] = this.#value(valueType);
    }
    return dict;
  }

  #text(length: number): string {
    const at = this.#skip(length + 1);
    const bytes = this.#bytes.subarray(at, at + length);
    if (this.#bytes[at + length] !== 0) throw new UnmarshalError('a string is not terminated');
    if (bytes.includes(0)) throw new UnmarshalError('a string contains a NUL');
    if (!isUtf8(bytes)) throw new UnmarshalError('a string is not UTF-8');
    return bytes.toString('utf8');
  }

  #word(): number {
    const at = this.#advance(4, 4);
    return this.#bigEndian ? this.#bytes.readUInt32BE(at) : this.#bytes.readUInt32LE(at);
  }

  #align(boundary: number): void {
    const start = Math.ceil(this.#position / boundary) * boundary;
    while (this.#position < start) {
      const at = this.#skip(1);
      if (this.#bytes[at] !== 0) throw new UnmarshalError('padding is not zero');
    }
  }

  /** Where a value of that size starts; the position is behind it afterwards. */
  #advance(boundary: number, size: number): number {
    this.#align(boundary);
    return this.#skip(size);
  }

  #skip(size: number): number {
    const at = this.#position;
    if (at + size > this.#end) throw new UnmarshalError('a value ends behind its container');
    this.#position = at + size;
    return at;
  }
}

function singleType(signature: string): Type {
  try {
    return parseSingleType(signature);
  } catch (error) {
    throw new UnmarshalError('the signature of a variant is not one complete type', {
      cause: error,
    });
  }
}

/**
 * Decodes a message body. `t` and `x` become bigint, `ay` a Buffer, structs arrays, dicts objects
 * without prototype (keys that are not strings as their decimal text), `v` a Variant.
 * @param bytes the body, which starts at a boundary of 8 bytes
 * @throws UnmarshalError when it is not what the signature says, or holds a file descriptor
 */
export function unmarshal(
  signature: string,
  bytes: Buffer,
  bigEndian = false,
  limits: ReadLimits = {},
): unknown[] {
  let types;
  try {
    types = parseSignature(signature);
  } catch (error) {
    throw new UnmarshalError('the signature of the body is not valid', { cause: error });
  }
  return new Reader(bytes, bigEndian, limits).body(types);
}

const integers: Record<string, { size: number; minimum: number; maximum: number }> = {
  y: { size: 1, minimum: 0, maximum: 0xff },
  n: { size: 2, minimum: -0x8000, maximum: 0x7fff },
  q: { size: 2, minimum: 0, maximum: 0xffff },
  i: { size: 4, minimum: -0x80000000, maximum: 0x7fffffff },
  u: { size: 4, minimum: 0, maximum: 0xffffffff },
};

function mismatch(type: Type, value: unknown): MarshalError {
  return new MarshalError(
    `${inspect(value, { depth: 1 })} is no value of type "${type.signature}"`,
  );
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** The key of a dict, which an object has as text. */
function dictKey(type: Type, key: string): unknown {
  switch (type.code) {
    case 's':
    case 'o':
    case 'g':
      return key;
    case 'x':
    case 't':
      return /^-?\d+$/.test(key) ? BigInt(key) : key;
    case 'b':
      return key === 'true' ? true : key === 'false' ? false : key;
    default:
      return key.trim() === '' ? key : Number(key);
  }
}

function checked<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new MarshalError('a signature is not valid', { cause: error });
  }
}

class Writer {
  #bytes: Buffer = Buffer.allocUnsafe(512);
  #length = 0;

  finish(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  body(types: readonly Type[], values: readonly unknown[]): void {
    if (types.length !== values.length)
      throw new MarshalError(`${values.length} values for ${types.length} types`);
    types.forEach((type, index) => {
      this.#value(type, values[index], 0);
    });
  }

  #value(type: Type, value: unknown, depth: number): void {
    if (depth > maximumDepth) throw new MarshalError('containers are nested too deeply');
    switch (type.code) {
      case 'y':
      case 'n':
      case 'q':
      case 'i':
      case 'u':
        this.#integer(type, value);
        return;
      case 'b':
        if (typeof value !== 'boolean') throw mismatch(type, value);
        this.#word(value ? 1 : 0);
        return;
      case 'x':
      case 't': {
        if (typeof value !== 'bigint') throw mismatch(type, value);
        const word = type.code === 't' ? BigInt.asUintN(64, value) : BigInt.asIntN(64, value);
        if (word !== value) throw mismatch(type, value);
        const at = this.#reserve(8, 8);
        this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), at);
        return;
      }
      case 'd': {
        if (typeof value !== 'number') throw mismatch(type, value);
        const at = this.#reserve(8, 8);
        this.#bytes.writeDoubleLE(value, at);
        return;
      }
      case 's':
        this.#text(type, value);
        return;
      case 'o':
        if (typeof value !== 'string' || !isObjectPath(value)) throw mismatch(type, value);
        this.#text(type, value);
        return;
      case 'g':
        if (typeof value !== 'string') throw mismatch(type, value);
        checked(() => parseSignature(value));
        this.#signature(value);
        return;
      case 'v':
        if (!(value instanceof Variant)) throw mismatch(type, value);
        this.#signature(value.signature);
        this.#value(
          checked(() => parseSingleType(value.signature)),
          value.value,
          depth + 1,
        );
        return;
      case 'a':
        this.#array(type, value, depth + 1);
        return;
      case '(':
        if (!Array.isArray(value) || value.length !== type.children.length)
          throw mismatch(type, value);
        this.#reserve(8, 0);
        type.children.forEach((field, index) => {
          this.#value(field, value[index], depth + 1);
        });
        return;
      default:
        throw new MarshalError(`values of type "${type.code}" are not supported`);
    }
  }

  #array(type: Type, value: unknown, depth: number): void {
    const element = elementOf(type);
    const lengthAt = this.#reserve(4, 4);
    const start = this.#reserve(element.alignment, 0);
    if (element.code === 'y' && value instanceof Uint8Array) {
      const at = this.#reserve(1, value.length);
      this.#bytes.set(value, at);
    } else if (element.code === '{') {
      this.#entries(type, element, value, depth);
    } else if (Array.isArray(value)) {
      for (const item of value) this.#value(element, item, depth);
    } else {
      throw mismatch(type, value);
    }
    const length = this.#length - start;
    if (length > maximumArrayBytes) throw new MarshalError('an array is longer than 64 MiB');
    this.#bytes.writeUInt32LE(length, lengthAt);
  }

  #entries(type: Type, entry: Type, dict: unknown, depth: number): void {
    if (!isPlainObject(dict)) throw mismatch(type, dict);
    const [keyType, valueType] = typesOf(entry);
    for (const [key, value] of Object.entries(dict)) {
      this.#reserve(8, 0);
      this.#value(keyType, dictKey(keyType, key), depth);
      this.#value(valueType, value, depth);
    }
  }

  #text(type: Type, value: unknown): void {
    if (typeof value !== 'string' || value.includes('\0')) throw mismatch(type, value);
    const length = Buffer.byteLength(value);
    this.#word(length);
    const at = this.#reserve(1, length + 1);
    // A lone surrogate, which UTF-8 cannot express, becomes U+FFFD here.
    this.#bytes.write(value, at, 'utf8');
    this.#bytes[at + length] = 0;
  }

  #signature(signature: string): void {
    const at = this.#reserve(1, signature.length + 2);
    this.#bytes[at] = signature.length;
    this.#bytes.write(signature, at + 1, 'latin1');
    this.#bytes[at + 1 + signature.length] = 0;
  }

  #integer(type: Type, value: unknown): void {
    const range = integers[type.code];
    if (range === undefined || typeof value !== 'number' || !Number.isInteger(value))
      throw mismatch(type, value);
    const { size, minimum, maximum } = range;
    if (value < minimum || value > maximum) throw mismatch(type, value);
    const at = this.#reserve(size, size);
    if (minimum < 0) this.#bytes.writeIntLE(value, at, size);
    else this.#bytes.writeUIntLE(value, at, size);
  }

  #word(value: number): void {
    // Not in one expression with #reserve: `this.#bytes` would be read before it moved.
    const at = this.#reserve(4, 4);
    this.#bytes.writeUInt32LE(value, at);
  }

  /** Pads to the boundary and makes room; answers where the room starts. */
  #reserve(boundary: number, size: number): number {
    const at = Math.ceil(this.#length / boundary) * boundary;
    const end = at + size;
    if (end > this.#bytes.length) {
      const bytes = Buffer.allocUnsafe(Math.max(end, this.#bytes.length * 2));
      this.#bytes.copy(bytes, 0, 0, this.#length);
      this.#bytes = bytes;
    }
    this.#bytes.fill(0, this.#length, at);
    this.#length = end;
    return at;
  }
}

/**
 * Encodes a message body, little endian. Takes what unmarshal() gives, also plain objects as dicts
 * and Uint8Arrays or arrays of numbers as `ay`.
 * @throws MarshalError when a value does not fit
 */
export function marshal(signature: string, values: readonly unknown[]): Buffer {
  const [first] = values;
  if (first instanceof Marshalled && values.length === 1) {
    if (first.signature !== signature)
      throw new MarshalError(`a body of "${first.signature}" is none of "${signature}"`);
    return first.bytes;
  }
  const types = checked(() => parseSignature(signature));
  const writer = new Writer();
  writer.body(types, values);
  return writer.finish();
}

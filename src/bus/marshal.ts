/**
 * Writes values in their wire format: the D-Bus specification, section "Marshaling (Wire Format)".
 *
 * dbus-next's own writer refuses dicts without a prototype and needs 0.3 s for what a ListUnits
 * reply carries.
 */

import { inspect } from 'node:util';
import { parseSignature, parseSingleType, type Type } from './signature.ts';
import { isObjectPath } from './valid-names.ts';
import { Variant } from './values.ts';
import { elementOf, maximumArrayBytes, maximumDepth, typesOf } from './wire-format.ts';

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

/** Stands for a value of type `t`, `x` or `d` that is written later. */
export const hole = Symbol('hole');

class Writer {
  /** Where the holes are. */
  readonly holes: number[] = [];
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

  // eslint-disable-next-line max-lines-per-function -- One case for each type.
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
        if (value === hole) {
          this.#hole();
          return;
        }
        if (typeof value !== 'bigint') throw mismatch(type, value);
        const word = type.code === 't' ? BigInt.asUintN(64, value) : BigInt.asIntN(64, value);
        if (word !== value) throw mismatch(type, value);
        const at = this.#reserve(8, 8);
        this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), at);
        return;
      }
      case 'd': {
        if (value === hole) {
          this.#hole();
          return;
        }
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

  #hole(): void {
    this.holes.push(this.#reserve(8, 8));
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

/** The same with {@link hole} in the place of some values, and where these belong. */
export function marshalWithHoles(
  signature: string,
  values: readonly unknown[],
): { bytes: Buffer; holes: readonly number[] } {
  const writer = new Writer();
  writer.body(parseSignature(signature), values);
  // The writer's own buffer is larger.
  return { bytes: Buffer.from(writer.finish()), holes: writer.holes };
}

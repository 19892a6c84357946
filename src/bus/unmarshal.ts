/**
 * Reads values from their wire format: the D-Bus specification, section "Marshaling (Wire Format)".
 *
 * dbus-next's own reader throws inside a stream callback on a body it does not like, sets the
 * prototype of a dict that has a key `__proto__`, and reads past the end of a value.
 */

import { isUtf8 } from 'node:buffer';
import { parseSignature, parseSingleType, type Type } from './signature.ts';
import { isObjectPath } from './valid-names.ts';
import { Variant } from './values.ts';
import { elementOf, maximumArrayBytes, maximumDepth, typesOf } from './wire-format.ts';

/** Bytes that are not a valid message body, or one with a type that we do not take. */
export class UnmarshalError extends Error {}

/** What a reader of strangers' bytes looks at before it goes on. */
export interface ReadLimits {
  /** Values in all, containers and what is in them: a body of a few bytes a value is costly. */
  readonly values?: number;
  /**
   * Called for each entry of a dict that is an argument of its own, before the value is read: throws
   * to end the reading.
   */
  readonly checkEntry?: ((key: string, signature: string) => void) | undefined;
  /** Of a dict that is an argument of its own, the entries to keep. Others are passed over and not checked. */
  readonly keys?: ReadonlySet<string> | undefined;
}

class Reader {
  readonly #bytes: Buffer;
  readonly #bigEndian: boolean;
  #position = 0;
  #end: number;
  #depth = 0;
  #valuesLeft: number;
  readonly #checkEntry: ReadLimits['checkEntry'];
  readonly #keys: ReadLimits['keys'];

  constructor(bytes: Buffer, bigEndian: boolean, limits: ReadLimits) {
    this.#valuesLeft = limits.values ?? Infinity;
    this.#checkEntry = limits.checkEntry;
    this.#keys = limits.keys;
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
      if (this.#depth === 1 && valueType.code === 'v') {
        if (this.#keys?.has(key) === false) {
          this.#passOver(valueType);
          continue;
        }
        this.#checkEntry?.(key, this.#peekSignature());
      }
      dict[key] = this.#value(valueType);
    }
    return dict;
  }

  /** Passes over a value: a text and a list tell how long they are. */
  #passOver(type: Type): void {
    if (type.code === 'v') {
      const inner = singleType(this.#signature());
      this.#nested(() => {
        this.#passOver(inner);
      });
    } else if (type.code === 's' || type.code === 'o') {
      this.#skip(this.#word() + 1);
    } else if (type.code === 'a') {
      const length = this.#word();
      this.#align(elementOf(type).alignment);
      this.#skip(length);
    } else this.#value(type);
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

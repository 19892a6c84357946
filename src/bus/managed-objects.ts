/**
 * The answer of GetManagedObjects: what an ObjectManager tells of all objects below it. On a large host it
 * is a megabyte. So what is told of each object is kept as bytes until a signal says that it has changed,
 * with holes for figures that change without a signal.
 */

import type { CompiledInterface, Property } from './interface-table.ts';
import { hole, marshal, Marshalled, MarshalError, marshalWithHoles } from './marshal.ts';
import { TimeSlices } from './event-loop.ts';
import { Variant, type VariantMap } from './values.ts';
import { maximumArrayBytes } from './wire-format.ts';

/** How long an answer is kept: figures of a moment are in it, milliseconds. */
const keptMs = 100;
/** Objects that are read at a time, between two looks at the clock. */
const atATime = 8;
/** Objects that change all the time are not waited for. */
const roundsMax = 4;

export const managedSignature = 'a{oa{sa{sv}}}';
const entrySignature = 'oa{sa{sv}}';

/** What an ObjectManager tells about an object: properties by interface. */
type ManagedObject = Record<string, VariantMap>;

/** What the answer is made of. */
interface Objects {
  paths(): Iterable<string>;
  has(path: string): boolean;
  interfaces(path: string): Iterable<CompiledInterface>;
  /** Takes the failure of a property's getter. */
  readonly unreadable: (property: string, error: unknown) => void;
}

/** An object as an entry of the answer, but for what is in its holes. */
interface Part {
  readonly bytes: Buffer;
  readonly holes: readonly { readonly at: number; readonly property: Property }[];
  /** Figures of other lengths, and their values in the bytes: most, such as limits, hardly ever change. */
  readonly figures: readonly { readonly property: Property; readonly value: unknown }[];
}

/** Types of which a value is eight bytes, so that it can be written into a hole. */
const writers: Readonly<Record<string, (bytes: Buffer, value: unknown, at: number) => void>> = {
  t: (bytes, value, at) => bytes.writeBigUInt64LE(value as bigint, at),
  x: (bytes, value, at) => bytes.writeBigInt64LE(value as bigint, at),
  d: (bytes, value, at) => bytes.writeDoubleLE(value as number, at),
};

export class ManagedObjects {
  readonly #objects: Objects;
  readonly #parts = new Map<string, Part>();
  /** The answer that is being made, and the last one. */
  #making: Promise<Marshalled> | undefined;
  #kept: { readonly body: Marshalled } | undefined;
  /** Paths about which a signal was sent while the answer was made. */
  readonly #stale = new Set<string>();

  constructor(objects: Objects) {
    this.#objects = objects;
  }

  /** What is kept or being made of an object is not true any more. */
  invalidate(path: string): void {
    this.#kept = undefined;
    this.#parts.delete(path);
    if (this.#making !== undefined) this.#stale.add(path);
  }

  /**
   * All objects. Made in slices, once for all simultaneous callers, and kept for a moment while no
   * signal announces a change.
   */
  answer(): Promise<Marshalled> {
    if (this.#kept !== undefined) return Promise.resolve(this.#kept.body);
    this.#making ??= Promise.resolve().then(async () => {
      try {
        return await this.#make();
      } finally {
        this.#making = undefined;
      }
    });
    return this.#making;
  }

  async #make(): Promise<Marshalled> {
    const slices = new TimeSlices();
    const entries = new Map<string, Buffer>();
    // An object that changes meanwhile is made again: its signal must not be older than the answer.
    for (let round = 0; round < roundsMax; round++) {
      this.#stale.clear();
      const missing = [...this.#objects.paths()].filter((path) => !entries.has(path));
      if (missing.length === 0) break;
      for (let index = 0; index < missing.length; index += atATime) {
        const waiting: Promise<void>[] = [];
        for (const path of missing.slice(index, index + atATime)) {
          const entry = this.#entry(path);
          const take = (bytes: Buffer | undefined): void => {
            if (bytes !== undefined) entries.set(path, bytes);
          };
          if (entry instanceof Promise) waiting.push(entry.then(take));
          else take(entry);
        }
        if (waiting.length > 0) await Promise.all(waiting);
        await slices.pause();
      }
      if (round < roundsMax - 1) for (const path of this.#stale) entries.delete(path);
    }
    const present = [...entries].filter(([path]) => this.#objects.has(path));
    const body = concatenated(present.map(([, entry]) => entry));
    const kept = { body };
    this.#kept = kept;
    setTimeout(() => {
      if (this.#kept === kept) this.#kept = undefined;
    }, keptMs).unref();
    return body;
  }

  /** At once where all of it is known; undefined where the object goes meanwhile. */
  #entry(path: string): Buffer | Promise<Buffer | undefined> {
    const part = this.#knownPart(path) ?? this.#makePart(path);
    if (part === undefined) return this.#readEntry(path);
    const { bytes, holes } = part;
    const waiting: Promise<void>[] = [];
    try {
      for (const { at, property } of holes) {
        const write = writers[property.signature];
        const value = property.get(path);
        if (value instanceof Promise)
          waiting.push(value.then((late: unknown) => write?.(bytes, late, at)));
        else write?.(bytes, value, at);
      }
    } catch {
      return this.#readEntry(path);
    }
    if (waiting.length === 0) return bytes;
    // Where a figure cannot be read, its property is left out.
    return Promise.all(waiting).then(
      () => bytes,
      () => this.#readEntry(path),
    );
  }

  /** What is kept of an object; undefined where a figure is another one now. */
  #knownPart(path: string): Part | undefined {
    const part = this.#parts.get(path);
    try {
      return part?.figures.every(({ property, value }) => isSame(property.get(path), value)) ===
        true
        ? part
        : undefined;
    } catch {
      return undefined;
    }
  }

  /** Keeps what can be kept of an object; undefined where that would not be all. */
  #makePart(path: string): Part | undefined {
    const object: ManagedObject = {};
    const properties: Property[] = [];
    const figures: Part['figures'][number][] = [];
    for (const entry of this.#objects.interfaces(path)) {
      const values: VariantMap = (object[entry.name] = {});
      for (const [member, property] of entry.properties) {
        const isFigure = property.emits === 'false';
        const isHole = isFigure && property.signature in writers;
        if (isHole) properties.push(property);
        try {
          const value = isHole ? hole : property.get(path);
          if (value instanceof Promise) return undefined;
          if (isFigure && !isHole) figures.push({ property, value });
          values[member] = new Variant(property.signature, value);
        } catch {
          return undefined;
        }
      }
    }
    const { bytes, holes } = marshalWithHoles(entrySignature, [path, object]);
    const part = {
      bytes,
      holes: properties.map((property, index) => ({ at: holes[index] ?? NaN, property })),
      figures,
    };
    this.#parts.set(path, part);
    return part;
  }

  /** What can be read of an object now. */
  async #readEntry(path: string): Promise<Buffer | undefined> {
    const object: ManagedObject = {};
    for (const entry of this.#objects.interfaces(path))
      object[entry.name] = await readProperties(path, entry, this.#objects.unreadable);
    return this.#objects.has(path) ? marshal(entrySignature, [path, object]) : undefined;
  }
}

/** Whether two values of a property are the same: texts, numbers and lists of such. */
function isSame(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (!Array.isArray(one) || !Array.isArray(other) || one.length !== other.length) return false;
  return one.every((part, index) => isSame(part, other[index]));
}

/** All properties of one interface; one that cannot be read is left out. */
export async function readProperties(
  path: string,
  { name, properties }: CompiledInterface,
  unreadable: (property: string, error: unknown) => void,
): Promise<VariantMap> {
  const values: VariantMap = {};
  for (const [member, { signature, get }] of properties) {
    try {
      const value = get(path);
      // Most are there at once: thousands of objects must not wait thousands of times.
      values[member] = new Variant(
        signature,
        value instanceof Promise ? ((await value) as unknown) : value,
      );
    } catch (error) {
      unreadable(`${path} ${name}.${member}`, error);
    }
  }
  return values;
}

/** The entries of an `a{oa{sa{sv}}}` as a body, each entry as a body of its own. */
function concatenated(entries: readonly Buffer[]): Marshalled {
  // The array's length, and the padding before its first entry.
  const headBytes = 8;
  const padded = (length: number): number => Math.ceil(length / 8) * 8;
  let length = headBytes;
  for (const entry of entries) length = padded(length) + entry.length;
  if (length - headBytes > maximumArrayBytes)
    throw new MarshalError('an array is longer than 64 MiB');
  const bytes = Buffer.allocUnsafe(length);
  bytes.fill(0, 0, headBytes).writeUInt32LE(length - headBytes);
  let at = headBytes;
  for (const entry of entries) {
    bytes.fill(0, at, padded(at));
    at = padded(at);
    at += entry.copy(bytes, at);
  }
  return new Marshalled(managedSignature, bytes);
}

/** Checked values of JSON that comes from another host, or from a file. */
import { LockerdError } from '../model/errors.ts';

/** A line has no more than this many characters: a configuration has up to 8 MiB with what it includes. */
export const lineMax = 16 * 1024 * 1024;

function wrong(what: string): LockerdError {
  return new LockerdError('Failed', `the other end is not understood: ${what}`);
}

/** An object of JSON. Its getters throw Failed for what is not there, or is of another type. */
export class Fields {
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(value: unknown) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw wrong('it is no object');
    }
    this.#values = value as Readonly<Record<string, unknown>>;
  }

  static parse(text: string): Fields {
    if (text.length > lineMax) throw wrong('it is too long');
    try {
      return new Fields(JSON.parse(text));
    } catch (error) {
      throw error instanceof LockerdError ? error : wrong('it is no JSON');
    }
  }

  #get(name: string): unknown {
    return Object.hasOwn(this.#values, name) ? this.#values[name] : undefined;
  }

  has(name: string): boolean {
    return this.#get(name) !== undefined;
  }

  text(name: string): string {
    const value = this.#get(name);
    if (typeof value !== 'string' || value.includes('\0')) throw wrong(`${name} is no text`);
    return value;
  }

  optionalText(name: string): string | undefined {
    return this.has(name) ? this.text(name) : undefined;
  }

  number(name: string): number {
    const value = this.#get(name);
    if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong(`${name} is no number`);
    return value;
  }

  flag(name: string): boolean {
    const value = this.#get(name);
    if (typeof value !== 'boolean') throw wrong(`${name} is not true or false`);
    return value;
  }

  texts(name: string): string[] {
    const value = this.#get(name);
    if (!Array.isArray(value)) throw wrong(`${name} is no list`);
    return value.map((item: unknown) => {
      if (typeof item !== 'string' || item.includes('\0')) throw wrong(`${name} has no texts`);
      return item;
    });
  }

  /** Texts by names. */
  record(name: string): Readonly<Record<string, string>> {
    const value = this.#get(name);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw wrong(`${name} is no object`);
    }
    // Without a prototype, no name means anything by itself.
    const texts = Object.create(null) as Record<string, string>;
    for (const [key, text] of Object.entries(value)) {
      if (typeof text !== 'string' || text.includes('\0')) throw wrong(`${name} has no texts`);
      texts[key] = text;
    }
    return texts;
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T {
    const value = values.find((known) => known === this.#get(name));
    if (value === undefined) throw wrong(`${name} is none of ${values.join(', ')}`);
    return value;
  }

  /** The number of a move. */
  id(name: string): string {
    const value = this.text(name);
    if (!/^[0-9a-f]{16}$/.test(value)) throw wrong(`${name} is no number of a move`);
    return value;
  }
}

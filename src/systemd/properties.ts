import { Variant } from '../bus/values.ts';

/**
 * Properties of units in both directions: checked getters for systemd's answers, and constructors for
 * properties to set, also in transient units.
 */

/** The D-Bus interfaces of a unit from which properties are read. */
export type UnitType = 'Unit' | 'Service' | 'Mount';

/**
 * Properties that systemd gave for one unit. Each getter throws an Error that names the unit and the
 * property if it is missing or has another type, which means an incompatible version of systemd.
 */
export class Properties {
  readonly #unit: string;
  readonly #values: ReadonlyMap<string, unknown>;

  /** @param values plain values, without the types that variants carry */
  constructor(unit: string, values: ReadonlyMap<string, unknown>) {
    this.#unit = unit;
    this.#values = values;
  }

  /** The same with some newer values. */
  with(newer: ReadonlyMap<string, unknown>): Properties {
    return new Properties(this.#unit, new Map([...this.#values, ...newer]));
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  string(name: string): string {
    const value = this.#values.get(name);
    return typeof value === 'string' ? value : this.#refuse(name, 'a text');
  }

  /** Integers of up to 32 bits, and doubles. */
  number(name: string): number {
    const value = this.#values.get(name);
    return typeof value === 'number' ? value : this.#refuse(name, 'a number');
  }

  /** Integers of 64 bits. */
  bigint(name: string): bigint {
    const value = this.#values.get(name);
    return typeof value === 'bigint' ? value : this.#refuse(name, 'a number of 64 bits');
  }

  boolean(name: string): boolean {
    const value = this.#values.get(name);
    return typeof value === 'boolean' ? value : this.#refuse(name, 'true or false');
  }

  strings(name: string): readonly string[] {
    const value = this.#values.get(name);
    return isTexts(value) ? value : this.#refuse(name, 'a list of texts');
  }

  #refuse(name: string, expected: string): never {
    const problem = this.#values.has(name) ? `is not ${expected}` : 'is missing';
    throw new Error(`systemd's answer about ${this.#unit} makes no sense: ${name} ${problem}`);
  }
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

/** Converts an `a{sv}` to plain values; empty for anything else. */
export function plainValues(map: unknown): ReadonlyMap<string, unknown> {
  if (typeof map !== 'object' || map === null) return new Map();
  return new Map(Object.entries(map).map(([name, value]) => [name, plainValue(value)]));
}

export function plainValue(value: unknown): unknown {
  return isVariant(value) ? value.value : value;
}

function isVariant(value: unknown): value is Variant {
  return typeof value === 'object' && value !== null && 'signature' in value && 'value' in value;
}

/** One property to set: its name and value. */
export type UnitProperty = readonly [string, Variant];

export function textProperty(name: string, value: string): UnitProperty {
  return [name, new Variant('s', value)];
}

export function booleanProperty(name: string, value: boolean): UnitProperty {
  return [name, new Variant('b', value)];
}

/** A property that is a list, such as `After=`. */
export function listProperty(name: string, values: readonly string[]): UnitProperty {
  return [name, new Variant('as', values)];
}

/** A limit in bytes; 2^64-1 for none. */
export function bytesProperty(name: string, bytes: bigint): UnitProperty {
  return [name, new Variant('t', bytes)];
}

/** Whether a unit is in neither a start, a run nor a stop, by systemd's word for its state. */
export function isDown(activeState: string): boolean {
  return activeState === 'inactive' || activeState === 'failed';
}

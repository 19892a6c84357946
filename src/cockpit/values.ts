/** Values of D-Bus as Cockpit's bridge hands them over: JSON, with variants as objects. */

/** Properties of an interface by name, without their variants. */
export type Properties = Readonly<Record<string, unknown>>;

/** From here on a number of 64 bits stands for "none" or "not known", which is 2^64-1 on the bus. */
const noNumber = 2 ** 63;

/** An unsigned number; undefined for 2^64-1, which one bridge rounds and the other one calls -1. */
export function figure(value: unknown): number | undefined {
  return typeof value === 'number' && value >= 0 && value < noNumber ? value : undefined;
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

export function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

/** Structures, each as the list of its fields. */
export function rows(value: unknown): readonly (readonly unknown[])[] {
  return Array.isArray(value) ? value.filter((item): item is unknown[] => Array.isArray(item)) : [];
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A dictionary of variants as its plain values. */
export function unwrap(dictionary: unknown): Properties {
  if (!isObject(dictionary)) return {};
  return Object.fromEntries(
    Object.entries(dictionary).map(([name, item]) => [
      name,
      isObject(item) && 'v' in item ? item['v'] : item,
    ]),
  );
}

interface Variant {
  readonly t: string;
  readonly v: unknown;
}

export const variant = (type: string, value: unknown): Variant => ({ t: type, v: value });

export type Options = Readonly<Record<string, Variant>>;

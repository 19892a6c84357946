/** Interfaces as tables: what is not declared here cannot be called. */

import { isInterfaceName, isMemberName } from './valid-names.ts';
import { parseSignature, parseSingleType } from './signature.ts';
import type { Variant } from './values.ts';

/** Name and type of an argument. */
export type Argument = readonly [name: string, signature: string];

interface BasicValues {
  s: string;
  o: string;
  g: string;
  b: boolean;
  y: number;
  n: number;
  q: number;
  i: number;
  u: number;
  d: number;
  x: bigint;
  t: bigint;
  v: Variant;
  ay: Uint8Array;
}

/** The TypeScript type of a D-Bus type; structs and nested containers are left to the reader. */
export type ValueOf<Signature extends string> = Signature extends keyof BasicValues
  ? BasicValues[Signature]
  : Signature extends `a{${infer Key}${infer Value}}`
    ? Key extends keyof BasicValues
      ? Record<string, ValueOf<Value>>
      : unknown
    : Signature extends `a${infer Element}`
      ? Element extends keyof BasicValues
        ? readonly BasicValues[Element][]
        : readonly unknown[]
      : unknown;

export type ValuesOf<Arguments extends readonly Argument[]> = {
  readonly [Index in keyof Arguments]: ValueOf<Arguments[Index][1]>;
};

/** A call of a method, without its arguments. */
export interface Call {
  /** The unique bus name of the caller. */
  readonly sender: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  /** The caller allows questions to its user (flag ALLOW_INTERACTIVE_AUTHORIZATION). */
  readonly interactive: boolean;
  /** Fires when the caller leaves the bus. Then no answer is needed. */
  readonly signal: AbortSignal;
}

/** Looks at the key and the type of an entry of an `a{sv}`; throws to refuse the call. */
export type CheckEntry = (key: string, signature: string) => void;

/** A method. Who may call it is for its handler to decide. */
export interface Method {
  readonly in: readonly Argument[];
  readonly out: readonly Argument[];
  /** Called for each entry of an argument of type `a{sv}` before its value is decoded. */
  readonly checkEntry?: CheckEntry;
  /** Answers the values of `out`. A thrown DBusError is the caller's answer. */
  readonly handler: (call: Call, args: never) => unknown;
}

type Handler<In extends readonly Argument[], Out extends readonly Argument[]> = (
  call: Call,
  args: ValuesOf<In>,
) =>
  ValuesOf<Out> | Promise<ValuesOf<Out>> | (Out extends readonly [] ? void | Promise<void> : never);

/** Declares a method; the types of its arguments and results follow from the signatures. */
export function method<
  const In extends readonly Argument[],
  const Out extends readonly Argument[],
>(declaration: {
  readonly in: In;
  readonly out: Out;
  readonly checkEntry?: CheckEntry;
  readonly handler: Handler<In, Out>;
}): Method {
  return declaration;
}

/** A property of the object at `path`. */
export interface Property {
  readonly signature: string;
  /**
   * EmitsChangedSignal of the D-Bus specification. `true`: PropertiesChanged carries each new value.
   * `const`: it never changes. `false`: it changes without a signal.
   */
  readonly emits: 'true' | 'const' | 'false';
  /** May answer later where `emits` is `false`; InterfacesAdded leaves the property out then. */
  readonly get: (path: string) => unknown;
  /** Who may set it, and to what, is for this function to decide. Without it, nobody may. */
  readonly set?: (call: Call, value: Variant) => void | Promise<void>;
}

export interface Interface {
  readonly name: string;
  readonly methods?: Readonly<Record<string, Method>>;
  readonly properties?: Readonly<Record<string, Property>>;
  readonly signals?: Readonly<Record<string, readonly Argument[]>>;
}

export interface CompiledMethod extends Method {
  readonly inSignature: string;
  readonly outSignature: string;
}

/** An interface in maps: members have names that strangers choose, such as `constructor`. */
export interface CompiledInterface {
  readonly name: string;
  readonly methods: ReadonlyMap<string, CompiledMethod>;
  readonly properties: ReadonlyMap<string, Property>;
  /** Signatures of the signals. */
  readonly signals: ReadonlyMap<string, string>;
  readonly table: Interface;
}

const compiled = new WeakMap<Interface, CompiledInterface>();

function signatureOf(list: readonly Argument[]): string {
  for (const [, signature] of list) parseSingleType(signature);
  const signature = list.map(([, type]) => type).join('');
  parseSignature(signature);
  return signature;
}

function checkMember(table: { readonly name: string }, member: string): string {
  if (!isMemberName(member)) throw new Error(`${table.name}: "${member}" is no member name`);
  return member;
}

/** Checks a table and prepares it for use. @throws Error when a name or signature is not valid */
export function compile(table: Interface): CompiledInterface {
  const known = compiled.get(table);
  if (known !== undefined) return known;
  if (!isInterfaceName(table.name)) throw new Error(`"${table.name}" is no interface name`);
  const { methods = {}, properties = {}, signals = {} } = table;
  const result: CompiledInterface = {
    name: table.name,
    table,
    methods: new Map(
      Object.entries(methods).map(([member, declaration]) => [
        checkMember(table, member),
        {
          ...declaration,
          inSignature: signatureOf(declaration.in),
          outSignature: signatureOf(declaration.out),
        },
      ]),
    ),
    properties: new Map(
      Object.entries(properties).map(([member, property]) => {
        parseSingleType(property.signature);
        return [checkMember(table, member), property];
      }),
    ),
    signals: new Map(
      Object.entries(signals).map(([member, list]) => [
        checkMember(table, member),
        signatureOf(list),
      ]),
    ),
  };
  compiled.set(table, result);
  return result;
}

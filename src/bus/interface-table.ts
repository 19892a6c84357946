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

/** Who calls what. */
export interface Call {
  /** The unique bus name of the caller. */
  readonly sender: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  /** The caller allows questions to its user (flag ALLOW_INTERACTIVE_AUTHORIZATION). */
  readonly interactive: boolean;
  /** Fires when the caller leaves the bus: nobody waits for the answer any more. */
  readonly signal: AbortSignal;
  readonly args: readonly unknown[];
}

/**
 * A method. `Access` says who may call it: 'free', or what the authorize hook of serve() takes.
 * It has no default: a method that nobody decided about does not compile.
 */
export interface Method<Access> {
  readonly in: readonly Argument[];
  readonly out: readonly Argument[];
  readonly access: 'free' | Access;
  readonly annotations?: Readonly<Record<string, string>>;
  /**
   * Called for each entry of an argument of type `a{sv}` before its value is decoded: throws to
   * refuse the call.
   */
  readonly entry?: (key: string, signature: string) => void;
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
  const Access,
>(declaration: {
  readonly in: In;
  readonly out: Out;
  readonly access: Access;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly entry?: (key: string, signature: string) => void;
  readonly handler: Handler<In, Out>;
}): Method<Exclude<Access, 'free'>> {
  return declaration as unknown as Method<Exclude<Access, 'free'>>;
}

interface ReadProperty {
  readonly signature: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A read-only property, of the object at `path`. `emits` is EmitsChangedSignal of the D-Bus specification. */
export type Property =
  | (ReadProperty & {
      readonly emits: 'true' | 'invalidates' | 'const';
      readonly get: (path: string) => unknown;
    })
  | (ReadProperty & {
      readonly emits: 'false';
      /** May answer later; InterfacesAdded leaves the property out then. */
      readonly get: (path: string) => unknown;
    });

export interface Interface<Access> {
  readonly name: string;
  readonly methods?: Readonly<Record<string, Method<Access>>>;
  readonly properties?: Readonly<Record<string, Property>>;
  readonly signals?: Readonly<Record<string, readonly Argument[]>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface CompiledMethod<Access> extends Method<Access> {
  readonly inSignature: string;
  readonly outSignature: string;
}

/** An interface in maps: members have names that strangers choose, such as `constructor`. */
export interface CompiledInterface<Access> {
  readonly name: string;
  readonly methods: ReadonlyMap<string, CompiledMethod<Access>>;
  readonly properties: ReadonlyMap<string, Property>;
  /** Signatures of the signals. */
  readonly signals: ReadonlyMap<string, string>;
  readonly table: Interface<Access>;
}

const compiled = new WeakMap<object, CompiledInterface<unknown>>();

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
export function compile<Access>(table: Interface<Access>): CompiledInterface<Access> {
  const known = compiled.get(table);
  if (known !== undefined) return known as CompiledInterface<Access>;
  if (!isInterfaceName(table.name)) throw new Error(`"${table.name}" is no interface name`);
  const { methods = {}, properties = {}, signals = {} } = table;
  const result: CompiledInterface<Access> = {
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

// Sends what nobody should send to a service, and sees whether it lives. For any service:
// targets() reads its methods from its introspection.

import fc from 'fast-check';
import type { ServiceConnection } from '../../src/bus/connection.ts';
import { marshal } from '../../src/bus/marshal.ts';
import { parseSignature, parseSingleType, type Type } from '../../src/bus/signature.ts';
import { Variant } from '../../src/bus/values.ts';
import { rawBytes, type RawMessage } from './raw.ts';

/** A method to attack. */
export interface FuzzTarget {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  /** Types of the arguments that it takes. */
  readonly signature: string;
}

const attributes = (tag: string): Map<string, string> =>
  new Map([...tag.matchAll(/([a-z]+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value]));

/** All methods of all objects of a service, from its own introspection. */
export async function targets(
  connection: ServiceConnection,
  destination: string,
  path = '/',
): Promise<FuzzTarget[]> {
  const [xml] = await connection.call({
    destination,
    path,
    interface: 'org.freedesktop.DBus.Introspectable',
    member: 'Introspect',
  });
  const found: FuzzTarget[] = [];
  const children: string[] = [];
  let interfaceName = '';
  let open: { member: string; signature: string } | undefined;
  for (const [tag, close, name] of String(xml).matchAll(/<(\/?)([a-z]+)[^>]*>/g)) {
    const get = (key: string): string => attributes(tag).get(key) ?? '';
    if (name === 'interface' && close === '') interfaceName = get('name');
    if (name === 'node' && get('name') !== '') children.push(get('name'));
    if (name === 'method' && close === '') open = { member: get('name'), signature: '' };
    if (name === 'arg' && open !== undefined && get('direction') === 'in')
      open.signature += get('type');
    const ends = name === 'method' && (close !== '' || tag.endsWith('/>'));
    if (ends && open !== undefined) {
      found.push({ destination, path, interface: interfaceName, ...open });
      open = undefined;
    }
  }
  for (const child of children)
    found.push(
      ...(await targets(connection, destination, path === '/' ? `/${child}` : `${path}/${child}`)),
    );
  return found;
}

const name = fc.oneof(
  fc.constantFrom('', 'web', '__proto__', 'constructor', '../../etc/passwd', '%s%n', 'a\nb', '-rf'),
  fc.string({ unit: 'binary', maxLength: 40 }).map((text) => text.replaceAll('\0', '')),
);

const path = fc.oneof(
  fc.constantFrom('/', '/org/lockerd1', '/org/lockerd1/container/web', '/org/freedesktop/DBus'),
  fc.stringMatching(/^(\/[A-Za-z0-9_]{1,8}){1,6}$/),
);

const signature = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      '',
      's',
      'a{sv}',
      'sa{sv}',
      'ssa{sv}',
      't',
      'v',
      'h',
      'ah',
      'o',
      'ay',
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .array(
        fc.constantFrom(
          'y',
          'b',
          'n',
          'q',
          'i',
          'u',
          'x',
          't',
          'd',
          's',
          'o',
          'g',
          'v',
          'as',
          '(sv)',
          'a(sso)',
          'a{sv}',
          'aav',
          'a{us}',
          'h',
        ),
        { maxLength: 6 },
      )
      .map((list) => list.join('')),
  },
);

const integers: Record<string, readonly [number, number]> = {
  y: [0, 0xff],
  n: [-0x8000, 0x7fff],
  q: [0, 0xffff],
  i: [-0x80000000, 0x7fffffff],
  u: [0, 0xffffffff],
  h: [0, 3],
};

/** Values of a type, also unlikely ones; deep variants become rare. */
function valueOf(type: Type, depth: number): fc.Arbitrary<unknown> {
  const range = integers[type.code];
  if (range !== undefined) return fc.integer({ min: range[0], max: range[1] });
  const [first] = type.children;
  switch (type.code) {
    case 'b':
      return fc.boolean();
    case 'x':
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
    case 't':
      return fc.oneof(
        fc.constantFrom(0n, 2n ** 64n - 1n),
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      );
    case 'd':
      return fc.double();
    case 'o':
      return path;
    case 'g':
      return signature;
    case 'v': {
      const inner =
        depth > 3
          ? fc.constantFrom('s', 'b', 't')
          : fc.constantFrom('s', 'b', 't', 'v', 'as', 'a{sv}', '(ss)', 'i', 'ay');
      return inner.chain((text) =>
        valueOf(parseSingleType(text), depth + 1).map((value) => new Variant(text, value)),
      );
    }
    case 'a':
      if (first?.code === '{') {
        const [keyType, valueType] = first.children as [Type, Type];
        const key =
          keyType.code === 's'
            ? fc.oneof(
                name,
                fc.constantFrom('wait', 'interactive', 'force', 'timeout-usec', 'request-id'),
              )
            : valueOf(keyType, depth);
        return fc
          .array(fc.tuple(key, valueOf(valueType, depth + 1)), { maxLength: 4 })
          .map((entries) => Object.fromEntries(entries.map(([k, v]) => [String(k), v])));
      }
      return first === undefined
        ? fc.constant([])
        : fc.array(valueOf(first, depth + 1), { maxLength: 5 });
    case '(':
      return fc.tuple(...type.children.map((field) => valueOf(field, depth + 1)));
    default:
      return name;
  }
}

/** A file descriptor is an index, of a descriptor that does not come along. */
function encoded(text: string, values: readonly unknown[]): Buffer {
  return marshal(text.replaceAll('h', 'u'), values);
}

function bodyOf(text: string): fc.Arbitrary<Buffer> {
  const values = parseSignature(text).map((type) => valueOf(type, 0));
  return fc.tuple(...values).map((list) => encoded(text, list));
}

/** What fits the method, and what fits another one. The bus takes them all. */
function messageFor(target: FuzzTarget): fc.Arbitrary<RawMessage> {
  const rightArguments = bodyOf(target.signature).map((body) => ({
    signature: target.signature,
    body,
  }));
  const otherArguments = signature.chain((text) =>
    bodyOf(text).map((body) => ({ signature: text, body })),
  );
  const { destination, path: at, interface: interfaceName, member } = target;
  const header = fc.record({
    flags: fc.constantFrom(0, 0, 0, 1, 2, 4, 5, 255),
    path: fc.oneof({ weight: 8, arbitrary: fc.constant(at) }, path),
    interface: fc.constantFrom(
      interfaceName,
      interfaceName,
      interfaceName,
      undefined,
      'a.b',
      'org.freedesktop.DBus.Properties',
    ),
    member: fc.constantFrom(member, member, member, member, 'constructor', '__proto__', 'Nothing'),
    type: fc.constantFrom(1, 1, 1, 1, 1, 1, 4),
  });
  return fc
    .tuple(header, fc.oneof({ weight: 3, arbitrary: rightArguments }, otherArguments))
    .map(([{ interface: chosen, ...rest }, body]) => {
      const signal = rest.type === 4;
      const named = chosen ?? (signal ? interfaceName : undefined);
      return { destination, ...rest, ...(named !== undefined && { interface: named }), ...body };
    });
}

/** Messages, as bytes, for all the targets in turn. The same seed gives the same messages. */
export function fuzzMessages(
  list: readonly FuzzTarget[],
  seed: number,
  count: number,
): RawMessage[] {
  const each = Math.ceil(count / list.length);
  const samples = list.map((target, index) =>
    fc.sample(messageFor(target), { seed: seed + index, numRuns: each }),
  );
  return Array.from({ length: each }, (_, round) =>
    samples.flatMap((sample) => sample.slice(round, round + 1)),
  ).flat();
}

/** Garbles bytes of a message, so that the bus throws its sender out or passes something odd on. */
export function garbled(message: RawMessage, serial: number, seed: number): Buffer {
  const bytes = rawBytes({ ...message, serial });
  const [edits = []] = fc.sample(
    fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
    { seed, numRuns: 1 },
  );
  for (const [at, value] of edits) bytes[at] = value;
  return bytes;
}

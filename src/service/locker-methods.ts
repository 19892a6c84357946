/**
 * The methods that do something with a locker. Each stands once here: Locker has it as it is, and Manager
 * has it with the locker's name in front.
 */

import { jobPath } from '../api/paths.ts';
import { unknownFigure } from '../api/names.ts';
import type { Argument, Method } from '../bus/interface-table.ts';
import { Variant, type VariantMap } from '../bus/values.ts';
import type { LockerSnapshot, Store } from '../core/locker-ports.ts';
import { optionsOf, type LockerRequest } from '../core/request.ts';
import {
  forCaller,
  onlyOptions,
  optionBag,
  optionsArgument,
  type Options,
  type ServiceContext,
} from './service-context.ts';

/** A method that is still to be told how its locker is found. */
type LockerMethod = (nameAt?: (path: string) => string) => Method;

type Verb = LockerRequest['verb'];

/** By name; without a way to find the name in the path, the name is the first argument. */
export type LockerMethods = Readonly<
  Record<Verb | 'list-snapshots' | 'look', LockerMethod> & { 'list-stores': Method }
>;

/** The arguments of a locker's method, and which of them are its own. */
function withLocker<T extends readonly unknown[]>(
  own: readonly Argument[],
  nameAt: ((path: string) => string) | undefined,
): {
  readonly in: readonly Argument[];
  readonly split: (path: string, args: readonly unknown[]) => readonly [name: string, args: T];
} {
  if (nameAt) return { in: own, split: (path, args) => [nameAt(path), args as unknown as T] };
  return {
    in: [['locker', 's'], ...own],
    split: (_, [name, ...args]) => [name as string, args as unknown as T],
  };
}

export function lockerMethods(context: ServiceContext): LockerMethods {
  const { core, callers } = context;
  const declare =
    <T extends readonly unknown[]>(
      verb: Verb,
      own: readonly Argument[],
      request: (locker: string, args: T) => LockerRequest,
    ): LockerMethod =>
    (nameAt) => {
      const { in: args, split } = withLocker<T>([...own, optionsArgument], nameAt);
      return {
        in: verb === 'create-locker' ? [['name', 's'], ...args.slice(1)] : args,
        out: [['job', 'o']],
        checkEntry: onlyOptions(optionsOf[verb]),
        handler: (call, values: readonly unknown[]) =>
          forCaller(callers, call, async (caller) => {
            const [locker, rest] = split(call.path, values);
            const options = rest[own.length] as Options;
            const job = await core.request(caller, request(locker, rest), optionBag(options));
            return [jobPath(job.id)] as const;
          }),
      };
    };
  const sized = (verb: 'create-locker' | 'grow-locker') =>
    declare(verb, [['size_bytes', 't']], (locker, [size]: readonly [bigint]) => ({
      verb,
      locker,
      size,
    }));
  return {
    'create-locker': sized('create-locker'),
    'grow-locker': sized('grow-locker'),
    'rename-locker': declare(
      'rename-locker',
      [['name', 's']],
      (locker, [name]: readonly [string]) => ({ verb: 'rename-locker', locker, name }),
    ),
    'snapshot-locker': declare(
      'snapshot-locker',
      [['snapshot', 's']],
      (locker, [snapshot]: readonly [string]) => ({ verb: 'snapshot-locker', locker, snapshot }),
    ),
    'restore-locker': declare(
      'restore-locker',
      [
        ['snapshot', 's'],
        ['name', 's'],
      ],
      (locker, [snapshot, name]: readonly [string, string]) => ({
        verb: 'restore-locker',
        locker,
        snapshot,
        name,
      }),
    ),
    'forget-locker': declare('forget-locker', [], (locker) => ({ verb: 'forget-locker', locker })),
    'list-snapshots': (nameAt) => listSnapshots(context, nameAt),
    look: (nameAt) => look(context, nameAt),
    'list-stores': listStores(context),
  };
}

function listSnapshots(
  { core, callers }: ServiceContext,
  nameAt: ((path: string) => string) | undefined,
): Method {
  const { in: args, split } = withLocker([], nameAt);
  return {
    in: args,
    out: [['snapshots', 'a(sttt)']],
    handler: (call, values: readonly unknown[]) =>
      forCaller(callers, call, async ({ uid }) => {
        const [locker] = split(call.path, values);
        return [(await core.lockers.readSnapshots(uid, locker)).map(snapshotValues)];
      }),
  };
}

function snapshotValues({ name, createdUsec, size, used }: LockerSnapshot): readonly unknown[] {
  return [name, createdUsec ?? unknownFigure, size ?? unknownFigure, used ?? unknownFigure];
}

/** Look of a locker, and LookAtLockers of the manager: properties tell what was seen. */
function look(
  { core, callers }: ServiceContext,
  nameAt: ((path: string) => string) | undefined,
): Method {
  return {
    in: nameAt ? [] : [['lockers', 'as']],
    out: [],
    handler: (call, [names]: readonly (readonly string[])[]) =>
      forCaller(callers, call, async () => {
        const { host, lockers } = core;
        const wanted = nameAt ? [nameAt(call.path)] : (names ?? []);
        const all = () => host.lockers.map(({ name }) => name);
        await lockers.looks.renew(wanted.length > 0 ? wanted : all());
      }),
  };
}

function listStores({ core, callers }: ServiceContext): Method {
  return {
    in: [],
    out: [['stores', 'a(sa{sv})']],
    handler: (call) =>
      forCaller(callers, call, async ({ uid }) => [
        (await core.lockers.readStores(uid)).map((store) => [store.name, storeValues(store)]),
      ]),
  };
}

/** What is known of a store; nothing of what is not known. */
function storeValues(store: Store): VariantMap {
  const forgotten = store.forgotten.map(({ name, size }) => [name, size ?? unknownFigure]);
  const members: readonly (readonly [key: string, signature: string, value: unknown])[] = [
    ['Type', 's', store.type],
    ['FileSystem', 's', store.fileSystem],
    ['Size', 't', store.size],
    ['Free', 't', store.free],
    ['MaxSize', 't', store.maxSize],
    ['Default', 'b', store.isDefault],
    ['Problem', 's', store.problem],
    ['Forgotten', 'a(st)', forgotten],
  ];
  return Object.fromEntries(
    members.flatMap(([key, signature, value]) =>
      value === undefined ? [] : [[key, new Variant(signature, value)]],
    ),
  );
}

/**
 * The methods that do something with a locker. Each stands once here: Locker has it as it is, and Manager
 * has it with the locker's name in front.
 */

import { jobPath } from '../api/paths.ts';
import { unknownFigure } from '../api/names.ts';
import type { Argument, Method } from '../bus/interface-table.ts';
import { knownVariants, type VariantMap } from '../bus/values.ts';
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
function withLocker(
  own: readonly Argument[],
  nameAt: ((path: string) => string) | undefined,
): {
  readonly in: readonly Argument[];
  readonly split: (
    path: string,
    args: readonly unknown[],
  ) => readonly [name: string, args: readonly unknown[]];
} {
  if (nameAt) return { in: own, split: (path, args) => [nameAt(path), args] };
  return {
    in: [['locker', 's'], ...own],
    split: (_, [name, ...args]) => [name as string, args],
  };
}

/** Makes a method of a verb. @param request what the locker and the own arguments ask for */
function declareWith({ core, callers }: ServiceContext) {
  return (
      verb: Verb,
      own: readonly Argument[],
      request: (locker: string, ...own: never[]) => LockerRequest,
    ): LockerMethod =>
    (nameAt) => {
      const { in: args, split } = withLocker([...own, optionsArgument], nameAt);
      return {
        in:
          verb === 'create-locker' || verb === 'adopt-locker'
            ? [['name', 's'], ...args.slice(1)]
            : args,
        out: [['job', 'o']],
        checkEntry: onlyOptions(optionsOf[verb]),
        handler: (call, values: readonly unknown[]) =>
          forCaller(callers, call, async (caller) => {
            const [locker, rest] = split(call.path, values);
            const asked = request(locker, ...(rest.slice(0, own.length) as never[]));
            const job = await core.request(caller, asked, optionBag(rest[own.length] as Options));
            return [jobPath(job.id)] as const;
          }),
      };
    };
}

export function lockerMethods(context: ServiceContext): LockerMethods {
  const declare = declareWith(context);
  const sized = (verb: 'create-locker' | 'grow-locker') =>
    declare(verb, [['size_bytes', 't']], (locker, size: bigint) => ({ verb, locker, size }));
  const snapshotArgument = ['snapshot', 's'] as const;
  const nameArgument = ['name', 's'] as const;
  return {
    'create-locker': sized('create-locker'),
    'grow-locker': sized('grow-locker'),
    'rename-locker': declare('rename-locker', [nameArgument], (locker, name: string) => ({
      verb: 'rename-locker',
      locker,
      name,
    })),
    'snapshot-locker': declare(
      'snapshot-locker',
      [snapshotArgument],
      (locker, snapshot: string) => ({ verb: 'snapshot-locker', locker, snapshot }),
    ),
    'restore-locker': declare(
      'restore-locker',
      [snapshotArgument, nameArgument],
      (locker, snapshot: string, name: string) => ({
        verb: 'restore-locker',
        locker,
        snapshot,
        name,
      }),
    ),
    'forget-locker': declare('forget-locker', [], (locker) => ({ verb: 'forget-locker', locker })),
    'adopt-locker': declare('adopt-locker', [], (locker) => ({ verb: 'adopt-locker', locker })),
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
  return knownVariants([
    ['Type', 's', store.type],
    ['FileSystem', 's', store.fileSystem],
    ['Size', 't', store.size],
    ['Free', 't', store.free],
    ['MaxSize', 't', store.maxSize],
    ['Default', 'b', store.isDefault],
    ['Problem', 's', store.problem],
    ['Forgotten', 'a(st)', forgotten],
  ]);
}

/**
 * The methods that do something with a container. Each stands once here: Container has it as it is,
 * and Manager has it with the container's name in front.
 */

import { jobPath } from '../api/paths.ts';
import type { Argument, Call, CheckEntry, Method } from '../bus/interface-table.ts';
import { optionsOf, type ContainerRequest } from '../core/request.ts';
import { checkLimit, parseLimits } from '../core/requested-limits.ts';
import { isLimitName } from '../model/guest-limits.ts';
import { asBusError } from './bus-errors.ts';
import {
  forCaller,
  onlyOptions,
  optionBag,
  optionsArgument,
  type Options,
  type ServiceContext,
} from './service-context.ts';

type JobReply = readonly [jobPath: string];

/** A method that is still to be told how its container is found. */
export interface ContainerMethod {
  readonly in: readonly Argument[];
  readonly checkEntry: CheckEntry;
  /** The core asks polkit, because only it knows what the call means, and answers with the job. */
  readonly run: (call: Call, container: string, args: readonly unknown[]) => Promise<JobReply>;
}

const jobArguments: readonly Argument[] = [['job', 'o']];

type Verb = ContainerRequest['verb'];
export type ContainerMethods = Readonly<Record<Verb, ContainerMethod>>;

export function containerMethods({ core, callers }: ServiceContext): ContainerMethods {
  const declare = (
    verb: Verb,
    own: readonly Argument[],
    request: (container: string, argument: never) => ContainerRequest,
  ): ContainerMethod => ({
    in: [...own, optionsArgument],
    checkEntry: verb === 'set-limits' ? limitsAndOptions : onlyOptions(optionsOf[verb]),
    run: (call, container, args) =>
      forCaller(callers, call, async (caller) => {
        const options = args[own.length] as Options;
        const job = await core.request(
          caller,
          request(container, args[0] as never),
          optionBag(options),
        );
        return [jobPath(job.id)] as const;
      }),
  });
  const plain = (verb: 'start' | 'stop' | 'reboot' | 'freeze' | 'thaw') =>
    declare(verb, [], (container) => ({ verb, container }));
  const withLocker = (verb: 'mount-locker' | 'unmount-locker') =>
    declare(verb, [['locker', 's']], (container, locker: string) => ({ verb, container, locker }));
  return {
    start: plain('start'),
    stop: plain('stop'),
    reboot: plain('reboot'),
    freeze: plain('freeze'),
    thaw: plain('thaw'),
    balloon: declare('balloon', [['limit_bytes', 't']], (container, limit: bigint) => ({
      verb: 'balloon',
      container,
      limit,
    })),
    'set-limits': declare('set-limits', [['limits', 'a{sv}']], (container, limits: Options) => ({
      verb: 'set-limits',
      container,
      limits: parseLimits(optionBag(limits)),
    })),
    'mount-locker': withLocker('mount-locker'),
    'unmount-locker': withLocker('unmount-locker'),
    'set-autostart': declare(
      'set-autostart',
      [['autostart', 'b']],
      (container, autostart: boolean) => ({
        verb: 'set-autostart',
        container,
        autostart,
      }),
    ),
  };
}

/** Limits and options have different names, so that nobody need know which of them is looked at. */
const limitsAndOptions: CheckEntry = (name, signature) => {
  if (!isLimitName(name)) {
    onlyOptions(optionsOf['set-limits'])(name, signature);
    return;
  }
  try {
    checkLimit(name, signature);
  } catch (error) {
    throw asBusError(error);
  }
};

/** As Container has it. @param nameAt the name of the container at a path */
export function atPath(
  { in: own, checkEntry, run }: ContainerMethod,
  nameAt: (path: string) => string,
): Method {
  return {
    in: own,
    out: jobArguments,
    checkEntry,
    handler: (call, args: readonly unknown[]) => run(call, nameAt(call.path), args),
  };
}

/** As Manager has it. */
export function byName({ in: own, checkEntry, run }: ContainerMethod): Method {
  return {
    in: [['container', 's'], ...own],
    out: jobArguments,
    checkEntry,
    handler: (call, [name, ...args]: readonly [string, ...unknown[]]) => run(call, name, args),
  };
}

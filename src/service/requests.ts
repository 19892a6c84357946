import type { Call } from '../bus/interface-table.ts';
import type { Variant } from '../bus/values.ts';
import type { Caller } from '../core/caller.ts';
import type { Core } from '../core/core.ts';
import { checkOption, type OptionBag, type OptionName } from '../core/options.ts';
import type { MemoryFigures } from '../core/ports.ts';
import type { Request } from '../core/container-request.ts';
import { answering, asBusError } from './bus-errors.ts';
import type { Callers } from './callers.ts';
import { jobPath } from '../api/paths.ts';

/** What the interfaces are made of. */
export interface ServiceContext {
  readonly core: Core;
  readonly callers: Callers;
  readonly version: string;
  /** Undefined where there are none. */
  readonly figures: (controlGroup: string) => Promise<MemoryFigures | undefined>;
}

/** Arguments that several methods have. */
export const optionsArgument = ['options', 'a{sv}'] as const;
export const jobArgument = ['job', 'o'] as const;

export type Options = Readonly<Record<string, Variant>>;

/** Refuses an option by its name and type, before its value is decoded. */
export function onlyOptions(
  allowed: readonly OptionName[],
): (name: string, signature: string) => void {
  return (name, signature) => {
    try {
      checkOption(name, signature, allowed);
    } catch (error) {
      throw asBusError(error);
    }
  };
}

export function optionBag(options: Options): OptionBag {
  return new Map(Object.entries(options));
}

/**
 * The one way from a call to an operation: the core asks polkit, because only it knows what the
 * call means, and answers with the job.
 */
export function requestJob(
  { core, callers }: ServiceContext,
  call: Call,
  request: Request,
  options: Options,
): Promise<readonly [string]> {
  return answering(async () => {
    const caller = await callers.of(call);
    const job = await core.request(caller, request, optionBag(options));
    return [jobPath(job.id)] as const;
  });
}

/** For a method that is free, with an answer that depends on who asks. */
export function forCaller<T>(
  { callers }: ServiceContext,
  call: Call,
  work: (caller: Caller) => Promise<T>,
): Promise<T> {
  return answering(async () => work(await callers.of(call)));
}

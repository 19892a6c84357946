/** What the service's interfaces share: the core, its callers, and the handling of options. */

import type { Call, CheckEntry } from '../bus/interface-table.ts';
import type { Variant } from '../bus/values.ts';
import type { Caller } from '../core/caller.ts';
import type { Core } from '../core/core.ts';
import { checkOption, type OptionBag, type OptionName } from '../core/options.ts';
import type { MemoryFigures, UsageFigures } from '../core/ports.ts';
import { answering, asBusError } from './bus-errors.ts';
import type { Callers } from './callers.ts';

/** What the interfaces of the service are made of. */
export interface ServiceContext {
  readonly core: Core;
  readonly callers: Callers;
  readonly version: string;
  /** Undefined where there are none. */
  readonly figures: (controlGroup: string) => Promise<MemoryFigures | undefined>;
  /** The same of processors, disks and tasks. */
  readonly usage: (controlGroup: string) => UsageFigures | undefined;
}

/** The last argument of several methods. */
export const optionsArgument = ['options', 'a{sv}'] as const;

export type Options = Readonly<Record<string, Variant>>;

/** Refuses an option by its name and type, before its value is decoded. */
export function onlyOptions(allowed: readonly OptionName[]): CheckEntry {
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

/** Runs what depends on the caller, and turns the core's errors into those of the bus. */
export function forCaller<T>(
  callers: Callers,
  call: Call,
  work: (caller: Caller) => Promise<T>,
): Promise<T> {
  return answering(async () => work(await callers.of(call)));
}

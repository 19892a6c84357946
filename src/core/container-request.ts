/** What callers ask for, with which options. */

import type { LimitTexts } from '../model/guest-limits.ts';
import type { Job, Verb } from './job-queue.ts';
import type { OptionName, Options } from './options.ts';

/** What a caller asks for. */
export type Request =
  | { readonly verb: 'start' | 'stop' | 'reboot' | 'freeze' | 'thaw'; readonly container: string }
  | {
      readonly verb: 'balloon';
      readonly container: string;
      /** Bytes; 2^64-1 for no limit. */
      readonly limit: bigint;
    }
  | {
      readonly verb: 'set-limits';
      readonly container: string;
      readonly limits: LimitTexts;
    }
  | {
      readonly verb: 'mount-locker' | 'unmount-locker';
      readonly container: string;
      readonly locker: string;
    }
  | {
      readonly verb: 'set-autostart';
      readonly container: string;
      readonly autostart: boolean;
    };

export type RequestOptions = Pick<Options, 'force' | 'readOnly' | 'persist' | 'swap'>;

const commonOptions: readonly OptionName[] = ['interactive', 'wait', 'timeout-usec', 'request-id'];

export const optionsOf: Readonly<Record<Verb, readonly OptionName[]>> = {
  start: commonOptions,
  stop: [...commonOptions, 'force'],
  reboot: [...commonOptions, 'force'],
  freeze: commonOptions,
  thaw: commonOptions,
  balloon: [...commonOptions, 'force', 'persist', 'swap'],
  'set-limits': [...commonOptions, 'persist'],
  'mount-locker': [...commonOptions, 'read-only', 'persist'],
  'unmount-locker': [...commonOptions, 'force', 'persist'],
  'set-autostart': commonOptions,
};

/** Of Cancel, which is no verb of a job. */
export const optionsOfCancel: readonly OptionName[] = ['interactive'];

/** How long a guest may take to reboot when the caller does not say. */
const rebootTimeoutMs = 90_000;

/** Whether a new request ends the job that its container is busy with, rather than to wait. */
export function supersedes(request: Request, options: RequestOptions, current: Job): boolean {
  if (request.verb !== 'stop') return false;
  if (current.verb === 'stop') return options.force;
  // What a stop makes pointless anyway. The others end soon.
  return options.force || ['start', 'reboot', 'balloon'].includes(current.verb);
}

/** Milliseconds that a verb may take when the caller does not say; undefined for no bound. */
export function defaultTimeoutMs(verb: Verb, force: boolean): number | undefined {
  return verb === 'reboot' && !force ? rebootTimeoutMs : undefined;
}

/** Whether work that has begun can be called off. */
export function isCancelable(verb: Verb): boolean {
  return verb === 'start' || verb === 'balloon';
}

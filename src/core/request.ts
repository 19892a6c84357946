/** What callers ask for, with which options. */

import type { LimitTexts } from '../model/guest-limits.ts';
import type { Job, Verb } from './job-queue.ts';
import type { OptionName, Options } from './options.ts';

/** What a caller asks for. */
export type Request = ContainerRequest | LockerRequest;

/** About a container, and perhaps a locker that it has. */
export type ContainerRequest =
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

/** About a locker as such. */
export type LockerRequest =
  | {
      readonly verb: 'create-locker' | 'grow-locker';
      readonly locker: string;
      /** Bytes; with the option `by` how many more. */
      readonly size: bigint;
    }
  | { readonly verb: 'rename-locker'; readonly locker: string; readonly name: string }
  | {
      readonly verb: 'snapshot-locker';
      readonly locker: string;
      /** Empty for a name that is made of the time. */
      readonly snapshot: string;
    }
  | {
      readonly verb: 'restore-locker';
      readonly locker: string;
      readonly snapshot: string;
      readonly name: string;
    }
  | { readonly verb: 'forget-locker' | 'adopt-locker'; readonly locker: string };

export const lockerVerbs = [
  'create-locker',
  'grow-locker',
  'rename-locker',
  'snapshot-locker',
  'restore-locker',
  'forget-locker',
  'adopt-locker',
] as const satisfies readonly LockerRequest['verb'][];

export function isLockerRequest(request: Request): request is LockerRequest {
  return (lockerVerbs as readonly string[]).includes(request.verb);
}

export type RequestOptions = Pick<Options, 'force' | 'readOnly' | 'persist' | 'swap'>;
export type LockerOptions = Pick<
  Options,
  'store' | 'owner' | 'mode' | 'container' | 'encrypt' | 'by' | 'freeze'
>;

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
  'create-locker': [...commonOptions, 'store', 'owner', 'mode', 'container', 'encrypt'],
  'grow-locker': [...commonOptions, 'by'],
  'rename-locker': commonOptions,
  'snapshot-locker': [...commonOptions, 'freeze'],
  'restore-locker': commonOptions,
  'forget-locker': commonOptions,
  'adopt-locker': [...commonOptions, 'store'],
};

/** Of Cancel, which is no verb of a job. */
export const optionsOfCancel: readonly OptionName[] = ['interactive'];

/** How long a guest may take to reboot when the caller does not say. */
const rebootTimeoutMs = 90_000;

/** Whether a new request ends the job that its container is busy with, rather than to wait. */
export function supersedes(
  request: Request,
  options: Pick<Options, 'force'>,
  current: Job,
): boolean {
  if (request.verb !== 'stop') return false;
  if (current.verb === 'stop') return options.force;
  // What a stop makes pointless anyway. The others end soon.
  return options.force || ['start', 'reboot', 'balloon'].includes(current.verb);
}

/** Milliseconds that a verb may take when the caller does not say; undefined for no bound. */
export function defaultTimeoutMs(verb: Verb, force: boolean): number | undefined {
  return verb === 'reboot' && !force ? rebootTimeoutMs : undefined;
}

const cancelable: ReadonlySet<Verb> = new Set<Verb>([
  'start',
  'balloon',
  // They may copy for a long time.
  'create-locker',
  'snapshot-locker',
  'restore-locker',
]);

/** Whether work that has begun can be called off. */
export function isCancelable(verb: Verb): boolean {
  return cancelable.has(verb);
}

import { busError, DBusError } from '../bus/values.ts';

/**
 * systemd leaves the bus for a moment when it re-executes itself, and answers no calls while it
 * reloads all unit files. This file tells such failures from real ones and repeats calls.
 */

/** Errors of calls that were made while systemd was off the bus, for example in a daemon-reexec. */
const awayErrors: ReadonlySet<string> = new Set([
  'org.freedesktop.DBus.Error.ServiceUnknown',
  busError.timedOut,
  busError.nameHasNoOwner,
  busError.noReply,
]);

const retryMs = 250;

/** Whether systemd was off the bus. D-Bus activation of its name then fails with Spawn errors. */
export function systemdIsAway(error: unknown): boolean {
  return (
    error instanceof DBusError &&
    (awayErrors.has(error.errorName) ||
      error.errorName.startsWith('org.freedesktop.DBus.Error.Spawn.'))
  );
}

/** Whether the call was surely not delivered, so that it can be repeated; NoReply leaves that open. */
export function wasNotDelivered(error: unknown): boolean {
  return (
    systemdIsAway(error) &&
    error instanceof DBusError &&
    error.errorName !== busError.noReply &&
    error.errorName !== busError.timedOut
  );
}

/** The pause between two attempts. */
export function retryPause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, retryMs));
}

/** Repeats a call for at most `maxMs`, as long as `passes` says that its error is temporary. */
export async function retryWhile<T>(
  passes: (error: unknown) => boolean,
  maxMs: number,
  call: () => Promise<T>,
): Promise<T> {
  const end = Date.now() + maxMs;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!passes(error) || Date.now() >= end) throw error;
      await retryPause();
    }
  }
}

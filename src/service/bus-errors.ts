import { busError, DBusError } from '../bus/values.ts';
import { CoreError, type CoreErrorCode } from '../core/errors.ts';

export const busErrorName = {
  noSuchContainer: 'org.lockerd1.Error.NoSuchContainer',
  noSuchLocker: 'org.lockerd1.Error.NoSuchLocker',
  alreadyRunning: 'org.lockerd1.Error.AlreadyRunning',
  notRunning: 'org.lockerd1.Error.NotRunning',
  notFrozen: 'org.lockerd1.Error.NotFrozen',
  alreadyMounted: 'org.lockerd1.Error.AlreadyMounted',
  notMounted: 'org.lockerd1.Error.NotMounted',
  lockerBusy: 'org.lockerd1.Error.LockerBusy',
  limitBelowUsage: 'org.lockerd1.Error.LimitBelowUsage',
  jobConflict: 'org.lockerd1.Error.JobConflict',
  cancelled: 'org.lockerd1.Error.Cancelled',
  timedOut: 'org.lockerd1.Error.TimedOut',
  authorizationDismissed: 'org.lockerd1.Error.AuthorizationDismissed',
  authorityUnavailable: 'org.lockerd1.Error.AuthorityUnavailable',
  failed: 'org.lockerd1.Error.Failed',
  accessDenied: busError.accessDenied,
  interactiveAuthorizationRequired: 'org.freedesktop.DBus.Error.InteractiveAuthorizationRequired',
  invalidArgs: busError.invalidArgs,
  limitsExceeded: busError.limitsExceeded,
} as const satisfies Record<CoreErrorCode, string>;

/** What a caller gets for an error of the core. Any other error is none of the caller's business. */
export function asBusError(error: unknown): unknown {
  if (!(error instanceof CoreError)) return error;
  return new DBusError(busErrorName[error.code], error.message, { cause: error });
}

/** Lets a handler speak in the core's errors. */
export async function answering<T>(work: () => Promise<T> | T): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asBusError(error);
  }
}

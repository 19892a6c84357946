/**
 * The public interface org.lockerd1 in names: what the service calls things and its clients look
 * for. Nothing here decides or talks to anybody. See org.lockerd1.xml.
 */

export const serviceName = 'org.lockerd1';

/**
 * A figure of type `t` that is not known: of a container that does not run, or that the kernel does
 * not count.
 */
export const unknownFigure = 2n ** 64n - 1n;

export const interfaces = {
  manager: 'org.lockerd1.Manager',
  container: 'org.lockerd1.Container',
  locker: 'org.lockerd1.Locker',
  job: 'org.lockerd1.Job',
} as const;

/** Names of errors on the bus by what can be wrong with a request. */
export const errorNames = {
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
  accessDenied: 'org.freedesktop.DBus.Error.AccessDenied',
  interactiveAuthorizationRequired: 'org.freedesktop.DBus.Error.InteractiveAuthorizationRequired',
  invalidArgs: 'org.freedesktop.DBus.Error.InvalidArgs',
  limitsExceeded: 'org.freedesktop.DBus.Error.LimitsExceeded',
} as const;

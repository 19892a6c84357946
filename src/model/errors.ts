/** Everything that can be wrong with a request, by the name that callers see on the bus. */
export type CoreErrorCode =
  | 'noSuchContainer'
  | 'noSuchLocker'
  | 'alreadyRunning'
  | 'notRunning'
  | 'notFrozen'
  | 'alreadyMounted'
  | 'notMounted'
  | 'lockerBusy'
  | 'limitBelowUsage'
  | 'jobConflict'
  | 'cancelled'
  | 'timedOut'
  | 'authorizationDismissed'
  | 'authorityUnavailable'
  | 'failed'
  | 'accessDenied'
  | 'interactiveAuthorizationRequired'
  | 'invalidArgs'
  | 'limitsExceeded';

/** An answer to the caller. Its message names the object and the remedy, and goes out as it is. */
export class CoreError extends Error {
  override readonly name = 'CoreError';
  readonly code: CoreErrorCode;

  constructor(code: CoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

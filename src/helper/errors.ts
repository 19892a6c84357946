/** What the answer names an error: `InvalidArgs` of D-Bus, and members of `org.lockerd1.Error`. */
export type HelperErrorCode =
  | 'InvalidArgs'
  | 'NoSuchContainer'
  | 'NoSuchLocker'
  | 'NotRunning'
  | 'NotFrozen'
  | 'AlreadyMounted'
  | 'NotMounted'
  | 'LockerBusy'
  | 'LimitBelowUsage'
  | 'JobConflict'
  | 'Cancelled'
  | 'TimedOut'
  | 'AccessDenied'
  | 'Failed';

/** Why a request was not done; its message names the object and the remedy. */
export class HelperError extends Error {
  override readonly name = 'HelperError';
  readonly code: HelperErrorCode;
  /** Further members of the answer. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: HelperErrorCode,
    message: string,
    options: ErrorOptions & { readonly details?: Readonly<Record<string, unknown>> } = {},
  ) {
    super(message, options);
    this.code = code;
    this.details = options.details ?? {};
  }
}

/**
 * src/model has what all other folders share: values, their parsers and formatters, and errors.
 * Nothing here reads a file or talks to another process.
 */

/**
 * The codes of all errors that a request can have. Each is the last component of the error name that
 * callers see on the bus, and the helper's answers use the same codes.
 */
export const errorCodes = [
  'NoSuchContainer',
  'NoSuchLocker',
  'NoSuchStore',
  'NoSuchSnapshot',
  'LockerExists',
  'NoSpace',
  'AlreadyRunning',
  'NotRunning',
  'NotFrozen',
  'AlreadyMounted',
  'NotMounted',
  'LockerBusy',
  'LimitBelowUsage',
  'JobConflict',
  'Cancelled',
  'TimedOut',
  'StartsLater',
  'AuthorizationDismissed',
  'AuthorityUnavailable',
  'Failed',
  'AccessDenied',
  'InteractiveAuthorizationRequired',
  'InvalidArgs',
  'LimitsExceeded',
] as const;

export type ErrorCode = (typeof errorCodes)[number];

export function isErrorCode(word: unknown): word is ErrorCode {
  return (errorCodes as readonly unknown[]).includes(word);
}

/** Further facts about an error, as JSON values. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/**
 * Why a request failed. The message names the object and the remedy, and goes to the caller
 * unchanged.
 */
export class LockerdError extends Error {
  override readonly name = 'LockerdError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(
    code: ErrorCode,
    message: string,
    { details = {}, ...options }: ErrorOptions & { readonly details?: ErrorDetails } = {},
  ) {
    super(message, options);
    this.code = code;
    this.details = details;
  }
}

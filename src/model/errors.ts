/**
 * src/model has the words that all other folders share: values, their parsers and texts, and errors.
 * Nothing here reads a file or talks to another process.
 */

/**
 * Everything that can be wrong with a request, in the last words of the names that callers see on
 * the bus. The helper's answers carry the same words.
 */
export const errorCodes = [
  'NoSuchContainer',
  'NoSuchLocker',
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

/** Further facts about an error, as values of JSON. */
export type ErrorDetails = Readonly<Record<string, unknown>>;

/**
 * Why a request was not done. The message names the object and the remedy, and goes out to the
 * caller as it is.
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

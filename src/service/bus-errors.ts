/** Errors of the core as the bus carries them. */

import { errorNames } from '../api/names.ts';
import { DBusError } from '../bus/values.ts';
import { LockerdError } from '../model/errors.ts';

/** What a caller gets for an error of the core. Any other error is none of the caller's business. */
export function asBusError(error: unknown): unknown {
  if (!(error instanceof LockerdError)) return error;
  return new DBusError(errorNames[error.code], error.message, { cause: error });
}

/** Lets a handler speak in the core's errors. */
export async function answering<T>(work: () => Promise<T> | T): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asBusError(error);
  }
}
